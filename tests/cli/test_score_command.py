"""``popdyn score`` in a process of its own: tables, JSON, and what it says on bad input."""

import shutil

import numpy as np
import pytest

from popdyn.dynamics import FreeEnergy
from popdyn.learners import Run, save_run
from popdyn.snapshots import make_tree, write


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a store of V = ½|x|² and two runs on it."""
    folder = tmp_path_factory.mktemp("score")
    times = [0.0, 0.1, 0.2, 0.3]
    rng = np.random.default_rng(0)
    groups = [[np.exp(-t) * rng.normal(size=(60, 2)) for t in times] for _ in range(2)]
    write(
        make_tree(*groups, times, {"dynamics": FreeEnergy("quadratic").spec()}), folder / "q.zarr"
    )
    record = {"name": "q", "path": str(folder / "q.zarr"), "digest": None}
    config = {"data": [record], "hold_out": []}
    half = FreeEnergy("quadratic", potential_params={"scale": 0.5}, diffusivity=0.25)
    save_run(Run(half, "ijkonet", config), folder / "half")
    held = Run(FreeEnergy("quadratic"), "oracle", {**config, "hold_out": [2]})
    save_run(held, folder / "held")
    return folder


def test_one_run(run_popdyn, place):
    done = run_popdyn("score", "half", "--points", "30", "--json", cwd=place)
    assert done.code == 0, done.err
    found = done.json
    assert (found["run"], found["learner"]) == ("half", "ijkonet")
    assert found["gradient"]["potential"]["skill"] == pytest.approx(0.75, abs=1e-6)
    assert found["diffusivity"]["estimate"] == 0.25
    assert found["distribution"]["points"] == [30, 30, 30]
    assert set(found["references"]) == {"zero", "floor", "copy_previous", "mccann"}


def test_several_runs_each_with_its_own_hold_out(run_popdyn, place):
    done = run_popdyn("score", "half", "held", "--points", "all", "--json", cwd=place)
    assert done.code == 0, done.err
    half, held = done.json["runs"]
    assert half["distribution"]["times"] == [0.1, 0.2, 0.3]
    assert held["distribution"]["times"] == [0.2]
    assert held["distribution"]["points"] == [120]
    assert held["references"]["mccann"]["distribution"]["points_predicted"] == [120]


def test_table(run_popdyn, place):
    done = run_popdyn("score", "half", "--points", "30", "--from", "first", cwd=place)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines() if line.strip()]
    rows = [line[0] for line in lines]
    assert rows.count("half") == 3
    assert rows.count("zero") == 3
    for name in ("floor", "copy_previous", "mccann"):
        assert rows.count(name) == 2
    assert "0.750" in next(line for line in lines if line[0] == "half")
    assert "0.000" in next(line for line in lines if line[0] == "zero")


def assert_one_line(done, code, *words):
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    for word in words:
        assert word in done.last_line, done.err


def test_bad_input(run_popdyn, place, tmp_path):
    assert_one_line(run_popdyn("score", "no-run", cwd=place), 1, "'no-run'", "no such folder")
    assert_one_line(run_popdyn("score", ".", cwd=place), 1, "is not a run", "popdyn.json")
    assert_one_line(
        run_popdyn("score", "half", "--points", "1", cwd=place), 2, "at least 2, or all"
    )
    missing = run_popdyn("score", "half", "--data", "x.zarr", cwd=place)
    assert_one_line(missing, 1, "--data 'x.zarr' does not exist")


def test_a_run_without_its_store(run_popdyn, place, tmp_path):
    record = {"name": "q", "path": "/gone/q.zarr", "digest": None}
    save_run(
        Run(FreeEnergy("quadratic"), "oracle", {"data": [record], "hold_out": []}),
        tmp_path / "runs" / "lost",
    )
    lost = run_popdyn("score", "runs/lost")
    assert_one_line(lost, 1, "looked at '/gone/q.zarr', 'runs/q.zarr', 'q.zarr'", "--data")
    # A store that moved along with the run is found.
    shutil.copytree(place / "q.zarr", tmp_path / "q.zarr")
    assert run_popdyn("score", "runs/lost", "--points", "10", "--json").code == 0
