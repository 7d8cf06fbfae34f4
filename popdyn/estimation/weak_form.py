"""The weak form: V, W and β at once from how the means of test functions change, in seconds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.estimation.evidence import Posterior
from popdyn.estimation.flow import Unknowns
from popdyn.estimation.groups import BETA, CONSTANT, Group
from popdyn.estimation.levels import (
    EARNED_NARROW,
    FULL,
    PRODUCTS,
    carried,
    levels,
    weighted,
    without,
)
from popdyn.estimation.moments import Equations, MomentEquations
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.solution import SETTLED, WeakFormSolution, solution_of
from popdyn.estimation.steps import HALVINGS, descend, estimated
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.features import FeatureMap, polynomials

__all__ = [
    "Levels",
    "particles_of",
    "solve_weak_form",
]

# More test functions tell more, and their noisy regressors cost more: with interaction and noise to
# be learned the standard errors are smallest around this many particles for each, and trustworthy.
PARTICLES_PER_TEST, LEAST_TESTS, TESTS_PER_COMPONENT = 125, 30.0, 6
# Where the data determines few unknowns, more tests than this for each tell nothing of β and bring
# it noise: β of `quadratic-0.5` was 20 % too large at N = 20 000.
TESTS_PER_KNOWN = 4.0
# What a growth or a circulation does looks much like what V does: few tests leave them to it.
TESTS_OF_MORE = 100.0
# Fewer particles than this for each test would not tell the covariance of the moments.
PARTICLES_OF_COVARIANCE = 10
MOST = 100_000  # particles of each snapshot, in memory with all their features
SCREENED = 5000  # particles of each snapshot that say which groups take part
BEGUN = 2500  # and that do for a start with the coarse ones
# Standard errors of a step after which the next level may begin: the one after it is a tenth.
NEAR = 4.0
APPROACH = 5  # steps far from the data before groups that are off are left out
COMPARED = 500  # particles of each snapshot at which a start is compared


def particles_of(data: TrainingSet) -> list[Tensor]:
    """Return the particles that are learned from, those to validate with them."""
    pairs = zip(data.fit, data.validation, strict=True)
    return [torch.cat([a[:MOST], b])[:MOST].cpu() for a, b in pairs]


class Levels:
    """The data set's moment equations at each level, and the way to the coarse solution."""

    def __init__(self, data: TrainingSet, options: WeakFormOptions) -> None:
        self.given, data = data, data.turned
        self.data, self.options = data, options
        self.snapshots = particles_of(data)
        self.smallest = min(len(x) for x in self.snapshots)
        self.start, self.coarse, self.fine = levels(data, self.snapshots, options)
        self.beyond = self.fine[0].beyond_potential
        # A sum over components has some numbers for each, and the tests have to see them all.
        pairs = 0 if data.structure is None else len(data.structure.pairs)
        seen = TESTS_PER_COMPONENT * data.dim + TESTS_PER_COMPONENT**2 * pairs
        self.seen = min(seen, self.smallest // 20)
        self.few = self.snapshots if self.beyond else [x[:BEGUN] for x in self.snapshots]

    def equations(
        self,
        unknowns: Unknowns,
        tests: FeatureMap,
        strengths: dict[Group, float] | None = None,
        particles: Sequence[Tensor] | None = None,
        least: float = LEAST_TESTS,
        known: float = math.inf,
        correct: bool | None = None,
    ) -> MomentEquations:
        """Return the equations of some unknowns on all particles, or on those that are given."""
        tests, weights = weighted(tests, strengths)
        most = self.smallest / PARTICLES_PER_TEST
        if unknowns.radial is not None or unknowns.diffusivity is None:
            most = min(most, TESTS_PER_KNOWN * known)
        if unknowns.rates is not None or unknowns.streams is not None:
            least = max(least, TESTS_OF_MORE)
        count = max(min(self.options.tests, int(max(least, most))), self.seen)
        count = min(count, max(2, self.smallest // PARTICLES_OF_COVARIANCE))
        return MomentEquations(
            unknowns,
            tests,
            weights,
            self.snapshots if particles is None else particles,
            self.data.intervals,
            count,
            self.data.seed,
            self.options.correct if correct is None else correct,
            self.data.masses,
        )

    def bowl(self) -> np.ndarray:
        """Return the best V of degree 2 in the unknowns of the first level; W and β stay 0."""
        first, scaling = self.start[0], self.start[1].scaling
        assert first.features is not None
        mixed = 2 if self.data.dim <= PRODUCTS else 0
        of_degree_2 = polynomials(self.data.dim, scaling.half_width, 2, mixed)
        features = FeatureMap(scaling, of_degree_2)
        mixing, names = features.prior()
        unknowns = dataclasses.replace(
            first,
            features=features,
            mixing=mixing,
            groups=tuple(Group("V", name) for name in names),
        )
        own = self.equations(unknowns, features, particles=self.few)
        theta = np.zeros(unknowns.size)
        at, *_ = descend(own, theta, None, [], 3 * self.options.coarse, NEAR)
        x = torch.cat([x[:COMPARED] for x in self.few]).double()
        weights = torch.from_numpy(unknowns.potential_weights(at.theta))
        slopes = features.gradient_of(x, weights)[..., 0].flatten()
        design = first.features.gradient_of(x, torch.from_numpy(first.mixing)).flatten(0, 1)
        return np.linalg.lstsq(design.numpy(), slopes.numpy())[0]

    def begin(
        self,
        trace: list[dict[str, float]],
        everything: bool = False,
        theta: np.ndarray | None = None,
    ) -> tuple[Equations, Posterior, float]:
        """Solve with polynomials, then with the coarse dictionary.

        Args:
            trace: Gets a record of every step.
            everything: Whether all particles take part.
            theta: Where to begin, 0 if None.

        Returns:
            The coarse solution, its posterior, and χ² for each degree of freedom.
        """
        theta = np.zeros(self.start[0].size) if theta is None else theta
        known = math.inf
        for level, after in ((self.start, self.coarse), (self.coarse, None)):
            whole = everything or not (level is self.coarse or self.fine[0].plain)
            particles = self.snapshots if whole else self.few
            own = self.equations(*level, particles=particles, known=known)
            at, posterior, misfit = descend(own, theta, None, trace, self.options.coarse, NEAR)
            known = sum(posterior.determined.values())
            if after is not None:
                theta = carried(level[0], at.theta, after[0])
        return at, posterior, misfit


def solve_weak_form(data: TrainingSet, options: WeakFormOptions) -> WeakFormSolution:
    """Solve E_{k+1} f = E_k f∘Φ_θ for V, W and β, for many test functions f and all intervals.

    Φ_θ is the flow of an interval itself, so no quadrature in time is involved. Polynomials, then
    a coarse dictionary give the start; one look with the whole dictionary says which of its groups
    the data asks for; Gauss–Newton steps with those give the solution.
    """
    if options not in data.solved:
        near = data.near.get(options)
        solved = _solved(data, options) if near is None else _solved_again(data, options, near)
        data.solved[options] = solved
    return data.solved[options]  # type: ignore[no-any-return]


def _solved(data: TrainingSet, options: WeakFormOptions) -> WeakFormSolution:
    """Return the solution that steps from no motion lead to, or where they are stuck from a bowl.

    Where moments of high order change by a good part of themselves in an interval, the first step
    goes astray, and a V that scatters the particles has a noise that hides its misfit.
    """
    ways = Levels(data, options)
    found = _solved_from(ways, None)
    last = found.trace[-1]
    stuck = last["halvings"] == HALVINGS - 1 and last["outer_step"] > 1.0
    if stuck and ways.start[0].plain:
        other = _solved_from(ways, ways.bowl())
        return min(found, other, key=lambda solution: solution.misfit)
    return found


def _solved_from(ways: Levels, theta: np.ndarray | None) -> WeakFormSolution:
    trace: list[dict[str, float]] = []
    at, _, _ = ways.begin(trace, theta=theta)
    look = _look(ways, carried(ways.coarse[0], at.theta, ways.fine[0]))
    own, gone = _Solved(look.posterior), look.gone
    while True:
        narrow = [g for g in look.narrow if g not in gone]
        own = _solved_without(ways, look, gone, own.posterior, trace)
        narrow = [g for g in narrow if g not in own.left_out]
        if not narrow or _gain(ways, look, own) >= 2.0 * EARNED_NARROW:
            used = (own.equations.tests, own.equations.weights, own.equations.count)
            return solution_of(
                own.equations.unknowns, own.at, own.posterior, own.misfit, trace, ways.given, used
            )
        gone = gone + [g for g in look.narrow if g not in gone]


@dataclass(frozen=True)
class _Look:
    """What one look with the whole dictionary says, far from the solution as it may be.

    Attributes:
        before: θ of the coarse solution, in the unknowns of the whole dictionary.
        posterior: The estimate.
        gone: The groups that are left out.
        far: Whether linear equations say little yet, so that none is.
        kept: Groups that stay, though they be off.
        narrow: Groups that only the whole dictionary has.
    """

    before: np.ndarray
    posterior: Posterior
    gone: list[Group]
    far: bool
    kept: set[Group]
    narrow: list[Group]


def _look(ways: Levels, theta: np.ndarray) -> _Look:
    unknowns = ways.fine[0]
    some = [x[:SCREENED] for x in ways.snapshots]
    whole = ways.equations(*ways.fine, particles=some, least=ways.smallest / 20)
    at = whole.evaluate(theta)
    # For V alone in few dimensions a Jacobian of half of them tells groups apart as well, but far
    # from the data they are a worse start: a fit of `bohachevsky` did not settle, at χ² of 2.
    for share in (2, 1) if unknowns.plain and ways.data.dim <= FULL else (1,):
        system = whole.linearise(at, whole.jacobians(at, SCREENED // share))
        found = estimated(system, at, unknowns)
        if not found.far:
            break
    # Something has to be left, and β is no group: at 0 it may rise again. Far from the data linear
    # equations switch off what is needed: now and then the bumps 0.1 wide of `bohachevsky`, whose
    # fit then had χ² of 32 for each degree of freedom.
    kept = {*first_groups(unknowns), CONSTANT, BETA}
    if len(unknowns.log_density):  # V has it whatever the motion asks for
        kept |= set(ways.start[0].groups)
    off = _off(found.posterior, kept) + [g for g in found.gone if g not in kept]
    narrow = [g for g in dict.fromkeys(unknowns.groups) if g not in ways.coarse[0].groups]
    return _Look(at.theta, found.posterior, [] if found.far else off, found.far, kept, narrow)


def _off(posterior: Posterior, kept: set[Group]) -> list[Group]:
    return [g for g, s in posterior.strengths.items() if s == 0.0 and g not in kept]


@dataclass(frozen=True)
class _Solved:
    """A solution with some groups left out, and its equations; none yet but for the posterior."""

    posterior: Posterior
    equations: Any = None
    at: Any = None
    misfit: float = math.inf
    left_out: list[Group] = field(default_factory=list)


def _solved_without(
    ways: Levels,
    look: _Look,
    gone: list[Group],
    posterior: Posterior,
    trace: list[dict[str, float]],
) -> _Solved:
    """Return the solution without some groups; the posterior says how many tests, and which."""
    # Where no narrow group has earned its place, the coarse solution is the better start.
    narrow = any(g not in gone for g in look.narrow)
    kept, theta = without(ways.fine[0], posterior.mean if narrow else look.before, gone)
    strengths, known = posterior.strengths, sum(posterior.determined.values())
    least, left_out = max(LEAST_TESTS, 1.3 * known), list(gone)
    tests, fine = ways.fine[1], ways.options.fine
    stages = ((ways.few, APPROACH), (ways.few, 2 * fine), (ways.snapshots, fine))
    for particles, most in stages if look.far else ():
        own = ways.equations(kept, tests, strengths, particles, least, correct=False)
        at, posterior, _ = descend(own, theta, posterior, trace, most, 1.0)
        # What is still off on the way is left out: its derivatives would be most of the time.
        off = _off(posterior, look.kept)
        kept, theta = without(kept, at.theta, off)
        left_out += off
    final = ways.equations(kept, tests, strengths, least=least, known=known)
    at, posterior, misfit = descend(final, theta, posterior, trace, fine, SETTLED)
    for first in first_groups(kept):
        of_part = (g for g in posterior.strengths if g.part == first.part and g != CONSTANT)
        sizes = [posterior.strengths[g] for g in of_part]
        if sizes and not any(sizes):
            posterior = _unexplained_errors(final, at, posterior, first)
    return _Solved(posterior, final, at, misfit, left_out)


def _gain(ways: Levels, look: _Look, own: _Solved) -> float:
    """Return by how much χ² is lower than that of the coarse solution.

    What the linear equations promised of narrow groups has to hold for the flow itself.
    """
    coarser = own.equations.evaluate(without(ways.fine[0], look.before, own.left_out)[1])
    return float(own.at.misfit(coarser.residuals) - own.at.misfit(own.at.residuals))


def _solved_again(
    data: TrainingSet, options: WeakFormOptions, near: WeakFormSolution
) -> WeakFormSolution:
    """Return the solution for other particles of the same data, with the functions of one near."""
    assert near.unknowns is not None
    assert near.posterior is not None
    assert near.tests is not None
    tests, weights, count = near.tests
    trace: list[dict[str, float]] = []
    own = MomentEquations(
        near.unknowns,
        tests,
        weights,
        particles_of(data.turned),
        data.intervals,
        count,
        data.seed,
        options.correct,
        data.masses,
    )
    theta, posterior = near.posterior.mean, near.posterior
    at, posterior, misfit = descend(own, theta, posterior, trace, options.fine, SETTLED)
    return solution_of(near.unknowns, at, posterior, misfit, trace, data, near.tests)


def first_groups(unknowns: Unknowns) -> list[Group]:
    """Return the smoothest group of V (of W where V is not learned), of g and of ψ."""
    parts = (unknowns.growth, unknowns.circulation)
    named = [[g for g in unknowns.groups[part] if g != CONSTANT] for part in parts]
    own = [names[:1] for names in named if names]
    lone = unknowns.groups[: 1 if not own or unknowns.potential.stop else 0]
    return [g for found in (lone, *own) for g in found]


def _unexplained_errors(
    equations: MomentEquations, at: Equations, posterior: Posterior, group: Group
) -> Posterior:
    """Return the posterior where no group of a part earned its place, with errors of one of them.

    V's gradient, or g, is 0 not because the data says so to any digit, but because what it says is
    below its noise: the errors are those of the smoothest group as if it had no prior.
    """
    first = np.array([g == group for g in equations.unknowns.groups])
    use = np.flatnonzero(first | np.isfinite(posterior.precision))
    information = equations.linearise(at, equations.jacobians(at)).spread[np.ix_(use, use)]
    prior = np.where(np.isfinite(posterior.precision), posterior.precision, 0.0)[use]
    inverse = np.linalg.pinv(information + np.diag(prior), hermitian=True)
    covariance = posterior.covariance.copy()
    covariance[np.ix_(first, first)] += inverse[np.ix_(first[use], first[use])]
    # What V would have to be for another of them; V's own errors are those of what was found.
    others = use[~first[use]]
    shared = inverse[np.ix_(~first[use], first[use])]
    covariance[np.ix_(others, first)], covariance[np.ix_(first, others)] = shared, shared.T
    return dataclasses.replace(posterior, covariance=covariance)
