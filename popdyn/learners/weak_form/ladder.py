"""Which parts of an energy the snapshots ask for: V, with β, with W, with both."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from scipy.stats import norm

from popdyn.learners.training_set import TrainingSet
from popdyn.learners.weak_form.options import WeakFormOptions
from popdyn.learners.weak_form.solve import Levels, freedom_of, p_value_of, solve_weak_form

__all__ = ["FULL", "Asked", "parts_asked_for"]

FULL = 3  # dimensions in which the dictionary has functions of all components
DECIDING = 5000  # particles of each snapshot that are asked in more
MOVING = 4  # snapshots from which on a V that moves can be refuted
REJECTED = 0.01  # level of the tests whether a rung explains the data, and whether β is above 0


class Asked(NamedTuple):
    """What snapshots ask for.

    Attributes:
        parts: What is to be learned.
        rungs: What each rung that was tried says.
        moves: Whether V has to move.
    """

    parts: tuple[str, ...]
    rungs: list[dict[str, Any]]
    moves: bool = False


def parts_asked_for(
    data: TrainingSet,
    diffusivity: float | None = None,
    restructure: Callable[[], bool] | None = None,
) -> Asked:
    """Return what is to be learned, and what each rung that was tried says.

    Where V alone meets the moments of all particles, with a coarse dictionary or with the whole
    one, nothing else is asked for. Where it does not, V, W and β are solved for together: W takes
    part where its functions earn their place by evidence, β where it is above 0 by more than its
    error allows. Where not even all three meet the moments the dictionary is too coarse to tell,
    and V and β are tried with the whole one.

    In more than three dimensions the dictionary holds no functions of all components together, and
    the forces of pairs cost the square of the particles. So V and β, and the structure that V may
    have, come before W; and some of the particles are asked, for what they do not see the fit to
    all of them will.

    Where all that fails, V may move: any smooth curve of populations is carried by some V(x, t)
    (Benamou and Brenier, Numer. Math. 84 (2000) 375), so that it says how they move and not why.

    Args:
        data: The training set, in units of its own.
        diffusivity: β where it is known: then it is not asked for.
        restructure: Looks for a structure of V, gives it to the training set, and returns whether
            there is one.
    """
    noise = ("diffusion",) if diffusivity is None else ()
    many = data.dim > FULL
    few = data.leading(DECIDING) if many else data
    rungs: list[dict[str, Any]] = []

    def options(learn: tuple[str, ...], moves: bool = False) -> WeakFormOptions:
        return WeakFormOptions(learn, diffusivity, moves)  # type: ignore[arg-type]

    def rung(learn: tuple[str, ...], misfit: float, freedom: float, **more: Any) -> dict[str, Any]:
        p_value = p_value_of(misfit, freedom)
        if data.structure:
            more["structure"] = str(data.structure)
        rungs.append({"learn": list(learn), "misfit": misfit, "p_value": p_value} | more)
        return rungs[-1]

    def coarse(*learn: str) -> dict[str, Any]:
        levels = Levels(few, options(learn))
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

    def whole(*learn: str, moves: bool = False) -> bool:
        """Return whether these parts meet the moments."""
        found = solve_weak_form(few, options(learn, moves))
        more = {"time_varying": True} if moves else {}
        own = rung(learn, found.misfit, found.freedom, dictionary="whole", **more)
        return bool(own["p_value"] >= REJECTED)

    if coarse("potential")["p_value"] >= REJECTED or whole("potential"):
        return Asked(("potential",), rungs)
    if many:
        if noise and (found := coarse("potential", *noise))["p_value"] >= REJECTED:
            return Asked(("potential", *(noise if found["diffusion"] else ())), rungs)
        if restructure is not None and restructure():
            asked = parts_asked_for(data, diffusivity, restructure)
            return asked._replace(rungs=rungs + asked.rungs)
    every = coarse("potential", "interaction", *noise)
    parts = [part for part in ("interaction", "diffusion") if every.get(part, False)]
    if noise and not parts:  # W, though it is not asked for, may have hidden β
        parts = [part for part in noise if coarse("potential", *noise)[part]]
    if every["p_value"] < REJECTED:
        if noise and len(parts) == 2 and whole("potential", *noise):
            return Asked(("potential", *noise), rungs)
        found_noise = [part for part in parts if part == "diffusion"]
        enough = len(data.times) >= MOVING and not whole("potential", *parts)
        if enough and whole("potential", *found_noise, moves=True):
            return Asked(("potential", *found_noise), rungs, moves=True)
    return Asked(("potential", *parts), rungs)
