"""Options of the weak form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from popdyn.base.errors import PopdynError
from popdyn.base.options import Bounds, Options
from popdyn.estimation.parts import AUTO, Choice, check_choice

__all__ = ["WeakFormOptions", "check_together"]


@dataclass(frozen=True)
class WeakFormOptions(Options):
    """Options of the weak form; all quantities are dimensionless.

    Attributes:
        learn: What is learned, the rest is 0 or fixed; ``auto``: what the snapshots ask for.
        diffusivity: β if it is known. None: learned if asked for, or 0.
        time_varying: Whether V depends on time, by polynomials in it.
        degree: Highest degree of those.
        coarse: Gauss–Newton steps with polynomials, and as many with the coarse dictionary.
        fine: Most Gauss–Newton steps after that.
        tests: Largest number of test functions, but six for each component in any case.
        correct: Whether the bias of noisy regressors is taken off.
    """

    learn: tuple[Choice, ...] = AUTO
    diffusivity: Annotated[float | None, Bounds(ge=0)] = None
    time_varying: bool = False
    degree: Annotated[int, Bounds(ge=1)] = 3
    coarse: Annotated[int, Bounds(ge=1)] = 3
    fine: Annotated[int, Bounds(ge=1)] = 8
    tests: Annotated[int, Bounds(ge=2)] = 200
    correct: bool = True

    def check(self) -> None:
        check_choice(self.learn)
        check_together(self.learn)


def check_together(learn: tuple[Choice, ...]) -> None:
    """Raise PopdynError where features can't be solved for these parts at once."""
    if {"growth", "interaction"} <= set(learn):
        raise PopdynError(
            f"learn '{','.join(learn)}': expected growth without interaction, with which cells act "
            "on each other by masses that change"
        )
