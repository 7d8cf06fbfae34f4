"""A small suite, and the bench of it that several tests look at."""

import pytest

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
def small_suite(tmp_path_factory):
    file = tmp_path_factory.mktemp("suite") / "suite.toml"
    file.write_text(SUITE)
    return file


@pytest.fixture(scope="session")
def small_bench(small_suite, tmp_path_factory):
    """Results and folder of three learners on the small suite, two seeds, one worker."""
    out = tmp_path_factory.mktemp("bench") / "out"
    return bench(small_suite, out, learners=("zero", "oracle", "ijkonet"), seeds=2), out
