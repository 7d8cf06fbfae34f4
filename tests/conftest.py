"""Fixtures that several rooms share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import popdyn

torch.set_num_threads(1)

collect_ignore = ["plugin_example"]  # a package of somebody else's, see test_plugin.py


@pytest.fixture(scope="session")
def eb5():
    """Path of the real embryoid-body cells; skips where they are missing."""
    here = Path(__file__).parents[1] / ".." / "shared" / "data" / "eb5.npz"
    path = Path(os.environ.get("POPDYN_EB_DATA", here)).resolve()
    if not path.exists():
        pytest.skip(f"no real cells at {path} (set POPDYN_EB_DATA)")
    return path


@pytest.fixture(scope="session")
def small_data():
    """A styblinski_tang data set that trains in seconds."""
    energy = popdyn.FreeEnergy("styblinski_tang")
    return popdyn.simulate(energy, particles=1000, snapshots=4, seed=0)


class Result:
    """What a command said, and how it ended."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def last_line(self):
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


@pytest.fixture
def run_popdyn(tmp_path):
    """Run ``popdyn`` in a process of its own, in a fresh folder."""

    def call(*arguments, timeout=120, cwd=tmp_path):
        command = [sys.executable, "-m", "popdyn", *map(str, arguments)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
        return Result(
            subprocess.run(
                command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout
            )
        )

    return call
