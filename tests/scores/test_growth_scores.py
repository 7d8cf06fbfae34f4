"""Scores of growing populations: weights in every distance, the rate's skill, the mass."""

import numpy as np
import pytest

import popdyn
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.scores import score
from popdyn.snapshots import make_tree, positions
from popdyn.snapshots.tree import masses, weights

TIMES = [0.0, 0.3, 0.6]
BOWL = FreeEnergy("quadratic", diffusivity=0.2)
FLOW = Dynamics(BOWL, growth="half_space", growth_params={"rate": 3.0, "outside": -1.0})


def scaled(factor, offset=0.0):
    return Dynamics(BOWL, growth=lambda x: factor * (4 * (4 * x[:, 0]).sigmoid() - 1) + offset)


@pytest.fixture(scope="module")
def data():
    return popdyn.simulate(FLOW, particles=1500, times=TIMES, seed=2)


def test_the_truth_predicts_law_and_mass(data):
    found = score(FLOW, data, points=600)
    still = score(BOWL, data, points=600)
    references = found["references"]
    assert max(found["distribution"]["mass_error"]) < 5 * 1.5 / np.sqrt(600)
    assert min(still["distribution"]["mass_error"]) > 0.1
    zero = references["zero"]["distribution"]["mass_error"]
    m = masses(data, "test")
    np.testing.assert_allclose(zero, np.abs(m[:-1] / m[1:] - 1), rtol=1e-6)
    for name in ("w1", "w2", "energy_distance"):
        good, bad = (np.mean(s["distribution"][name]) for s in (found, still))
        assert good < bad, name
        assert good < 2 * np.mean(references["floor"]["distribution"][name]), name


def test_distances_take_the_weights():
    """Two points that weigh 1 and 3 against one that weighs all: by hand."""
    x = np.array([[0.0, 0.0], [4.0, 0.0]])
    test = [x, np.zeros((2, 2))]
    data = make_tree(
        test,
        test,
        [0.0, 1.0],
        weights={g: [np.array([0.5, 1.5]), np.ones(2)] for g in ("train", "test")},
    )
    found = score(FreeEnergy(), data, points="all")["distribution"]
    assert found["w1"] == [pytest.approx(3.0)]
    assert found["w2"] == [pytest.approx(np.sqrt(0.75 * 16))]
    assert "mass_error" not in found


def test_skill_of_the_rate(data):
    for flow, skill, correlation in (
        (FLOW, 1.0, 1.0),
        (scaled(0.5), 0.75, 1.0),
        (scaled(-1.0), -3.0, -1.0),
        (BOWL, 0.0, None),
    ):
        found = score(flow, data, points=50)["gradient"]["growth"]
        assert found["skill"] == pytest.approx(skill, abs=1e-5)
        assert found["correlation"] == (correlation and pytest.approx(correlation, abs=1e-5))
    assert "growth" not in score(BOWL, data, truth=BOWL, points=50)["gradient"]


def test_a_constant_counts_where_masses_are_measured(data):
    shifted = scaled(1.0, offset=0.7)
    assert score(shifted, data, points=50)["gradient"]["growth"]["skill"] < 0.95
    seen = popdyn.simulate(FLOW, particles=1500, times=TIMES, seed=2, proportions=True)
    found = score(shifted, seen, points=50)
    assert found["gradient"]["growth"]["skill"] == pytest.approx(1.0, abs=1e-5)
    assert "mass_error" not in found["distribution"]


def test_a_prediction_carries_weights_and_mass(data):
    predicted = popdyn.predict(FLOW, data, [0.15, 0.6], from_="first")
    again = popdyn.predict(FLOW, data, [0.6], from_="previous")
    assert weights(predicted, 0).mean() == pytest.approx(1.0, rel=1e-5)
    m = masses(predicted)
    assert weights(predicted, 1).mean(dtype=float) == pytest.approx(m[1] / m[0], rel=1e-5)
    observed = masses(data)[-1]
    # 5 standard errors of a mean of about 6000 weights with a deviation below twice the mean
    assert m[1] == pytest.approx(observed, rel=5 * 2 / np.sqrt(3000))
    assert masses(again)[0] == pytest.approx(observed, rel=5 * 2 / np.sqrt(3000))
    assert len(positions(predicted, 0)) == 3000
    plain = popdyn.predict(BOWL, popdyn.simulate(BOWL, particles=10, times=TIMES, seed=0), [0.5])
    assert weights(plain, 0) is None
    assert masses(plain) is None
