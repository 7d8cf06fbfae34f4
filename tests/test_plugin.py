"""A package of somebody else's: installed, listed, used, and named where it is wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forking import Nursery

EXAMPLE = Path(__file__).parent / "plugin_example"
SUITE = """\
name = "wells"
summary = "one population of the plug-in's potential"
score = { points = 60 }

[[entry]]
name = "well"
potential = "round_well"
potential_params = { depth = 2.0 }
particles = 200
snapshots = 3
dt = 0.1
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """The plug-in as pip installs it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation")
    options = ("--disable-pip-version-check", "--no-index", "--target", folder / "site")
    done = subprocess.run(
        [str(word) for word in (*pip, *options, folder / "source")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def popdyn(target, tmp_path_factory):
    """Run the command with the plug-in on the path; return what it printed, and its errors."""
    nursery = Nursery(PYTHONPATH=str(target))

    def call(folder, *words, code=0, site=None):
        if site is None:
            env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
            done = nursery.start(words, folder, env, tmp_path_factory.mktemp("streams"))
            out, err = done.communicate()
        else:
            env = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
            command = [sys.executable, "-m", "popdyn", *map(str, words)]
            done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
            out, err = done.stdout, done.stderr
        assert done.returncode == code, err
        return out, err

    yield call
    nursery.close()


@pytest.fixture(scope="module")
def work(popdyn, tmp_path_factory):
    """A store of the plug-in's potential, and a run of its learner."""
    folder = tmp_path_factory.mktemp("work")
    made = ("simulate", "--potential", "round_well", "--potential-param", "depth=2")
    popdyn(folder, *made, "--particles", "4000", "--dt", "0.4", "--out", "w.zarr")
    popdyn(folder, "train", "w.zarr", "--learner", "bowl", "--interval", "2", "--out", "r")
    return folder


def test_it_is_listed_with_its_options(popdyn, tmp_path):
    assert "round_well" in popdyn(tmp_path, "list", "potentials")[0]
    assert "depth·√(1 + |x|²)" in popdyn(tmp_path, "list", "potentials", "round_well")[0]
    assert "median_shift" in popdyn(tmp_path, "list", "scores")[0]
    shown = popdyn(tmp_path, "train", "--help", "--learner", "bowl")[0]
    assert "--interval INTEGER" in shown
    assert "[default: 0; 0 or more]" in " ".join(shown.split())


def test_its_run_is_scored_with_its_score_on_its_truth(popdyn, work):
    scores = json.loads(popdyn(work, "score", "r", "--points", "100", "--json")[0])
    # A bowl for a bowl in the middle and a cone outside, whose force is at most the depth.
    assert 0.5 < scores["gradient"]["potential"]["skill"] < 1
    found = scores["distribution"]["median_shift"]
    assert len(found) == 5
    assert all(0 <= value < 1 for value in found)
    assert "median" in popdyn(work, "score", "r", "--points", "100")[0]


def test_its_run_is_plotted_and_predicts(popdyn, work):
    popdyn(work, "plot", "r", "--out", "figures", "--only", "potential")
    assert (work / "figures" / "potential.png").stat().st_size > 10_000
    popdyn(work, "predict", "r", "--times", "0,0.1", "--out", "p.zarr")


@pytest.mark.slow
def test_a_bench_takes_it_in_processes_of_its_own(popdyn, work):
    (work / "suite.toml").write_text(SUITE)
    line = ("bench", "suite.toml", "--learners", "zero,bowl", "--out", "bench", "--json")
    rows = json.loads(popdyn(work, *line)[0])["rows"]
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert all("median_shift" in row["scores"]["distribution"] for row in rows)


def test_what_it_raises_names_it(popdyn, work):
    line = ("train", "w.zarr", "--learner", "bowl", "--interval", "9", "--out", "x")
    error = popdyn(work, *line, code=1)[1]
    assert error.startswith("popdyn: error: plug-in 'popdyn_bowls', learner 'bowl': IndexError: ")
    assert error.count("\n") == 1
    line = ("train", "w.zarr", "--learner", "bowl", "--interval", "-1", "--out", "x")
    assert "interval is -1: expected 0 or more" in popdyn(work, *line, code=2)[1]


def test_a_broken_one_leaves_the_others_alone(popdyn, target, work, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(target, site)
    (site / "popdyn_bowls" / "potential.py").write_text("import nothing_of_that_name\n")
    listed, said = popdyn(work, "list", "potentials", site=site)
    assert "styblinski_tang" in listed
    assert "potential 'round_well' of the plug-in 'popdyn-bowls' cannot be loaded" in said
    error = popdyn(work, "simulate", "--potential", "round_well", "--out", "y", code=2, site=site)[
        1
    ]
    assert "'popdyn-bowls' cannot be loaded: ModuleNotFoundError" in error


@pytest.mark.slow
def test_without_it_its_store_and_its_run_say_what_is_missing(popdyn, work, tmp_path):
    error = popdyn(work, "score", "r", "--points", "100", code=1, site=tmp_path)[1]
    assert "unknown learned term 'Bowl'" in error
    line = ("train", "w.zarr", "--learner", "oracle", "--out", "z")
    assert "unknown potential 'round_well'" in popdyn(work, *line, code=1, site=tmp_path)[1]
