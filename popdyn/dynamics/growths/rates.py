"""Rates of growth in 1/time; negative where more die than are born."""

from __future__ import annotations

import torch
from torch import Tensor

from popdyn.dynamics.fields import Time, Vector, beyond, entry_of, hill
from popdyn.dynamics.growths import GROWTHS


@entry_of(GROWTHS, "rate")
def constant(x: Tensor, rate: float = 1.0) -> Tensor:
    """The same for all: the mass grows, proportions stay."""
    return torch.full_like(x[..., 0], rate)


@entry_of(
    GROWTHS,
    "outside + (rate − outside)/(1 + exp(−(n·x − offset)/width)), n along direction (None: axis 1)",
    positive=("width",),
)
def half_space(
    x: Tensor,
    rate: float = 1.0,
    outside: float = 0.0,
    direction: Vector | None = None,
    offset: float = 0.0,
    width: float = 0.25,
) -> Tensor:
    """One rate beyond a plane and another before it, with a smooth edge."""
    return outside + (rate - outside) * beyond(x, direction, offset, width)


@entry_of(
    GROWTHS,
    "base + rate exp(−|x − center|²/(2 width²))",
    positive=("width",),
)
def bump(
    x: Tensor,
    rate: float = 1.0,
    base: float = 0.0,
    center: Vector | None = None,
    width: float = 1.0,
) -> Tensor:
    """Growth around a point, such as a niche."""
    return base + rate * hill(x, center, width)


@entry_of(
    GROWTHS,
    "base + rate exp(−|x − center|²/(2 width²)) exp(−t/decay)",
    time_dependent=True,
    positive=("width", "decay"),
)
def fading_bump(
    x: Tensor,
    t: Time,
    rate: float = 1.0,
    base: float = 0.0,
    center: Vector | None = None,
    width: float = 1.0,
    decay: float = 1.0,
) -> Tensor:
    """Growth around a point that fades with time."""
    fading = torch.exp(torch.as_tensor(t, dtype=torch.float64, device=x.device) / -decay)
    return base + rate * hill(x, center, width) * fading.to(x)
