"""What a fit can certify: the debiased inverse-optimization gap with its standard error."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.drive import Drive
from popdyn.estimation.entropy import entropy
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.jko.inner import Inner

__all__ = ["debiased_gap"]

POINTS, REPEATS = 300, 6


def debiased_gap(
    data: TrainingSet, energy: FreeEnergy, inner: Inner, start: Tensor, tau: Tensor
) -> dict[str, Any]:
    """Return Σ_k gap_k, its standard error, and a warning where it lies below −3 of them.

    gap_k = J(ρ_{k+1}) + W₂²(ρ_k, ρ_{k+1})/2τ − J(ρ̂_k) − E|x − x̂|²/2τ, with entropies from samples
    of one size on both sides, so that their biases cancel. W₂² between two samples A, B is biased
    upwards; in its place stands W₂²(A,B) − ½W₂²(A,A′) − ½W₂²(B,B′) with fresh halves. For
    ``simulate`` ρ̂ is not the JKO minimiser, so there the gap is a diagnostic and may be negative.

    Args:
        data: The training set; its validation particles are used.
        energy: The learned energy.
        inner: The inner solver that gives ρ̂.
        start, tau: Start and length of each interval, ``(K, 1)``.
    """
    rng = np.random.default_rng([data.seed, 3])
    half = min(POINTS, min(len(x) for x in data.validation) // 2)
    if half < 10:
        return {}
    totals = []
    for _ in range(REPEATS):
        parts = []
        for x in data.validation:
            chosen = torch.from_numpy(rng.permutation(len(x))[: 2 * half]).to(x.device)
            parts.append(x[chosen])
        sample = torch.stack(parts)
        before, after = sample[data.intervals.before], sample[data.intervals.after]
        ahead = inner.solve(energy, before, start, tau)
        drive, end = Drive(energy), start + tau
        with torch.no_grad():
            change = _mean_energy(drive, after, end) - _mean_energy(drive, ahead, end)
        if energy.diffusivity > 0:
            lost = [entropy(b) - entropy(a) for a, b in zip(after, ahead, strict=True)]
            change = change + energy.diffusivity * torch.tensor(lost).to(change)
        moved = (ahead - before).square().sum(-1).mean(-1)
        transport = torch.tensor(
            [
                _squared(a[:half], b[:half])
                - 0.5 * (_squared(a[:half], a[half:]) + _squared(b[:half], b[half:]))
                for a, b in zip(before, after, strict=True)
            ]
        ).to(moved)
        totals.append(float((change + (transport - moved) / (2 * tau[:, 0])).sum()))
    value, error = float(np.mean(totals)), float(np.std(totals, ddof=1) / np.sqrt(REPEATS))
    return {"gap": value, "gap_standard_error": error}


def _mean_energy(drive: Drive, x: Tensor, t: Tensor) -> Tensor:
    return drive.potential(x, t).mean(-1) + drive.pair_energy(x) / x.shape[-2]


def _squared(a: Tensor, b: Tensor) -> float:
    """Return W₂² of two samples of one size: a plan of least cost sends each point to one other."""
    cost = cdist(a.double().cpu().numpy(), b.double().cpu().numpy(), "sqeuclidean")
    return float(cost[linear_sum_assignment(cost)].mean())
