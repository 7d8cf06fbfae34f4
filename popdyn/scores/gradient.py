"""The gradient scores: functions of the moments, ``(..., K) → (...)``; NaN where undefined."""

from __future__ import annotations

import numpy as np

from popdyn.scores.moments import Moments

__all__ = ["cosine", "l2_uvp", "relative_error", "skill", "skill_modulo_gauge"]


def skill(m: Moments) -> np.ndarray:
    """Return 1 − ΣE|g − g*|²/ΣE|g*|², sums over the snapshots."""
    return 1.0 - _ratio(m.error.sum(-1), m.truth.sum(-1))


def skill_modulo_gauge(m: Moments) -> np.ndarray:
    """Return the skill after removing the gauge that V and W share; NaN without a W."""
    if m.gauge_error is None:
        return np.full(m.error.shape[:-1], np.nan)
    return 1.0 - _ratio(m.gauge_error.sum(-1), m.truth.sum(-1))


def relative_error(m: Moments) -> np.ndarray:
    """Return √(ΣE|g − g*|²/ΣE|g*|²) = √(1 − skill)."""
    return np.sqrt(_ratio(m.error.sum(-1), m.truth.sum(-1)))


def cosine(m: Moments) -> np.ndarray:
    """Return the mean cosine of g and g*, over the particles where g* ≠ 0."""
    return _ratio(m.cosine.sum(-1), m.directed.sum(-1))


def l2_uvp(m: Moments) -> np.ndarray:
    """Return the mean over k of 100 τ_k² E_{k+1}|g − g*|²/Var ρ_k, in percent."""
    return (m.uvp * m.error).mean(-1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)
