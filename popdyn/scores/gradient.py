"""The gradient scores: functions of the moments, ``(..., K) → (...)``; NaN where undefined."""

from __future__ import annotations

import numpy as np

from popdyn.scores.catalogue import score_of
from popdyn.scores.moments import Moments

__all__ = ["cosine", "l2_uvp", "relative_error", "skill", "skill_modulo_gauge"]


@score_of(
    "gradient",
    formula="1 − Σ_k E|∇V̂ − ∇V*|²/Σ_k E|∇V*|²",
    summary="share of the true gradient (or force) that came back; 0 is the zero predictor",
    minimised_by="the truth alone, where there are particles",
    perfect=1.0,
    bias="none to first order: a ratio of two averages over test particles",
    avoid="where the truth is 0; for V or W alone when both were learned (see the gauge)",
    higher_is_better=True,
    parts=("potential", "interaction", "force"),
    by_time=True,
)
def skill(m: Moments) -> np.ndarray:
    """Return 1 − ΣE|g − g*|²/ΣE|g*|², sums over the snapshots."""
    return 1.0 - _ratio(m.error.sum(-1), m.truth.sum(-1))


@score_of(
    "gradient",
    formula="skill after removing the best c: ∇Ŵ − ∇W* ≈ c z, ∇V̂ − ∇V* ≈ −c (x − m_k)",
    summary="skill for what the data can tell: V and W share a gauge while the mean stays",
    minimised_by="every energy that differs from the truth by the gauge",
    perfect=1.0,
    bias="upwards by fitting one constant: of the order of 1/N",
    avoid="where the mean moves much, so that V and W can be told apart: use skill",
    higher_is_better=True,
    parts=("potential", "interaction"),
    gauge=True,
)
def skill_modulo_gauge(m: Moments) -> np.ndarray:
    """Return the skill after removing the gauge that V and W share; NaN without a W."""
    if m.gauge_error is None:
        return np.full(m.error.shape[:-1], np.nan)
    return 1.0 - _ratio(m.gauge_error.sum(-1), m.truth.sum(-1))


@score_of(
    "gradient",
    formula="√(1 − skill)",
    summary="error of the gradient as a fraction of the gradient",
    minimised_by="the truth alone, where there are particles",
    perfect=0.0,
    bias="none to first order",
    avoid="where the truth is 0; near 1 it hides which side of the zero predictor it is on",
)
def relative_error(m: Moments) -> np.ndarray:
    """Return √(ΣE|g − g*|²/ΣE|g*|²) = √(1 − skill)."""
    return np.sqrt(_ratio(m.error.sum(-1), m.truth.sum(-1)))


@score_of(
    "gradient",
    formula="mean cosine of ∇V̂ and ∇V*",
    summary="direction of the gradient, whatever its size",
    minimised_by="every field that points along the truth, of any length",
    perfect=1.0,
    bias="none: an average; particles where ∇V* is small count as much as the others",
    avoid="alone: it does not see the size; where ∇V* is mostly near 0",
    higher_is_better=True,
)
def cosine(m: Moments) -> np.ndarray:
    """Return the mean cosine of g and g*, over the particles where g* ≠ 0."""
    return _ratio(m.cosine.sum(-1), m.directed.sum(-1))


@score_of(
    "gradient",
    formula="mean over k of 100 τ_k² E_{ρ_{k+1}}|∇V̂ − ∇V*|²/Var ρ_k",
    summary="squared error of a step in percent of the spread; the field's published score",
    minimised_by="the truth alone, where there are particles",
    perfect=0.0,
    bias="none to first order",
    avoid="without the zero row beside it: τ² makes everything look small",
    by_time=True,
)
def l2_uvp(m: Moments) -> np.ndarray:
    """Return the mean over k of 100 τ_k² E_{k+1}|g − g*|²/Var ρ_k, in percent."""
    return (m.uvp * m.error).mean(-1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)
