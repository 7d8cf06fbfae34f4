"""Shell completion: what there is, at once."""

import json
import os
import subprocess
import sys

import pytest

from popdyn.cli.completion import FILE

HEAVY = ("torch", "numpy", "xarray", "matplotlib", "scipy")


def completed(line, python=()):
    """Return what a shell is offered for the last word of a line, and what Python said."""
    words = line.split(" ")
    asked = {"_POPDYN_COMPLETE": "bash_complete", "COMP_WORDS": line}
    env = os.environ | asked | {"COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, *python, "-m", "popdyn"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return [item.partition(",")[2] for item in done.stdout.split()], done.stderr


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("popdyn tr", ["train"]),
        ("popdyn train --lear", ["--learner", "--learn", "--learning-rate"]),
        ("popdyn train --learner ijk", ["ijkonet"]),
        ("popdyn train --learner jkonet_star --dens", ["--density"]),
        ("popdyn train --dens", []),
        ("popdyn train --learn potential,d", ["potential,diffusion"]),
        ("popdyn train a.zarr --model ", ["auto", "features", "network"]),
        ("popdyn simulate --potential st", ["styblinski_tang"]),
        ("popdyn simulate --scheme he", ["heun"]),
        ("popdyn simulate --initial two", ["two_moons", "two"]),  # or a file of that name
        ("popdyn list po", ["potentials", "power_law", "potential"]),
        ("popdyn list learners jk", ["jkonet", "jkonet_star"]),
        ("popdyn bench x --learners zero,ij", ["zero,ijkonet"]),
        ("popdyn plot run --only pot", ["potential"]),
        ("popdyn import x.csv --standardize co", ["component"]),
    ],
)
def test_what_is_offered(line, offered):
    assert sorted(completed(line)[0]) == sorted(offered)


def test_files_are_the_shells_own():
    env = {"_POPDYN_COMPLETE": "bash_complete", "COMP_WORDS": "popdyn train s", "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "popdyn"]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True)
    assert done.stdout == "file,s\n"


@pytest.mark.parametrize("line", ["popdyn train --learner ijk", "popdyn list q"])
def test_nothing_heavy_is_imported(line):
    offered, imported = completed(line, python=("-X", "importtime"))
    assert offered
    modules = {
        entry.rpartition("|")[2].strip().partition(".")[0] for entry in imported.splitlines()
    }
    assert modules.isdisjoint(HEAVY)


def test_importing_popdyn_and_its_help_import_nothing_heavy():
    for code in ("import popdyn", "import popdyn.cli; popdyn.cli.group(['--help'])"):
        command = [sys.executable, "-X", "importtime", "-c", code]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        modules = {
            entry.rpartition("|")[2].strip().partition(".")[0] for entry in said.splitlines()
        }
        assert modules.isdisjoint(HEAVY)


def test_the_file_is_what_the_commands_say():
    # In a process of its own: no test's entries, no module of the doctests.
    code = (
        "import json; from popdyn.cli.completion import described; print(json.dumps(described()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(FILE.read_text()), "run scripts/completion"
