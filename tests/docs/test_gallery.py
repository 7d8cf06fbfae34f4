"""The gallery: every notebook has a title and prose, runs as a script, and tells what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GALLERY = sorted((ROOT / "docs" / "gallery").glob("*.py"))
# What the prose says of the verdicts, by names of the notebook.
SAYS = {
    "recover_a_potential": {"run": "explained"},
    "cells_to_stream": {"final": "explained"},
    "second_start": {"one": "undetermined", "both": "explained"},
    "gradient_flow": {"fall": "unexplained", "turn": "explained"},
    "growth": {"blind": "unexplained", "run": "explained"},
    "compare_learners": {},
    "own_suite": {},
    "pde_and_particles": {},
}


def cells(source):
    """Return kind and text of each cell of a percent script."""
    parts = re.split(r"(?m)^# %%(?: \[(\w+)\])?\n", source.read_text())[1:]
    return [(kind or "code", text) for kind, text in zip(parts[::2], parts[1::2], strict=True)]


def test_the_gallery_is_the_one_that_is_tested():
    assert [source.stem for source in GALLERY] == sorted(SAYS)


@pytest.mark.parametrize("source", GALLERY, ids=lambda s: s.stem)
def test_it_has_a_title_prose_and_something_to_take_away(source):
    compile(source.read_text(), str(source), "exec")
    found = cells(source)
    assert found[0][0] == "markdown"
    assert re.match(r"# # \S.*\n#\n# \w", found[0][1])  # a title, then a sentence: its card
    prose = " ".join(text for kind, text in found if kind == "markdown")
    assert len(prose.split()) > 100
    assert "# ## Take away" in prose
    assert re.search(rf"(?m)^{source.stem} \d$", (source.parent / "index.md").read_text())


@pytest.mark.parametrize("source", GALLERY, ids=lambda s: s.stem)
def test_links_of_its_prose_lead_somewhere(source):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", source.read_text()):
        assert "://" in target or (source.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("source", GALLERY, ids=lambda s: s.stem)
def test_it_runs_and_the_verdicts_are_those_of_its_prose(source, tmp_path):
    words = [f"assert {name}.word == {word!r}" for name, word in SAYS[source.stem].items()]
    script = tmp_path / source.name
    script.write_text("\n".join([source.read_text(), *words]))
    environment = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
