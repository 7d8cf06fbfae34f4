"""Options of the weak form."""

from __future__ import annotations

from dataclasses import dataclass

from popdyn.learners.checks import check_diffusivity, check_least, check_parts

__all__ = ["WeakFormOptions"]


@dataclass(frozen=True)
class WeakFormOptions:
    """Options of the weak form; all quantities are dimensionless.

    Attributes:
        learn: What is learned; the rest is 0 or fixed.
        diffusivity: β if it is known, else None: learned, or 0.
        time_varying: Whether V depends on time, by polynomials in it.
        degree: Highest degree of those.
        coarse: Gauss–Newton steps with polynomials, and as many with the coarse dictionary.
        fine: Most Gauss–Newton steps after that.
        tests: Largest number of test functions, but six for each component in any case.
        correct: Whether the bias of noisy regressors is taken off.
    """

    learn: tuple[str, ...] = ("potential",)
    diffusivity: float | None = None
    time_varying: bool = False
    degree: int = 3
    coarse: int = 3
    fine: int = 8
    tests: int = 200
    correct: bool = True

    def __post_init__(self) -> None:
        check_parts(self.learn)
        check_diffusivity(self.diffusivity)
        check_least(self, degree=1, coarse=1, fine=1, tests=2)
