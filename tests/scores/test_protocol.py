"""What is compared with what, predictions, the support, and standard errors of distances."""

import numpy as np
import pytest

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.scores.prediction import Support, predict_targets
from popdyn.scores.protocol import Protocol, parse_points
from popdyn.scores.uncertainty import bootstrap_weights, half_sample_errors
from popdyn.snapshots import make_tree

TIMES = [0.0, 0.5, 1.0, 2.0]


def labelled(n=40, groups=(0, 1000), **attrs):
    """Every particle carries its snapshot, group and row in its one coordinate."""
    train, test = (
        [np.arange(n)[:, None] + 100.0 * k + group for k in range(len(TIMES))] for group in groups
    )
    return make_tree(train, test, TIMES, attrs)


def test_without_hold_out_the_test_group_at_all_times_after_the_first():
    protocol = Protocol(labelled(), points=None)
    assert protocol.targets == [1, 2, 3]
    assert [protocol.start_of(k) for k in protocol.targets] == [0, 1, 2]
    sample = np.sort(protocol.sample(2, "target")[:, 0])
    np.testing.assert_array_equal(sample, 1000 + 200 + np.arange(40))


def test_with_hold_out_those_times_and_all_cells():
    protocol = Protocol(labelled(), hold_out=(2, 1), points=None)
    assert protocol.targets == [1, 2]
    assert [protocol.start_of(k) for k in protocol.targets] == [0, 0]
    assert [protocol.after(k) for k in protocol.targets] == [3, 3]
    sample = protocol.sample(2, "target")[:, 0]
    assert set(sample) == {*range(200, 240), *range(1200, 1240)}
    assert len(protocol.sample(0, "start")) == 80


def test_from_first():
    protocol = Protocol(labelled(), from_="first")
    assert [protocol.start_of(k) for k in protocol.targets] == [0, 0, 0]
    assert protocol.before(3) == 2


def test_points_are_drawn_without_repeats_and_by_the_seed():
    a, b, c = (Protocol(labelled(), points=15, seed=s).sample(1, "target") for s in (0, 0, 1))
    assert len(np.unique(a)) == 15
    np.testing.assert_array_equal(a, b)
    assert set(a[:, 0]) != set(c[:, 0])


def test_a_paired_store_never_compares_a_particle_with_itself():
    protocol = Protocol(labelled(observation="paired"), points=None)
    for k in (1, 2, 3):
        start = protocol.sample(k - 1, "start")[:, 0] % 100
        target = protocol.sample(k, "target")[:, 0] % 100
        assert len(start) == len(target) == 20
        assert not set(start) & set(target)


def test_halves_are_disjoint_and_of_the_size_of_points():
    protocol = Protocol(labelled(41), points=1000)
    first, second = protocol.halves(1)
    assert len(first) == len(second) == 20
    assert not set(first[:, 0]) & set(second[:, 0])
    assert [len(h) for h in Protocol(labelled(), points=7).halves(1)] == [7, 7]


def test_original_units():
    record = {"method": "component", "mean": [5.0], "scale": [2.0]}
    protocol = Protocol(labelled(standardize=record), units="original")
    np.testing.assert_array_equal(protocol.to_units(np.array([[3.0]])), [[11.0]])
    stored = Protocol(labelled(standardize=record))
    np.testing.assert_array_equal(stored.to_units(np.array([[3.0]])), [[3.0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_": "last"}, "from_ is 'last': expected previous or first"),
        ({"units": "metres"}, "units is 'metres'"),
        ({"units": "original"}, "expected a store imported with standardisation"),
        ({"hold_out": (4,)}, "hold-out index 4: expected 0 to 3"),
        ({"hold_out": (0, 2)}, "snapshot 0 is held out: expected an observed one before it"),
        ({"hold_out": (0, 1, 2, 3)}, "snapshot 0 is held out"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(PopdynError, match=message):
        Protocol(labelled(), **options)


def test_an_empty_test_group_needs_held_out_snapshots():
    empty = [np.zeros((0, 1))] * 4
    data = make_tree([np.ones((5, 1))] * 4, empty, TIMES)
    with pytest.raises(PopdynError, match="the test group is empty: scores need test particles"):
        Protocol(data)
    assert len(Protocol(data, hold_out=(1,)).sample(1, "target")) == 5
    paired = make_tree(
        [np.ones((5, 1))] * 4, [np.ones((1, 1))] * 4, TIMES, {"observation": "paired"}
    )
    with pytest.raises(PopdynError, match=r"has 1 particle\(s\) to score with"):
        Protocol(paired).sample(1, "target")


@pytest.mark.parametrize("points", [1, 0, -3, "some", 2.5, True, None])
def test_wrong_points(points):
    with pytest.raises(PopdynError, match="expected a whole number of at least 2, or 'all'"):
        parse_points(points)


def test_points():
    assert parse_points(2) == 2
    assert parse_points("all") is None


@pytest.mark.parametrize("from_", ["previous", "first"])
def test_predictions_follow_the_flow(from_):
    # Under V = ½|x|² a particle at x is at x exp(−t) after a time t.
    protocol = Protocol(labelled(), points=None, from_=from_)
    found = predict_targets(FreeEnergy("quadratic"), protocol)
    assert sorted(found) == [1, 2, 3]
    for k, x in found.items():
        j = protocol.start_of(k)
        exact = protocol.sample(j, "start") * np.exp(TIMES[j] - TIMES[k])
        np.testing.assert_allclose(x, exact, rtol=2e-3)  # 20 steps of up to 0.05 each


def test_predictions_cross_a_held_out_snapshot_interval_by_interval():
    protocol = Protocol(labelled(), hold_out=(1, 2), points=None)
    found = predict_targets(FreeEnergy(lambda x, t: -10.0 * t * x.sum(-1)), protocol)
    # dx/dt = 10 t: 5 t² since t = 0.
    np.testing.assert_allclose(found[2] - protocol.sample(0, "start"), 5.0, rtol=1e-3)


def test_predictions_are_the_same_twice_and_spread_by_the_diffusivity():
    x = np.zeros((4, 4000, 1))
    protocol = Protocol(make_tree(x, x, TIMES), points=None)
    first, again = (predict_targets(FreeEnergy(diffusivity=0.25), protocol) for _ in range(2))
    for k in (1, 2, 3):
        np.testing.assert_array_equal(first[k], again[k])
        expected = 2 * 0.25 * (TIMES[k] - TIMES[k - 1])
        assert first[k].var() == pytest.approx(expected, rel=5 * np.sqrt(2 / 4000))


def test_a_prediction_that_explodes_is_none_from_there_on():
    energy = FreeEnergy(lambda x, t: -(100.0 if t > 0.6 else 0.0) * x.pow(4).sum(-1))
    protocol = Protocol(labelled(), from_="first")
    found = predict_targets(energy, protocol)
    assert found[1] is not None
    assert found[2] is None
    assert found[3] is None


def test_an_energy_of_another_dimension_is_one_line():
    wrong = FreeEnergy(lambda x: (x @ x.new_ones(5)).square())
    with pytest.raises(PopdynError, match="could not be simulated in dimension 1 of the data"):
        predict_targets(wrong, Protocol(labelled()))


def test_support():
    rng = np.random.default_rng(0)
    train = rng.uniform(size=(3, 3000, 2))
    data = make_tree(train, train, [0.0, 1.0, 2.0])
    support = Support(data, [0, 2])
    # A thousandth of fresh particles of the same law: 20 of 20 000, with a deviation of 4.5, and
    # somewhat more at the edges of the square.
    assert 0 < support.fraction_outside(rng.uniform(size=(20_000, 2))) < 0.004
    assert support.fraction_outside(rng.uniform(size=(1000, 2)) + 2.0) == 1.0
    halfway = np.concatenate([train[1, :500], train[1, :500] + 5.0])
    assert support.fraction_outside(halfway) == 0.5


def test_support_of_repeated_points():
    x = np.ones((2, 10, 2))
    support = Support(make_tree(x, x, [0.0, 1.0]), [0, 1])
    assert support.fraction_outside(np.ones((4, 2))) == 0.0
    assert support.fraction_outside(np.zeros((4, 2))) == 1.0


def test_bootstrap_weights_are_counts():
    weights = bootstrap_weights(50, np.random.default_rng(0), replicates=400)
    assert weights.shape == (400, 50)
    np.testing.assert_array_equal(weights.sum(1), 50)
    # Binomial(50, 1/50): variance 0.98, over 20 000 of them known to 1.5 %.
    assert weights.var() == pytest.approx(0.98, rel=0.05)


def test_half_samples_give_the_standard_error_of_a_mean():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(400, 1)), 2 * rng.normal(size=(300, 1))

    def compare(a, b):
        return {"difference": float(a.mean() - b.mean())}

    found = half_sample_errors(compare, x, y, rng, repeats=400)["difference"]
    expected = np.sqrt(x.var() / 400 + y.var() / 300)
    # 400 repeats: 3.5 %.
    assert found == pytest.approx(expected, rel=0.14)
