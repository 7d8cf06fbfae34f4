"""Boxes, Gaussians and shapes in the plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import special
from torch import Generator, Tensor

from popdyn.base.errors import PopdynError
from popdyn.simulation.laws import law, vector

Vector = float | Sequence[float]


def _uniform_density(x: np.ndarray, low: Vector = -4.0, high: Vector = 4.0) -> np.ndarray:
    a, b = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
    inside = ((x >= a) & (x <= b)).all(1)
    return inside / np.prod(np.broadcast_to(b - a, x.shape[1:]))


@law("U([low, high]^d)", _uniform_density)
def uniform(
    n: int, dim: int, generator: Generator, low: Vector = -4.0, high: Vector = 4.0
) -> Tensor:
    """Uniform on a box; low and high are numbers, or one for each component."""
    a, b = vector(low, dim, "low"), vector(high, dim, "high")
    if not (a < b).all():
        raise PopdynError(f"initial 'uniform' has low {low} and high {high}: expected low < high")
    return torch.rand(n, dim, generator=generator).mul_(b - a).add_(a)


def _gaussian_density(x: np.ndarray, mean: Vector = 0.0, std: Vector = 1.0) -> np.ndarray:
    s = np.broadcast_to(np.asarray(std, float), x.shape[1:])
    exponent = np.square((x - np.asarray(mean, float)) / s).sum(1) / 2
    return np.exp(-exponent) / np.prod(s * math.sqrt(2 * math.pi))


@law("N(mean, diag(std²))", _gaussian_density)
def gaussian(
    n: int, dim: int, generator: Generator, mean: Vector = 0.0, std: Vector = 1.0
) -> Tensor:
    """Gaussian with independent components; std are standard deviations."""
    m, s = vector(mean, dim, "mean"), vector(std, dim, "std", positive=True)
    return torch.randn(n, dim, generator=generator).mul_(s).add_(m)


def _mixture_density(
    x: np.ndarray,
    means: Sequence[Vector] = (-2.0, 2.0),
    stds: Vector = 0.5,
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    w = np.ones(len(means)) if weights is None else np.asarray(weights, float)
    s = np.broadcast_to(np.asarray(stds, float), len(means))
    parts = [w[j] * _gaussian_density(x, m, s[j]) for j, m in enumerate(means)]
    return np.sum(parts, axis=0) / w.sum()  # type: ignore[no-any-return]


@law("Σ_j w_j N(mean_j, std_j² I)", _mixture_density)
def gaussian_mixture(
    n: int,
    dim: int,
    generator: Generator,
    means: Sequence[Vector] = (-2.0, 2.0),
    stds: Vector = 0.5,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Mixture of round Gaussians, with equal weights unless given."""
    if not isinstance(means, Sequence) or not means:
        raise PopdynError(f"initial means is {means!r}: expected a list with an entry for each")
    centres = torch.stack([vector(m, dim, "means") for m in means])
    s = vector(stds, len(centres), "stds", positive=True)
    w = vector(1.0 if weights is None else weights, len(centres), "weights", positive=True)
    # By the inverse of the distribution function: torch.multinomial needs n × weights of memory.
    u = torch.rand(n, generator=generator) * w.sum()
    which = torch.searchsorted(w.cumsum(0), u, right=True).clamp_max(len(w) - 1)
    return torch.randn(n, dim, generator=generator).mul_(s[which, None]).add_(centres[which])


def _ring_density(x: np.ndarray, radius: float = 2.0, width: float = 0.1) -> np.ndarray:
    r, v = np.hypot(x[:, 0], x[:, 1]), width**2
    # I₀ scaled by its own growth, so that a narrow ring does not overflow
    plane = np.exp(-((r - radius) ** 2) / (2 * v)) * special.ive(0, r * radius / v)
    return plane / (2 * math.pi * v) * _gaussian_density(x[:, 2:], 0.0, width)  # type: ignore[no-any-return]


@law("radius·(cos θ, sin θ, 0, …) + N(0, width² I), θ uniform", _ring_density)
def ring(n: int, dim: int, generator: Generator, radius: float = 2.0, width: float = 0.1) -> Tensor:
    """A noisy circle in the first two components."""
    _check_plane("ring", dim, radius, width)
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    x = torch.randn(n, dim, generator=generator).mul_(width)
    x[:, 0] += radius * angle.cos()
    x[:, 1] += radius * angle.sin()
    return x


def _moons_density(x: np.ndarray, scale: float = 2.0, width: float = 0.1) -> np.ndarray:
    nodes = max(64, math.ceil(4 * math.pi * scale / width))
    angle = (np.arange(nodes) + 0.5) * math.pi / nodes
    arc = scale * np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], 1)
    arcs = np.concatenate([arc, -arc])
    out = np.zeros(len(x))
    for point in arcs:
        out += np.exp(-np.square(x[:, :2] - point).sum(1) / (2 * width**2))
    out /= len(arcs) * 2 * math.pi * width**2
    return out * _gaussian_density(x[:, 2:], 0.0, width)  # type: ignore[no-any-return]


@law("±scale·(cos θ − ½, sin θ − ¼, 0, …) + N(0, width² I), θ uniform on (0, π)", _moons_density)
def two_moons(
    n: int, dim: int, generator: Generator, scale: float = 2.0, width: float = 0.1
) -> Tensor:
    """Two interleaved half circles in the first two components, centred at 0."""
    _check_plane("two_moons", dim, scale, width)
    angle = math.pi * torch.rand(n, generator=generator)
    side = scale * (1.0 - 2.0 * torch.randint(2, (n,), generator=generator))
    x = torch.randn(n, dim, generator=generator).mul_(width)
    x[:, 0] += side * (angle.cos() - 0.5)
    x[:, 1] += side * (angle.sin() - 0.25)
    return x


def _check_plane(name: str, dim: int, size: float, width: float) -> None:
    if dim < 2:
        raise PopdynError(f"initial '{name}' needs dimension 2 or more, found {dim}")
    for value in (size, width):
        if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
            raise PopdynError(
                f"a parameter of initial '{name}' is {value!r}: expected a number > 0"
            )
