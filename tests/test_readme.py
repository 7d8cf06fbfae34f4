"""The Python of the front page, and of the pages on extending, runs as it stands."""

import re
from pathlib import Path

import pytest

from popdyn.dynamics import POTENTIALS
from popdyn.learners import LEARNERS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "extending.md", ROOT / "docs" / "learners.md")
BLOCKS = {page: re.findall(r"```python\n(.*?)```", page.read_text(), re.S) for page in PAGES}
RUNNABLE = [(page.name, block) for page in PAGES for block in BLOCKS[page] if "import" in block]


def test_there_are_examples():
    pages = ["README.md", "README.md", "extending.md", "learners.md"]
    assert [name for name, _ in RUNNABLE] == pages


@pytest.mark.parametrize("size", ["500", pytest.param("5_000", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("page", "block"), RUNNABLE, ids=range(len(RUNNABLE)))
def test_example_runs(page, block, size, tmp_path, monkeypatch):
    if size != "500" and size not in block:
        pytest.skip("the same as with fewer particles")
    block = block.replace("particles=5_000", f"particles={size}")
    monkeypatch.chdir(tmp_path)
    registries = (POTENTIALS, LEARNERS)
    before = [set(registry) for registry in registries]
    exec(compile(block, page, "exec"), {"__name__": "__main__"})
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry) - names:
            registry.remove(name)


def test_the_first_example_has_five_lines():
    lines = [line for line in RUNNABLE[0][1].strip().splitlines() if line]
    assert len(lines) - 1 <= 5  # beside its import


def test_it_is_one_screen_with_the_two_set_up_commands():
    text = README.read_text()
    assert len(text.splitlines()) <= 80
    assert "\nscripts/demo " in text
    assert "\nscripts/test " in text


@pytest.mark.parametrize(
    "page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target
