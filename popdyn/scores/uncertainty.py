"""Standard errors: bootstrap for averages, half-samples without replacement for distances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["bootstrap_weights", "half_sample_errors"]

REPLICATES = 100
HALF_SAMPLES = 10


def bootstrap_weights(n: int, rng: np.random.Generator, replicates: int = REPLICATES) -> np.ndarray:
    """Return how often each of n particles is drawn in each resample, ``(replicates, n)``."""
    draws = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(replicates)]
    return np.stack(draws).astype(np.float64)


def half_sample_errors(
    compare: Callable[[np.ndarray, np.ndarray], dict[str, float]],
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    repeats: int = HALF_SAMPLES,
) -> dict[str, float]:
    """Return the standard errors of scores of two samples, from halves drawn without replacement.

    Resampling with repeats would bias distances between samples. Leaving half of the points out
    (the delete-d jackknife, d = n/2) needs no factor: a half-sample's deviation from the whole
    has the variance of the whole's deviation from the law.

    Args:
        compare: Gives the scores of a pair of samples.
        x: First sample, ``(n, d)``.
        y: Second sample, ``(m, d)``.
        rng: Draws the halves, of both samples on their own.
        repeats: Number of pairs of halves.

    References:
        Shao and Wu, A general theory for jackknife variance estimation, Ann. Statist. 17 (1989).
    """
    found = [compare(_half(x, rng), _half(y, rng)) for _ in range(repeats)]
    return {name: float(np.std([f[name] for f in found], ddof=1)) for name in found[0]}


def _half(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x[rng.choice(len(x), max(1, len(x) // 2), replace=False)]
