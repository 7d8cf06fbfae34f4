"""Bayesian linear regression whose prior strengths, one for each group, maximise the evidence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy.linalg import solve_triangular

from popdyn.estimation.linearised import Linearised

__all__ = [
    "Posterior",
    "Profile",
    "estimate",
    "extended",
    "freed",
    "maximise_evidence",
    "profiled",
    "weak_groups",
]

G = TypeVar("G", bound=Hashable)

ROUNDS = 40
CHANGE = 0.05  # of a strength, at which it counts as settled
SWITCHED_OFF = 1e-3  # unknowns that a group still determines, below which it is left out
MOST_ERRORS = 400  # directions in which a posterior's errors are kept
LEVEL = 1.645  # normal quantile of the 90 % interval that an error is asked to be right for
UNKNOWN = 1e-4  # of what an interval's end is divided by, below which it has none
NO_END = 100.0  # standard error then, in units of the data's spread² in an interval
FLAT = 1e4  # prior standard deviation of an unknown without a prior, in standard errors
FIRST = 100.0  # and of those of a group to begin with


@dataclass(frozen=True)
class Posterior:
    """The estimate.

    Attributes:
        mean: θ, ``(p,)``.
        covariance: Its covariance, ``(p, p)``.
        precision: The prior's, ``(p,)``; infinite where a group is switched off.
        strengths: Prior standard deviation of each group, 0 where it is switched off.
        determined: How many unknowns of each group the data determines.
        evidence: Log of the likelihood of the data under the prior, up to a constant.
    """

    mean: np.ndarray
    covariance: np.ndarray
    precision: np.ndarray
    strengths: dict[Any, float]
    determined: dict[Any, float]
    evidence: float = 0.0

    def precisions(self, groups: Sequence[G]) -> np.ndarray:
        """Return the prior's precision of unknowns of these groups, 0 of those without a prior."""
        sizes = np.array([self.strengths.get(name, np.inf) for name in groups])
        with np.errstate(divide="ignore"):
            return 1.0 / np.square(sizes)

    def factor(self, own: np.ndarray) -> np.ndarray:
        """Return F with F Fᵀ the covariance of some unknowns, the rest being 0, ``(p, r)``.

        Where they are many, the directions with the largest variance stand for all.
        """
        part = self.covariance[own][:, own]
        # All of them: LAPACK's way to some alone gives up where many are nearly equal.
        strengths, vectors = (x[..., -MOST_ERRORS:] for x in np.linalg.eigh(part))
        out = np.zeros((len(self.mean), len(strengths)))
        out[own] = vectors * np.sqrt(strengths.clip(0.0))
        return out


def maximise_evidence(
    system: Linearised,
    groups: Sequence[G],
    flat: Sequence[int] = (),
    off: Sequence[int] = (),
    root: tuple[np.ndarray, np.ndarray] | None = None,
    near: Posterior | None = None,
) -> Posterior:
    """Return the posterior at the prior strengths under which the data is most likely.

    The model is b = A θ + u, u ~ N(0, S), θ_j ~ N(0, s_g²) for j in group g. At the
    maximum |θ_g|² = s_g² γ_g, γ_g the number of unknowns of the group that the data determines.

    Args:
        system: A, b and S.
        groups: The group of each unknown.
        flat: Unknowns without a prior.
        off: Unknowns that are 0.
        root: That of the equations where it is known already.
        near: A posterior whose strengths are a good place to begin at.

    References:
        MacKay, Neural Computation 4 (1992) 415.
    """
    names = list(dict.fromkeys(g for j, g in enumerate(groups) if j not in flat and j not in off))
    member = np.array([-1 if g not in names else names.index(g) for g in groups])
    member[list(flat)] = -1
    member[list(off)] = -1
    inside = member >= 0
    # R has a row for each equation that says something, fewer than there are unknowns: with D the
    # prior's standard deviations (1 + D RᵀR D)⁻¹ = 1 − BᵀB, B = G^(−½) R D, G = 1 + R D² Rᵀ.
    R, z = root or system.root()
    # A unit that makes all numbers of order 1: the standard error of each unknown on its own.
    own = system.units(np.square(R).sum(0))
    unit = np.array([1.0 / np.mean(own[member == g] ** 2) for g in range(len(names))])
    variance = FIRST**2 * unit
    known = np.square([near.strengths.get(name, 0.0) if near else 0.0 for name in names])
    variance = np.where(known > 0.0, known, variance)
    determined = np.zeros(len(names))
    active = np.ones(len(names), dtype=bool)
    mean, covariance = np.zeros(len(groups)), np.zeros((len(groups), len(groups)))
    for _ in range(ROUNDS):
        scale = np.zeros(len(groups))
        scale[inside] = (np.sqrt(variance) * active)[member[inside]]
        scale[list(flat)] = FLAT / own[list(flat)]
        use = np.flatnonzero(scale)
        s = scale[use]
        scaled = R[:, use] * s
        gram = scaled @ scaled.T
        gram[np.diag_indices(len(gram))] += 1.0
        factor = np.linalg.cholesky(gram)
        B, y = (solve_triangular(factor, x, lower=True) for x in (scaled, z))
        mean[:] = 0.0
        mean[use] = s * (B.T @ y)
        mine = member[use][:, None] == np.flatnonzero(active)
        determined[active] = np.square(B).sum(0) @ mine  # what the data, not the prior, says
        size = np.square(mean[use]) @ mine / variance[active]
        # Fisher scoring in log s²: the gradient is ½(|θ_g|²/s_g² − γ_g).
        information = _information(B, mine)
        information[np.diag_indices(len(information))] += 1e-9 + 0.01 * determined[active]
        change = np.linalg.solve(information, size - determined[active]).clip(-2.0, 2.0)
        # A prior as wide as that is none, and a wider one is rounding.
        change = np.minimum(change, np.log(FLAT**2 * unit / variance)[active])
        variance[active] *= np.exp(change)
        active &= determined > SWITCHED_OFF
        if not len(change) or np.abs(change).max() < CHANGE:
            break
    covariance[np.ix_(use, use)] = s[:, None] * (np.eye(len(use)) - B.T @ B) * s
    determined[~active] = 0.0
    with np.errstate(divide="ignore"):
        prior = np.zeros(len(groups))
        prior[inside] = (1.0 / (variance * active))[member[inside]]
    prior[list(off)] = np.inf
    return Posterior(
        mean,
        covariance,
        prior,
        {name: float(np.sqrt(variance[g]) * active[g]) for g, name in enumerate(names)},
        {name: float(determined[g]) for g, name in enumerate(names)},
        0.5 * float(z @ z - y @ y) - float(np.log(np.diag(factor)).sum()),
    )


def _information(B: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """Return Fisher's information on the groups' log variances, ``(r, p), (p, g) → (g, g)``.

    It is tr(B_g B_gᵀ B_h B_hᵀ) = |B_gᵀ B_h|².
    """
    return mine.T @ np.square(B.T @ B) @ mine  # type: ignore[no-any-return]


def estimate(
    system: Linearised, groups: Sequence[G], flat: Sequence[int], off: Sequence[int]
) -> Posterior:
    """Return the posterior from the equations of those unknowns alone that take part.

    With noisy regressors A ≠ S, and the other unknowns' equations, though they hold, would bring
    more noise than they tell. Groups that the evidence switches off are left out as well, until
    none is.
    """
    count, flat_names = len(groups), {groups[j] for j in flat}
    out = set(off)
    while True:
        keep = [j for j in range(count) if j not in out]
        if not keep:
            nothing = dict.fromkeys(groups, 0.0)
            zero = np.zeros((count, count))
            return Posterior(np.zeros(count), zero, np.full(count, np.inf), nothing, nothing)
        names = [groups[j] for j in keep]
        square, part = np.ix_(keep, keep), system.restricted(np.array(keep))
        inner = [i for i, name in enumerate(names) if name in flat_names]
        posterior = maximise_evidence(part, names, inner)
        idle = {name for name, s in posterior.strengths.items() if s == 0.0}
        if not idle:
            break
        out |= {j for j in keep if groups[j] in idle}
    mean, covariance = np.zeros(count), np.zeros((count, count))
    precision = np.full(count, np.inf)
    mean[keep], covariance[square] = posterior.mean, posterior.covariance
    precision[keep] = posterior.precision
    strengths = {
        name: posterior.strengths.get(name, 0.0) for name in groups if name not in flat_names
    }
    determined = {name: posterior.determined.get(name, 0.0) for name in strengths}
    return Posterior(mean, covariance, precision, strengths, determined, posterior.evidence)


def freed(
    system: Linearised, posterior: Posterior, functional: np.ndarray, loose: float
) -> Posterior:
    """Return the posterior with a functional of θ free of what the prior does to it.

    A prior pulls V towards 0, and β has to make up for what V lacks; of all V and W that differ by
    their gauge it takes the smallest: biases that no standard error knows of. So such a functional
    is estimated with a wider prior, and the rest given that.

    Args:
        system: The normal equations.
        posterior: Their solution with the prior as it is.
        functional: ``(p,)``.
        loose: How many times as wide the prior is.
    """
    use = np.flatnonzero(np.isfinite(posterior.precision))
    part = system.restricted(use)
    precision, right = part.whitened()
    prior = np.maximum(
        posterior.precision[use] / loose**2, (part.units(np.diag(precision)) / FLAT) ** 2
    )
    wide = np.linalg.inv(precision + np.diag(prior))
    inside = functional @ posterior.covariance @ functional
    gain = posterior.covariance @ functional / inside
    move = functional[use] @ wide @ right - functional @ posterior.mean
    more = functional[use] @ wide @ functional[use] - inside
    return dataclasses.replace(
        posterior,
        mean=posterior.mean + gain * move,
        covariance=posterior.covariance + more * np.outer(gain, gain),
    )


@dataclass(frozen=True)
class Profile:
    """What equations say of one unknown that is not below 0, the others profiled out.

    Attributes:
        value: The estimate.
        variance: Its variance.
        signal: Share of the regressors' squares that is not noise.
    """

    value: float
    variance: float
    signal: float


def profiled(system: Linearised, precision: np.ndarray, j: int, now: float = 0.0) -> Profile:
    """Return unknown j with an error that knows how noisy its regressors are.

    Along v, what the others do where unknown j is moved, the data has b = a x + u. The noise u is
    that of the residuals, so it has another variance at another x: s + 2 s₁δ + s₂δ², δ = x − b/a.
    The values x that a test does not reject are (a δ)² ≤ z²(s + 2 s₁δ + s₂δ²): an interval without
    end where a² < z² s₂. The estimate is (b/a) a²/(a² + s₂), and by James and Stein's factor closer
    to 0 where it is not clearly above its own error; its standard error is such that z times it
    covers the interval on either side.

    Args:
        system: The normal equations.
        precision: The prior's, ``(p,)``; infinite for unknowns that are 0.
        j: The unknown; it has no prior.
        now: Its value where the equations say nothing of it: no end, or no regressor but noise.

    References:
        Anderson and Rubin, Ann. Math. Stat. 20 (1949) 46; Fieller, J. R. Stat. Soc. B 16 (1954)
        175; Stock and Wright, Econometrica 68 (2000) 1055: weak instruments.
    """
    use = np.flatnonzero(np.isfinite(precision) | (np.arange(len(precision)) == j))
    part = system.restricted(use)
    matrix, right = part.whitened()
    prior = np.where(use == j, 0.0, precision[use])
    covariance = np.linalg.inv(matrix + np.diag(prior + (part.units(np.diag(matrix)) / FLAT) ** 2))
    own = int(np.flatnonzero(use == j)[0])
    ratio, variance = float(covariance[own] @ right), float(covariance[own, own])
    along = np.zeros(len(precision))
    along[use] = covariance[own] / variance
    a, raw = float(along @ system.matrix @ along), float(along @ system.spread @ along)
    if a <= 0.0:
        return Profile(now, max(variance, NO_END**2), 0.0)
    # In units of a², so that s is the variance of b/a with its prior.
    first, second = (x / a**2 for x in system.noise(along)) if system.noise else (0.0, 0.0)
    value = max(0.0, ratio / (1.0 + second))
    value *= max(0.0, 1.0 - variance / value**2) if value > 0.0 else 0.0
    square = LEVEL**2
    lead = 1.0 - square * second
    if lead <= UNKNOWN:  # no end
        return Profile(now, max(variance, ratio**2, NO_END**2), a / raw)
    root = math.sqrt((square * first) ** 2 + lead * square * variance)
    most = ratio + (square * first + root) / lead
    least = max(0.0, ratio + (square * first - root) / lead)
    error = max(most - value, value - least, 0.0) / LEVEL
    return Profile(value, error**2, a / raw)


def extended(system: Linearised, rest: Posterior, value: float, variance: float) -> Posterior:
    """Return the posterior of all unknowns from that of all but the last, which is known so well.

    Args:
        system: The normal equations of all.
        rest: The others' posterior where the last has the value.
        value: The last unknown.
        variance: Its variance.
    """
    last = len(rest.mean)
    along = np.zeros(last + 1)
    along[last] = 1.0
    keep = np.flatnonzero(np.isfinite(rest.precision))
    if len(keep):
        moved = dataclasses.replace(system, right=-system.matrix[:, last]).restricted(keep)
        along[keep] = rest.covariance[np.ix_(keep, keep)] @ moved.whitened()[1]
    covariance = variance * np.outer(along, along)
    covariance[:last, :last] += rest.covariance
    return dataclasses.replace(
        rest,
        mean=np.append(rest.mean, value),
        covariance=covariance,
        precision=np.append(rest.precision, 0.0),
    )


def weak_groups(
    system: Linearised,
    groups: Sequence[G],
    flat: Sequence[int],
    least: Mapping[G, float],
) -> list[G]:
    """Return the groups that the data does not ask for.

    The group whose absence costs the least evidence goes first, as long as it costs less than it
    must earn.

    Args:
        system: The normal equations.
        groups: The group of each unknown.
        flat: Unknowns without a prior.
        least: What each group must earn, in natural units; the others stay.
    """
    root = system.root()
    full = maximise_evidence(system, groups, flat, (), root)
    gone: list[G] = []
    while True:
        # The absence of a group that is switched off already costs nothing.
        gone += [n for n in least if n not in gone and full.strengths.get(n, 0.0) == 0.0]
        trials = {}
        for name in [n for n in least if n not in gone]:
            off = [j for j, g in enumerate(groups) if g in gone or g == name]
            trials[name] = maximise_evidence(system, groups, flat, off, root, full)
        lacks = {n: least[n] - full.evidence + trial.evidence for n, trial in trials.items()}
        if not lacks or max(lacks.values()) <= 0:
            return gone
        name = max(lacks, key=lacks.__getitem__)
        gone.append(name)
        full = trials[name]
