"""The gradient that drives the particles: ∇V(x, t) + mean over the others of ∇W(x − y)."""

from __future__ import annotations

import torch
from torch import Tensor

from popdyn.energies import FreeEnergy
from popdyn.energies.pairwise import mean_interaction_gradient
from popdyn.simulation.schemes import Gradient

__all__ = ["population_gradient"]


def population_gradient(energy: FreeEnergy) -> Gradient:
    """Return (x, t) ↦ ∇V(x, t) + mean over j ≠ i of ∇W(x_i − x_j).

    Positions are ``(..., n, d)``: each slice along the leading axes is a population of its own.
    """
    V, W = energy.V, energy.W

    def gradient(x: Tensor, t: float | Tensor) -> Tensor:
        out = torch.zeros_like(x) if V is None else V.gradient(x, t)
        if W is not None and x.shape[-2] > 1:
            out = out + mean_interaction_gradient(W, x, x, exclude_self=True)
        return out

    return gradient
