"""The reference rows on real cells, against values measured independently."""

import numpy as np
import pytest

from popdyn.dynamics import FreeEnergy
from popdyn.scores import reference_rows, score
from popdyn.scores.protocol import Protocol
from popdyn.scores.scoring import interpolation
from popdyn.scores.transport import w1, w2
from popdyn.snapshots import make_tree


@pytest.fixture(scope="module")
def cells(eb5):
    """Snapshots of the embryoid bodies, a fifth of each in the test group."""
    with np.load(eb5) as file:
        x, label = file["pcs"], file["sample_labels"]
    rng = np.random.default_rng(0)
    snapshots = [rng.permutation(x[label == k]) for k in range(5)]
    cut = [len(s) // 5 for s in snapshots]
    train = [s[n:] for s, n in zip(snapshots, cut, strict=True)]
    test = [s[:n] for s, n in zip(snapshots, cut, strict=True)]
    return make_tree(train, test, np.arange(5.0))


def test_w2_at_held_out_times_with_2000_points(cells):
    protocol = Protocol(cells, hold_out=(1, 3), points=2000)
    # Another draw of 2000 points moves these by about 0.01.
    for k, copied, interpolated, floor in ((1, 1.74, 0.81, 0.43), (3, 0.83, 0.88, 0.53)):
        y = protocol.sample(k, "target")
        assert len(y) == 2000
        assert w2(protocol.sample(k - 1, "start"), y) == pytest.approx(copied, abs=0.03)
        assert w2(interpolation(protocol, k)[0], y) == pytest.approx(interpolated, abs=0.03)
        assert w2(*protocol.halves(k)) == pytest.approx(floor, abs=0.02)


def test_no_truth_in_real_cells(cells):
    found = score(FreeEnergy("quadratic"), cells, hold_out=(1, 3), points=100)
    assert "gradient" not in found
    assert found["distribution"]["times"] == [1.0, 3.0]


@pytest.mark.slow
def test_w2_at_held_out_times_with_all_cells(cells):
    rows = reference_rows(cells, hold_out=(1, 3), points="all")
    found = {name: row["distribution"]["w2"] for name, row in rows.items()}
    # The measured values have three decimals.
    assert found["mccann"] == pytest.approx([0.774, 0.839], abs=1e-3)
    assert found["copy_previous"] == pytest.approx([1.715, 0.814], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("k", "expected"), [(1, 0.718), (2, 0.728), (3, 0.766)])
def test_leave_one_out_w1_with_all_cells(cells, k, expected):
    protocol = Protocol(cells, hold_out=(k,), points=None)
    atoms, weights = interpolation(protocol, k)
    assert w1(atoms, protocol.sample(k, "target"), weights) == pytest.approx(expected, abs=1e-3)
