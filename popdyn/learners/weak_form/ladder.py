"""Which parts of an energy the snapshots ask for: V, with β, with W, with both."""

from __future__ import annotations

import math
from typing import Any

from scipy.stats import chi2, norm

from popdyn.learners.training_set import TrainingSet
from popdyn.learners.weak_form.options import WeakFormOptions
from popdyn.learners.weak_form.solve import Levels, solve_weak_form

__all__ = ["parts_asked_for"]

REJECTED = 0.01  # level of the tests whether a rung explains the data, and whether β is above 0


def parts_asked_for(
    data: TrainingSet, diffusivity: float | None = None, time_varying: bool = False
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Return what is to be learned, and what each rung that was tried says.

    Where V alone meets the moments of all particles, with a coarse dictionary or with the whole
    one, nothing else is asked for. Where it does not, V, W and β are solved for together: W takes
    part where its functions earn their place by evidence, β where it is above 0 by more than its
    error allows. Where not even all three meet the moments the dictionary is too coarse to tell,
    and V and β are tried with the whole one.

    Args:
        data: The training set, in units of its own.
        diffusivity: β where it is known: then it is not asked for.
        time_varying: Whether V depends on time.
    """
    noise = ("diffusion",) if diffusivity is None else ()
    rungs: list[dict[str, Any]] = []

    def options(*learn: str) -> WeakFormOptions:
        return WeakFormOptions(learn, diffusivity, time_varying)  # type: ignore[arg-type]

    def rung(learn: tuple[str, ...], misfit: float, freedom: float, **more: Any) -> dict[str, Any]:
        p_value = float(chi2.sf(misfit * freedom, freedom))
        rungs.append({"learn": list(learn), "misfit": misfit, "p_value": p_value} | more)
        return rungs[-1]

    def coarse(*learn: str) -> dict[str, Any]:
        at, posterior, misfit = Levels(data, options(*learn)).begin([], everything=True)
        more: dict[str, Any] = {"dictionary": "coarse"}
        if "interaction" in learn:
            more["interaction"] = any(
                size > 0.0 for name, size in posterior.strengths.items() if name.startswith("W: ")
            )
        if "diffusion" in learn:
            error = math.sqrt(max(posterior.covariance[-1, -1], 0.0) * max(1.0, misfit))
            more["diffusion"] = bool(at.theta[-1] > norm.isf(REJECTED) * error)
        freedom = max(1.0, at.residuals.size - sum(posterior.determined.values()))
        return rung(learn, misfit, freedom, **more)

    def whole(*learn: str) -> dict[str, Any]:
        found = solve_weak_form(data, options(*learn))
        return rung(learn, found.misfit, found.freedom, dictionary="whole")

    for rung_of_potential in (coarse, whole):
        if rung_of_potential("potential")["p_value"] >= REJECTED:
            return ("potential",), rungs
    every = coarse("potential", "interaction", *noise)
    asked = [part for part in ("interaction", "diffusion") if every.get(part, False)]
    if noise and not asked:  # W, though it is not asked for, may have hidden β
        asked = [part for part in noise if coarse("potential", *noise)[part]]
    too_coarse = every["p_value"] < REJECTED and noise and len(asked) == 2
    if too_coarse and whole("potential", *noise)["p_value"] >= REJECTED:
        return ("potential", *noise), rungs
    return ("potential", *asked), rungs
