"""Mean interaction gradients over a population, in blocks, without an N×N array in memory."""

import torch
from torch import Tensor

from popdyn.energies.terms import RadialTerm, Term

__all__ = ["mean_interaction_gradient"]

PAIRS_PER_BLOCK = 1 << 20


def mean_interaction_gradient(
    W: Term, x: Tensor, population: Tensor, *, exclude_self: bool = False
) -> Tensor:
    """Return the mean over y in the population of ∇W(x − y).

    Args:
        W: An even kernel.
        x: Positions, ``(..., n, d)``.
        population: The particles that exert the force, ``(..., m, d)``.
        exclude_self: Divide by ``m − 1``: ``x`` is the population itself, and a particle does
            not act on itself (its own term ∇W(0) is zero, as W is even).

    Returns:
        ``(..., n, d)``, dimensionless.
    """
    n, m, d = x.shape[-2], population.shape[-2], x.shape[-1]
    rows = max(1, PAIRS_PER_BLOCK // max(1, m * (1 if isinstance(W, RadialTerm) else d)))
    parts = []
    for start in range(0, n, rows):
        block = x[..., start : start + rows, :]
        if isinstance(W, RadialTerm):
            weights = W.slope(torch.cdist(block, population).square())
            parts.append(2 * (weights.sum(-1, keepdim=True) * block - weights @ population))
        else:
            z = block[..., :, None, :] - population[..., None, :, :]
            parts.append(W.gradient(z).sum(-2))
    return torch.cat(parts, -2) / (m - 1 if exclude_self else m)
