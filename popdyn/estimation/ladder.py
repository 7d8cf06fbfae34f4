"""Which parts of an energy the snapshots ask for: V, with β, with W, with both."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from popdyn.estimation.evidence import LEVEL, Posterior
from popdyn.estimation.flow import Unknowns
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.steps import FAR
from popdyn.estimation.training_set import TrainingSet
from popdyn.estimation.weak_form import (
    FITS,
    REJECTED,
    TRADED,
    Levels,
    freedom_of,
    p_value_of,
    solve_weak_form,
    traded,
)

__all__ = ["FULL", "Asked", "parts_asked_for"]

FULL = 3  # dimensions in which the dictionary has functions of all components
# Particles of each snapshot that are asked in more, and half of them for W and β, which cost most.
DECIDING = 5000
# What so few reject no closer look will mend: at χ² of FITS for each degree of freedom no
# structure, at FAR no features. What exceeds 1 is in proportion to the particles.
REJECTING = 1000
MANY = 12  # dimensions up to which the dictionary has products of two components
NO_SHARE = 1e6  # of ∇V, that stands for all of one that is 0
ENOUGH = 4  # snapshots from which on a V that moves can be refuted


class Asked(NamedTuple):
    """What snapshots ask for.

    Attributes:
        parts: What is to be learned.
        rungs: What each rung that was tried says.
        moves: Whether V has to move.
        noise: The standard error of a β that is not learned, where V may stand for it.
        met: Whether it meets the moments.
        far: Whether V alone is far from them, so that features are no help.
    """

    parts: tuple[str, ...]
    rungs: list[dict[str, Any]]
    moves: bool = False
    noise: float | None = None
    met: bool = True
    far: bool = False


def parts_asked_for(
    data: TrainingSet,
    diffusivity: float | None = None,
    restructure: Callable[[bool], bool] | None = None,
) -> Asked:
    """Return what is to be learned, and what each rung that was tried says.

    Where V alone meets the moments of all particles, with a coarse dictionary or with the whole
    one, only β is asked for beside it: where it is outside its own 90 % interval around 0, V has
    made up for it, and where V would be quite another within that interval, that is said. Where V
    does not meet them, V, W and β are solved for together: W takes part where its functions earn
    their place by evidence, β as before. Where not even all three meet the moments, V and β are
    tried with the whole dictionary; and where nothing meets them, what comes nearest is learned.

    In more than three dimensions the dictionary holds no functions of all components together, and
    the forces of pairs cost the square of the particles. So V and β, and the directions and pairs
    that V may be made of, come before W, and a network's functions, which cost most, after it; and
    some of the particles are asked, for what they do not see the fit to all of them will. Where
    very few of them are far from what V explains, no structure is looked for.

    Where all that fails, V may move: any smooth curve of populations is carried by some V(x, t)
    (Benamou and Brenier, Numer. Math. 84 (2000) 375), so that it says how they move and not why.

    Args:
        data: The training set, in units of its own.
        diffusivity: β where it is known: then it is not asked for.
        restructure: Looks for a structure of V, directions and pairs or (True) a network's own
            functions, gives it to the training set, and returns whether there is one.
    """
    noise = ("diffusion",) if diffusivity is None else ()
    many = data.dim > FULL
    few, fewest = (data.leading(n) if many else data for n in (DECIDING, DECIDING // 2))
    if data.structure:  # what it is for: the solution will be the fit's own
        few = data
    rungs: list[dict[str, Any]] = []
    noise_error = 0.0  # of β on the last rung that had it, in units of the data's own

    def options(learn: tuple[str, ...], moves: bool = False) -> WeakFormOptions:
        return WeakFormOptions(learn, diffusivity, moves)  # type: ignore[arg-type]

    def rung(learn: tuple[str, ...], misfit: float, freedom: float, **more: Any) -> dict[str, Any]:
        p_value = p_value_of(misfit, freedom)
        if data.structure:
            more["structure"] = str(data.structure)
        rungs.append({"learn": list(learn), "misfit": misfit, "p_value": p_value} | more)
        return rungs[-1]

    def coarse(*learn: str) -> dict[str, Any]:
        levels = Levels(fewest, options(learn))
        at, posterior, misfit = levels.begin([], everything=True)
        more: dict[str, Any] = {"dictionary": "coarse"}
        if "interaction" in learn:
            more["interaction"] = any(
                size > 0.0 for name, size in posterior.strengths.items() if name.startswith("W: ")
            )
        if "diffusion" in learn:
            more |= noise_of(levels.coarse[0], at.theta, posterior, misfit)
        return rung(learn, misfit, freedom_of(levels.coarse[0], at, posterior), **more)

    def whole(*learn: str, moves: bool = False) -> dict[str, Any]:
        found = solve_weak_form(few, options(learn, moves))
        more: dict[str, Any] = {"dictionary": "whole"}
        if moves:
            more["time_varying"] = True
        if "diffusion" in learn and found.unknowns is not None and found.posterior is not None:
            more |= noise_of(found.unknowns, found.posterior.mean, found.posterior, found.misfit)
        return rung(learn, found.misfit, found.freedom, **more)

    def noise_of(
        unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, misfit: float
    ) -> dict[str, Any]:
        nonlocal noise_error
        error = noise_error = math.sqrt(max(posterior.covariance[-1, -1], 0.0) * max(1.0, misfit))
        share = traded(unknowns, theta, posterior, few.turned.fit)
        asked = bool(theta[-1] > LEVEL * error)
        return {"diffusion": asked, "traded": min(share, NO_SHARE)}

    def is_far(misfit: float, bound: float = FAR) -> bool:
        share = min(len(x) for x in few.cells) / REJECTING
        return misfit - 1.0 > share * (bound - 1.0)

    def met(found: dict[str, Any]) -> bool:
        return bool(found["p_value"] >= REJECTED)

    far = False
    if few is not data:
        more, few = few, data.leading(REJECTING)
        far = is_far(whole("potential")["misfit"], FITS)
        if far and data.dim > MANY:
            return Asked(("potential",), rungs, met=False, far=True)
        if far:
            fewest, restructure = few, None
        elif len(more.fit[0]) <= len(few.fit[0]):
            more.solved = few.solved  # they are all there are
        if not far:
            few, rungs = more, []
    # Of many functions the whole dictionary costs no more, for it begins with half the particles.
    for dictionary in () if far else (whole,) if many else (coarse, whole):
        if met(dictionary("potential")):
            if not noise:
                return Asked(("potential",), rungs)
            # V may make up for a β that fewer assumptions would find, or leave open.
            found = dictionary("potential", *noise)
            if met(found) and found["diffusion"]:
                return Asked(("potential", *noise), rungs)
            open_ = found["traded"] > TRADED
            return Asked(("potential",), rungs, noise=noise_error if open_ else None)
    if many:
        if noise and met(found := coarse("potential", *noise)) and found["diffusion"]:
            return Asked(("potential", *noise), rungs)
        if restructure is not None and restructure(False):
            asked = parts_asked_for(data, diffusivity, restructure)
            return asked._replace(rungs=rungs + asked.rungs)
    every = coarse("potential", "interaction", *noise)
    parts = [part for part in ("interaction", "diffusion") if every.get(part, False)]
    if noise and not parts:  # W, though it is not asked for, may have hidden β
        parts = [part for part in noise if coarse("potential", *noise)[part]]
    if met(every):
        return Asked(("potential", *parts), rungs)
    if noise and met(whole("potential", *noise)):  # solved for together the three may go astray
        return Asked(("potential", *noise), rungs)
    found_noise = [part for part in parts if part == "diffusion"]
    refused = tuple(parts) in ((), noise)  # the whole dictionary has been tried with these
    few_times = data.intervals.distinct < ENOUGH and not many
    explains = not refused and met(whole("potential", *parts))
    if few_times or explains:
        return Asked(("potential", *parts), rungs, met=explains)
    if many and restructure is not None and restructure(True):
        few = data
        if met(whole("potential", *found_noise)):
            return Asked(("potential", *found_noise), rungs)
        assert data.structure is not None
        few = data.structured(dataclasses.replace(data.structure, network=None))
    if data.intervals.distinct >= ENOUGH and met(whole("potential", *found_noise, moves=True)):
        return Asked(("potential", *found_noise), rungs, moves=True)
    # Nothing meets them all; of few particles the covariance is an estimate, and χ² too large.
    still = [r for r in rungs if r["dictionary"] == "whole" and not r.get("time_varying")]
    nearest = min(still, key=lambda r: r["misfit"])
    return Asked(tuple(nearest["learn"]), rungs, met=False, far=is_far(nearest["misfit"]))
