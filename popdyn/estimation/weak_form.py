"""The weak form: V, W and β at once from how the means of test functions change, in seconds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import chdtrc
from torch import Tensor

from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.estimation.evidence import Posterior
from popdyn.estimation.flow import Unknowns
from popdyn.estimation.levels import (
    CONSTANT,
    EARNED_NARROW,
    carried,
    levels,
    weighted,
    without,
)
from popdyn.estimation.moments import Equations, MomentEquations
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.steps import HALVINGS, descend, estimated
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.features import FeatureMap, polynomials
from popdyn.families.linear import (
    LinearPotential,
    LinearRate,
    LinearStream,
    RadialInteraction,
)
from popdyn.families.models import set_mean_zero
from popdyn.families.units import RateInUnits, StreamInUnits, TermInUnits, Units

__all__ = [
    "FITS",
    "REJECTED",
    "TRADED",
    "Levels",
    "WeakFormSolution",
    "freedom_of",
    "p_value_of",
    "particles_of",
    "solve_weak_form",
    "traded",
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
SETTLED = 0.1  # standard errors
FITS = 2.0  # χ² for each degree of freedom, above which the energy does not explain the data
REJECTED = 0.01  # level of the test whether the energy explains the data
# Of ∇V, that may be another for a standard error of what trades: a tenth of the skill.
TRADED = math.sqrt(0.1)
MOST_TRADED = 50  # directions of V in which that is looked at
COMPARED = 500  # particles of each snapshot that this is looked at by
APPROACH = 5  # steps far from the data before groups that are off are left out


@dataclass(frozen=True)
class WeakFormSolution:
    """What the weak form found.

    Attributes:
        potential: V, or None if it was not learned.
        interaction: W, or None.
        diffusivity: β, learned or given.
        diffusivity_standard_error: Of a learned β, else None.
        misfit: χ² of the moment equations over their number less the unknowns determined; about 1
            if the model holds.
        determined: How many unknowns of each group the data determines.
        trace: One record for each Gauss–Newton step: its number, χ² for each degree of freedom
            where it begins, its size in standard errors, and how often it was halved.
        posterior: Estimate and covariance of all unknowns.
        unknowns: What they stand for.
        tests: The test functions of its last equations, with the combinations that were taken.
        freedom: Degrees of freedom of the misfit.
        traded: By how much of itself, root mean square, ∇V is another for a standard error of β.
        growth: g, or None if it was not learned.
        circulation: ψ with its A, or None.
        traded_growth: By how much of itself ∇V is another for what is not known of g, and the
            standard error of g that goes with V, root mean square.
    """

    potential: LinearPotential | TermInUnits | None
    interaction: RadialInteraction | None
    diffusivity: float
    diffusivity_standard_error: float | None
    misfit: float
    determined: dict[str, float]
    trace: list[dict[str, float]] = field(default_factory=list)
    posterior: Posterior | None = None
    unknowns: Unknowns | None = None
    tests: tuple[FeatureMap, np.ndarray, int] | None = None
    freedom: float = 1.0
    traded: float = 0.0
    growth: LinearRate | RateInUnits | None = None
    circulation: LinearStream | StreamInUnits | None = None
    traded_growth: tuple[float, float] = (0.0, 0.0)

    @property
    def dynamics(self) -> Dynamics:
        """The energy, with growth and circulation where they were learned."""
        if self.growth is None and self.circulation is None:
            return self.energy
        return Dynamics(self.energy, growth=self.growth, circulation=self.circulation)

    @property
    def energy(self) -> FreeEnergy:
        """V, W and β with its standard error."""
        energy = FreeEnergy(self.potential, self.interaction, self.diffusivity)
        energy.diffusivity_standard_error = self.diffusivity_standard_error
        return energy

    @property
    def outer_step(self) -> float:
        """The size of the last step in standard errors."""
        return self.trace[-1]["outer_step"]

    @property
    def p_value(self) -> float:
        """That of χ² over the moment equations."""
        return p_value_of(self.misfit, self.freedom)

    @property
    def settled(self) -> bool:
        """Whether the last step was within a tenth of a standard error."""
        return self.outer_step < SETTLED

    @property
    def undetermined(self) -> dict[str, float]:
        """What the data can hardly tell apart, and the standard error of what they exchange.

        V and β where another β within its standard error goes with quite another V, V and g
        likewise.
        """
        error = self.diffusivity_standard_error
        found = {"potential, diffusion": error} if error and self.traded > TRADED else {}
        share, error = self.traded_growth
        return found | ({"potential, growth": error} if share > TRADED else {})

    @property
    def notes(self) -> list[str]:
        """What is to be known before the energy is believed."""
        out = []
        if self.growth is not None and self.unknowns and CONSTANT not in self.unknowns.groups:
            out.append(
                "no mass was measured: growth is known up to a constant, and has mean 0 over the "
                "snapshots"
            )
        if self.circulation is not None:
            out.append(
                "a circulation shows only where it changes snapshots: what turns along the levels "
                "of a density that stays is 0 here"
            )
        if self.misfit > FITS:
            out.append(
                "the energy does not explain the snapshots to their sampling noise: χ² is "
                f"{self.misfit:.3g} for each degree of freedom"
            )
        if self.p_value < REJECTED and self.diffusivity_standard_error is None:
            out.append(
                "β was not learned, and the snapshots are not explained to their sampling noise "
                f"(χ² {self.misfit:.3g} for each of {self.freedom:.0f} degrees of freedom): it can "
                "be, with --learn potential,diffusion"
            )
        V = self.potential.inner if isinstance(self.potential, TermInUnits) else self.potential
        if isinstance(V, LinearPotential) and not V.weights.any():
            out.append(
                "no gradient is clearly above sampling noise: V is 0 to its error"
                if self.p_value >= REJECTED
                else "steps from no motion led nowhere, and V was given up: expected snapshots "
                "closer to each other"
            )
        if "potential, growth" in self.undetermined:
            out.append(
                "V and growth are not told apart by these snapshots: another growth within its "
                "standard error goes with quite another V"
            )
        if "potential, diffusion" in self.undetermined:
            out.append(
                "V and β are not told apart by these snapshots: what moves the cells is as small "
                "as its noise, and any β within its standard error goes with a V of its own"
            )
        if not self.settled:
            out.append(
                "not settled: the last Gauss–Newton step was "
                f"{self.outer_step:.2g} standard errors long, expected less than {SETTLED:g}"
            )
        return out


def freedom_of(unknowns: Unknowns, at: Equations, posterior: Posterior) -> float:
    """Return the degrees of freedom of χ²: equations less what they determine."""
    known = sum(posterior.determined.values()) + (unknowns.diffusivity is None)
    return max(1.0, at.residuals.size - known)


def traded(
    unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, snapshots: Sequence[Tensor]
) -> float:
    """Return by how much of itself ∇V is another for a standard error of β; 0 if β is known.

    Root mean squares over the snapshots; of a V in time its mean is looked at.
    """
    if unknowns.diffusivity is not None or unknowns.features is None:
        return 0.0
    error = math.sqrt(max(posterior.covariance[-1, -1], 1e-300))
    weights = [
        unknowns.potential_weights(x)[:, 0] for x in (posterior.covariance[-1] / error, theta)
    ]
    x = torch.cat([x[:COMPARED].cpu() for x in snapshots])
    slopes = unknowns.features.gradient_of(x, torch.from_numpy(np.stack(weights, 1)).to(x))
    change, own = slopes.square().sum((0, 1)).sqrt().tolist()
    return change / own if own > 0.0 else math.inf


def traded_growth(
    unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, snapshots: Sequence[Tensor]
) -> tuple[float, float]:
    """Return by how much of itself ∇V is another for what is not known of g, and that of g.

    What of the variance of ∇V would go if g were known, over the square of ∇V, and the standard
    error of g that would go if V were known, less its mean; root mean squares over the snapshots.
    """
    V, g = unknowns.potential, unknowns.growth
    C = posterior.covariance
    if unknowns.features is None or unknowns.rates is None or not C[g, g].any():
        return 0.0, 0.0
    both = C[V, g] @ np.linalg.pinv(C[g, g], hermitian=True) @ C[g, V]
    x = torch.cat([x[:COMPARED].cpu() for x in snapshots])
    own = np.zeros((unknowns.size, V.stop))
    strengths, vectors = np.linalg.eigh(both)
    own[V] = vectors * np.sqrt(strengths.clip(0.0))
    columns = np.concatenate([theta[:, None], own[:, -MOST_TRADED:]], 1)
    weights = unknowns.potential_weights(columns).mean(1)
    slopes = unknowns.features.gradient_of(x, torch.from_numpy(weights).to(x))
    squares = slopes.square().sum((0, 1)).double().numpy()
    share = math.sqrt(squares[1:].sum() / squares[0]) if squares[0] > 0.0 else math.inf
    rates = unknowns.rates.columns(x).double().numpy()
    rates = rates - rates.mean(0)
    error = math.sqrt(max(0.0, float(((rates @ C[g, g]) * rates).sum(1).mean())))
    return share, error


def p_value_of(misfit: float, freedom: float) -> float:
    """Return the p-value of χ² for each degree of freedom."""
    return float(chdtrc(freedom, misfit * freedom))


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
        strengths: dict[str, float] | None = None,
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
        mixed = 2 if self.data.dim <= 12 else 0
        of_degree_2 = polynomials(self.data.dim, scaling.half_width, 2, mixed)
        features = FeatureMap(scaling, of_degree_2)
        mixing, names = features.prior()
        unknowns = dataclasses.replace(
            first, features=features, mixing=mixing, groups=tuple(f"V: {name}" for name in names)
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
    data, options = ways.data, ways.options
    equations, snapshots, few, smallest = ways.equations, ways.snapshots, ways.few, ways.smallest
    start, coarse, fine = ways.start, ways.coarse, ways.fine
    trace: list[dict[str, float]] = []
    every_narrow = [g for g in dict.fromkeys(fine[0].groups) if g not in coarse[0].groups]
    at, posterior, _ = ways.begin(trace, theta=theta)
    theta = carried(coarse[0], at.theta, fine[0])
    some = [x[:SCREENED] for x in snapshots]
    whole = equations(*fine, particles=some, least=smallest / 20)
    at = whole.evaluate(theta)
    # For V alone in few dimensions a Jacobian of half of them tells groups apart as well, but far
    # from the data they are a worse start: a fit of `bohachevsky` did not settle, at χ² of 2.
    for share in (2, 1) if fine[0].plain and data.dim <= 3 else (1,):
        system = whole.linearise(at, whole.jacobians(at, SCREENED // share))
        found = estimated(system, at, fine[0])
        if not found.far:
            break
    posterior, gone, far = found.posterior, found.gone, found.far
    off = [name for name, s in posterior.strengths.items() if s == 0.0] + gone
    # Something has to be left, and β is no group: at 0 it may rise again. Far from the data linear
    # equations switch off what is needed: now and then the bumps 0.1 wide of `bohachevsky`, whose
    # fit then had χ² of 32 for each degree of freedom.
    kept_anyway = {*first_groups(fine[0]), CONSTANT, "β"}
    if len(fine[0].log_density):  # V has it whatever the motion asks for
        kept_anyway |= set(start[0].groups)
    gone = [] if far else [name for name in off if name not in kept_anyway]
    before = at.theta
    stages = ((few, APPROACH), (few, 2 * options.fine), (snapshots, options.fine))
    while True:
        narrow = [g for g in every_narrow if g not in gone]
        # Where no narrow group has earned its place, the coarse solution is the better start.
        kept, theta = without(fine[0], posterior.mean if narrow else before, gone)
        strengths, known = posterior.strengths, sum(posterior.determined.values())
        least, left_out = max(LEAST_TESTS, 1.3 * known), list(gone)
        for particles, most in stages if far else ():
            own = equations(kept, fine[1], strengths, particles, least, correct=False)
            at, posterior, _ = descend(own, theta, posterior, trace, most, 1.0)
            # What is still off on the way is left out: its derivatives would be most of the time.
            off = [g for g, s in posterior.strengths.items() if s == 0.0 and g not in kept_anyway]
            kept, theta = without(kept, at.theta, off)
            left_out += off
        final = equations(kept, fine[1], strengths, least=least, known=known)
        at, posterior, misfit = descend(final, theta, posterior, trace, options.fine, SETTLED)
        for group in first_groups(kept):
            part = group.split(": ")[0] + ": "
            sizes = [
                s
                for name, s in posterior.strengths.items()
                if name.startswith(part) and name != CONSTANT
            ]
            if sizes and not any(sizes):
                posterior = _unexplained_errors(final, at, posterior, group)
        # What the linear equations promised of narrow groups has to hold for the flow itself.
        narrow = [g for g in narrow if g not in left_out]
        if narrow:
            coarser = final.evaluate(without(fine[0], before, left_out)[1])
            gain = at.misfit(coarser.residuals) - at.misfit(at.residuals)
        if not narrow or gain >= 2.0 * EARNED_NARROW:
            used = (final.tests, final.weights, final.count)
            return _solution(kept, at, posterior, misfit, trace, ways.given, used)
        gone = gone + [g for g in every_narrow if g not in gone]


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
    return _solution(near.unknowns, at, posterior, misfit, trace, data, near.tests)


def first_groups(unknowns: Unknowns) -> list[str]:
    """Return the smoothest group of V (of W where V is not learned), of g and of ψ."""
    parts = (unknowns.growth, unknowns.circulation)
    named = [[g for g in unknowns.groups[part] if g != CONSTANT] for part in parts]
    own = [names[:1] for names in named if names]
    lone = unknowns.groups[: 1 if not own or unknowns.potential.stop else 0]
    return [name for found in (lone, *own) for name in found]


def _unexplained_errors(
    equations: MomentEquations, at: Equations, posterior: Posterior, group: str
) -> Posterior:
    """Return the posterior where no group of a part earned its place, with errors of one of them.

    V's gradient, or g, is 0 not because the data says so to any digit, but because what it says is
    below its noise: the errors are those of the smoothest group as if it had no prior.
    """
    first = np.array([name == group for name in equations.unknowns.groups])
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


def _solution(
    unknowns: Unknowns,
    at: Equations,
    posterior: Posterior,
    misfit: float,
    trace: list[dict[str, float]],
    data: TrainingSet,
    tests: tuple[FeatureMap, np.ndarray, int],
) -> WeakFormSolution:
    V: LinearPotential | TermInUnits | None = None
    W, theta = None, at.theta
    if unknowns.features is not None:
        weights = torch.from_numpy(unknowns.potential_weights(theta))
        own = np.zeros(unknowns.size, dtype=bool)
        own[unknowns.potential] = True
        own[-1] |= len(unknowns.log_density) > 0
        errors = torch.from_numpy(unknowns.potential_weights(posterior.factor(own)))
        V = LinearPotential(unknowns.features, weights, unknowns.span, errors)
        V.requires_grad_(False).to(data.device)
        set_mean_zero(V, data.turned.fit, [float(t) for t in data.times])
        if data.structure is not None and data.structure.frame is not None:
            V = TermInUnits(V, Units.of_frame(data.structure.frame))
    if unknowns.radial is not None:
        kernel = torch.from_numpy(unknowns.interaction_weights(theta))
        own = np.zeros(unknowns.size, dtype=bool)
        own[unknowns.interaction] = True
        spread = unknowns.interaction_weights(posterior.factor(own))
        W = RadialInteraction(unknowns.radial, kernel, torch.from_numpy(spread))
        W.requires_grad_(False).to(data.device)
    error = None
    if unknowns.diffusivity is None:
        error = float(math.sqrt(max(posterior.covariance[-1, -1], 0.0)))
    return WeakFormSolution(
        V,
        W,
        unknowns.beta(theta),
        error,
        misfit,
        posterior.determined,
        trace,
        posterior,
        unknowns,
        tests,
        freedom_of(unknowns, at, posterior),
        traded(unknowns, theta, posterior, data.turned.fit),
        _growth(unknowns, theta, posterior, data),
        _circulation(unknowns, theta, posterior, data),
        traded_growth(unknowns, theta, posterior, data.turned.fit),
    )


def _growth(
    unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, data: TrainingSet
) -> LinearRate | RateInUnits | None:
    """Return g; where no mass was measured with the mean 0 over all snapshots."""
    if unknowns.rates is None:
        return None
    own = np.zeros(unknowns.size, dtype=bool)
    own[unknowns.growth] = True
    weights = unknowns.growth_weights(theta)
    errors = unknowns.growth_weights(posterior.factor(own))
    if data.masses is None:
        mean = _mean_values(unknowns.rates.features, data.turned.fit)
        weights[0], errors[0] = -mean @ weights[1:], -mean @ errors[1:]
    rate = LinearRate(unknowns.rates.features, torch.from_numpy(weights), torch.from_numpy(errors))
    rate.requires_grad_(False).to(data.device)
    if data.structure is not None and data.structure.frame is not None:
        return RateInUnits(rate, Units.of_frame(data.structure.frame))
    return rate


def _circulation(
    unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, data: TrainingSet
) -> LinearStream | StreamInUnits | None:
    streams = unknowns.streams
    if streams is None:
        return None
    own = np.zeros(unknowns.size, dtype=bool)
    own[unknowns.circulation] = True
    weights = unknowns.stream_weights(theta)
    spread = unknowns.stream_weights(posterior.factor(own))
    d = data.dim
    # One function, and an A; in the plane A is fixed, in more dimensions the function is.
    matrix, function = np.zeros((d, d)), weights[0]
    if d > 2:
        function = streams.mixing[0, :, 0]
        scale = float(function @ function)
    errors = np.zeros((d, d, *spread.shape[1:]))
    for (i, j), a, e in zip(streams.planes, weights, spread, strict=True):
        matrix[j, i] = 1.0 if d == 2 else float(a @ function) / scale
        errors[j, i] = e
        matrix[i, j], errors[i, j] = -matrix[j, i], -e
    stream = LinearStream(
        streams.features,
        torch.from_numpy(function.copy()),
        torch.from_numpy(matrix),
        torch.from_numpy(errors.reshape(d * d, *spread.shape[1:])),
    )
    stream.requires_grad_(False).to(data.device)
    if data.structure is not None and data.structure.frame is not None:
        return StreamInUnits(stream, Units.of_frame(data.structure.frame))
    return stream


def _mean_values(features: FeatureMap, snapshots: Sequence[Tensor]) -> np.ndarray:
    """Return the mean of each function over all snapshots, ``(m)``."""
    means = [features.values(x[:MOST].cpu()).mean(0, dtype=torch.float64) for x in snapshots]
    return torch.stack(means).mean(0).numpy()  # type: ignore[no-any-return]
