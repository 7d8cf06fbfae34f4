"""Carried particles against the next snapshot: one statistic, one p-value, one explained share.

Particles of snapshot k are carried through interval k by the dynamics that is judged, and compared
with the particles of snapshot k + 1 by the means of waves cos(ω·z + φ), which are no functions that
an energy here is made of. With u = f(x), less f of where x is carried to, a particle of snapshot j
has one number for every f and both of its intervals, and so the covariance C of all differences
R = (R_0 … R_{K−1}) is that of a mean of independent vectors in each snapshot, for any counts and
intervals, with nothing trained. Only strong attraction makes particles so dependent that the level
suffers (``docs/verdict.md``).

The statistic is a Bayes factor's quadratic form, T = Rᵀ[C⁻¹ − (C + cS)⁻¹]R, where S is the
covariance that R would have if the drift were wrong by a random gradient field, most of it the same
in all intervals: the smooth and lasting misfits weigh most, and those that noise hides nothing. c
is the size at which T has ``FREEDOM`` degrees of freedom. Under the truth T is a sum Σ w χ²₁, whose
p-value Pearson's three moments give. The form is made with the covariance of one half of the
particles, and the moments of the weights come from the other half, the second one from its two
quarters: a form that was made for the errors of its own covariance would find them again.

The share is 1 − D²(carried, next)/D²(not moved, next), D² = Σ_k R_kᵀG_k⁻¹R_k/τ_k less its noise,
G = E ∇f∇fᵀ: to first order in τ, the action ∫E|v|²dt of the gradient field v that is left over, and
of the motion that there was, as far as waves resolve them.

References:
    Imhof, Biometrika 48 (1961) 419, on Pearson's three moments. Benamou and Brenier, Numer. Math.
    84 (2000) 375. Chwialkowski et al., NeurIPS 28 (2015) 1981, on random features in such tests.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from scipy.optimize import brentq
from scipy.special import fdtrc, ndtri

from popdyn.base.intervals import Intervals
from popdyn.dynamics import Dynamics
from popdyn.dynamics.drive import Drive
from popdyn.simulation import advance

__all__ = ["LEAST", "Comparison", "carried", "compare"]

WAVES = 120  # drawn; combinations of them that a sample can tell apart are used
FUNCTIONS = 60
PARTICLES_PER_FUNCTION = 8
LEAST = 40  # particles of each snapshot, below which the level was seen to be wrong
# Wavenumbers, in units of the inverse robust spread of a component: from what is nearly linear over
# a population to four waves across it.
SLOW, FAST = 0.3, 6.0
FREEDOM = 24.0
LASTING = 0.77  # share of the prior variance that is the same in all intervals
RESOLVED = 1e-3  # of the variance of the strongest combination of waves
# Of the mean variance, added to every direction: a sum of waves that all but some outliers leave
# alone has a variance that a sample doesn't know.
RIDGE = 0.3
SUBSTEPS = 20
# Of an interacting population, whose steps are dear, as many as its stiffness asks for: a step of
# Heun's over so much of it is off by its cube over six, a few thousandths of how far it leads.
FEWEST, STIFF = 5, 0.2
TOGETHER = 500  # particles of one interacting population: pairs cost their square
# Particles that the form is made by, and two quarters that say what it is worth.
PARTS = (slice(0, None, 2), slice(1, None, 4), slice(3, None, 4))
TAIL, TINY = 1e-300, 1e-16  # a p-value is neither below nor 1 less than this


@dataclass(frozen=True)
class Comparison:
    """Carried particles against the next snapshots.

    Attributes:
        p_value: Of the hypothesis that the carried and the observed have the same laws.
        particles: Particles that were compared, all snapshots together.
        share: 1 − what is left of the motion over what there was, None where there was none.
        share_error: Its standard error.

    Example:
        >>> Comparison(p_value=0.4, particles=1000, share=0.97, share_error=0.02).p_value
        0.4
    """

    p_value: float
    particles: int
    share: float | None = None
    share_error: float | None = None

    @property
    def statistic(self) -> float:
        """The p-value as a standard normal number z, N(0, 1) under the truth."""
        return float(-ndtri(min(max(self.p_value, TAIL), 1.0 - TINY)))


def carried(
    energy: Dynamics,
    snapshots: Sequence[np.ndarray],
    times: np.ndarray,
    seed: int,
    weights: list[np.ndarray] | None = None,
    starts: tuple[int, ...] = (0,),
) -> list[np.ndarray]:
    """Return the particles of each snapshot but an experiment's last at the next one's time.

    With an interaction, particles are dealt to populations of at most ``TOGETHER`` that do not feel
    each other.

    Args:
        energy: What carries them.
        snapshots: One ``(n_k, d)`` for each time.
        times: Times ``(S)``.
        seed: Seeds the noise where β > 0.
        weights: Gets what each of them weighs there, ``(n_k)`` with mean 1, for each snapshot;
            None: growth is left out.
        starts: Index of the first snapshot of each experiment.

    Returns:
        One ``(n_k, d)`` for each interval.

    Example:
        >>> from popdyn.dynamics import FreeEnergy
        >>> x = np.ones((5, 2))
        >>> (later,) = carried(FreeEnergy("quadratic"), [x, x], np.array([0.0, 1.0]), seed=0)
        >>> later.shape, bool((later < x).all())
        ((5, 2), True)
    """
    generator = torch.Generator().manual_seed(seed)
    out = []
    for k in Intervals(times, starts).before:
        x = snapshots[k]
        count = max(1, round(len(x) / TOGETHER)) if energy.interacting else 1
        parts, heavy = [], []
        steps = _substeps(energy, x, float(times[k]), float(times[k + 1]))
        for part in np.array_split(x, count):
            start = torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32))
            log_weight = None
            if weights is not None:
                log_weight = torch.zeros(len(part), dtype=torch.float64)
                heavy.append(log_weight)
            y = advance(
                energy,
                start,
                float(times[k]),
                float(times[k + 1]),
                substeps=steps,
                generator=generator,
                log_weight=log_weight,
            )
            parts.append(y.numpy())
        out.append(np.concatenate(parts))
        if weights is not None:
            weights.append(torch.cat(heavy).softmax(0).numpy() * len(x))
    return out


@torch.no_grad()
def _substeps(energy: Dynamics, x: np.ndarray, start: float, stop: float) -> int:
    # Where β depends on the state the scheme is no Heun's.
    if not energy.interacting or energy.beta is None:
        return SUBSTEPS
    some = torch.from_numpy(np.ascontiguousarray(x[:TOGETHER], dtype=np.float32))
    wanted = (stop - start) * Drive(energy).stiffness(some, start, stop - start) / STIFF
    # What is no number is no reason for fewer.
    return max(FEWEST, math.ceil(wanted)) if wanted < SUBSTEPS else SUBSTEPS


def compare(
    snapshots: Sequence[np.ndarray],
    moved: Sequence[np.ndarray],
    times: np.ndarray,
    *,
    seed: int = 0,
    paired: bool | tuple[bool, ...] = False,
    share: bool = True,
    weights: Sequence[np.ndarray] | None = None,
    starts: tuple[int, ...] = (0,),
) -> Comparison:
    """Compare carried particles with the next snapshots.

    Args:
        snapshots: Particles that the dynamics was not fitted to, ``(n_k, d)`` for each time.
        moved: Where those of each snapshot but the last are carried to, row by row: one for each
            interval.
        times: Times ``(S)``.
        seed: Draws the waves.
        paired: Whether row i is the same particle at all times, of all experiments or of each. Then
            one half of them is looked at in every other snapshot, and the other half in the others,
            so that no particle is compared with itself; all that one says is one number.
        share: Whether the explained share is computed, too.
        weights: Of what is carried, ``(n_k)`` with mean 1 for each interval: what is seen are
            proportions. None: all weigh the same.
        starts: Index of the first snapshot of each experiment; no other is compared with the one
            before.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = [rng.normal(size=(500, 2)) for _ in range(3)]
        >>> bool(compare(x, x[:-1], np.arange(3.0)).p_value > 0.01)
        True
        >>> bool(compare(x, [y + 0.5 for y in x[:-1]], np.arange(3.0)).p_value < 1e-6)
        True
    """
    rng = np.random.default_rng([seed, 0x7E57])
    intervals = Intervals(times, starts)
    flags = np.broadcast_to(paired, len(starts))
    kept = [slice(None)] * len(snapshots)
    for own, flag in zip(intervals.experiments, flags, strict=True):
        half = len(snapshots[own.start]) // 2
        for j in range(own.start, own.stop) if flag else ():
            kept[j] = (slice(0, half), slice(half, 2 * half))[j % 2]
    snapshots = [x[rows] for x, rows in zip(snapshots, kept, strict=True)]
    before = [kept[k] for k in intervals.before]
    moved = [y[rows] for y, rows in zip(moved, before, strict=True)]
    weights = weights and [w[rows] for w, rows in zip(weights, before, strict=True)]
    smallest = min(len(x) for x in snapshots)
    tau = intervals.tau / intervals.tau.mean()
    pooled = np.concatenate([x[:4000] for x in snapshots]).astype(np.float64)
    most = min(FUNCTIONS, max(6, smallest // PARTICLES_PER_FUNCTION))
    waves = _Waves.draw(pooled, rng).resolved(pooled, most)
    pushes = [waves.metric(snapshots[k]) for k in intervals.before]
    assert waves.basis is not None
    metrics = [G @ waves.basis for G in pushes]
    here = [waves(x) for x in snapshots]
    there = [waves(y) for y in moved]
    if weights is not None:
        there = [_weighted(f, w) for f, w in zip(there, weights, strict=True)]
    still = [here[k] for k in intervals.before]
    parts, R = _moments(here, [there, still] if share else [there], intervals, flags)
    own = slice(0, len(tau) * len(metrics[0]))
    p = _p_value(R[own], parts[:, own, own], _prior(pushes, tau), smallest - 1)
    particles = sum(len(x) for x in snapshots)
    if not share:
        return Comparison(p, particles)
    C = 0.5 * parts[0] + 0.25 * (parts[1] + parts[2])
    return Comparison(p, particles, *_explained(R, C, metrics, tau))


@dataclass(frozen=True)
class _Waves:
    """cos(ω·z + φ)/|ω| of standardised components z, or combinations of these."""

    middle: np.ndarray
    scale: np.ndarray
    wavevectors: np.ndarray
    phases: np.ndarray
    basis: np.ndarray | None = None

    @classmethod
    def draw(cls, x: np.ndarray, rng: np.random.Generator) -> _Waves:
        """Draw waves along single components, in planes of two, and in all directions in turn."""
        low, middle, high = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
        spread = np.where(high > low, (high - low) / 1.349, x.std(0))
        d = x.shape[1]
        w = rng.standard_normal((WAVES, d))
        for i in range(WAVES):
            kept = (d, 1, min(2, d))[i % 3]
            w[i, rng.permutation(d)[kept:]] = 0.0
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        even = (np.arange(WAVES) + rng.random(WAVES)) / WAVES
        w *= (SLOW * (FAST / SLOW) ** rng.permutation(even))[:, None]
        scale = np.where(spread > 0, spread, np.inf)  # a constant component says nothing
        return cls(middle, scale, w, 2.0 * np.pi * rng.random(WAVES))

    def resolved(self, x: np.ndarray, most: int) -> _Waves:
        """Return the combinations that vary most over ``x``, each with variance 1."""
        variance, axes = np.linalg.eigh(np.cov(self(x).T))
        kept = np.arange(len(variance))[::-1][:most]
        kept = kept[variance[kept] > RESOLVED * variance[-1]]
        return dataclasses.replace(self, basis=axes[:, kept] / np.sqrt(variance[kept]))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        out: np.ndarray = np.cos(self._angles(x))
        out = out / np.linalg.norm(self.wavevectors, axis=1)
        return out.astype(np.float64) if self.basis is None else out @ self.basis

    def metric(self, x: np.ndarray) -> np.ndarray:
        """Return the mean of ∇f∇gᵀ over ``x``, f the combinations and g the waves themselves."""
        slopes = np.sin(self._angles(x))
        unit = self.wavevectors / np.linalg.norm(self.wavevectors, axis=1, keepdims=True)
        gram = ((slopes.T @ slopes).astype(np.float64) / len(x)) * (unit @ unit.T)
        return gram if self.basis is None else self.basis.T @ gram

    def _angles(self, x: np.ndarray) -> np.ndarray:
        z = ((x - self.middle) / self.scale).astype(np.float32)
        angles: np.ndarray = z @ self.wavevectors.T.astype(np.float32)
        return angles + self.phases.astype(np.float32)


def _weighted(f: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return what has the weighted mean of f and, to first order, the noise of that ratio."""
    w = (w / w.mean())[:, None]
    mean = (w * f).mean(0)
    out: np.ndarray = mean + w * (f - mean)
    return out


def _moments(
    here: Sequence[np.ndarray],
    carried_by: Sequence[Sequence[np.ndarray]],
    intervals: Intervals,
    paired: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance of R from a half and two quarters, ``(3, r, r)``, and R ``(r)``.

    R has K blocks of m for each dynamics.
    """
    K, m = len(intervals), here[0].shape[1]
    size = len(carried_by) * K * m
    R, C = np.zeros(size), np.zeros((len(PARTS), size, size))
    for own, flag in zip(intervals.experiments, paired, strict=True):
        whole = np.zeros((2, len(here[own.start]), size)) if flag else None
        for j in range(own.start, own.stop):
            columns, where = [], []
            for i, there in enumerate(carried_by):
                for k in intervals.touching[j]:
                    columns.append(here[j] if intervals.after[k] == j else -there[k])
                    where.append(i * K + k)
            u = np.concatenate(columns, 1)
            at = np.concatenate([np.arange(b * m, (b + 1) * m) for b in where])
            R[at] += u.mean(0)
            if whole is not None:
                whole[j % 2][:, at] += u
            else:
                for i, part in enumerate(PARTS):
                    C[i][np.ix_(at, at)] += np.cov(u[part].T) / len(u)
        if whole is not None:
            for i, part in enumerate(PARTS):
                C[i] += sum(np.cov(u[part].T) / len(u) for u in whole)
    return C, R


def _prior(pushes: Sequence[np.ndarray], tau: np.ndarray) -> np.ndarray:
    """Return the covariance of R under a random gradient field, part of it lasting.

    Its potential is a sum of waves cos(ω·z + φ)/|ω|, as strong at every length.
    """
    m = len(pushes[0])
    J = np.concatenate([t * G for t, G in zip(tau, pushes, strict=True)])
    S: np.ndarray = LASTING * (J @ J.T)
    for k in range(len(tau)):
        own = slice(k * m, (k + 1) * m)
        S[own, own] += (1.0 - LASTING) * J[own] @ J[own].T
    return S


def _p_value(R: np.ndarray, parts: np.ndarray, S: np.ndarray, freedom: int) -> float:
    made, *others = parts
    made = made + RIDGE * np.diag(made).mean() * np.eye(len(made))
    s, U = scipy.linalg.eigh(S, made, driver="gvd")
    s = np.maximum(s, 1e-12 * s[-1])
    want = min(FREEDOM, 0.5 * len(s))

    def excess(log_size: float) -> float:
        scaled = np.exp(log_size) * s
        return float((scaled / (1.0 + scaled)).sum()) - want

    middle = -math.log(s[-1])
    scaled = math.exp(brentq(excess, middle - 60.0, middle + 60.0)) * s
    w = scaled / (1.0 + scaled)
    form = U * np.sqrt(w)
    T = float(np.square(form.T @ R).sum())
    one, two = (form.T @ C @ form for C in others)
    # Where the quarters differ by more than Fisher's law allows for, rare outliers make the noise,
    # and the one that holds them is right.
    c1 = max(float(np.trace(one)), float(np.trace(two)))
    w = w * (c1 / w.sum())
    # The weights are at least as uneven as the half says that made the form.
    least, c3 = float((w**2).sum()), float((w**3).sum())
    c2 = max(least, float((one * two).sum()))
    h = c2**3 / (c3 * (c2 / least) ** 2) ** 2
    y = (T - c1) * math.sqrt(h / c2) + h
    # The covariance has errors of its own: Fisher's law in place of χ².
    return max(TAIL, float(fdtrc(h, freedom, max(y, 0.0) / h)))


def _explained(
    R: np.ndarray, C: np.ndarray, metrics: Sequence[np.ndarray], tau: np.ndarray
) -> tuple[float | None, float | None]:
    """Return the explained share and its standard error, from R by the dynamics and by none."""
    half = len(R) // 2
    m = len(metrics[0])
    M = np.zeros((half, half))
    for k, (G, t) in enumerate(zip(metrics, tau, strict=True)):
        own = slice(k * m, (k + 1) * m)
        ridge = RIDGE * np.diag(G).mean() * np.eye(m)
        M[own, own] = np.linalg.inv(G + ridge) / t

    def squared(r: np.ndarray, c: np.ndarray) -> float:
        return float(r @ M @ r - (M * c).sum())

    def variance(N: np.ndarray, r: np.ndarray, c: np.ndarray) -> float:
        NC = N @ c
        noise = 2.0 * float((NC * NC.T).sum())
        # 4 rᵀNCNr holds the noise of r as well, twice over.
        return max(4.0 * float(r @ NC @ N @ r) - noise, noise)

    left = squared(R[:half], C[:half, :half])
    there = squared(R[half:], C[half:, half:])
    if there < 3.0 * math.sqrt(max(0.0, variance(M, R[half:], C[half:, half:]))):
        return None, None
    N = scipy.linalg.block_diag(-M / there, left / there**2 * M)
    spread = variance(N, R, C)
    if spread <= 0.0:  # too few particles to know their covariance: no share without its error
        return None, None
    return 1.0 - left / there, math.sqrt(spread)
