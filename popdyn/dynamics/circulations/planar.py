"""Stream functions in the plane of two components, counted from 1."""

from __future__ import annotations

import torch
from torch import Tensor

from popdyn.dynamics.circulations import CIRCULATIONS
from popdyn.dynamics.fields import Vector, entry_of

Plane = tuple[float, float]


def _across(x: Tensor, plane: Plane, center: Vector) -> tuple[Tensor, Tensor]:
    """Return the two components of the plane, from the center."""
    i, j = (int(k) - 1 for k in plane)
    middle = x.new_tensor(center).reshape(-1).expand(2)
    return x[..., i] - middle[0], x[..., j] - middle[1]


@entry_of(
    CIRCULATIONS,
    "ψ = ½ rate ((x_i − c₁)² + (x_j − c₂)²): b = rate (−(x_j − c₂), x_i − c₁)",
    min_dim=2,
)
def rotation(
    x: Tensor, rate: float = 1.0, center: Vector = (0.0, 0.0), plane: Plane = (1.0, 2.0)
) -> Tensor:
    """All turn about a point as a rigid body, counterclockwise, in 2π/rate."""
    u, v = _across(x, plane, center)
    return 0.5 * rate * (u.square() + v.square())


@entry_of(
    CIRCULATIONS,
    "ψ = rate V: b = rate A∇V, along the levels of V",
    min_dim=2,
    of_potential=True,
)
def along_levels(v: Tensor, rate: float = 1.0, plane: Plane = (1.0, 2.0)) -> Tensor:
    """Turns ∇V by a right angle: exp(−V/β) stays at rest, so equilibrium does not show it."""
    return rate * v


@entry_of(
    CIRCULATIONS,
    "ψ = −rate width² exp(−r²/(2 width²)), r² = (x_i − c₁)² + (x_j − c₂)²: turns by rate at c",
    min_dim=2,
    positive=("width",),
)
def vortex(
    x: Tensor,
    rate: float = 1.0,
    width: float = 1.0,
    center: Vector = (0.0, 0.0),
    plane: Plane = (1.0, 2.0),
) -> Tensor:
    """An eddy around a point that fades beyond its width."""
    u, v = _across(x, plane, center)
    return -rate * width**2 * (-(u.square() + v.square()) / (2 * width**2)).exp()


@entry_of(
    CIRCULATIONS,
    "ψ = −rate length² cos((x_i − c₁)/length) cos((x_j − c₂)/length)",
    min_dim=2,
    positive=("length",),
)
def eddies(
    x: Tensor,
    rate: float = 1.0,
    length: float = 1.0,
    center: Vector = (0.0, 0.0),
    plane: Plane = (1.0, 2.0),
) -> Tensor:
    """A chequerboard of eddies that turn against each other (Taylor and Green)."""
    u, v = _across(x, plane, center)
    return -rate * length**2 * torch.cos(u / length) * torch.cos(v / length)
