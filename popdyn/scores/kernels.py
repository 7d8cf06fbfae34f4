"""Scores from pairwise distances or moments: MMD, energy distance, Bures–Wasserstein."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.spatial.distance import cdist

from popdyn.scores.catalogue import score_of

__all__ = ["bures_wasserstein", "bw2_uvp", "energy_distance", "mmd", "moments"]

# A block that stays in the cache: larger ones are slower.
PAIRS_PER_BLOCK = 1 << 17

Metric = Literal["euclidean", "sqeuclidean"]
Weights = np.ndarray | None


@score_of(
    "distribution",
    formula="E k(x, x′) + E k(y, y′) − 2 E k(x, y), five Gaussian kernels k",
    summary="squared kernel discrepancy, bandwidths about the spread of the data",
    minimised_by="every energy that predicts the observed law",
    perfect=0.0,
    bias="upwards, by about 1/N: each point meets itself",
    avoid="for detail finer than the spread; across data sets: the bandwidth follows the data",
)
def mmd(x: np.ndarray, y: np.ndarray, a: Weights = None, b: Weights = None) -> float:
    """Return the squared maximum mean discrepancy under a sum of five Gaussian kernels.

    The kernel is Σ_{i=−2…2} exp(−|x − y|²/(2ⁱ h)), h the mean squared distance over all pairs
    of different points in the two samples put together. V-statistic: pairs of a point with
    itself count, so the value is ≥ 0, and exactly 0 for equal samples.

    Args:
        x: First sample, ``(n, d)``.
        y: Second sample, ``(m, d)``.
        a: Weights of x, ``(n,)``, of sum 1; uniform if None.
        b: Weights of y, ``(m,)``, of sum 1; uniform if None.

    References:
        Gretton et al., A kernel two-sample test, JMLR 13 (2012).

    Example:
        >>> x = np.array([[0.0], [1.0]])
        >>> mmd(x, x)
        0.0
    """
    h = _mean_squared_distance(x, y, a, b)
    if h == 0.0:
        return 0.0

    def kernel(squared: np.ndarray) -> np.ndarray:
        # One exponential; the other four bandwidths are repeated squares of it.
        squared *= -0.25 / h
        k = np.exp(squared, out=squared)
        total = k.copy()
        for _ in range(4):
            k *= k
            total += k
        return total

    return max(_discrepancy(x, y, a, b, "sqeuclidean", kernel), 0.0)


@score_of(
    "distribution",
    formula="2 E|x − y| − E|x − x′| − E|y − y′|",
    summary="squared energy distance: no bandwidth, no solver",
    minimised_by="every energy that predicts the observed law",
    perfect=0.0,
    bias="upwards, by about 1/N: each point meets itself",
    avoid="for detail in the tails: it weighs the bulk",
)
def energy_distance(x: np.ndarray, y: np.ndarray, a: Weights = None, b: Weights = None) -> float:
    """Return 2 E|X − Y| − E|X − X′| − E|Y − Y′| between two samples.

    V-statistic: ≥ 0, and exactly 0 for equal samples. Arguments are those of :func:`mmd`.

    References:
        Székely and Rizzo, Energy statistics, J. Stat. Plan. Inference 143 (2013).
    """
    return max(_discrepancy(x, y, a, b, "euclidean", np.negative), 0.0)


def moments(x: np.ndarray, a: Weights = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean ``(d,)`` and covariance ``(d, d)`` of the (weighted) sample itself."""
    x = np.asarray(x, np.float64)
    w = np.full(len(x), 1.0 / len(x)) if a is None else a
    mean = w @ x
    centred = x - mean
    return mean, centred.T @ (w[:, None] * centred)


def bures_wasserstein(
    mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray
) -> float:
    """Return BW², the squared W₂ between two Gaussians.

    |m − m′|² + min over rotations U of ‖S^½ − S′^½ U‖², which unlike the formula with traces
    loses no digits where the two are close.

    References:
        Bhatia, Jain and Lim, On the Bures–Wasserstein distance, Expo. Math. 37 (2019).
    """
    root, other = _root(covariance), _root(other_covariance)
    left, _, right = np.linalg.svd(other.T @ root)
    return float(np.sum((mean - other_mean) ** 2) + np.sum((root - other @ (left @ right)) ** 2))


@score_of(
    "distribution",
    formula="100 BW²(ρ̂, ρ)/(½ Var ρ), Gaussian fits",
    summary="error of mean and covariance, in percent of half the variance",
    minimised_by="every law with the observed mean and covariance",
    perfect=0.0,
    bias="upwards, by about 1/N",
    avoid="for laws with several modes: it sees two moments and nothing else",
)
def bw2_uvp(x: np.ndarray, y: np.ndarray, a: Weights = None, b: Weights = None) -> float:
    """Return 100 · BW²(x, y)/(½ Var y), Gaussian fits, Var the trace of the covariance.

    NaN where y is a single point. Arguments are those of :func:`mmd`; y is the observed sample.
    """
    mean, covariance = moments(y, b)
    half_variance = 0.5 * float(np.trace(covariance))
    if half_variance == 0.0:
        return float("nan")
    return 100.0 * bures_wasserstein(*moments(x, a), mean, covariance) / half_variance


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def _discrepancy(
    x: np.ndarray,
    y: np.ndarray,
    a: Weights,
    b: Weights,
    metric: Metric,
    kernel: Callable[[np.ndarray], np.ndarray],
) -> float:
    within = _pair_mean(x, x, a, a, metric, kernel) + _pair_mean(y, y, b, b, metric, kernel)
    return within - 2.0 * _pair_mean(x, y, a, b, metric, kernel)


def _pair_mean(
    x: np.ndarray,
    y: np.ndarray,
    a: Weights,
    b: Weights,
    metric: Metric,
    kernel: Callable[[np.ndarray], np.ndarray],
) -> float:
    """Return the weighted mean of the kernel over all pairs, without an n×m array in memory."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    total = 0.0
    rows = max(1, PAIRS_PER_BLOCK // len(y))
    for start in range(0, len(x), rows):
        block = kernel(cdist(x[start : start + rows], y, metric))
        means = block.mean(1) if b is None else block @ b
        total += means.sum() / len(x) if a is None else a[start : start + rows] @ means
    return float(total)


def _mean_squared_distance(x: np.ndarray, y: np.ndarray, a: Weights, b: Weights) -> float:
    n, m = len(x), len(y)
    w = np.concatenate(
        [
            np.full(n, 1.0) if a is None else n * a,
            np.full(m, 1.0) if b is None else m * b,
        ]
    ) / (n + m)
    _, covariance = moments(np.concatenate([x, y]), w)
    return float(2.0 * np.trace(covariance) / (1.0 - np.sum(w**2)))
