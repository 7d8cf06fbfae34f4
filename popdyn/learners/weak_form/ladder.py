"""Which parts of an energy the snapshots ask for: V, with β, with W, with both."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from scipy.stats import norm

from popdyn.learners.training_set import TrainingSet
from popdyn.learners.weak_form.options import WeakFormOptions
from popdyn.learners.weak_form.solve import MOST, Levels, freedom_of, p_value_of, solve_weak_form

__all__ = ["FULL", "parts_asked_for"]

FULL = 3  # dimensions in which the dictionary has functions of all components
PAIRED = 4000  # particles of each snapshot that are asked for W in more
REJECTED = 0.01  # level of the tests whether a rung explains the data, and whether β is above 0


def parts_asked_for(
    data: TrainingSet,
    diffusivity: float | None = None,
    restructure: Callable[[], bool] | None = None,
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Return what is to be learned, and what each rung that was tried says.

    Where V alone meets the moments of all particles, with a coarse dictionary or with the whole
    one, nothing else is asked for. Where it does not, V, W and β are solved for together: W takes
    part where its functions earn their place by evidence, β where it is above 0 by more than its
    error allows. Where not even all three meet the moments the dictionary is too coarse to tell,
    and V and β are tried with the whole one.

    In more than three dimensions the dictionary holds no functions of all components together, and
    the forces of pairs cost the square of the particles. So V and β, and the structure that V may
    have, come before W.

    Args:
        data: The training set, in units of its own.
        diffusivity: β where it is known: then it is not asked for.
        restructure: Looks for a structure of V, gives it to the training set, and returns whether
            there is one.
    """
    noise = ("diffusion",) if diffusivity is None else ()
    many = data.dim > FULL
    rungs: list[dict[str, Any]] = []

    def options(*learn: str) -> WeakFormOptions:
        return WeakFormOptions(learn, diffusivity)  # type: ignore[arg-type]

    def rung(learn: tuple[str, ...], misfit: float, freedom: float, **more: Any) -> dict[str, Any]:
        p_value = p_value_of(misfit, freedom)
        if data.structure:
            more["structure"] = str(data.structure)
        rungs.append({"learn": list(learn), "misfit": misfit, "p_value": p_value} | more)
        return rungs[-1]

    def coarse(*learn: str) -> dict[str, Any]:
        levels = Levels(data, options(*learn), PAIRED if many and "interaction" in learn else MOST)
        at, posterior, misfit = levels.begin([], everything=True)
        more: dict[str, Any] = {"dictionary": "coarse"}
        if "interaction" in learn:
            more["interaction"] = any(
                size > 0.0 for name, size in posterior.strengths.items() if name.startswith("W: ")
            )
        if "diffusion" in learn:
            error = math.sqrt(max(posterior.covariance[-1, -1], 0.0) * max(1.0, misfit))
            more["diffusion"] = bool(at.theta[-1] > norm.isf(REJECTED) * error)
        return rung(learn, misfit, freedom_of(levels.coarse[0], at, posterior), **more)

    def whole(*learn: str) -> dict[str, Any]:
        found = solve_weak_form(data, options(*learn))
        return rung(learn, found.misfit, found.freedom, dictionary="whole")

    for rung_of_potential in (coarse, whole):
        if rung_of_potential("potential")["p_value"] >= REJECTED:
            return ("potential",), rungs
    if many:
        if noise and (found := coarse("potential", *noise))["p_value"] >= REJECTED:
            return ("potential", *(noise if found["diffusion"] else ())), rungs
        if restructure is not None and restructure():
            parts, more = parts_asked_for(data, diffusivity, restructure)
            return parts, rungs + more
    every = coarse("potential", "interaction", *noise)
    asked = [part for part in ("interaction", "diffusion") if every.get(part, False)]
    if noise and not asked:  # W, though it is not asked for, may have hidden β
        asked = [part for part in noise if coarse("potential", *noise)[part]]
    too_coarse = every["p_value"] < REJECTED and noise and len(asked) == 2
    if too_coarse and whole("potential", *noise)["p_value"] >= REJECTED:
        return ("potential", *noise), rungs
    return ("potential", *asked), rungs
