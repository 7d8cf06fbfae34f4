"""The weak form: V, W and β at once from how the means of test functions change, in seconds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from popdyn.base.host import one_blas_thread
from popdyn.estimation.couplings import couple
from popdyn.estimation.evidence import Posterior
from popdyn.estimation.flow import Unknowns
from popdyn.estimation.groups import BETA, CONSTANT, Group
from popdyn.estimation.levels import (
    EARNED_NARROW,
    FULL,
    carried,
    levels,
    weighted,
    without,
)
from popdyn.estimation.moments import FITS, Equations, MomentEquations
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.solution import (
    MOST,
    REJECTED,
    SETTLED,
    WeakFormSolution,
    p_value_of,
    solution_of,
)
from popdyn.estimation.steps import descend, estimated
from popdyn.estimation.trades import TRADED, force, spreads
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.features import FeatureMap

__all__ = [
    "Levels",
    "particles_of",
    "solve_weak_form",
]

# More test functions tell more, and their noisy regressors cost more: with interaction and noise to
# be learned the standard errors are smallest around this many particles for each, and trustworthy.
PARTICLES_PER_TEST, LEAST_TESTS, TESTS_PER_COMPONENT = 125, 30.0, 6
# What couples components, grows or turns looks much like what a V without does: few tests leave it
# to that. Where it is not asked for many tests would, for a V that meets them all may be found.
TESTS_OF_MORE = 100.0
# Where the data determines few unknowns, more tests than this for each tell nothing of β and bring
# it noise: β of `quadratic-0.5` was 20 % too large at N = 20 000.
TESTS_PER_KNOWN = 4.0
# Fewer particles than this for each test would not tell the covariance of the moments.
PARTICLES_OF_COVARIANCE, PARTICLES_OF_MORE = 10, 5
SCREENED = 5000  # particles of each snapshot that say which groups take part
BEGUN = 2500  # and that do for a start with the coarse ones
# Standard errors of a step after which the next level may begin: the one after it is a tenth.
NEAR = 4.0
APPROACH = 5  # steps far from the data before groups that are off are left out
COUPLED = 500  # particles of each snapshot that are coupled for a start


def particles_of(data: TrainingSet) -> list[Tensor]:
    """Return the particles that are learned from, those to validate with them."""
    pairs = zip(data.fit, data.validation, strict=True)
    return [torch.cat([a[:MOST], b])[:MOST].cpu() for a, b in pairs]


class Levels:
    """The data set's moment equations at each level, and the way to the coarse solution."""

    def __init__(self, data: TrainingSet, options: WeakFormOptions, at_rest: bool = True) -> None:
        self.given, data = data, data.turned
        self.data, self.options, self.at_rest = data, options, at_rest
        self.snapshots = particles_of(data)
        self.smallest = min(len(x) for x in self.snapshots)
        self.start, self.coarse, self.fine = levels(data, self.snapshots, options, at_rest)
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
        if unknowns.alike or self.data.finer:
            least = max(least, TESTS_OF_MORE)
        count = max(min(self.options.tests, int(max(least, most))), self.seen)
        each = PARTICLES_OF_MORE if self.data.finer else PARTICLES_OF_COVARIANCE
        count = min(count, max(2, self.smallest // each))
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

    @property
    def transportable(self) -> bool:
        """Whether a coupling says where particles go: of what grows it does not."""
        return self.start[0].features is not None and self.start[0].rates is None

    def carried_by_transport(self) -> np.ndarray:
        """Return the V of the first level that pulls best along optimal couplings; all else is 0.

        Where particles go far in an interval, steps from no motion lead nowhere: a coupling says
        about where they go. Its displacements are taken in their middle.
        """
        first = self.start[0]
        assert first.features is not None
        few = [x[:COUPLED].double() for x in self.few]
        pairs = couple(few, self.data.intervals, 0, self.data.seed)
        middles = pairs.ends - 0.5 * pairs.intervals[:, None] * pairs.speeds
        v = pairs.speeds.T.flatten().numpy()
        mixing = torch.from_numpy(first.mixing)
        slopes = first.features.gradient_of(middles, mixing).flatten(0, 1).numpy()
        gram, right = slopes.T @ slopes, -slopes.T @ v
        left = v + slopes @ np.linalg.lstsq(slopes, -v)[0]
        theta = np.zeros(first.size)
        # The prior is of unit variance; what no V explains is taken for noise.
        ridge = np.diag(np.full(len(gram), np.square(left).mean()))
        theta[: len(gram)] = np.linalg.solve(gram + ridge, right)
        return theta

    def begin(self, everything: bool = False) -> Begun:
        """Solve with polynomials, then with the coarse dictionary.

        Args:
            everything: Whether all particles ask for the coarse dictionary. They are not asked
                again by whoever begins for the same data.
        """
        key = self.options, self.at_rest
        if key in self.given.begun:
            return self.given.begun[key]  # type: ignore[no-any-return]
        theta, trace = np.zeros(self.start[0].size), list[dict[str, float]]()
        known = math.inf
        for level, after in ((self.start, self.coarse), (self.coarse, None)):
            whole = level is self.coarse and (everything or self.beyond)
            particles = self.snapshots if whole else [x[:BEGUN] for x in self.snapshots]
            own = self.equations(*level, particles=particles, known=known)
            at, posterior, misfit = descend(own, theta, None, trace, self.options.coarse, NEAR)
            if level is self.start and misfit > FITS and self.transportable:
                other = descend(
                    own, self.carried_by_transport(), None, trace, self.options.coarse, NEAR
                )
                at, posterior, misfit = min(
                    (at, posterior, misfit), other, key=lambda found: found[0].share
                )
            known = sum(posterior.determined.values())
            if after is not None:
                theta = carried(level[0], at.theta, after[0])
        p_value = p_value_of(self.coarse[0], at, posterior)
        begun = Begun(at.theta, posterior, misfit, p_value, trace)
        if everything:
            self.given.begun[key] = begun
        return begun


@dataclass(frozen=True)
class Begun:
    """A solution with the coarse dictionary.

    Attributes:
        theta: θ.
        posterior: Its posterior.
        misfit: χ² for each degree of freedom.
        p_value: How often moments are met as badly by chance.
        trace: A record of every step.
    """

    theta: np.ndarray
    posterior: Posterior
    misfit: float
    p_value: float
    trace: list[dict[str, float]]


def solve_weak_form(data: TrainingSet, options: WeakFormOptions) -> WeakFormSolution:
    """Solve E_{k+1} f = E_k f∘Φ_θ for V, W and β, for many test functions f and all intervals.

    Φ_θ is the flow of an interval itself, so no quadrature in time is involved. Polynomials, then
    a coarse dictionary give the start; one look with the whole dictionary says which of its groups
    the data asks for; Gauss–Newton steps with those give the solution.
    """
    if options not in data.solved:
        near = data.near.get(options)
        with one_blas_thread():
            solved = _solved(data, options) if near is None else _solved_again(data, options, near)
        data.solved[options] = solved
    return data.solved[options]  # type: ignore[no-any-return]


def _solved(data: TrainingSet, options: WeakFormOptions) -> WeakFormSolution:
    ways = Levels(data, options)
    found = _solution(ways, *_solved_on(ways))
    found = _from_below(ways, found) or found
    return _with_less_force(ways, found) or found


def _solved_on(ways: Levels) -> tuple[_Solved, list[dict[str, float]]]:
    begun = ways.begin()
    trace = list(begun.trace)
    look = _look(ways, begun.theta, begun.posterior)
    gone = look.gone
    while True:
        own = _solved_without(ways, look, gone, trace)
        # What the particles of a look switched off, all of them may ask for.
        fewer = [g for g in gone if g in look.narrow]
        if fewer != gone and own.p_value < REJECTED:
            gone = fewer
            own = min(own, _solved_without(ways, look, gone, trace), key=lambda s: s.misfit)
        narrow = [g for g in look.narrow if g not in (*gone, *own.left_out)]
        if not narrow or _gain(ways, look, own) >= 2.0 * EARNED_NARROW:
            return own, trace
        gone = gone + [g for g in look.narrow if g not in gone]


def _solution(ways: Levels, own: _Solved, trace: list[dict[str, float]]) -> WeakFormSolution:
    equations = own.equations
    used = (equations.tests, equations.weights, equations.count)
    return solution_of(
        equations.unknowns, own.at, own.posterior, own.misfit, trace, ways.given, used
    )


def _from_below(ways: Levels, found: WeakFormSolution) -> WeakFormSolution | None:
    """Return the solution that begins where β is 0, if the one that did not is the worse for β.

    Far from the data V can make up for a β that is far too large, and no step leads back. What has
    β as well can't explain less than what has not.
    """
    options, unknowns = ways.options, found.unknowns
    assert unknowns is not None
    learn = tuple(part for part in options.learn if part != "diffusion")
    if found.misfit <= FITS or unknowns.diffusivity is not None or "potential" not in learn:
        return None
    below = solve_weak_form(ways.given, dataclasses.replace(options, learn=learn))
    if below.misfit >= found.misfit:
        return None
    assert below.unknowns is not None
    assert below.theta is not None
    groups = (*below.unknowns.groups, BETA)
    freer = dataclasses.replace(below.unknowns, diffusivity=None, groups=groups)
    theta = np.append(below.theta, 0.0)
    other = _resolved(ways.given, options, below, freer, theta, None)
    return other if other.misfit < found.misfit else None


def _with_less_force(ways: Levels, found: WeakFormSolution) -> WeakFormSolution | None:
    """Return what explains as well with a smaller force, where V and β are not told apart.

    A population that spreads may be pushed apart or diffuse. Of all that explain, that with the
    least force is taken: V is shrunk here, and in what was found its motion was. How little is
    known of β, and of V with it, stays as it was found.
    """
    unknowns, theta, posterior = found.unknowns, found.theta, found.posterior
    assert unknowns is not None
    assert theta is not None
    assert posterior is not None
    open_ = found.traded > TRADED and unknowns.noise_alone
    x = ways.data.fit
    if not open_ or not spreads(unknowns, theta, x):
        return None
    other = Levels(ways.given, ways.options, at_rest=False)
    own, trace = _solved_on(other)
    wide = _traded_too(own, ways.start[0], float(posterior.covariance[-1, -1]))
    leaner = _solution(other, wide, trace)
    if leaner.p_value < REJECTED:
        return None
    smaller = force(own.equations.unknowns, own.at.theta, x)
    return leaner if smaller < force(unknowns, theta, x) else None


def _traded_too(own: _Solved, start: Unknowns, variance: float) -> _Solved:
    """Return a solution whose posterior knows that V = −β log ρ̄ + const goes with any β."""
    unknowns, count = own.equations.unknowns, len(start.log_density)
    kept = [j for j, g in enumerate(start.groups[:count]) if g in unknowns.groups]
    along = np.zeros(unknowns.size)
    along[: len(kept)] = -start.log_density[kept]
    along[-1] = 1.0
    covariance = own.posterior.covariance + variance * np.outer(along, along)
    return dataclasses.replace(
        own, posterior=dataclasses.replace(own.posterior, covariance=covariance)
    )


@dataclass(frozen=True)
class _Look:
    """What one look with the whole dictionary says, far from the solution as it may be.

    Attributes:
        before: θ of the coarse solution, in the unknowns of the whole dictionary.
        coarse: Its posterior.
        posterior: The estimate.
        gone: The groups that are left out.
        far: Whether linear equations say little yet, so that none is.
        kept: Groups that stay, though they be off.
        narrow: Groups that only the whole dictionary has.
    """

    before: np.ndarray
    coarse: Posterior
    posterior: Posterior
    gone: list[Group]
    far: bool
    kept: set[Group]
    narrow: list[Group]


def _look(ways: Levels, theta: np.ndarray, posterior: Posterior) -> _Look:
    """Look with the whole dictionary from the coarse solution.

    The noise of narrow functions' derivatives is not taken off: it only makes them look smaller,
    and what is left of a derivative that is nearly all noise may look like anything.
    """
    unknowns = ways.fine[0]
    theta = carried(ways.coarse[0], theta, unknowns)
    some = [x[:SCREENED] for x in ways.snapshots]
    whole = ways.equations(*ways.fine, particles=some, least=ways.smallest / 20)
    at = whole.evaluate(theta)
    # For V alone in few dimensions a Jacobian of half of them tells groups apart as well, but far
    # from the data they are a worse start: a fit of `bohachevsky` did not settle, at χ² of 2.
    for share in (2, 1) if unknowns.plain and ways.data.dim <= FULL else (1,):
        parts = whole.jacobians(at, SCREENED // share)
        system = whole.linearise(at, parts, correct=unknowns.alike)
        found = estimated(system, at, unknowns)
        if not found.far:
            break
    # Something has to be left, and β is no group: at 0 it may rise again. Far from the data linear
    # equations switch off what is needed: now and then the bumps 0.1 wide of `bohachevsky`, whose
    # fit then had χ² of 32 for each degree of freedom.
    kept = {*first_groups(unknowns), CONSTANT, BETA}
    # What the coarse solution has stays: each step says again whether it earns its place.
    kept |= {g for g, s in posterior.strengths.items() if s > 0.0}
    if len(unknowns.log_density):  # V has it whatever the motion asks for
        kept |= set(ways.start[0].groups)
    off = _off(found.posterior, kept) + [g for g in found.gone if g not in kept]
    narrow = [g for g in dict.fromkeys(unknowns.groups) if g not in ways.coarse[0].groups]
    return _Look(
        at.theta, posterior, found.posterior, [] if found.far else off, found.far, kept, narrow
    )


def _off(posterior: Posterior, kept: set[Group]) -> list[Group]:
    return [g for g, s in posterior.strengths.items() if s == 0.0 and g not in kept]


@dataclass(frozen=True)
class _Solved:
    """A solution with some groups left out, and its equations."""

    posterior: Posterior
    equations: MomentEquations
    at: Equations
    misfit: float
    left_out: list[Group]

    @property
    def p_value(self) -> float:
        """How often moments are met as badly by chance."""
        return p_value_of(self.equations.unknowns, self.at, self.posterior)


def _solved_without(
    ways: Levels,
    look: _Look,
    gone: list[Group],
    trace: list[dict[str, float]],
) -> _Solved:
    """Return the solution without some groups."""
    # Where no narrow group has earned its place, the coarse solution is the better start, and what
    # is known by it says better how many test functions there should be, and which.
    narrow = any(g not in gone for g in look.narrow)
    posterior = look.posterior if narrow else look.coarse
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
    try:
        coarser = own.equations.evaluate(without(ways.fine[0], look.before, own.left_out)[1])
    except np.linalg.LinAlgError:  # it leads out of finite numbers
        return np.inf
    return float(own.at.misfit(coarser.residuals) - own.at.misfit(own.at.residuals))


def _solved_again(
    data: TrainingSet, options: WeakFormOptions, near: WeakFormSolution
) -> WeakFormSolution:
    """Return the solution for other particles of the same data, with the functions of one near."""
    assert near.unknowns is not None
    assert near.posterior is not None
    return _resolved(data, options, near, near.unknowns, near.posterior.mean, near.posterior)


def _resolved(
    data: TrainingSet,
    options: WeakFormOptions,
    near: WeakFormSolution,
    unknowns: Unknowns,
    theta: np.ndarray,
    posterior: Posterior | None,
) -> WeakFormSolution:
    """Return the solution for some unknowns that begins at θ, with the tests of one near."""
    assert near.tests is not None
    tests, weights, count = near.tests
    trace: list[dict[str, float]] = []
    own = MomentEquations(
        unknowns,
        tests,
        weights,
        particles_of(data.turned),
        data.intervals,
        count,
        data.seed,
        options.correct,
        data.masses,
    )
    at, posterior, misfit = descend(own, theta, posterior, trace, options.fine, SETTLED)
    return solution_of(unknowns, at, posterior, misfit, trace, data, near.tests)


def first_groups(unknowns: Unknowns) -> list[Group]:
    """Return the smoothest group of V, of g, of ψ and of W; β's where nothing else is learned."""
    parts = (unknowns.potential, unknowns.growth, unknowns.circulation, unknowns.interaction)
    named = [[g for g in unknowns.groups[part] if g != CONSTANT] for part in parts]
    return [names[0] for names in named if names] or list(unknowns.groups[:1])


def _unexplained_errors(
    equations: MomentEquations, at: Equations, posterior: Posterior, group: Group
) -> Posterior:
    """Return the posterior where no group of a part earned its place, with errors of one of them.

    V's gradient, W's, or g is 0 not because the data says so to any digit, but because what it says
    is below its noise: the errors are those of the smoothest group as if it had no prior.
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
