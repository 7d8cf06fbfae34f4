"""Masses that come in with cells, and weights and masses that go out with them."""

import numpy as np
import pytest

import popdyn
from popdyn.dynamics import Dynamics
from popdyn.snapshots import import_data
from popdyn.snapshots.export import export
from popdyn.snapshots.tree import masses, weights


@pytest.fixture
def cells(tmp_path):
    labels = np.repeat(["day 0", "day 2", "day 7"], [30, 50, 70])
    np.savez(tmp_path / "c.npz", pcs=np.random.default_rng(0).normal(size=(150, 2)), time=labels)
    return tmp_path / "c.npz"


def test_masses_by_count_label_or_time(cells):
    assert masses(import_data(cells)) is None
    for given, expected in (
        ({"mass_from_counts": True}, [30, 50, 70]),
        ({"mass": {"day 0": 1, "day 2": 2.5, "day 7": 4}}, [1, 2.5, 4]),
        ({"mass": {0: 1, "day 2": 2.5, "7.0": 4}}, [1, 2.5, 4]),
    ):
        data = import_data(cells, **given)
        assert masses(data).tolist() == masses(data, "test").tolist() == expected


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"mass": {"day 0": 1, "day 2": 2}}, "mass has none for 'day 7' at time 7"),
        ({"mass": {0: 1, 2: 1, 7: 1, 9: 1}}, "mass has one for '9': expected labels or times"),
        ({"mass": {0: 1, 2: -1, 7: 1}}, "expected one finite number > 0 for each of 3 times"),
        ({"mass": {0: 1, 2: 1, 7: 1}, "mass_from_counts": True}, "expected one of them"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(cells, given, line):
    with pytest.raises(popdyn.PopdynError, match=line) as error:
        import_data(cells, **given)
    assert "\n" not in str(error.value)


def test_weights_and_masses_go_out(tmp_path):
    flow = Dynamics("quadratic", growth="constant", growth_params={"rate": 2.0})
    data = popdyn.simulate(flow, particles=7, test_particles=3, times=[0, 0.5], seed=0)
    with np.load(export(data, tmp_path / "x.npz")) as archive:
        assert archive["masses"].tolist() == masses(data).tolist()
        assert sorted(archive["weights"]) == sorted(
            np.concatenate([weights(data, k, g) for k in (0, 1) for g in ("train", "test")])
        )
