"""The modes of ∇V that snapshots see: what each one says of the drift, and how noisily."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from popdyn.base.quadrature import quadrature
from popdyn.snapshots.features import Features
from popdyn.snapshots.tree import counts, dimension, positions, times

__all__ = ["Interval", "Modes", "modes_of"]

# How much of a large store is read: enough that the noise of the estimate is that of the modes.
MEAN_PARTICLES = 100_000
GRAM_PARTICLES = 60_000
BATCH = 2_000
# Directions with less of the gradient than this share of the largest are left out.
RESOLVED = 1e-6


@dataclass(frozen=True)
class Interval:
    """What one interval between snapshots says, in the basis of the modes.

    Attributes:
        slope: −(E_{k+1} − E_k) u_j / τ_k, ``(m)``.
        noise: Its covariance from sampling, ``(m, m)``.
        gram: Mean of ∇u_i · ∇u_j over the interval, ``(m, m)``.
        spread: Mean covariance of u over the two particle clouds, ``(m, m)``.
        length: τ_k.
        particles: Particles behind the Gram matrix.
    """

    slope: np.ndarray
    noise: np.ndarray
    gram: np.ndarray
    spread: np.ndarray
    length: float
    particles: float


@dataclass(frozen=True)
class Modes:
    """Potentials u_j with the mean of ∇u_i · ∇u_j the identity and with independent noise.

    The mean is over the time of the data, weighted as the slope of a line fit weighs it.

    Attributes:
        slope: −d/dt E u_j, which is the mean of ∇u_j · ∇V, from all snapshots, ``(m)``.
        noise: Its variance from sampling, ``(m)``, smallest first: fine modes say more.
        intervals: The same for single intervals.
        particles: Particles of a snapshot that were used.
        dimension: d.
    """

    slope: np.ndarray
    noise: np.ndarray
    intervals: list[Interval]
    particles: float
    dimension: int


@dataclass(frozen=True)
class _Statistics:
    """Over one snapshot: mean and covariance of the features, Gram matrix of their gradients."""

    mean: np.ndarray
    covariance: np.ndarray
    gram: np.ndarray
    used: int
    gram_used: int


def modes_of(data: xr.DataTree, progress: Callable[[], None] | None = None) -> Modes:
    """Find the modes of a tree's training snapshots and what the data says of each.

    Args:
        data: A tree in memory or a store; of large snapshots evenly spaced pieces are read.
        progress: Called after each snapshot.
    """
    t = times(data)
    per_snapshot = max(BATCH, GRAM_PARTICLES // len(t))
    pool = [np.concatenate(list(_pieces(data, k, BATCH, BATCH))) for k in range(len(t))]
    features = Features(np.concatenate(pool).astype(np.float64))
    snapshots = []
    for k in range(len(t)):
        snapshots.append(_statistics(data, k, features, per_snapshot))
        if progress is not None:
            progress()
    weights = (t - t.mean()) / np.sum((t - t.mean()) ** 2)
    integrals = quadrature(t)
    # −Σ w_k (E_k − E_0) φ is the integral of these Gram matrices: Abel summation of the above.
    # By trapezoids, whose weights are positive: this one has to be a scalar product.
    per_interval = np.array([weights[k + 1 :].sum() for k in range(len(t) - 1)]) * np.diff(t) / 2
    over_time = np.append(per_interval, 0) + np.append(0, per_interval)
    gram = sum(w * s.gram for w, s in zip(over_time, snapshots, strict=True))
    if data.attrs.get("observation") == "paired":
        increments = _paired_increments(data, features)
        noise = sum(weights[k + 1 :].sum() ** 2 * c for k, c in enumerate(increments))
    else:
        increments = [
            a.covariance / a.used + b.covariance / b.used for a, b in itertools.pairwise(snapshots)
        ]
        noise = sum(w**2 * s.covariance / s.used for w, s in zip(weights, snapshots, strict=True))
    basis, variances = _basis(np.asarray(gram), np.asarray(noise))
    slope = -basis.T @ sum(w * s.mean for w, s in zip(weights, snapshots, strict=True))
    intervals = []
    for k, tau in enumerate(np.diff(t)):
        mean_gram = sum(q * s.gram for q, s in zip(integrals[k], snapshots, strict=True)) / tau
        here, next_ = snapshots[k], snapshots[k + 1]
        intervals.append(
            Interval(
                slope=-basis.T @ (next_.mean - here.mean) / tau,
                noise=basis.T @ increments[k] @ basis / tau**2,
                gram=basis.T @ mean_gram @ basis,
                spread=basis.T @ (here.covariance + next_.covariance) @ basis / 2,
                length=float(tau),
                particles=(here.gram_used + next_.gram_used) / 2,
            )
        )
    used = float(np.mean([s.used for s in snapshots]))
    return Modes(np.asarray(slope), variances, intervals, used, dimension(data))


def _statistics(data: xr.DataTree, k: int, features: Features, wanted: int) -> _Statistics:
    mean, used = np.zeros(features.size), 0
    for x in _pieces(data, k, MEAN_PARTICLES, BATCH):
        mean += features.values(x).sum(axis=0)
        used += len(x)
    second = gram = np.zeros((features.size, features.size))
    first, gram_used = np.zeros(features.size), 0
    for x in _pieces(data, k, wanted, BATCH):
        values, gradients = features(x)
        first += values.sum(axis=0)
        second = second + values.T @ values
        # All components as further rows: one product.
        rows = gradients.reshape(-1, features.size)
        gram = gram + rows.T @ rows
        gram_used += len(x)
    first /= gram_used
    covariance = second / gram_used - np.outer(first, first)
    return _Statistics(mean / used, covariance, gram / gram_used, used, gram_used)


def _paired_increments(data: xr.DataTree, features: Features) -> list[np.ndarray]:
    """Covariances of the increments, which bound the noise where particles are followed."""
    out = []
    for k in range(len(times(data)) - 1):
        pieces = zip(*(_pieces(data, i, GRAM_PARTICLES, BATCH) for i in (k, k + 1)), strict=True)
        step = np.concatenate([features.values(b) - features.values(a) for a, b in pieces])
        out.append(np.cov(step.T) / len(step))
    return out


def _pieces(data: xr.DataTree, k: int, wanted: int, size: int) -> Iterator[np.ndarray]:
    """Yield about ``wanted`` particles of snapshot k, from all over it, in float64."""
    n = int(counts(data)[k])
    pieces = -(-min(wanted, n) // size)
    starts = np.arange(0, n, size) if wanted >= n else np.linspace(0, n - size, pieces)
    for start in starts.astype(int):
        yield positions(data, k, "train", int(start), int(start) + size).astype(np.float64)


def _basis(gram: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a basis in which the Gram matrix is 1 and the noise diagonal, ascending."""
    size = np.diag(gram)
    if not size.any():
        return np.zeros((len(gram), 1)), np.zeros(1)
    # A feature that hardly any particle feels must not be blown up to the size of the others.
    scale = 1 / np.sqrt(np.maximum(size, 1e-6 * np.median(size[size > 0])))
    values, vectors = np.linalg.eigh(gram * np.outer(scale, scale))
    kept = values > RESOLVED * values[-1]
    basis = scale[:, None] * vectors[:, kept] / np.sqrt(values[kept])
    variances, rotation = np.linalg.eigh(basis.T @ noise @ basis)
    return basis @ rotation, np.maximum(variances, 1e-12 * variances[-1])
