"""How far an inner solution is from the optimality condition of its JKO step."""

from __future__ import annotations

import torch
from torch import Tensor

from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.drive import Drive
from popdyn.estimation.entropy import score

__all__ = ["relative", "stationarity"]


def relative(part: Tensor, whole: Tensor) -> float:
    """Return the root mean square of a part over that of the whole."""
    ratio = part.square().mean().sqrt() / whole.square().mean().sqrt().clamp_min(1e-20)
    return float(ratio.detach())


def stationarity(energy: FreeEnergy, x: Tensor, y: Tensor, end: Tensor, tau: Tensor) -> float:
    """Return rms |(y − x)/τ + ∇V(y) + (∇W∗ρ̂)(y) + β∇log ρ̂(y)| over rms |(y − x)/τ|.

    ∇log ρ̂ is found by score matching on y.

    Args:
        energy: V, W and β.
        x: The particles, ``(K, n, d)``.
        y: Where the inner solution takes them: a sample of ρ̂.
        end, tau: End and length of each interval, ``(K, 1)``.
    """
    speed = (y - x) / tau[..., None]
    rest = speed + Drive(energy).gradient(y, end)
    if energy.diffusivity > 0:
        rest = rest + energy.diffusivity * torch.stack([score(own) for own in y])
    return relative(rest, speed)
