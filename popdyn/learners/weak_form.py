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

from popdyn.energies import FreeEnergy
from popdyn.learners.checks import check_diffusivity, check_energies, check_least
from popdyn.learners.features import (
    Block,
    FeatureMap,
    gaussian_block,
    polynomials,
    turned_blocks,
)
from popdyn.learners.models import set_mean_zero
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.learners.training_set import TrainingSet
from popdyn.learners.weak_form_evidence import (
    Posterior,
    estimate,
    freed,
    maximise_evidence,
    weak_groups,
)
from popdyn.learners.weak_form_fields import fields_for
from popdyn.learners.weak_form_model import Unknowns
from popdyn.learners.weak_form_moments import Equations, Linearised, MomentEquations
from popdyn.learners.weak_form_terms import LinearPotential, RadialFeatures, RadialInteraction

__all__ = ["WeakFormOptions", "WeakFormSolution", "fit_weak_form", "solve_weak_form"]

EARNED, EARNED_NARROW = 8.0, 15.0  # nats
# More test functions tell more, and their noisy regressors cost more: with interaction and noise to
# be learned the standard errors are smallest around this many particles for each, and trustworthy.
PARTICLES_PER_TEST, LEAST_TESTS, TESTS_PER_COMPONENT = 125, 30.0, 6
# Where the data determines few unknowns, more tests than this for each tell nothing of β and bring
# it noise: β of `quadratic-0.5` was 20 % too large at N = 20 000.
TESTS_PER_KNOWN = 4.0
MOST = 100_000  # particles of each snapshot, in memory with all their features
MANY = 10_000  # particles of each snapshot, below which the narrowest groups have to earn more
SCREENED = 5000  # particles of each snapshot that say which groups take part
BEGUN = 2500  # and that do for a start with the coarse ones
# Standard errors of a step after which the next level may begin: the one after it is a tenth.
NEAR = 4.0
LOOSE = 3.0  # times the prior's width, at which β hardly feels it: 20 gives the same
# The gauge is known so badly that its prior is worth something: with 3 the skill of V was 0.972 in
# the reference case at N = 20 000, with 1.5 it is 0.990; with 1 c leans one way where W attracts.
LOOSE_GAUGE = 1.5
SETTLED = 0.1  # standard errors
FAR = 10.0  # χ² for each degree of freedom, above which linear equations say little yet
COARSE = (
    "polynomials of one component",
    "mixed polynomials",
    "bumps of width 0.6 in one component",
    "wide bumps",
)
LARGEST_TRIED = 1000  # unknowns up to which every group is tried without


@dataclass(frozen=True)
class WeakFormOptions:
    """Options of the weak form; all quantities are dimensionless.

    Attributes:
        energies: What is learned; the rest is 0 or fixed.
        diffusivity: β if it is known, else None: learned, or 0.
        time_varying: Whether V depends on time, by polynomials in it.
        degree: Highest degree of those.
        coarse: Gauss–Newton steps with polynomials, and as many with the coarse dictionary.
        fine: Most Gauss–Newton steps after that.
        tests: Largest number of test functions, but six for each component in any case.
        correct: Whether the bias of noisy regressors is taken off.
    """

    energies: tuple[str, ...] = ("potential",)
    diffusivity: float | None = None
    time_varying: bool = False
    degree: int = 3
    coarse: int = 3
    fine: int = 8
    tests: int = 200
    correct: bool = True

    def __post_init__(self) -> None:
        check_energies(self.energies)
        check_diffusivity(self.diffusivity)
        check_least(self, degree=1, coarse=1, fine=0, tests=2)


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
        trace: One record for each Gauss–Newton step.
        posterior: Estimate and covariance of all unknowns.
        unknowns: What they stand for.
    """

    potential: LinearPotential | None
    interaction: RadialInteraction | None
    diffusivity: float
    diffusivity_standard_error: float | None
    misfit: float
    determined: dict[str, float]
    trace: list[dict[str, float]] = field(default_factory=list)
    posterior: Posterior | None = None
    unknowns: Unknowns | None = None


def solve_weak_form(data: TrainingSet, options: WeakFormOptions) -> WeakFormSolution:
    """Solve E_{k+1} f = E_k f∘Φ_θ for V, W and β, for many test functions f and all intervals.

    Φ_θ is the flow of an interval itself, so no quadrature in time is involved. Polynomials, then
    a coarse dictionary give the start; one look with the whole dictionary says which of its groups
    the data asks for; Gauss–Newton steps with those give the solution.
    """
    snapshots = [
        torch.cat([a[:MOST], b])[:MOST].cpu()
        for a, b in zip(data.fit, data.validation, strict=True)
    ]
    smallest = min(len(x) for x in snapshots)
    start, coarse, fine = _levels(data, snapshots, options)
    trace: list[dict[str, float]] = []
    # A sum over components has some numbers for each of them, and the tests have to see them all.
    seen = min(TESTS_PER_COMPONENT * data.dim, smallest // 20)

    def equations(
        unknowns: Unknowns,
        tests: FeatureMap,
        strengths: dict[str, float] | None = None,
        particles: Sequence[Tensor] = snapshots,
        least: float = LEAST_TESTS,
        known: float = math.inf,
    ) -> MomentEquations:
        tests, weights = _weighted(tests, strengths)
        most = min(smallest / PARTICLES_PER_TEST, TESTS_PER_KNOWN * known if noisy else math.inf)
        count = max(min(options.tests, int(max(least, most))), seen)
        return MomentEquations(
            unknowns, tests, weights, particles, data.times, count, data.seed, options.correct
        )

    theta = np.zeros(start[0].size)
    every_narrow = [g for g in dict.fromkeys(fine[0].groups) if g not in coarse[0].groups]
    noisy = set(options.energies) & {"interaction", "diffusion"}
    few = snapshots if noisy else [x[:BEGUN] for x in snapshots]
    known = math.inf
    for level, after in ((start, coarse), (coarse, fine)):
        own = equations(*level, particles=few if level is coarse else snapshots, known=known)
        at, posterior, _ = _descend(own, theta, None, trace, options.coarse, NEAR)
        known = sum(posterior.determined.values())
        theta = _carried(level[0], at.theta, after[0])
    some = [x[:SCREENED] for x in snapshots]
    whole = equations(*fine, particles=some, least=smallest / 20)
    at = whole.evaluate(theta)
    system = whole.linearise(at, whole.jacobians(at))
    posterior, gone = _estimate(system, at, fine[0])
    far = system.misfit_after(posterior.mean - theta) > FAR * system.count
    gone = [name for name, s in posterior.strengths.items() if s == 0.0] + gone
    # Something has to be left, and β is no group: at 0 it may rise again.
    gone = [name for name in gone if name not in (fine[0].groups[0], "β")]
    before = at.theta
    # Where no narrow group has earned its place, the coarse solution is the better start.
    while True:
        narrow = [g for g in every_narrow if g not in gone]
        kept, theta = _without(fine[0], posterior.mean if narrow else before, gone)
        known = sum(posterior.determined.values())
        tests = (kept, fine[1], posterior.strengths)
        least = max(LEAST_TESTS, 1.3 * known)
        if far:
            own = equations(*tests, particles=few, least=least, known=known)
            at, posterior, _ = _descend(own, theta, posterior, trace, 2 * options.fine, 1.0)
            theta = at.theta
        final = equations(*tests, least=least, known=known)
        at, posterior, misfit = _descend(final, theta, posterior, trace, options.fine, SETTLED)
        # What the linear equations promised of narrow groups has to hold for the flow itself.
        if narrow:
            coarser = final.evaluate(_without(fine[0], before, gone)[1])
            gain = at.misfit(coarser.residuals) - at.misfit(at.residuals)
        if not narrow or gain >= 2.0 * EARNED_NARROW:
            return _solution(kept, at.theta, posterior, misfit, trace, data)
        gone = gone + narrow


def _flat(unknowns: Unknowns) -> list[int]:
    """Return the unknowns without a prior: β, whose ridge would be a bias."""
    return [unknowns.size - 1] if unknowns.diffusivity is None else []


def _estimate(system: Linearised, at: Equations, unknowns: Unknowns) -> tuple[Posterior, list[str]]:
    """Return the posterior of the linearised equations, and the groups that did not earn a place.

    Where the equations do not hold to their noise, as in the first steps, the noise is taken as
    that much larger: evidence would else pay for a model's faults with whatever it can get.
    """
    flat = _flat(unknowns)
    posterior = maximise_evidence(system, unknowns.groups, flat)
    known = sum(posterior.determined.values()) + len(flat)
    left = system.misfit_after(posterior.mean - at.theta) / max(1.0, system.count - known)
    system = system.dispersed(max(1.0, left))
    # Leaving out group by group costs a solve for each: too much for a potential in time as well.
    small = unknowns.size <= LARGEST_TRIED and left < FAR
    gone = weak_groups(system, unknowns.groups, flat, unknowns.least) if small else []
    off = [j for j, g in enumerate(unknowns.groups) if g in gone]
    posterior = estimate(system, unknowns.groups, flat, off)
    gauge = unknowns.gauge_functional(posterior.strengths)
    if gauge is not None:
        posterior = freed(system, posterior, gauge, LOOSE_GAUGE)
    if flat:
        posterior = freed(system, posterior, np.eye(unknowns.size)[-1], LOOSE)
    if flat and posterior.mean[-1] < 0:  # the boundary: solve for the rest at β = 0
        fixed = estimate(system, unknowns.groups, (), off + flat)
        posterior = _at_zero(posterior, fixed)
    return posterior, gone


def _descend(
    equations: MomentEquations,
    theta: np.ndarray,
    posterior: Posterior | None,
    trace: list[dict[str, float]],
    most: int,
    settled: float,
) -> tuple[Equations, Posterior, float]:
    """Do Gauss–Newton steps until one is no longer than so many standard errors."""
    at = equations.evaluate(theta)
    for _ in range(most):
        at, posterior, misfit = _step(equations, at, posterior, trace)
        if trace[-1]["step"] < settled:
            break
    return at, posterior, misfit


def _step(
    equations: MomentEquations,
    at: Equations,
    before: Posterior | None,
    trace: list[dict[str, float]],
) -> tuple[Equations, Posterior, float]:
    """Do a Gauss–Newton step, halved until misfit plus prior fall.

    The posterior before, if there is one, says how strong the prior is.
    """
    unknowns = equations.unknowns
    prior = before.precisions(unknowns.groups) if before is not None else None
    system = equations.linearise(at, equations.jacobians(at), prior)
    posterior, _ = _estimate(system, at, unknowns)
    step = posterior.mean - at.theta
    for halving in range(5):
        ahead = equations.evaluate(at.theta + step * 0.5**halving)
        # The solution is not quite where this is smallest: the noise of the regressors pulls that
        # towards 0. The search only has to keep a step from leaving the linear range.
        if _objective(ahead, at, posterior) <= 1.1 * _objective(at, at, posterior):
            break
    known = sum(posterior.determined.values()) + len(_flat(unknowns))
    # The whole step: one that had to be halved is small without having arrived.
    moved = float(np.sqrt(step @ system.spread @ step / max(known, 1.0)))
    freedom = max(1.0, system.count - known)
    trace.append({"misfit": system.misfit / freedom, "step": moved, "halvings": halving})
    return ahead, posterior, system.misfit / freedom


def _weighted(
    tests: FeatureMap, strengths: dict[str, float] | None
) -> tuple[FeatureMap, np.ndarray]:
    """Return combinations of the dictionary, each as large as the prior thinks V's share in it.

    The coarse groups are always among them, the fine ones where the prior has them.
    """
    if strengths is None or not any(strengths.values()):
        return tests, tests.mixing()[0]
    size = {name.removeprefix("V: "): s for name, s in strengths.items()}
    least = 0.1 * max(size.values())
    for name in COARSE:
        size[name] = max(size.get(name, 0.0), least)
    tests = FeatureMap(tests.scaling, [b for b in tests.blocks if size.get(b.group, 0.0) > 0.0])
    mixing, groups = tests.mixing()
    return tests, mixing * np.array([size[g] for g in groups])


def _without(
    unknowns: Unknowns, theta: np.ndarray, gone: Sequence[str]
) -> tuple[Unknowns, np.ndarray]:
    """Return the unknowns less some groups, and θ in them."""
    features = unknowns.features
    mixing = unknowns.mixing
    if features is not None:
        # A block stays with all its degrees in time as long as one of them is asked for.
        needed = {
            g.removeprefix("V: ").split(", degree ")[0] for g in unknowns.groups if g not in gone
        }
        gone = [g for g in gone if g.removeprefix("V: ").split(", degree ")[0] not in needed]
        blocks = [b for b in features.blocks if b.group in needed]
        features = FeatureMap(features.scaling, blocks)
        mixing, _ = features.mixing()
    stays = [j for j, g in enumerate(unknowns.groups) if g not in gone]
    radial_stays = [
        j
        for j in range(unknowns.radial_mixing.shape[1])
        if unknowns.groups[unknowns.potential.stop + j] not in gone
    ]
    return (
        dataclasses.replace(
            unknowns,
            features=features,
            mixing=mixing,
            radial_mixing=unknowns.radial_mixing[:, radial_stays],
            groups=tuple(unknowns.groups[j] for j in stays),
        ),
        theta[stays],
    )


def _objective(ahead: Equations, at: Equations, posterior: Posterior) -> float:
    """Return misfit plus prior of a state, with the noise and the prior held."""
    finite = np.isfinite(posterior.precision)
    prior = posterior.precision[finite] @ np.square(ahead.theta[finite])
    value = at.misfit(ahead.residuals) + float(prior)
    return value if math.isfinite(value) else math.inf


def _at_zero(free: Posterior, fixed: Posterior) -> Posterior:
    """Return the posterior at β = 0 with the standard error of the free β."""
    covariance = fixed.covariance.copy()
    covariance[-1, -1] = free.covariance[-1, -1]
    return Posterior(fixed.mean, covariance, fixed.precision, fixed.strengths, fixed.determined)


def _carried(before: Unknowns, theta: np.ndarray | None, after: Unknowns) -> np.ndarray:
    """Return the coarse solution in the unknowns of the fine level, which begin with its own."""
    assert theta is not None
    out = np.zeros(after.size)
    old = theta[before.potential].reshape(before.times, -1)
    out[after.potential].reshape(after.times, -1)[:, : old.shape[1]] = old
    own = theta[before.interaction]
    out[after.interaction][: len(own)] = own
    if after.diffusivity is None:
        out[-1] = theta[-1]
    return out


def _levels(
    data: TrainingSet, snapshots: Sequence[Tensor], options: WeakFormOptions
) -> list[tuple[Unknowns, FeatureMap]]:
    """Return the unknowns and the tests of three levels: polynomials, coarse and fine."""
    scaling = data.scaling().cpu()
    everything = torch.cat(list(snapshots))
    stride = max(1, len(everything) // 20_000)
    z = scaling.standardise(everything[::stride]).double().numpy()
    dim = z.shape[1]
    half = torch.maximum(scaling.low.abs(), scaling.high.abs())
    start: list[Block] = [*polynomials(dim, half, 4, 4 if dim <= 3 else 2 if dim <= 12 else 0)]
    coarse: list[Block] = []
    fine: list[Block] = []
    # Narrow functions are too many in high dimension, and for each degree in time as well: no
    # skill was gained by them there, and a fit took minutes.
    narrow = dim <= 12 and not options.time_varying
    for length, level in ((0.6, coarse), (0.25, fine), (0.1, fine)):
        if level is fine and not narrow:
            continue
        limit = 40 if dim <= 3 else min(12, max(4, 200 // dim))
        for c in range(dim):
            name = f"bumps of width {length:g} in one component"
            level.append(gaussian_block(z, [c], length, limit, name))
    if dim > 3:
        first, last = (scaling.standardise(snapshots[k]).double().numpy() for k in (0, -1))
        coarse += turned_blocks(first, last, z, (0.6, 0.2))
    if dim > 1:
        coarse.append(gaussian_block(z, range(dim), 0.6, 100, "wide bumps"))
        if narrow:
            fine.append(gaussian_block(z, range(dim), 0.3, 250, "narrow bumps"))
    learned = "interaction" in options.energies
    radial, distances = _radial(snapshots, data.seed) if learned else ([], np.zeros(0))
    out = []
    for n, blocks in enumerate((start, start + coarse, start + coarse + fine)):
        tests = FeatureMap(scaling, blocks)
        own = radial[n // 2] if radial else None
        fields = fields_for(own, everything.amin(0), everything.amax(0)) if own else None
        out.append((_unknowns(tests, own, distances, fields, data, options), tests))
    # A narrow group has many members, and the more tests, the less well is the noise's covariance
    # known: it has to earn more than its place.
    # Polynomials of the distance are what V and W can exchange where the mean hardly moves: W has
    # them if the data says so.
    wide = [
        g
        for g in dict.fromkeys(out[1][0].groups)
        if g.startswith(("V: bumps", "V: wide", "W: polynomials"))
    ]
    least = dict.fromkeys(wide, EARNED)
    fewest = min(len(x) for x in snapshots)
    for g in dict.fromkeys(out[2][0].groups):
        if g not in out[1][0].groups:
            least[g] = EARNED_NARROW
            if "0.1" in g or "narrow" in g:
                least[g] *= max(1.0, (MANY / fewest) ** 0.6)
    return [
        (
            dataclasses.replace(
                unknowns, least={g: v for g, v in least.items() if g in unknowns.groups}
            ),
            tests,
        )
        for unknowns, tests in out
    ]


def _unknowns(
    features: FeatureMap,
    radial: RadialFeatures | None,
    distances: np.ndarray,
    fields: Any,
    data: TrainingSet,
    options: WeakFormOptions,
) -> Unknowns:
    learned = options.energies
    times = 1
    if options.time_varying:
        times = 1 + min(options.degree, len(data.times) - 2)
    mixing, names = features.mixing() if "potential" in learned else (np.zeros((0, 0)), [])
    groups = [
        f"V: {name}" if m == 0 else f"V: {name}, degree {m} in time"
        for m in range(times)
        for name in names
    ]
    radial_mixing, gauge = np.zeros((0, 0)), np.zeros(0)
    if radial is not None:
        r = torch.from_numpy(distances)
        gauge = (2.0 * r.square() @ radial.slopes(r) / r.square().sum()).numpy()
        radial_mixing, own = radial.mixing()
        groups += [f"W: {name}" for name in own]
    beta = options.diffusivity
    if "diffusion" in learned and beta is None:
        groups.append("β")
    else:
        beta = beta or 0.0
    return Unknowns(
        features if "potential" in learned else None,
        mixing,
        times,
        (float(data.times[0]), float(data.times[-1])),
        radial,
        radial_mixing,
        gauge,
        fields,
        beta,
        tuple(groups),
    )


def _radial(snapshots: Sequence[Tensor], seed: int) -> tuple[list[RadialFeatures], np.ndarray]:
    """Return the radial functions of the coarse and of the fine level, and distances of pairs."""
    rng = np.random.default_rng([seed, 4])
    found = []
    for x in snapshots:
        pairs = rng.integers(len(x), size=(2, 1 + 20_000 // len(snapshots)))
        found.append((x[pairs[0]] - x[pairs[1]]).double().norm(dim=1).numpy())
    distance = np.concatenate(found)
    reach = float(np.quantile(distance, 0.999))
    wide, narrow = reach / 8.0, reach / 20.0
    centers = [np.arange(9) * wide, np.arange(11) * narrow]
    widths = [np.full(9, wide), np.full(11, narrow)]
    own = [
        RadialFeatures(
            reach,
            torch.from_numpy(np.concatenate(centers[:n])),
            torch.from_numpy(np.concatenate(widths[:n])),
        )
        for n in (1, 2)
    ]
    return own, distance


def _solution(
    unknowns: Unknowns,
    theta: np.ndarray,
    posterior: Posterior,
    misfit: float,
    trace: list[dict[str, float]],
    data: TrainingSet,
) -> WeakFormSolution:
    V = W = None
    if unknowns.features is not None:
        weights = torch.from_numpy(unknowns.potential_weights(theta))
        errors = torch.from_numpy(
            unknowns.potential_weights(posterior.factor(unknowns.potential))
        )
        V = LinearPotential(unknowns.features, weights, unknowns.span, errors)
        V.requires_grad_(False)
        V.to(data.device)
        set_mean_zero(V, data.fit, [float(t) for t in data.times])
    if unknowns.radial is not None:
        kernel = torch.from_numpy(unknowns.interaction_weights(theta))
        errors = unknowns.interaction_weights(posterior.factor(unknowns.interaction))
        W = RadialInteraction(unknowns.radial, kernel, torch.from_numpy(errors))
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
    )


def fit_weak_form(data: TrainingSet, options: WeakFormOptions, place: Workplace) -> Run:
    """Fit a free energy to the training set; see :func:`popdyn.fit`."""
    solution = solve_weak_form(data, options)
    energy = FreeEnergy(solution.potential, solution.interaction, solution.diffusivity)
    energy.diffusivity_standard_error = solution.diffusivity_standard_error
    certificate = {"misfit": solution.misfit, "determined": solution.determined}
    return Run(
        energy,
        "weak_form",
        {},
        [{"step": i + 1, **record} for i, record in enumerate(solution.trace)],
        certificate,
        steps=len(solution.trace),
    )
