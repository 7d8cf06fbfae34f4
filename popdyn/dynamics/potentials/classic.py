"""Potentials that people know, with parameters, and two that depend on time."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.dynamics.fields import Time, Vector, entry_of, squared_norm, vector
from popdyn.dynamics.potentials import POTENTIALS

# Müller and Brown's four Gaussians: height A, curvatures a, b, c, and the point (u₀, v₀).
MULLER_BROWN = (
    (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
    (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
    (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
    (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
)


def _square_matrix(matrix: Sequence[Sequence[float]], x: Tensor) -> Tensor:
    d = x.shape[-1]
    out = x.new_tensor(matrix)
    if out.shape != (d, d) or not torch.equal(out, out.T):
        raise PopdynError(
            f"parameter 'matrix' of 'quadratic' has shape {tuple(out.shape)}: expected a "
            f"symmetric matrix of shape {(d, d)}"
        )
    return out


def _quadratic_gradient(
    x: Tensor,
    stiffness: float,
    matrix: Sequence[Sequence[float]] | None,
    center: Vector | None,
) -> Tensor:
    z = x if center is None else x - vector(center, x, "center")
    return stiffness * (z if matrix is None else z @ _square_matrix(matrix, x))


@entry_of(
    POTENTIALS,
    "½ stiffness (v − center)ᵀ matrix (v − center)",
    gradient=_quadratic_gradient,
)
def quadratic(
    x: Tensor,
    stiffness: float = 1.0,
    matrix: Sequence[Sequence[float]] | None = None,
    center: Vector | None = None,
) -> Tensor:
    """A bowl: the Ornstein–Uhlenbeck process (matrix: the identity if not given)."""
    z = x if center is None else x - vector(center, x, "center")
    pulled = z if matrix is None else z @ _square_matrix(matrix, x)
    return (0.5 * stiffness) * (z * pulled).sum(-1)


def _double_well_gradient(x: Tensor, height: float, distance: float, stiffness: float) -> Tensor:
    out = stiffness * x
    first = x[..., 0]
    square = first.square().mul_(1.0 / distance**2).sub_(1.0)
    out[..., 0] = square.mul_(first).mul_(4.0 * height / distance**2)
    return out


@entry_of(
    POTENTIALS,
    "height (v₁²/distance² − 1)² + ½ stiffness Σ_{i>1} vᵢ²",
    gradient=_double_well_gradient,
    positive=("distance",),
)
def double_well(
    x: Tensor, height: float = 2.0, distance: float = 2.0, stiffness: float = 1.0
) -> Tensor:
    """Two wells at v₁ = ±distance with a barrier of the given height between them."""
    wells = (x[..., 0].square() / distance**2 - 1.0).square()
    return height * wells + (0.5 * stiffness) * squared_norm(x[..., 1:])


def _muller_brown_parts(
    x: Tensor, length: float, origin: Sequence[float]
) -> list[tuple[float, float, float, Tensor, Tensor, Tensor]]:
    """Return for each of the four Gaussians a, b, c, u − u₀, v − v₀ and its value."""
    at = x[..., :2] * length + vector(origin, x[..., :2], "origin")
    u, v = at[..., 0].contiguous(), at[..., 1].contiguous()
    parts = []
    for A, a, b, c, u0, v0 in MULLER_BROWN:
        p, q = u - u0, v - v0
        exponent = (a * p + b * q).mul(p) + c * q.square()
        parts.append((a, b, c, p, q, A * exponent.exp()))
    return parts


def _muller_brown_gradient(
    x: Tensor,
    height: float,
    length: float,
    origin: Sequence[float],
    stiffness: float,
) -> Tensor:
    out = stiffness * x
    out[..., :2] = 0.0
    for a, b, c, p, q, value in _muller_brown_parts(x, length, origin):
        out[..., 0] += value * (2.0 * a * p + b * q)
        out[..., 1] += value * (b * p + 2.0 * c * q)
    out[..., :2] *= height * length
    return out


@entry_of(
    POTENTIALS,
    "height Σₖ Aₖ exp(aₖ(u − uₖ)² + bₖ(u − uₖ)(w − wₖ) + cₖ(w − wₖ)²) + ½ stiffness Σ_{i>2} vᵢ², "
    "(u, w) = origin + length (v₁, v₂)",
    gradient=_muller_brown_gradient,
    min_dim=2,
    positive=("length",),
)
def muller_brown(
    x: Tensor,
    height: float = 0.05,
    length: float = 0.35,
    origin: Sequence[float] = (-0.2, 0.8),
    stiffness: float = 1.0,
) -> Tensor:
    """Müller and Brown's three bent wells, scaled to the box [−4, 4]² and to β near 1."""
    surface = sum(value for *_, value in _muller_brown_parts(x, length, origin))
    return height * surface + (0.5 * stiffness) * squared_norm(x[..., 2:])


def _mixture_logits(
    x: Tensor, means: Sequence[Vector], width: Vector, weights: Sequence[float] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the means ``(k, d)``, widths ``(k)`` and log densities ``(k, ...)``."""
    k, d = len(means), x.shape[-1]
    m = torch.stack([vector(mean, x, "means").expand(d) for mean in means])
    w, p = x.new_tensor(width), x.new_ones(k) if weights is None else x.new_tensor(weights)
    w = w.reshape(-1).expand(k) if w.numel() == 1 else w
    if w.shape != (k,) or p.shape != (k,):
        raise PopdynError(
            f"parameters 'width' and 'weights' of 'gaussian_mixture' have shapes {tuple(w.shape)} "
            f"and {tuple(p.shape)}: expected {k} numbers each, one for each mean"
        )
    norm = (p / p.sum()).log() - d * (w.log() + 0.5 * math.log(2.0 * math.pi))
    # Components first: reductions over a short last axis are slow.
    parts = [n - squared_norm(x - c) / (2.0 * v**2) for n, c, v in zip(norm, m, w, strict=True)]
    return m, w, torch.stack(parts)


def _gaussian_mixture_gradient(
    x: Tensor,
    means: Sequence[Vector],
    width: Vector,
    weights: Sequence[float] | None,
) -> Tensor:
    m, w, logits = _mixture_logits(x, means, width, weights)
    out = torch.zeros_like(x)
    for share, center, v in zip(logits.softmax(0), m, w, strict=True):
        out.addcmul_((share / v**2)[..., None], x - center)
    return out


@entry_of(
    POTENTIALS,
    "−log Σₖ weightₖ N(v; meanₖ, widthₖ² I)",
    gradient=_gaussian_mixture_gradient,
    positive=("width", "weights"),
)
def gaussian_mixture(
    x: Tensor,
    means: Sequence[Vector] = (-2.0, 2.0),
    width: Vector = (1.0,),
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Minus the log of a Gaussian mixture, its Gibbs density at β = 1; a number is (c, …, c)."""
    return -_mixture_logits(x, means, width, weights)[2].logsumexp(0)


def _circle(x: Tensor, t: Time, radius: float, frequency: float) -> Tensor:
    """Return the well's centre, ``(d)`` or, for times that vary, ``(..., d)``."""
    angle = 2.0 * math.pi * frequency * torch.as_tensor(t, dtype=x.dtype, device=x.device)
    out = x.new_zeros((*angle.shape, x.shape[-1]))
    out[..., 0] = radius * angle.cos()
    if x.shape[-1] > 1:
        out[..., 1] = radius * angle.sin()
    return out


def _moving_well_gradient(
    x: Tensor, t: Time, stiffness: float, radius: float, frequency: float
) -> Tensor:
    return (x - _circle(x, t, radius, frequency)).mul_(stiffness)


@entry_of(
    POTENTIALS,
    "½ stiffness ‖v − c(t)‖², c(t) = radius (cos 2πft, sin 2πft, 0, …), f = frequency",
    gradient=_moving_well_gradient,
    time_dependent=True,
)
def moving_well(
    x: Tensor, t: Time, stiffness: float = 5.0, radius: float = 2.0, frequency: float = 1.0
) -> Tensor:
    """A bowl whose centre runs round a circle in the first two components (d = 1: a line)."""
    return (0.5 * stiffness) * squared_norm(x - _circle(x, t, radius, frequency))


def _depth(x: Tensor, t: Time, depth: float, onset: float, duration: float) -> Tensor:
    return depth * torch.tanh(
        (torch.as_tensor(t, dtype=x.dtype, device=x.device) - onset) / duration
    )


def _splitting_well_gradient(
    x: Tensor,
    t: Time,
    depth: float,
    onset: float,
    duration: float,
    quartic: float,
    stiffness: float,
) -> Tensor:
    out = stiffness * x
    first = x[..., 0]
    slope = first.square().mul_(quartic).sub_(_depth(x, t, depth, onset, duration))
    out[..., 0] = slope.mul_(first)
    return out


@entry_of(
    POTENTIALS,
    "¼ quartic v₁⁴ − ½ r(t) v₁² + ½ stiffness Σ_{i>1} vᵢ², r(t) = depth tanh((t − onset)/duration)",
    gradient=_splitting_well_gradient,
    time_dependent=True,
    positive=("duration",),
)
def splitting_well(
    x: Tensor,
    t: Time,
    depth: float = 4.0,
    onset: float = 0.5,
    duration: float = 0.25,
    quartic: float = 1.0,
    stiffness: float = 1.0,
) -> Tensor:
    """One well that splits in two along v₁ at t = onset (a pitchfork)."""
    u = x[..., 0].square()
    split = 0.25 * quartic * u.square() - 0.5 * _depth(x, t, depth, onset, duration) * u
    return split + (0.5 * stiffness) * squared_norm(x[..., 1:])
