"""The registry of learners: a module of this room, or a plug-in, enters its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from popdyn.base.options import Options, read_options
from popdyn.base.registry import Registry, lookup

if TYPE_CHECKING:
    from popdyn.learners.run import Run

__all__ = ["LEARNERS", "OF_FIT", "Learner", "learner", "options_of"]

# Settings of ``fit`` itself that a suite may ask for beside the options of a learner.
OF_FIT = ("ensemble", "observation_noise")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Learner:
    """An entry of ``LEARNERS``.

    Attributes:
        name: Registry key.
        summary: One line on what it does.
        options: Its options.
        fit: ``(training set, options, workplace) → Run``; the oracle takes the data itself.
        sees_truth: Whether it reads the store's true energy.
    """

    name: str
    summary: str
    options: type[Options]
    fit: Callable[..., Run]
    sees_truth: bool = False


LEARNERS: Registry[Learner] = Registry(
    "popdyn.learners", "learner", "popdyn.learners", "popdyn.rivals"
)


def learner(
    name: str, summary: str, options: type[Options] = Options, *, sees_truth: bool = False
) -> Callable[[F], F]:
    """Return a decorator that enters a fit as a learner; see :class:`Learner`."""

    def enter(fit: F) -> F:
        LEARNERS.enter(name, Learner(name, summary, options, fit, sees_truth), fit.__module__)
        return fit

    return enter


def options_of(learner: str, given: Mapping[str, Any]) -> Any:
    """Return a learner's options with what was given filled in.

    Raises:
        PopdynError: On an unknown learner or option, or a value that the options refuse.
    """
    entry = lookup(LEARNERS, learner, "learner")
    return read_options(entry.options, given, f"learner '{learner}'")
