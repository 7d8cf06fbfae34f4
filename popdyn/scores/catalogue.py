"""The registry of scores: what each measures, what minimises it, and when not to use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from popdyn.scores import gradient, kernels, transport

__all__ = ["SCORES", "Score", "scores_of"]

Kind = Literal["gradient", "diffusivity", "distribution"]


@dataclass(frozen=True)
class Score:
    """A score; entering it in ``SCORES`` puts it into every result, table and leaderboard.

    Attributes:
        name: Registry key, and key in the results.
        kind: Where it stands in the results, and with that what ``function`` takes:
            ``gradient`` one :class:`~popdyn.scores.moments.Moments`; ``diffusivity`` the
            true and the estimated β; ``distribution`` ``(x, y, a, b)``, the predicted and the
            observed sample ``(n, d)``, ``(m, d)`` and their weights (None: uniform).
        function: Computes it. NaN stands for "not defined here" and is reported as null.
        formula: The formula, in plain text.
        summary: One line on what it measures.
        minimised_by: What makes it best, and whether anything but the truth does.
        perfect: Its value there.
        bias: What a finite sample does to it.
        avoid: When not to use it.
        higher_is_better: Its direction.
        parts: For ``gradient``: the parts of the energy that have it.
        by_time: For ``gradient``: whether each snapshot's own value is reported too.
    """

    name: str
    kind: Kind
    function: Callable[..., Any]
    formula: str
    summary: str
    minimised_by: str
    perfect: float
    bias: str
    avoid: str
    higher_is_better: bool = False
    parts: tuple[str, ...] = ("potential",)
    by_time: bool = False


def _difference(true: float, estimate: float) -> float:
    return estimate - true


def _entries() -> list[Score]:
    return [
        Score(
            "skill",
            "gradient",
            gradient.skill,
            "1 − Σ_k E|∇V̂ − ∇V*|²/Σ_k E|∇V*|²",
            "share of the true gradient (or force) that came back; 0 is the zero predictor",
            "the truth alone, where there are particles",
            1.0,
            "none to first order: a ratio of two averages over test particles",
            "where the truth is 0; for V or W alone when both were learned (see the gauge)",
            higher_is_better=True,
            parts=("potential", "interaction", "force"),
            by_time=True,
        ),
        Score(
            "skill_modulo_gauge",
            "gradient",
            gradient.skill_modulo_gauge,
            "skill after removing the best c: ∇Ŵ − ∇W* ≈ c z, ∇V̂ − ∇V* ≈ −c (x − m_k)",
            "skill for what the data can tell: V and W share a gauge while the mean stays",
            "every energy that differs from the truth by the gauge",
            1.0,
            "upwards by fitting one constant: of the order of 1/N",
            "where the mean moves much, so that V and W can be told apart: use skill",
            higher_is_better=True,
            parts=("potential", "interaction"),
        ),
        Score(
            "relative_error",
            "gradient",
            gradient.relative_error,
            "√(1 − skill)",
            "error of the gradient as a fraction of the gradient",
            "the truth alone, where there are particles",
            0.0,
            "none to first order",
            "where the truth is 0; near 1 it hides which side of the zero predictor it is on",
        ),
        Score(
            "cosine",
            "gradient",
            gradient.cosine,
            "mean cosine of ∇V̂ and ∇V*",
            "direction of the gradient, whatever its size",
            "every field that points along the truth, of any length",
            1.0,
            "none: an average; particles where ∇V* is small count as much as the others",
            "alone: it does not see the size; where ∇V* is mostly near 0",
            higher_is_better=True,
        ),
        Score(
            "l2_uvp",
            "gradient",
            gradient.l2_uvp,
            "mean over k of 100 τ_k² E_{ρ_{k+1}}|∇V̂ − ∇V*|²/Var ρ_k",
            "squared error of a step in percent of the spread; the field's published score",
            "the truth alone, where there are particles",
            0.0,
            "none to first order",
            "without the zero row beside it: τ² makes everything look small",
            by_time=True,
        ),
        Score(
            "diffusivity_error",
            "diffusivity",
            _difference,
            "β̂ − β*",
            "error of the diffusivity, with its sign",
            "the true diffusivity",
            0.0,
            "none of its own; the estimate's standard error stands beside it",
            "as a squared or relative error without the sign: attenuation would not show",
        ),
        Score(
            "w1",
            "distribution",
            transport.w1,
            "min over plans of E|x − y|",
            "exact Wasserstein-1 distance of prediction and observation",
            "every energy that predicts the observed law",
            0.0,
            "upwards, by about N^(−1/d): compare at equal points, beside the floor",
            "to tell energies apart over short times: the floor hides the difference",
        ),
        Score(
            "w2",
            "distribution",
            transport.w2,
            "√(min over plans of E|x − y|²)",
            "exact Wasserstein-2 distance of prediction and observation",
            "every energy that predicts the observed law",
            0.0,
            "upwards, by about N^(−1/d): compare at equal points, beside the floor",
            "to tell energies apart over short times: the floor hides the difference",
        ),
        Score(
            "sliced_w2",
            "distribution",
            transport.sliced_w2,
            "√(mean over 200 directions of W₂² of the projections)",
            "Wasserstein-2 distance along lines: hardly a curse of dimension",
            "every energy that predicts the observed law",
            0.0,
            "upwards, by about N^(−1/2) in any dimension",
            "in high dimension, where a random line sees little of a local difference",
        ),
        Score(
            "bw2_uvp",
            "distribution",
            kernels.bw2_uvp,
            "100 BW²(ρ̂, ρ)/(½ Var ρ), Gaussian fits",
            "error of mean and covariance, in percent of half the variance",
            "every law with the observed mean and covariance",
            0.0,
            "upwards, by about 1/N",
            "for laws with several modes: it sees two moments and nothing else",
        ),
        Score(
            "mmd",
            "distribution",
            kernels.mmd,
            "E k(x, x′) + E k(y, y′) − 2 E k(x, y), five Gaussian kernels k",
            "squared kernel discrepancy, bandwidths about the spread of the data",
            "every energy that predicts the observed law",
            0.0,
            "upwards, by about 1/N: each point meets itself",
            "for detail finer than the spread; across data sets: the bandwidth follows the data",
        ),
        Score(
            "energy_distance",
            "distribution",
            kernels.energy_distance,
            "2 E|x − y| − E|x − x′| − E|y − y′|",
            "squared energy distance: no bandwidth, no solver",
            "every energy that predicts the observed law",
            0.0,
            "upwards, by about 1/N: each point meets itself",
            "for detail in the tails: it weighs the bulk",
        ),
    ]


SCORES: dict[str, Score] = {entry.name: entry for entry in _entries()}


def scores_of(kind: Kind) -> list[Score]:
    """Return the registry's scores of one kind, in its order."""
    return [entry for entry in SCORES.values() if entry.kind == kind]
