"""Diffusivities that depend on the position, positive everywhere."""

from __future__ import annotations

from torch import Tensor

from popdyn.dynamics.diffusions import DIFFUSIONS
from popdyn.dynamics.fields import Vector, beyond, entry_of, hill


@entry_of(
    DIFFUSIONS,
    "low + (high − low)/(1 + exp(−(n·x − offset)/width)), n along direction (None: axis 1)",
    positive=("low", "high", "width"),
)
def rising(
    x: Tensor,
    low: float = 0.05,
    high: float = 0.5,
    direction: Vector | None = None,
    offset: float = 0.0,
    width: float = 1.0,
) -> Tensor:
    """From a low value to a high one across a plane."""
    return low + (high - low) * beyond(x, direction, offset, width)


@entry_of(
    DIFFUSIONS,
    "low + (high − low)(1 − exp(−|x − center|²/(2 width²)))",
    positive=("low", "high", "width"),
)
def hollow(
    x: Tensor,
    low: float = 0.05,
    high: float = 0.5,
    center: Vector | None = None,
    width: float = 1.0,
) -> Tensor:
    """Low around a point, high far from it: particles gather where they hardly move."""
    return high + (low - high) * hill(x, center, width)
