"""The JKO step at β = 0, solved to float32 accuracy by descent with backtracking."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Noise
from popdyn.simulation.schemes import scheme

__all__ = ["jko_step"]

MAX_ITERATIONS = 5000
TOLERANCE = 1e-8  # of positions: float32 stores them to 6e-8
SUFFICIENT_DECREASE = 1e-4


@scheme(
    "jko",
    "x ← argmin_y V(y,t+τ) + (W∗ρ)(y) + |y − x|²/2τ, W jointly for the population",
    "the JKO step itself, β = 0: data that a JKO learner's model fits exactly",
    whole_interval=True,
    noise=False,
    any_drift=False,
    random_batches=False,
    many_steps=False,
)
def jko_step(x: Tensor, t: Any, h: Any, drive: Drive, noise: Noise | None) -> None:
    """Move ``x`` in place to the minimiser of the JKO objective over a step ``h``.

    That is Σ_i V(y_i, t+h) + |y_i − x_i|²/2h + ½ mean over j ≠ i of W(y_i − y_j).

    Without W every particle is a problem of its own; with W a population ``(n, d)`` is one. The
    descent starts at ``x`` and takes Barzilai–Borwein steps, each halved until the objective of
    its problem falls; where h·∇²V has eigenvalues below −1 it ends in the minimum downhill of x.

    Raises:
        PopdynError: If it does not come to rest.

    References:
        Jordan, Kinderlehrer and Otto, SIAM J. Math. Anal. 29 (1998); Raydan, SIAM J. Optim. 7
        (1997).
    """
    start = x.double()
    problem = _Problem(drive, start, t + h, h)
    y = start.clone()
    value, gradient = problem.value(y), problem.gradient(y)
    length = torch.full_like(problem.total(y[..., 0]), h)
    resting = torch.zeros_like(length, dtype=torch.bool)
    for _ in range(MAX_ITERATIONS):
        # h·|gradient| bounds the distance to the minimum where V + |·|²/2h has modulus 1/h
        reach = h * gradient.square().sum(-1).sqrt() / (1.0 + y.abs().amax(-1))
        resting |= problem.largest(reach) <= TOLERANCE
        if resting.all():
            x.copy_(y)
            return
        slope = problem.total(gradient.square().sum(-1))
        # Rounding of the objective, below which a fall cannot be seen.
        haze = 8 * torch.finfo(y.dtype).eps * (1 + value.abs())
        searching = ~resting
        tried, tried_value = y, value
        for _ in range(60):
            tried = torch.where(problem.wide(searching), y - problem.wide(length) * gradient, tried)
            tried_value = torch.where(searching, problem.value(tried), tried_value)
            enough = value - SUFFICIENT_DECREASE * length * slope + haze
            searching = searching & ~(tried_value <= enough)
            if not searching.any():
                break
            length = torch.where(searching, length / 2, length)
        if not torch.isfinite(tried_value).all():
            break
        tried_gradient = problem.gradient(tried)
        move, change = tried - y, tried_gradient - gradient
        curvature = problem.total((move * change).sum(-1))
        moved = problem.total(move.square().sum(-1))
        # A kink of V stops the descent without a vanishing gradient.
        resting |= problem.largest(move.abs().amax(-1)) <= 1e-14
        ratio = moved / curvature
        length = torch.where((curvature > 0) & torch.isfinite(ratio), ratio, 2 * length)
        y, value, gradient = tried, tried_value, tried_gradient
    worst = float(reach.max())
    raise PopdynError(
        f"the JKO step of length {float(h):g} did not come to rest in {MAX_ITERATIONS} iterations "
        f"(residual {worst:.1e} of the position): expected closer times, or a potential bounded "
        "below by −|x|²/2τ"
    )


class _Problem:
    """The objective of a step: per particle without W, per population with it."""

    def __init__(self, drive: Drive, start: Tensor, t: float, h: float) -> None:
        self.drive, self.start, self.t, self.h = drive, start, t, h
        self.joint = drive.W is not None and start.shape[-2] > 1

    def value(self, y: Tensor) -> Tensor:
        each = self.drive.potential(y, self.t) + (y - self.start).square().sum(-1) / (2 * self.h)
        total = self.total(each)
        return total + self.drive.pair_energy(y) if self.joint else total

    def gradient(self, y: Tensor) -> Tensor:
        return self.drive.gradient(y, self.t) + (y - self.start) / self.h

    def total(self, each: Tensor) -> Tensor:
        """Sum what belongs to one problem, ``(..., n)``."""
        return each.sum(-1) if self.joint else each

    def largest(self, each: Tensor) -> Tensor:
        return each.amax(-1) if self.joint else each

    def wide(self, each: Tensor) -> Tensor:
        """Return a number for each problem as one that broadcasts against positions."""
        return each[..., None, None] if self.joint else each[..., None]
