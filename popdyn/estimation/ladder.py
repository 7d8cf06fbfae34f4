"""Which parts of an energy the snapshots ask for: V, with β, with W, with both."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from popdyn.estimation.evidence import LEVEL, Posterior
from popdyn.estimation.flow import Unknowns
from popdyn.estimation.levels import FULL, PRODUCTS
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.solution import FITS, REJECTED
from popdyn.estimation.steps import FAR
from popdyn.estimation.trades import TRADED, spreads, traded
from popdyn.estimation.training_set import TrainingSet
from popdyn.estimation.verdict import REFUTED
from popdyn.estimation.weak_form import Levels, solve_weak_form
from popdyn.families.mean_fields import GRIDDED

__all__ = ["DECIDING", "RUNGS", "Asked", "parts_asked_for", "refuted", "refuted_by_some"]

RUNGS = (
    ("potential",),
    ("potential", "diffusion"),
    ("potential", "interaction"),
    ("potential", "interaction", "diffusion"),
)
"""The parts of an energy that may be learned together, from the fewest up."""

# Particles of each snapshot that are asked in more, and half of them for W and β, which cost most.
DECIDING = 5000
# What so few reject no closer look will mend: at χ² of FITS for each degree of freedom no
# structure, at FAR no features. What exceeds 1 is in proportion to the particles.
REJECTING = 1000
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

    Where V alone meets the moments of all particles, with a coarse dictionary that the whole one
    does not refute or with the whole one, only β is asked for beside it: where it is outside its
    own 90 % interval around 0, V has made up for it, and where V would be quite another within that
    interval, that is said. Where V does not meet them, V, W and β are solved for together: W takes
    part where its functions earn their place by evidence, β as before, and again the whole
    dictionary must not refute it. Where not even all three meet the moments, V and β are tried with
    the whole dictionary; and where nothing meets them, what comes nearest is learned.

    In more than two dimensions the forces of pairs are dear, so that V and β come before W. In more
    than three the dictionary holds no functions of all components together either: the directions
    and pairs that V may be made of come before W, too, and a network's functions, which cost most,
    after it; and some of the particles are asked, for what they do not see the fit to all of them
    will. Where very few of them are far from what V explains, no structure is looked for.

    Where all that fails, V may move: any smooth curve of populations is carried by some V(x, t)
    (Benamou and Brenier, Numer. Math. 84 (2000) 375), so that it says how they move and not why.

    Args:
        data: The training set, in units of its own.
        diffusivity: β where it is known: then it is not asked for.
        restructure: Looks for a structure of V, directions and pairs or (True) a network's own
            functions, gives it to the training set, and returns whether there is one.
    """
    return _Ladder(data, diffusivity, restructure).climbed()


class _Ladder:
    """The rungs that were tried, and what is known by them.

    Attributes:
        few, fewest: Particles that are asked, and fewer for what costs most.
        coarse: What the coarse dictionary said of each parts.
        noise: β, where it is asked for.
        noise_error: Its standard error on the last rung that had it, in units of the data's own.
        far: Whether very few particles are far from what V explains.
        found_noise: β, where the last rung that had everything asks for it.
    """

    def __init__(
        self,
        data: TrainingSet,
        diffusivity: float | None,
        restructure: Callable[[bool], bool] | None,
    ) -> None:
        self.data, self.diffusivity, self.restructure = data, diffusivity, restructure
        self.noise = ("diffusion",) if diffusivity is None else ()
        self.many = data.dim > FULL
        self.few, self.fewest = (
            data.leading(n) if self.many else data for n in (DECIDING, DECIDING // 2)
        )
        self.rungs: list[dict[str, Any]] = []
        self.coarse: dict[tuple[str, ...], dict[str, Any]] = {}
        self.noise_error, self.far = 0.0, False
        self.found_noise: list[str] = []

    def climbed(self) -> Asked:
        for step in (
            self._very_few,
            self._potential,
            self._noise_alone,
            self._structure,
            self._everything,
            self._network,
            self._moving,
        ):
            if (asked := step()) is not None:
                return asked
        # Nothing meets them all; of few particles the covariance is an estimate, and χ² too large.
        still = [r for r in self.rungs if r["dictionary"] == "whole" and not r.get("time_varying")]
        nearest = min(still, key=lambda r: r["misfit"])
        far = self._is_far(nearest["misfit"])
        return self._asked(nearest["learn"][1:], met=False, far=far)

    def _very_few(self) -> Asked | None:
        """Whether V alone is far from very few particles already."""
        if self.few is self.data or self.data.structure:
            return None
        more, self.few = self.few, self.data.leading(REJECTING)
        self.far = self._is_far(self._whole("potential")["misfit"], FITS)
        if self.far and self.data.dim > PRODUCTS:
            return self._asked(met=False, far=True)
        if self.far:
            self.fewest, self.restructure = self.few, None
            return None
        if len(more.fit[0]) <= len(self.few.fit[0]):
            more.solved = self.few.solved  # they are all there are
        self.few, self.rungs = more, []
        return None

    def _potential(self) -> Asked | None:
        # Of many functions the whole dictionary costs no more, for it begins with half the
        # particles.
        tried = (self._whole,) if self.many else (self._coarse, self._whole)
        for dictionary in () if self.far else tried:
            if dictionary == self._whole and self._is_hopeless():
                continue
            if not _met(dictionary("potential")):
                continue
            asks = open_ = False
            if self.noise:
                # V may make up for a β that fewer assumptions would find, or leave open; where it
                # pushes a population apart that may diffuse too, the solution takes the less force.
                found = dictionary("potential", *self.noise)
                open_ = found["traded"] > TRADED
                asks = (_met(found) and found["diffusion"]) or (open_ and found["spreads"])
            noise_error = self.noise_error if open_ and not asks else None
            if self._holds(*self.noise * asks):
                return self._asked(self.noise * asks, noise=noise_error)
        return None

    def _holds(self, *beside: str) -> bool:
        """Whether the whole dictionary, more of it and of its tests, does not refute a rung."""
        return not refuted(self._whole("potential", *beside))

    def _is_hopeless(self) -> bool:
        """Whether narrow functions do not mend either what the coarse dictionary is refuted for."""
        if self.many or not refuted(self._coarse("potential")):
            return False
        return refuted_by_some(self.data, self._options(("potential",)), DECIDING // 2)

    def _noise_alone(self) -> Asked | None:
        """Whether β is enough, where the forces of pairs are dear: it costs none."""
        if self.data.dim <= GRIDDED or not self.noise:
            return None
        for dictionary in (self._coarse, self._whole):
            found = dictionary("potential", *self.noise)
            # The whole dictionary on all particles is the fit's own where there are few functions.
            if _met(found) and found["diffusion"] and (self.many or self._holds(*self.noise)):
                return self._asked(self.noise)
            if not (_met(found) or found["diffusion"]):
                return None  # nothing speaks for β
        return None

    def _structure(self) -> Asked | None:
        if not self.many:
            return None
        if self.restructure is None or not self.restructure(False):
            return None
        asked = parts_asked_for(self.data, self.diffusivity, self.restructure)
        return asked._replace(rungs=self.rungs + asked.rungs)

    def _everything(self) -> Asked | None:
        noise = self.noise
        every = self._coarse("potential", "interaction", *noise)
        parts = [part for part in ("interaction", "diffusion") if every.get(part, False)]
        if noise and not parts:  # W, though it is not asked for, may have hidden β
            parts = [part for part in noise if self._coarse("potential", *noise)[part]]
        if _met(every) and (least := self._least_of(parts)) is not None:
            return self._asked(least)
        if "interaction" in parts and _met(self._whole("potential", *parts)):
            return self._asked(parts)
        if noise and _met(self._whole("potential", *noise)):  # all three together may go astray
            return self._asked(noise)
        self.found_noise = [part for part in parts if part == "diffusion"]
        refused = tuple(parts) in ((), noise)  # the whole dictionary has been tried with these
        explains = not refused and _met(self._whole("potential", *parts))
        few_times = self.data.intervals.distinct < ENOUGH and not self.many
        return self._asked(parts, met=explains) if few_times or explains else None

    def _least_of(self, parts: Sequence[str]) -> Sequence[str] | None:
        """Return the first parts that meet the moments: those asked for, one alone, or all."""
        every = ("interaction", *self.noise)
        for some in dict.fromkeys((tuple(parts), *((part,) for part in every), every)):
            meets = some == every or (some and _met(self._coarse("potential", *some)))
            if meets and self._holds(*some):
                return some
        return None

    def _network(self) -> Asked | None:
        if not self.many or self.restructure is None or not self.restructure(True):
            return None
        self.few = self.data
        if _met(self._whole("potential", *self.found_noise)):
            return self._asked(self.found_noise)
        assert self.data.structure is not None
        without = dataclasses.replace(self.data.structure, network=None)
        self.few = self.data.structured(without)
        return None

    def _moving(self) -> Asked | None:
        if self.data.intervals.distinct < ENOUGH:
            return None
        moving = self._whole("potential", *self.found_noise, moves=True)
        return self._asked(self.found_noise, moves=True) if _met(moving) else None

    def _asked(self, beside: Sequence[str] = (), **more: Any) -> Asked:
        return Asked(("potential", *beside), self.rungs, **more)

    def _options(self, learn: tuple[str, ...], moves: bool = False) -> WeakFormOptions:
        return WeakFormOptions(learn, self.diffusivity, moves)  # type: ignore[arg-type]

    def _rung(
        self, learn: tuple[str, ...], misfit: float, p_value: float, **more: Any
    ) -> dict[str, Any]:
        if self.data.structure:
            more["structure"] = str(self.data.structure)
        rung = {"learn": list(learn), "misfit": misfit, "p_value": p_value} | more
        if rung not in self.rungs:
            self.rungs.append(rung)
        return rung

    def _coarse(self, *learn: str) -> dict[str, Any]:
        if learn not in self.coarse:
            self.coarse[learn] = self._coarsely(*learn)
        return self.coarse[learn]

    def _coarsely(self, *learn: str) -> dict[str, Any]:
        levels = Levels(self.fewest, self._options(learn))
        found = levels.begin(everything=True)
        more: dict[str, Any] = {"dictionary": "coarse"}
        if "interaction" in learn:
            more["interaction"] = any(
                size > 0.0 for g, size in found.posterior.strengths.items() if g.part == "W"
            )
        if "diffusion" in learn:
            more |= self._noise(levels.coarse[0], found.theta, found.posterior, found.misfit)
        return self._rung(learn, found.misfit, found.p_value, **more)

    def _whole(self, *learn: str, moves: bool = False) -> dict[str, Any]:
        # Of V alone with a structure all particles are asked: it will be the fit's own solution.
        own = self.data.structure and learn == ("potential",) and not moves
        found = solve_weak_form(self.data if own else self.few, self._options(learn, moves))
        more: dict[str, Any] = {"dictionary": "whole"}
        if moves:
            more["time_varying"] = True
        if "diffusion" in learn:
            assert found.unknowns is not None
            assert found.theta is not None
            assert found.posterior is not None
            more |= self._noise(found.unknowns, found.theta, found.posterior, found.misfit)
        return self._rung(learn, found.misfit, found.p_value, **more)

    def _noise(
        self, unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, misfit: float
    ) -> dict[str, Any]:
        variance = max(posterior.covariance[-1, -1], 0.0) * max(1.0, misfit)
        self.noise_error = math.sqrt(variance)
        share = traded(unknowns, theta, posterior, self.few.turned.fit)
        asked = bool(theta[-1] > LEVEL * self.noise_error)
        return {
            "diffusion": asked,
            "traded": min(share, NO_SHARE),
            # By noise rather than by a force, if they are not told apart.
            "spreads": bool(theta[-1] > 0.0) or spreads(unknowns, theta, self.few.turned.fit),
        }

    def _is_far(self, misfit: float, bound: float = FAR) -> bool:
        share = min(len(x) for x in self.few.cells) / REJECTING
        return misfit - 1.0 > share * (bound - 1.0)


def _met(rung: dict[str, Any]) -> bool:
    return bool(rung["p_value"] >= REJECTED)


def refuted(rung: Mapping[str, Any]) -> bool:
    """Whether a rung's moments reject it at the level of the verdict.

    Example:
        >>> refuted({"p_value": 1e-3}), refuted({"p_value": 1e-6})
        (False, True)
    """
    return bool(rung["p_value"] < REFUTED)


def refuted_by_some(data: TrainingSet, options: WeakFormOptions, count: int = DECIDING) -> bool:
    """Whether so many particles reject what all of them would cost much to be rejected by.

    Where all are not twice as many, or have been asked, nothing is saved by it.

    Args:
        data: The training set, in units of its own.
        options: What is to be learned.
        count: Particles of each snapshot that are asked.

    Example:
        >>> import popdyn
        >>> from popdyn.learners.in_units import in_units, measured
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=900, dt=0.3, seed=0)
        >>> own = TrainingSet.from_data(data)
        >>> own = in_units(own, measured(own)[0])
        >>> refuted_by_some(own, WeakFormOptions(("potential",)), 300)
        False
    """
    if options in data.solved or min(len(x) for x in data.cells) < 2 * count:
        return False
    return bool(solve_weak_form(data.leading(count), options).p_value < REFUTED)
