"""A small suite, and the bench of it that several tests look at."""

import fcntl
import json
import os

import pytest

from popdyn.base.files import write_text
from popdyn.benchmark import bench

SUITE = """\
name = "small"
summary = "Two small populations."

[score]
points = 60

[defaults]
particles = 120
snapshots = 3
fit = { learn = ["potential"] }

[options.ijkonet]
steps = 4
every = 2
batch = 50
hidden = [8]

[[entry]]
name = "bowl"
summary = "a bowl"
potential = "oakley_ohagan"

[[entry]]
name = "still"
summary = "no force: a skill has no meaning <here> & now"
potential = "flat"
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all processes which run these tests see."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "benchmark"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def small_suite(shared):
    file = shared / "suite.toml"
    if not file.exists():
        write_text(file, SUITE)
    return file


@pytest.fixture(scope="session")
def small_bench(small_suite, shared):
    """Results and folder of three learners on the small suite, two seeds, one worker."""
    with open(shared / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        out = shared / "out"
        if not out.exists():
            bench(small_suite, out, learners=("zero", "oracle", "ijkonet"), seeds=2)
    return json.loads((out / "results.json").read_text()), out
