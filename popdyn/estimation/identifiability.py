"""What the data can tell apart: V from W, V from β; said before anyone believes an estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import torch
from scipy.special import chdtrc

from popdyn.dynamics import FreeEnergy
from popdyn.estimation.trades import TRADED
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.features import FeatureMap, polynomials

__all__ = ["Diagnosis", "diagnose", "gauge_trade"]

PARTICLES = 20_000  # of each snapshot
NUMBERS = 20_000_000  # slopes at a time: fewer particles in many dimensions
# Standard errors above this are no knowledge, in units in which the data's own motion is about 1.
VAGUE = 0.25
NOTHING = 1e-6  # of the information with all else known, that counts as none
EQUAL = 1e-3  # p-value above which snapshots count as equal
WITNESSES = 1000  # particles of each snapshot at which forces are compared
HELP = "earlier snapshots, or a population that starts elsewhere, would tell"


@dataclass(frozen=True)
class Diagnosis:
    """What the data can tell apart; all numbers are dimensionless.

    Attributes:
        motion: χ² of equal moments at all times of an experiment, for each degree of freedom: 1
            in equilibrium.
        mean_shift: How far the mean moves, in standard deviations of the population.
        gauge_error: Standard error of c in V + ½c|x|², W − ½c|z|², times the data's time span;
            None unless both are learned.
        diffusivity_error: Standard error of β with V free, times the span, over the variance of a
            component; None unless β is learned.
        warnings: What cannot be told apart, why, and what data would tell.
    """

    motion: float
    mean_shift: float
    gauge_error: float | None = None
    diffusivity_error: float | None = None
    warnings: list[str] = field(default_factory=list)

    def numbers(self) -> dict[str, float]:
        """Return the numbers that are defined."""
        names = ("motion", "mean_shift", "gauge_error", "diffusivity_error")
        return {name: v for name in names if (v := getattr(self, name)) is not None}


def diagnose(data: TrainingSet, energies: Sequence[str], learns_diffusivity: bool) -> Diagnosis:
    """Say from the snapshots alone how well the energies can be told apart.

    V is taken as a polynomial and W as ½c|z|² in the moment equations of polynomials: what these
    cannot tell apart no richer family can.

    Args:
        data: The training set.
        energies: What is learned, of ``potential``, ``interaction`` and ``diffusion``.
        learns_diffusivity: Whether β is learned.
    """
    snapshots = [x[:PARTICLES].cpu() for x in data.fit]
    system = _System(snapshots, data)
    span = data.intervals.duration
    means = np.stack([x.double().mean(0).numpy() for x in snapshots])
    variance = np.mean([x.double().var(0).numpy() for x in snapshots], axis=0)
    shift = float(np.sqrt(np.square(means - means.mean(0)).sum(1).max() / variance.mean()))
    motion, p_value = system.equality()
    V, W = "potential" in energies, "interaction" in energies
    gauge = beta = None
    if V and W:
        gauge = span * system.standard_error("c", V, False, learns_diffusivity)
    if learns_diffusivity and (V or W):
        beta = span * system.standard_error("β", V, W, False) / float(variance.mean())
    warnings = []
    if p_value > EQUAL and sum((V, W, learns_diffusivity)) > 1:
        warnings.append(
            f"the snapshots are equal to their sampling noise (χ² {motion:.3g} for each degree of "
            "freedom of their moments, 1 in equilibrium): any energies that balance fit them; "
            + HELP
        )
    elif gauge is not None and gauge > VAGUE:
        warnings.append(
            f"V and W {_how(gauge)}: the mean moves by {shift:.2g} standard deviations, and "
            "V + ½c|x|² with W − ½c|z|² exerts the same force where it stays (c times the time "
            f"span is known to ± {gauge:.2g}); a population that starts to one side would tell "
            "(the total force is not affected)"
        )
    if p_value <= EQUAL and beta is not None and beta > VAGUE:
        warnings.append(
            f"V and β {_how(beta)}: the population hardly leaves equilibrium, where "
            f"V = −β log ρ for any β (β is known to ± {beta:.2g} of the variance over the time "
            f"span); {HELP}"
        )
    return Diagnosis(motion, shift, gauge, beta, warnings)


def gauge_trade(energy: FreeEnergy, data: TrainingSet, found: Diagnosis) -> dict[str, float]:
    """Return what V and W may exchange, if that is a good part of either, with its standard error.

    V + ½c(|x|² − 2x·m) with W − ½c|z|² exerts the same force as long as the mean stays at m: one c
    more or less of a standard error changes ∇V by c(x − m) and ∇W by −c z.

    Args:
        energy: What was learned.
        data: The training set, in the same units.
        found: What its snapshots tell apart.
    """
    if found.gauge_error is None:
        return {}
    error = found.gauge_error / data.intervals.duration
    squares = np.zeros((2, 2))  # of what c would add, and of what there is, for V and W
    for cells, t in zip(data.cells, data.times, strict=True):
        x: np.ndarray = cells[:WITNESSES].cpu().numpy()
        z = x - np.roll(x, 1, axis=0)
        forces = (
            np.asarray(energy.potential_gradient(x, t=float(t))),
            np.asarray(energy.interaction_gradient(z)),
        )
        for i, (added, own) in enumerate(zip((x - x.mean(0), z), forces, strict=True)):
            squares[i] += np.square(added).mean(), np.square(own).mean()
    uncertain = error**2 * squares[:, 0] > TRADED**2 * squares[:, 1]
    return {"potential, interaction": error} if uncertain.any() else {}


def _how(error: float) -> str:
    return "cannot be told apart" if error > 4 * VAGUE else "are told apart badly"


class _System:
    """Moment equations of polynomials, linear in a polynomial V, c and β."""

    def __init__(self, snapshots: Sequence[torch.Tensor], data: TrainingSet) -> None:
        scaling = data.scaling().cpu()
        dim = data.dim
        half = scaling.half_width
        degree = 4 if dim <= 3 else 2
        features = FeatureMap(scaling, polynomials(dim, half, degree, degree if dim <= 12 else 0))
        self.size = features.size
        rows = max(1000, NUMBERS // (dim * self.size))
        snapshots = [x[:rows] for x in snapshots]
        means, covariances, rates = [], [], []
        for x in snapshots:
            x = x.double()
            values = features.values(x)
            cut = len(x) // 2
            rates.append(np.stack([_rates(features, half) for half in (x[:cut], x[cut:])]))
            means.append(values.mean(0).numpy())
            covariances.append(np.atleast_2d(np.cov(values.numpy().T)) / len(x))
        self.means, self.covariances = np.stack(means), covariances
        self.sizes = [len(x) for x in snapshots]
        self.intervals = data.intervals
        K, q = len(self.intervals), self.size
        noise = np.zeros((K, q, K, q))
        for k, touching in enumerate(self.intervals.touching):
            for i in touching:
                noise[i, :, i] += covariances[k]
            if len(touching) > 1:
                i, j = touching
                noise[i, :, j] = noise[j, :, i] = -covariances[k]
        integrals = np.tensordot(self.intervals.quadrature(), np.stack(rates), 1)
        halves = np.moveaxis(integrals, 1, 0).reshape(2, K * q, -1)
        one, two = (_whiten(noise.reshape(K * q, K * q), half) for half in halves)
        self.information = 0.25 * (one + two).T @ (one + two)
        # The product of independent halves: sampling noise of the regressors tells nothing.
        self.unbiased = 0.5 * (one.T @ two + two.T @ one)

    def standard_error(self, of: str, potential: bool, gauge: bool, beta: bool) -> float:
        """Return the standard error of c or β with what else is unknown free."""
        c, b = self.size, self.size + 1
        own = c if of == "c" else b
        others = list(range(self.size)) if potential else []
        others += [c] if gauge and own != c else []
        others += [b] if beta and own != b else []
        A = self.information
        direction = np.zeros(len(A))
        direction[own] = 1.0
        if others:
            inner, cross = A[np.ix_(others, others)], A[others, own]
            size = 1.0 / np.sqrt(np.maximum(np.diag(inner), 1e-300))
            inner = inner * size[:, None] * size + 1e-9 * np.eye(len(others))
            direction[others] = -size * np.linalg.solve(inner, cross * size)
        known = float(direction @ self.unbiased @ direction)
        return 1.0 / math.sqrt(max(known, NOTHING * A[own, own]))

    def equality(self) -> tuple[float, float]:
        """Return χ² for each degree of freedom of an experiment's equal moments, its p-value."""
        # One covariance for all: those of single snapshots lean with their means.
        sizes = np.array(self.sizes, dtype=np.float64)
        each = zip(sizes, self.covariances, strict=True)
        pooled = sum(n * n * c for n, c in each) / sizes.sum()
        strengths, vectors = np.linalg.eigh(pooled)
        kept = strengths > 1e-9 * strengths[-1]
        values = self.means @ vectors[:, kept] / np.sqrt(strengths[kept])
        total = 0.0
        for own in self.intervals.experiments:
            away = values[own] - sizes[own] @ values[own] / sizes[own].sum()
            total += float(sizes[own] @ np.square(away).sum(1))
        freedom = len(self.intervals) * int(kept.sum())
        return total / freedom, float(chdtrc(freedom, total))


def _rates(features: FeatureMap, x: torch.Tensor) -> np.ndarray:
    """Return d/dt of the means of all functions by V's weights, c and β, ``(q, q + 2)``."""
    _, slopes = features.gradients(x)
    eye = torch.eye(x.shape[1], dtype=x.dtype).expand(len(x), -1, -1)
    away = (x - x.mean(0)).T[:, :, None]
    columns = (
        -torch.einsum("cnq,cnp->qp", slopes, slopes) / len(x),
        -(slopes * away).sum(0).mean(0)[:, None],
        features.contracted(x, eye).mean(0)[:, None],
    )
    return torch.cat(columns, 1).numpy()


def _whiten(noise: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return L⁻¹ of columns, the noise being L Lᵀ."""
    size = np.sqrt(np.maximum(np.diag(noise), 1e-300))
    scaled = noise / size[:, None] / size
    scaled[np.diag_indices(len(scaled))] += 1e-9
    factor = scipy.linalg.cholesky(scaled, lower=True)
    out: np.ndarray = scipy.linalg.solve_triangular(factor, columns / size[:, None], lower=True)
    return out
