"""Increments of the Brownian motion that drives the particles."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

__all__ = ["Brownian", "Noise", "join"]


class Noise(NamedTuple):
    """√(2β) times B(t+h) − B(t), and times ∫ (B(s) − B(t)) ds over the step.

    Without the factor where β depends on the state: the scheme multiplies by ``drive.spread``.
    ``integral`` is None for schemes that do not ask for it.
    """

    increment: Tensor
    integral: Tensor | None = None


class Brownian:
    """Draws the noise of one step after the other into the same memory.

    Args:
        beta: β; None where it depends on the state.
        integral: Whether to draw the integral of the path, too.
        generator: Source of the normals.
    """

    def __init__(
        self, beta: float | None, *, integral: bool = False, generator: Generator | None = None
    ) -> None:
        self.beta = 0.5 if beta is None else beta
        self.integral, self.generator = integral, generator
        self._memory: list[Tensor] = []

    def draw(self, x: Tensor, h: float | Tensor) -> Noise | None:
        """Return the noise of a step ``h`` for ``x``, or None where β = 0.

        It is overwritten by the next call. A tensor ``h`` broadcasts against ``x``.
        """
        if self.beta == 0:
            return None
        if isinstance(h, Tensor):
            return Noise(self._normal(0, x, 1.0).mul_((2.0 * self.beta * h) ** 0.5))
        sigma = math.sqrt(2.0 * self.beta * h)
        increment = self._normal(0, x, sigma)
        if not self.integral:
            return Noise(increment)
        # ∫ (B(s) − B(t)) ds = (h/2)·(B(t+h) − B(t)) + √(h³/12)·ξ, ξ independent of the increment
        integral = self._normal(1, x, sigma * h / math.sqrt(12.0))
        return Noise(increment, integral.add_(increment, alpha=h / 2))

    def _normal(self, slot: int, x: Tensor, std: float) -> Tensor:
        while len(self._memory) <= slot:
            self._memory.append(x.new_empty(0))
        if self._memory[slot].numel() < x.numel() or self._memory[slot].dtype != x.dtype:
            self._memory[slot] = torch.empty(x.numel(), dtype=x.dtype, device=x.device)
        return (
            self._memory[slot][: x.numel()]
            .view(x.shape)
            .normal_(0.0, std, generator=self.generator)
        )


def join(first: Noise | None, second: Noise | None, h: float) -> Noise | None:
    """Return the noise of the step that two steps ``h`` make together."""
    if first is None or second is None:
        return None
    increment = first.increment + second.increment
    if first.integral is None or second.integral is None:
        return Noise(increment)
    return Noise(increment, first.integral + second.integral + h * first.increment)
