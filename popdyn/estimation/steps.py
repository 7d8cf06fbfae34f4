"""Gauss–Newton steps of the weak form: an estimate from linear equations, and a search along it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from popdyn.estimation.evidence import (
    LEVEL,
    Posterior,
    estimate,
    extended,
    freed,
    maximise_evidence,
    profiled,
    weak_groups,
)
from popdyn.estimation.flow import Unknowns
from popdyn.estimation.groups import Group
from popdyn.estimation.jacobian import Jacobian
from popdyn.estimation.linearised import Linearised
from popdyn.estimation.moments import Equations, MomentEquations

__all__ = ["FAR", "descend", "estimated", "narrowed"]

SIGNAL = 0.5  # share of regressors' squares that may not be noise where tests are to tell of β
LOOSE = 3.0  # times the prior's width, at which β hardly feels it: 20 gives the same
# The gauge is known so badly that its prior is worth something: with 3 the skill of V was 0.972 in
# the reference case at N = 20 000, with 1.5 it is 0.990; with 1 c leans one way where W attracts.
LOOSE_GAUGE = 1.5
FAR = 10.0  # χ² for each degree of freedom, above which linear equations say little yet
# Standard errors of a step, and its share that the Jacobian did not foresee, up to which that is
# kept for the next one.
HELD, HELD_OFF = 1.0, 0.5
HALVINGS = 5  # lengths of a step that are tried, each half the one before
# Share of a regressor's square that may be noise, before fewer test functions are tried.
NOISY = 0.1
LARGEST_TRIED = 1000  # unknowns up to which every group is tried without


def _flat(unknowns: Unknowns) -> list[int]:
    """Return the unknowns without a prior: β, whose ridge would be a bias."""
    return [unknowns.size - 1] if unknowns.diffusivity is None else []


class Estimated(NamedTuple):
    """What linearised equations say.

    Attributes:
        posterior: The posterior.
        gone: The groups that did not earn a place.
        far: Whether V is alone and so far from the data that linear equations say little: then no
            group has to earn its place yet.
        given_up: By how much misfit and prior are lower at another β, if that is larger.
        told: Number of equations that told of β.
    """

    posterior: Posterior
    gone: list[Group]
    far: bool
    given_up: float
    told: int


def estimated(
    system: Linearised, at: Equations, unknowns: Unknowns, fewer: Iterable[Linearised] = ()
) -> Estimated:
    """Return the posterior of the linearised equations.

    Where the equations do not hold to their noise, as in the first steps, the noise is taken as
    that much larger: evidence would else pay for a model's faults with whatever it can get.
    """
    flat = _flat(unknowns)
    posterior = maximise_evidence(system, unknowns.groups, flat)
    known = sum(posterior.determined.values()) + len(flat)
    left = system.misfit_after(posterior.mean - at.theta) / max(1.0, system.freedom - known)
    worse = max(1.0, left)
    given, system = system, system.dispersed(worse)
    far = left > FAR and not unknowns.beyond_potential
    # Leaving out group by group costs a solve for each: too much for a potential in time as well.
    tried = unknowns.size <= LARGEST_TRIED and not far
    gone = weak_groups(system, unknowns.groups, flat, unknowns.least) if tried else []
    off = [j for j, g in enumerate(unknowns.groups) if g in gone]
    posterior = estimate(system, unknowns.groups, flat, off)
    rest, groups, given_up, count = system, unknowns.groups, 0.0, system.count
    if flat:
        # A prior pulls V towards 0, and β has to make up for what V lacks: as it shall where the
        # least force is looked for. What V would have to be for another β is not off, though
        # evidence may have had no use for it.
        loose = 1.0 if unknowns.shrinks_force else LOOSE
        wide, last = posterior.precision / loose**2, unknowns.size - 1
        held = np.flatnonzero(~np.isfinite(wide[: len(unknowns.log_density)]))
        largest = max(posterior.strengths.values(), default=0.0) or 1.0
        wide[held] = 1.0 / (LOOSE * largest) ** 2
        found = []
        for part in fewer or (given,):
            found.append((profiled(part.dispersed(worse), wide, last, at.theta[last]), part.count))
            if found[-1][0].signal >= SIGNAL:
                break
        best, count = max(found, key=lambda f: f[0].signal)
        # Given β: what it seemed to explain as long as it was free may be V's.
        rest, groups = system.given(last, best.value), groups[:last]
        gone = weak_groups(rest, groups, (), unknowns.least) if tried and groups else []
        off = [j for j, g in enumerate(groups) if g in gone]
        posterior = estimate(rest, groups, (), off)
    gauge = unknowns.gauge_functional(posterior.strengths)
    if gauge is not None:
        posterior = freed(rest, posterior, gauge[: len(groups)], LOOSE_GAUGE)
    if flat:
        posterior = extended(system, posterior, best.value, best.variance)
        given_up = _given_up(given, wide, at.theta, last, best.value)
    return Estimated(posterior, gone, far, given_up, count)


def _given_up(
    system: Linearised, precision: np.ndarray, theta: np.ndarray, j: int, value: float
) -> float:
    """Return by how much misfit and prior are lower where unknown j is as large as they ask for.

    At most what a value within its interval is worth: more is no noise.
    """
    use = np.flatnonzero(np.isfinite(precision) & (system.spread.diagonal() > 0.0))
    if j not in use:
        return 0.0
    bend = system.spread[np.ix_(use, use)] + np.diag(precision[use])
    inverse = np.linalg.pinv(bend, hermitian=True)
    asked = theta[use] + inverse @ (system.score[use] - precision[use] * theta[use])
    own = int(np.flatnonzero(use == j)[0])
    lower = max(0.0, float(asked[own]) - value) ** 2 / float(inverse[own, own])
    return min(lower, LEVEL**2)


@dataclass(frozen=True)
class _Seen:
    """A state as steps compare it: θ, the residuals, and their misfit by its own noise."""

    theta: np.ndarray
    residuals: np.ndarray
    misfit: float

    @classmethod
    def of(cls, state: Equations) -> _Seen:
        return cls(state.theta, state.residuals, state.misfit(state.residuals))

    def objective(self, at: Equations, posterior: Posterior) -> float:
        """Return misfit plus prior, by the noise of another state or its own, whichever is worse.

        The prior is the posterior's; of groups that are switched off there is none.
        """
        finite = np.isfinite(posterior.precision)
        prior = float(posterior.precision[finite] @ np.square(self.theta[finite]))
        value = max(at.misfit(self.residuals), self.misfit) + prior
        return value if math.isfinite(value) else math.inf


def descend(
    equations: MomentEquations,
    theta: np.ndarray,
    posterior: Posterior | None,
    trace: list[dict[str, float]],
    most: int,
    settled: float,
) -> tuple[Equations, Posterior, float]:
    """Do up to ``most`` Gauss–Newton steps, until one is within ``settled`` standard errors.

    It ends too where no part of a step leads to anything nearly as good as the best so far.
    """
    at = equations.evaluate(theta)
    # As long as what is off is more than noise, a plain Gauss–Newton step leads nearer than one
    # whose regressors are freed of theirs.
    correct = not at.far
    parts: list[Jacobian] | None = None
    before, best = at, _Seen.of(at)
    for _ in range(most):
        if parts is None or not _linear(before, at, parts, trace[-1]["outer_step"]):
            parts = None  # two at once are too much for memory
            parts = equations.jacobians(at)
        prior = None if posterior is None else posterior.precisions(equations.unknowns.groups)
        system = equations.linearise(at, parts, prior, correct)
        if prior is not None and correct:
            count = equations.count
            at, parts, system = narrowed(equations, at, parts, system, prior)
            if equations.count < count:  # the best so far has too many residuals
                best = _Seen.of(at)
        before = at
        fewer = equations.fewer(system, at, parts, prior, correct)
        at, posterior, misfit, best = _step(equations, at, system, fewer, trace, best)
        arrived = at is before or trace[-1]["outer_step"] < settled
        if arrived and correct:
            break
        correct = correct or arrived or not at.far
    assert posterior is not None
    return at, posterior, misfit


def narrowed(
    equations: MomentEquations,
    at: Equations,
    parts: list[Jacobian],
    system: Linearised,
    prior: np.ndarray,
) -> tuple[Equations, list[Jacobian], Linearised]:
    """Leave out the roughest test functions as long as the unknowns are the better known for it.

    Each further one has more noise in its derivatives, until what that costs is more than what it
    tells: of q the one is taken whose equations tell most.

    Args:
        equations: They are left with the functions that stay.
        at: The state.
        parts: Its Jacobians.
        system: Its normal equations.
        prior: The prior's precision; infinite for unknowns that do not count.

    References:
        Donald and Newey, Econometrica 69 (2001) 1161: the number of instruments.
    """
    while (
        not equations.unknowns.alike and system.noisiest(np.flatnonzero(np.isfinite(prior))) > NOISY
    ):
        count = round(equations.count * 2.0**-0.5)
        if count < 2:
            break
        less, fewer = at.leading(count), [part.leading(count) for part in parts]
        other = equations.linearise(less, fewer, prior)
        if _known(other, prior) <= _known(system, prior):
            break
        equations.keep(count)
        at, parts, system = less, fewer, other
    return at, parts, system


def _known(system: Linearised, prior: np.ndarray) -> float:
    """Return twice what the equations tell, in nats.

    It is the log determinant of the posterior's precision over the prior's, less what the same
    would be of the negative part of A: that is noise, and the positive part has as much. What has
    no prior, β, is thought to be of the size of the units.
    """
    use = np.flatnonzero(np.isfinite(prior))
    part = system.restricted(use)
    before = np.diag(np.where(prior[use] > 0.0, prior[use], 1.0))
    signs = (part, dataclasses.replace(part, matrix=-part.matrix))
    told, noise = (np.linalg.slogdet(before + x.whitened()[0])[1] for x in signs)
    return float(told - noise)


def _linear(before: Equations, at: Equations, parts: list[Jacobian], step: float) -> bool:
    """Return whether a step was small and did what the Jacobian said."""
    if step > HELD:
        return False
    moved = np.stack([part.mean for part in parts]) @ (at.theta - before.theta)
    off = at.residuals + moved - before.residuals
    return before.misfit(off) < HELD_OFF**2 * before.misfit(moved)


def _step(
    equations: MomentEquations,
    at: Equations,
    system: Linearised,
    fewer: Iterable[Linearised],
    trace: list[dict[str, float]],
    best: _Seen,
) -> tuple[Equations, Posterior, float, _Seen]:
    """Do a Gauss–Newton step, halved until misfit plus prior are near those of the best so far."""
    unknowns = equations.unknowns
    found = estimated(system, at, unknowns, fewer)
    posterior, equations.telling = found.posterior, found.told // len(at.residuals)
    step = posterior.mean - at.theta
    known = sum(posterior.determined.values()) + len(_flat(unknowns))
    # The solution is not quite where the objective is lowest, for the noise of the regressors pulls
    # that towards 0: by less than half a standard error for each unknown that is determined. Of V
    # and β without the W of the data each of ten steps was worse, and β went from 0.3 to 1.3.
    # Nor is it where β is lower than misfit alone, which takes noise for signal, would have it.
    # Every step has a prior and a noise of its own, by which the best so far is judged anew.
    seen = [_Seen.of(at)]
    if not best.theta[~np.isfinite(posterior.precision)].any():  # else it has what is off by now
        seen.append(best)
    objectives = [state.objective(at, posterior) for state in seen]
    best, most = seen[int(np.argmin(objectives))], min(objectives) + 0.25 * known + found.given_up
    for halving in range(HALVINGS):
        try:
            ahead = equations.evaluate(at.theta + step * 0.5**halving)
        except np.linalg.LinAlgError:  # so far away that nothing is known of the moments' noise
            continue
        if _Seen.of(ahead).objective(at, posterior) <= most:
            break
    else:
        ahead = at
    # The whole step: one that had to be halved is small without having arrived.
    moved = float(np.sqrt(step @ system.spread @ step / max(known, 1.0)))
    freedom = max(1.0, system.freedom - known)
    trace.append(
        {
            "step": len(trace) + 1,
            "misfit": system.misfit / freedom,
            "outer_step": moved,
            "halvings": halving,
        }
    )
    return ahead, posterior, system.misfit / freedom, best
