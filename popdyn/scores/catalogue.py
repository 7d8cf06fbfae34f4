"""The registry of scores: what each measures, what minimises it, and when not to use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from popdyn.base.registry import Registry

__all__ = ["SCORES", "Score", "score_of", "scores_of"]

F = TypeVar("F", bound=Callable[..., Any])
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
        gauge: For ``gradient``: whether it needs a gauge that V and W share.

    Example:
        >>> SCORES["w2"].kind, SCORES["w2"].perfect
        ('distribution', 0.0)
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
    gauge: bool = False


SCORES: Registry[Score] = Registry("popdyn.scores", "score", "popdyn.scores")


def score_of(kind: Kind, **facts: Any) -> Callable[[F], F]:
    """Return a decorator that enters a function as a score; ``facts``: fields of ``Score``."""

    def enter(function: F) -> F:
        name = function.__name__
        SCORES.enter(name, Score(name, kind, function, **facts), function.__module__)
        return function

    return enter


@score_of(
    "diffusivity",
    formula="β̂ − β*",
    summary="error of the diffusivity, with its sign",
    minimised_by="the true diffusivity",
    perfect=0.0,
    bias="none of its own; the estimate's standard error stands beside it",
    avoid="as a squared or relative error without the sign: attenuation would not show",
)
def diffusivity_error(true: float, estimate: float) -> float:
    """Return the error with its sign."""
    return estimate - true


def scores_of(kind: Kind) -> list[Score]:
    """Return the registry's scores of one kind, in its order."""
    return [entry for entry in SCORES.values() if entry.kind == kind]
