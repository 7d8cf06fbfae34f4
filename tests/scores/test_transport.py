"""Exact transport against other solvers and closed forms."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from popdyn.base.errors import PopdynError
from popdyn.scores import transport
from popdyn.scores.transport import displacement_interpolation, sliced_w2, transport_plan, w1, w2


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_against_the_assignment_problem(rng, d):
    x, y = rng.normal(size=(150, d)), rng.normal(0.3, 1.2, size=(150, d))
    for score, metric, root in ((w1, "euclidean", 1.0), (w2, "sqeuclidean", 0.5)):
        cost = cdist(x, y, metric)
        i, j = linear_sum_assignment(cost)
        assert score(x, y) == pytest.approx(cost[i, j].mean() ** root, rel=1e-12)


def test_translation_costs_its_length(rng):
    x, shift = rng.normal(size=(80, 3)), np.array([0.3, -0.4, 1.2])
    assert w1(x, x + shift) == pytest.approx(1.3, rel=1e-9)
    assert w2(x, x + shift) == pytest.approx(1.3, rel=1e-9)


def test_equal_samples_are_at_distance_zero_exactly(rng):
    x = rng.normal(size=(100, 2))
    assert w1(x, x[::-1]) == w2(x, x[::-1]) == 0.0
    assert sliced_w2(x, x[::-1]) == pytest.approx(0.0, abs=1e-14)


def test_sizes_may_differ(rng):
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(60, 2))
    twice = np.repeat(x, 2, axis=0)
    for score in (w1, w2, sliced_w2):
        assert score(x, y) == pytest.approx(score(twice, y), rel=1e-9)
        assert score(y, x) == pytest.approx(score(x, y), rel=1e-9)


def test_weights_are_repeated_points(rng):
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(10, 2))
    counts = np.array([1, 2, 3, 4])
    for score in (w1, w2, sliced_w2):
        weighted = score(x, y, counts / 10, None)
        assert weighted == pytest.approx(score(np.repeat(x, counts, axis=0), y), rel=1e-9)


def test_sliced_w2_of_a_translation(rng):
    # In one dimension slicing changes nothing; in d a direction sees |v|²/d of a shift on average.
    x = rng.normal(size=(50, 1))
    assert sliced_w2(x, 2 * x + 1) == pytest.approx(w2(x, 2 * x + 1), rel=1e-9)
    x, shift = rng.normal(size=(50, 4)), np.array([2.0, 0, 0, 0])
    # 200 directions: the mean of a squared component, 1/4, has a standard error of 0.013.
    spread = np.sqrt(2 * 3 / (16 * 6) / 200)
    assert sliced_w2(x, x + shift) ** 2 / 4 == pytest.approx(0.25, abs=5 * spread)


def test_interpolation_of_two_clouds_on_a_line():
    x, y = np.array([[0.0], [10.0]]), np.array([[14.0], [2.0]])
    atoms, weights = displacement_interpolation(x, y, 0.25)
    assert weights is None
    assert sorted(atoms[:, 0]) == [0.5, 11.0]


def test_interpolation_ends_at_the_samples_whatever_their_sizes(rng):
    x, y = rng.normal(size=(20, 2)), rng.normal(2.0, 1.0, size=(33, 2))
    total = w2(x, y)
    for fraction in (0.0, 0.3, 1.0):
        atoms, weights = displacement_interpolation(x, y, fraction)
        assert weights.sum() == pytest.approx(1.0)
        assert len(atoms) <= len(x) + len(y) - 1
        # A geodesic: the distance from its start grows linearly.
        assert w2(atoms, x, weights) == pytest.approx(fraction * total, abs=1e-7)
        assert w2(atoms, y, weights) == pytest.approx((1 - fraction) * total, abs=1e-7)


def test_plan_has_the_marginals(rng):
    plan = transport_plan(rng.normal(size=(5, 2)), rng.normal(size=(8, 2)))
    np.testing.assert_allclose(plan.sum(0), 1 / 8)
    np.testing.assert_allclose(plan.sum(1), 1 / 5)


@pytest.mark.filterwarnings("ignore:numItermax")
def test_a_solve_that_does_not_converge_is_an_error(rng, monkeypatch):
    monkeypatch.setattr(transport, "MAX_ITERATIONS", 2)
    x, y = rng.normal(size=(50, 2)), rng.normal(size=(50, 2))
    for solve in (w1, w2, transport_plan):
        with pytest.raises(PopdynError, match="50 and 50 points did not converge"):
            solve(x, y)


def test_too_many_points_are_refused_before_memory_runs_out():
    x = np.zeros((30_000, 1))
    with pytest.raises(PopdynError, match="30000 and 30000 points needs 7 GB"):
        w2(x, x)
