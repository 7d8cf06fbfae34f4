"""Fixtures that several rooms share."""

import json
import os
from pathlib import Path

import pytest
import torch

import popdyn
from tests.forking import Nursery

torch.set_num_threads(1)

collect_ignore = ["plugin_example"]  # a package of somebody else's, see test_plugin.py


@pytest.fixture(scope="session")
def eb5():
    """Path of the real embryoid-body cells; skips where they are missing."""
    here = Path(__file__).parents[1] / ".." / "shared" / "data"
    path = (Path(os.environ.get("POPDYN_DATA", here)) / "eb5.npz").resolve()
    if not path.exists():
        pytest.skip(f"no real cells at {path} (set POPDYN_DATA to their folder)")
    return path


@pytest.fixture(scope="session")
def small_data():
    """A styblinski_tang data set that trains in seconds."""
    energy = popdyn.FreeEnergy("styblinski_tang")
    return popdyn.simulate(energy, particles=1000, snapshots=4, seed=0)


class Result:
    """What a command said, and how it ended."""

    def __init__(self, command, timeout):
        self.out, self.err = command.communicate(timeout)
        self.code = command.returncode

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def last_line(self):
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


@pytest.fixture(scope="session")
def nursery():
    """Where processes for commands come from."""
    out = Nursery()
    yield out
    out.close()


@pytest.fixture
def start_popdyn(tmp_path, nursery, tmp_path_factory):
    """Start ``popdyn`` in a process of its own, in a fresh folder."""

    def call(*arguments, cwd=tmp_path, **env):
        env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"} | env
        return nursery.start(arguments, cwd, env, tmp_path_factory.mktemp("streams"))

    return call


@pytest.fixture
def run_popdyn(start_popdyn):
    """Run ``popdyn`` in a process of its own, in a fresh folder."""

    def call(*arguments, timeout=120, **more):
        return Result(start_popdyn(*arguments, **more), timeout)

    return call
