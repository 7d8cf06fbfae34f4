"""Scores of a rate of growth, and of the mass that it predicts."""

from __future__ import annotations

from typing import Any

import numpy as np

from popdyn.dynamics import Dynamics
from popdyn.scores.protocol import Protocol
from popdyn.snapshots import positions
from popdyn.snapshots.tree import weights

__all__ = ["growth_scores", "mass_error"]

MAX_PARTICLES = 20_000


def growth_scores(estimate: Dynamics, truth: Dynamics, protocol: Protocol) -> dict[str, Any]:
    """Return ``skill`` and ``correlation`` of the rate, over the test snapshots k = 1…K.

    skill = 1 − Σ_k E_{ρ_k}(ĝ − g*)²/Σ_k E_{ρ_k} g*². Where the mass was not measured a rate is
    known up to a function of time: both are taken less their mean over each snapshot. The
    correlation is over all particles of all snapshots. null where the true rate is 0, or for
    the correlation where either is the same everywhere.
    """
    error = scale = 0.0
    moments = np.zeros(6)  # of the weights, ĝ, g*, ĝ², g*² and ĝg*
    for k, t in enumerate(protocol.times):
        if k == 0:
            continue
        x = positions(protocol.data, k, "test", 0, MAX_PARTICLES)
        w = weights(protocol.data, k, "test", 0, MAX_PARTICLES)
        share = np.full(len(x), 1.0 / len(x)) if w is None else w / w.sum(dtype=np.float64)
        found, true = (np.asarray(g.growth(x, float(t)), np.float64) for g in (estimate, truth))
        if protocol.mass(k) is None:
            found, true = found - share @ found, true - share @ true
        error += float(share @ (found - true) ** 2)
        scale += float(share @ true**2)
        columns = (np.ones(len(x)), found, true, found**2, true**2, found * true)
        moments += np.array([share @ column for column in columns])
    n, a, b, aa, bb, ab = moments
    spread = (aa / n - (a / n) ** 2) * (bb / n - (b / n) ** 2)
    covariance = ab / n - a * b / n**2
    return {
        "skill": 1.0 - error / scale if scale > 0 else None,
        # Rounding leaves a little of a variance that is 0.
        "correlation": covariance / np.sqrt(spread) if spread > 1e-14 * aa * bb else None,
    }


def mass_error(predicted: float | None, observed: float | None) -> float | None:
    """Return the error of a total mass relative to the observed one, None where one is unknown."""
    if predicted is None or observed is None:
        return None
    return abs(predicted - observed) / observed
