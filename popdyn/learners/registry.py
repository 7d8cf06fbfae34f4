"""The learners there are; a new one is an entry here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from popdyn.errors import PopdynError
from popdyn.learners.ijkonet import fit_ijkonet
from popdyn.learners.ijkonet_options import IJKOnetOptions
from popdyn.learners.jkonet import JKOnetOptions, fit_jkonet
from popdyn.learners.jkonet_star import fit_jkonet_star
from popdyn.learners.jkonet_star.options import JKOnetStarOptions
from popdyn.learners.run import Run
from popdyn.learners.simple import SimpleOptions, fit_oracle, fit_zero
from popdyn.learners.typed import typed
from popdyn.learners.weak_form import fit_weak_form
from popdyn.learners.weak_form.options import WeakFormOptions
from popdyn.registry import lookup

__all__ = ["LEARNERS", "Learner", "options_of"]


@dataclass(frozen=True)
class Learner:
    """An entry of ``LEARNERS``.

    Attributes:
        name: Registry key.
        summary: One line on what it does.
        options: Frozen dataclass of its options, which validates itself.
        fit: ``(training set, options, workplace) → Run``; the oracle takes the data itself.
        sees_truth: Whether it reads the store's true energy.
    """

    name: str
    summary: str
    options: type[Any]
    fit: Callable[..., Run]
    sees_truth: bool = False


LEARNERS: dict[str, Learner] = {
    entry.name: entry
    for entry in (
        Learner(
            "ijkonet",
            "Inverse optimization of the JKO scheme (Persiianov et al. 2026), three inner solvers.",
            IJKOnetOptions,
            fit_ijkonet,
        ),
        Learner(
            "weak_form",
            "How the means of test functions change: V, W and β in closed form, with error bars.",
            WeakFormOptions,
            fit_weak_form,
        ),
        Learner(
            "jkonet_star",
            "First-order condition over optimal couplings (Terpin et al. 2024): V, W and β.",
            JKOnetStarOptions,
            fit_jkonet_star,
        ),
        Learner(
            "jkonet",
            "Bilevel, through convex transport maps (Bunne et al. 2022): V alone; minutes.",
            JKOnetOptions,
            fit_jkonet,
        ),
        Learner(
            "zero",
            "No energy at all: what every score is measured against.",
            SimpleOptions,
            fit_zero,
        ),
        Learner(
            "oracle",
            "The true energy of the store: the upper row.",
            SimpleOptions,
            fit_oracle,
            True,
        ),
    )
}


def options_of(learner: str, given: Mapping[str, Any]) -> Any:
    """Return a learner's options dataclass with what was given filled in.

    Raises:
        PopdynError: On an unknown learner or option, or a value that the options refuse.
    """
    entry = lookup(LEARNERS, learner, "learner")
    fields = {f.name: f for f in dataclasses.fields(entry.options)}
    for name in given:
        if name not in fields:
            raise PopdynError(
                f"learner '{learner}' has no option '{name}': expected one of {', '.join(fields)}"
            )
    return entry.options(**typed(entry.options, given))
