"""Pages that people read: links lead somewhere, commands and Python run as they stand."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from popdyn.base.options import options_in
from popdyn.cli import COMMANDS, group
from popdyn.learners import LEARNERS

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "datasets").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
]
GUIDE = [page for page in PAGES if page.parent.name == "guide"]
# Options that a learner brings are flags of train, and of every command that trains.
LEARNED = {
    f"--{prefix}{name.replace('_', '-')}"
    for entry in LEARNERS.values()
    for name in options_in(entry.options)
    for prefix in ("", "no-")
}


def named(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    text = re.sub(r"```(?!\{).*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (page.parent / target).exists(), target


def flags(name):
    """Return the flags of a command."""
    command = group.get_command(click.Context(group), name)
    found = {"--help", "--debug"}
    for parameter in command.params:
        found |= {*parameter.opts, *parameter.secondary_opts}
    return found | (LEARNED if name == "train" else set())


def commands(page):
    """Return the words of every ``popdyn`` command of a page."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"```(?:bash|console|sh)?\n(.*?)```", text, re.S)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(popdyn [^`]*)`", text)
    return [line.partition(" #")[0] for line in lines if line.startswith("popdyn ")]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_have_the_options_that_are_shown(page):
    for line in commands(page):
        words = shlex.split(line, posix=True)
        name = words[1]
        if not re.fullmatch(r"[a-z]+", name):
            continue  # an option of the group, or a placeholder
        assert name in COMMANDS, line
        for word in words[2:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in flags(name), line


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDE, ids=named)
def test_python_of_the_guide_runs(page, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    whole = [block for block in blocks if "import popdyn" in block]
    for block in whole:
        code = "import matplotlib\nmatplotlib.use('agg')\n" + block
        # in a process of its own, as some add to the registries
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_the_suite_of_the_guide_is_one(tmp_path):
    from popdyn.benchmark import read_suite

    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/guide/suites.md").read_text(), re.S)
    (tmp_path / "suite.toml").write_text(text)
    assert [entry.name for entry in read_suite(tmp_path).entries] == ["quiet", "noisy"]
