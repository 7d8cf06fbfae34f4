"""MMD, energy distance and Bures–Wasserstein against their definitions and closed forms."""

import math

import numpy as np
import pytest

from popdyn.scores.kernels import bures_wasserstein, bw2_uvp, energy_distance, mmd, moments
from popdyn.scores.transport import w2


@pytest.fixture
def rng():
    return np.random.default_rng(6)


def mmd_by_definition(x, y):
    both = [*x, *y]
    n = len(both)
    squares = [
        math.dist(p, q) ** 2 for i, p in enumerate(both) for j, q in enumerate(both) if i != j
    ]
    h = sum(squares) / (n * (n - 1))

    def mean_kernel(a, b):
        values = [
            sum(math.exp(-(math.dist(p, q) ** 2) / (2.0**i * h)) for i in (-2, -1, 0, 1, 2))
            for p in a
            for q in b
        ]
        return sum(values) / len(values)

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)


def energy_by_definition(x, y):
    def mean_distance(a, b):
        return sum(math.dist(p, q) for p in a for q in b) / (len(a) * len(b))

    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)


@pytest.mark.parametrize(("n", "m", "d"), [(7, 7, 1), (5, 9, 3)])
def test_against_the_definition(rng, n, m, d):
    x, y = rng.normal(size=(n, d)), rng.normal(0.5, 2.0, size=(m, d))
    assert mmd(x, y) == pytest.approx(mmd_by_definition(x, y), rel=1e-10)
    assert energy_distance(x, y) == pytest.approx(energy_by_definition(x, y), rel=1e-10)


def test_blocks_do_not_change_the_value(rng, monkeypatch):
    x, y = rng.normal(size=(60, 2)), rng.normal(0.5, 1.0, size=(50, 2))
    whole = mmd(x, y), energy_distance(x, y)
    monkeypatch.setattr("popdyn.scores.kernels.PAIRS_PER_BLOCK", 170)
    assert (mmd(x, y), energy_distance(x, y)) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("score", [mmd, energy_distance])
def test_equal_samples_score_zero_exactly(rng, score):
    x = rng.normal(size=(300, 2))
    assert score(x, x) == 0.0
    assert score(np.ones((4, 2)), np.ones((3, 2))) == pytest.approx(0.0, abs=1e-15)
    assert score(x, x + 0.1) > 0.0


def test_weights_are_repeated_points(rng):
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(10, 2))
    counts = np.array([1, 2, 3, 4])
    repeated = np.repeat(x, counts, axis=0)
    for score in (energy_distance, bw2_uvp):
        assert score(x, y, counts / 10, None) == pytest.approx(score(repeated, y), rel=1e-9)


def test_bures_wasserstein_of_gaussians_on_a_line():
    args = [np.array([1.0]), np.array([[4.0]]), np.array([3.0]), np.array([[0.25]])]
    assert bures_wasserstein(*args) == pytest.approx((1 - 3) ** 2 + (2 - 0.5) ** 2, rel=1e-12)


def test_bures_wasserstein_closed_form(rng):
    a, b = rng.normal(size=(2, 3, 3))
    s, t = a @ a.T, b @ b.T
    root = np.linalg.cholesky(s)
    # trace √(S^½ T S^½) is the sum of the roots of the eigenvalues of S T.
    cross = np.sqrt(np.linalg.eigvalsh(root.T @ t @ root)).sum()
    expected = 1.0 + np.trace(s) + np.trace(t) - 2 * cross
    zero, shift = np.zeros(3), np.array([0.6, 0.0, 0.8])
    assert bures_wasserstein(zero, s, shift, t) == pytest.approx(expected, rel=1e-9)


def test_bures_wasserstein_keeps_its_digits_near_zero(rng):
    x = rng.normal(size=(500, 3))
    assert bw2_uvp(x, x) < 1e-25
    # A scaling by 1 + 1e-6 moves each standard deviation by that much.
    mean, covariance = moments(x)
    found = bures_wasserstein(mean, covariance, mean, covariance * (1 + 1e-6) ** 2)
    assert found == pytest.approx(1e-12 * np.trace(covariance), rel=1e-6)


def test_bures_wasserstein_bounds_w2_from_below(rng):
    x, y = rng.normal(size=(80, 2)), rng.normal(0.4, 1.5, size=(80, 2)) ** 2
    assert bures_wasserstein(*moments(x), *moments(y)) <= w2(x, y) ** 2


def test_bw2_uvp_is_in_percent_of_half_the_observed_variance():
    y = np.array([[-1.0, 0.0], [1.0, 0.0]])  # Var = 1
    assert bw2_uvp(y + [0.1, 0.0], y) == pytest.approx(100 * 0.01 / 0.5, rel=1e-9)
    assert math.isnan(bw2_uvp(y, np.zeros((3, 2))))
