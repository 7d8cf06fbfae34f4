"""What may stand for what: how far another V goes with what is not known of β or of g."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from popdyn.estimation.evidence import Posterior
from popdyn.estimation.flow import Unknowns

__all__ = ["TRADED", "force", "spreads", "traded", "traded_growth"]

# Of ∇V, that may be another for a standard error of what trades: a tenth of the skill.
TRADED = math.sqrt(0.1)
MOST_TRADED = 50  # directions of V in which that is looked at
COMPARED = 500  # particles of each snapshot that this is looked at by


def traded(
    unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, snapshots: Sequence[Tensor]
) -> float:
    """Return by how much of itself ∇V is another for a standard error of β; 0 if β is known.

    Root mean squares over the snapshots; of a V in time its mean is looked at.
    """
    if unknowns.diffusivity is not None or unknowns.features is None:
        return 0.0
    error = math.sqrt(max(posterior.covariance[-1, -1], 1e-300))
    columns = np.stack([posterior.covariance[-1] / error, theta], 1)
    change, own = _gradients(unknowns, columns, snapshots).square().sum((0, 1)).tolist()
    return math.sqrt(change / own) if own > 0.0 else math.inf


def spreads(unknowns: Unknowns, theta: np.ndarray, snapshots: Sequence[Tensor]) -> bool:
    """Return whether more of β, V = −β log ρ̄ with it, goes with a smaller force.

    It does where V pushes a population apart, which noise might do as well.
    """
    noise = np.zeros_like(theta)
    noise[-1] = 1.0
    slopes = _gradients(unknowns, np.stack([noise, theta], 1), snapshots)
    return float((slopes[..., 0] * slopes[..., 1]).sum()) < 0.0


def force(unknowns: Unknowns, theta: np.ndarray, snapshots: Sequence[Tensor]) -> float:
    """Return the root mean square of ∇V over the snapshots."""
    squares = _gradients(unknowns, theta[:, None], snapshots).square()
    return math.sqrt(float(squares.sum(0).mean()))


def _gradients(unknowns: Unknowns, columns: np.ndarray, snapshots: Sequence[Tensor]) -> Tensor:
    """Return ∇V of some θ, ``(p, c) → (d, n, c)``; of a V in time its mean."""
    assert unknowns.features is not None
    x = torch.cat([x[:COMPARED].cpu() for x in snapshots])
    weights = unknowns.potential_weights(columns)[:, 0]
    return unknowns.features.gradient_of(x, torch.from_numpy(weights).to(x))


def traded_growth(
    unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, snapshots: Sequence[Tensor]
) -> tuple[float, float]:
    """Return by how much of itself ∇V is another for what is not known of g, and that of g.

    What of the variance of ∇V would go if g were known, over the square of ∇V, and the standard
    error of g that would go if V were known, less its mean; root mean squares over the snapshots.
    """
    V, g = unknowns.potential, unknowns.growth
    C = posterior.covariance
    if unknowns.features is None or unknowns.rates is None or not C[g, g].any():
        return 0.0, 0.0
    both = C[V, g] @ np.linalg.pinv(C[g, g], hermitian=True) @ C[g, V]
    x = torch.cat([x[:COMPARED].cpu() for x in snapshots])
    own = np.zeros((unknowns.size, V.stop))
    strengths, vectors = np.linalg.eigh(both)
    own[V] = vectors * np.sqrt(strengths.clip(0.0))
    columns = np.concatenate([theta[:, None], own[:, -MOST_TRADED:]], 1)
    weights = unknowns.potential_weights(columns).mean(1)
    slopes = unknowns.features.gradient_of(x, torch.from_numpy(weights).to(x))
    squares = slopes.square().sum((0, 1)).double().numpy()
    share = math.sqrt(squares[1:].sum() / squares[0]) if squares[0] > 0.0 else math.inf
    rates = unknowns.rates.columns(x).double().numpy()
    rates = rates - rates.mean(0)
    error = math.sqrt(max(0.0, float(((rates @ C[g, g]) * rates).sum(1).mean())))
    return share, error
