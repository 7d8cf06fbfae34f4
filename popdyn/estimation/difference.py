"""Whether experiments that were fitted together have the same dynamics: one test, one p-value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.special import fdtrc

from popdyn.estimation.linearised import Linearised
from popdyn.estimation.moments import MomentEquations
from popdyn.estimation.solution import WeakFormSolution
from popdyn.estimation.training_set import TrainingSet
from popdyn.estimation.weak_form import particles_of

__all__ = ["Difference", "difference"]

DIFFERENCE = 0.1  # of what the energies are thought to be: how large a difference the test is for
RESOLVED = 1e-9  # of the largest variance
STRONG = 10.0  # standard errors that unknowns may differ by where the prior has none


@dataclass(frozen=True)
class Difference:
    """The test that all experiments have one dynamics.

    Attributes:
        p_value: Of the hypothesis that they have.
        freedom: Degrees of freedom of the statistic T.
    """

    p_value: float
    freedom: float


def difference(data: TrainingSet, solution: WeakFormSolution, correct: bool = True) -> Difference:
    """Test whether the experiments of a training set have the dynamics that was fitted to all.

    At the common solution experiment e has the equations g_e = A_e u_e + noise of covariance S_e,
    where u_e is what its own unknowns are off by. If all u_e are one u, whatever that is, the part
    of g = (g_1, …) that no u makes is noise alone. Against it stand differences of a tenth of what
    the prior thinks the unknowns are, c = 0.01: with these the penalised χ² of separate fits that
    start from the common one is lower by T = gᵀ[C⁻¹ − (C + cD)⁻¹]g, a sum Σ w χ²₁ under the
    hypothesis, whose p-value Pearson's three moments give. Without the prior, c → ∞, it is the
    χ² difference with as many degrees of freedom as unknowns; but most of these are known badly.
    What the data knows best is how strong the whole drift is, so that u_e = ε_e θ is tried by
    itself, too, and the smaller p-value counts as that of two (Šidák).

    Args:
        data: The training set, in units of its own.
        solution: The weak form's solution for all of it.
        correct: Whether the bias of noisy regressors is taken off.

    References:
        Imhof, Biometrika 48 (1961) 419, on Pearson's three moments.
    """
    unknowns, posterior = solution.unknowns, solution.posterior
    assert unknowns is not None
    assert posterior is not None
    assert solution.tests is not None
    tests, weights, count = solution.tests
    theta = posterior.mean
    systems, smallest = [], np.inf
    for part in data.turned.experiments():
        particles = particles_of(part)
        smallest = min(smallest, *(len(x) for x in particles))
        own = MomentEquations(
            unknowns, tests, weights, particles, part.intervals, count, data.seed, correct
        )
        at = own.evaluate(theta)
        systems.append(own.linearise(at, own.jacobians(at), posterior.precision))
    use = np.flatnonzero(np.isfinite(posterior.precision))
    if not len(use):  # what cancels in the common fit: nothing that is learned is too little
        use = np.arange(len(theta))
    size = _sizes(systems, posterior.precision, theta)[use]
    own_part = [dataclasses.replace(s.restricted(use), score=s.score[use]) for s in systems]
    return _tested(own_part, theta[use], size, float(smallest) - 1.0)


def _sizes(systems: Sequence[Linearised], precision: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return how large each unknown is thought to be, ``(p,)``: by its prior, else its value."""
    known = sum(np.diag(s.spread) for s in systems)
    error = 1.0 / np.sqrt(np.maximum(known, 1e-300))
    with np.errstate(divide="ignore"):
        prior = 1.0 / np.sqrt(precision)
    # Of β, which has no prior, its own value.
    own = np.where(precision == 0.0, np.maximum(np.abs(theta), error), STRONG * error)
    return np.where(np.isfinite(precision) & (precision > 0.0), prior, own)


def _tested(
    systems: Sequence[Linearised], theta: np.ndarray, size: np.ndarray, freedom: float
) -> Difference:
    rows, columns, left, count = [], [], 0.0, 0.0
    for s in systems:
        g = s.right - s.matrix @ theta
        scale = 1.0 / np.sqrt(np.maximum(np.diag(s.spread), 1e-300))
        strengths, vectors = np.linalg.eigh(s.spread * scale[:, None] * scale)
        kept = strengths > RESOLVED * strengths[-1]
        root = (vectors[:, kept] / np.sqrt(strengths[kept])).T * scale
        rows.append(root @ g)
        columns.append(root @ s.matrix * size)
        # What is left of χ² when the experiment is fitted alone: a model that lacks something has
        # noise of that much more.
        own = columns[-1].T @ columns[-1] * DIFFERENCE**2 + np.eye(len(size))
        step = DIFFERENCE**2 * size * np.linalg.solve(own, columns[-1].T @ rows[-1])
        left += s.misfit - 2.0 * step @ s.score + step @ s.spread @ step
        count += s.freedom
    known = sum(np.trace(_shrunk(c)) for c in columns)
    worse = max(1.0, left / max(1.0, count - known))
    g, common = np.concatenate(rows), np.concatenate(columns)
    basis = scipy.linalg.orth(common, rcond=1e-8)
    alone = scipy.linalg.block_diag(*columns)
    alone = alone - basis @ (basis.T @ alone)
    vectors, sizes, _ = np.linalg.svd(alone, full_matrices=False)
    w = np.square(DIFFERENCE * sizes) / worse
    w = w / (1.0 + w)
    T = float(w @ np.square(vectors.T @ g)) / worse
    c1, c2, c3 = (float((w**i).sum()) for i in (1, 2, 3))
    if c3 <= 0.0:  # no experiment says anything of what is learned
        return Difference(1.0, 0.0)
    h = c2**3 / c3**2
    y = (T - c1) * np.sqrt(h / c2) + h
    p = float(fdtrc(h, freedom, max(y, 0.0) / h))
    stronger = scipy.linalg.block_diag(*(c @ (theta / size)[:, None] for c in columns))
    stronger = scipy.linalg.orth(stronger - basis @ (basis.T @ stronger), rcond=1e-6)
    if k := stronger.shape[1]:
        square = float(np.square(stronger.T @ g).sum()) / worse
        p = min(p, float(fdtrc(k, freedom, square / k)))
        p *= 2.0 - p
    return Difference(p, h)


def _shrunk(columns: np.ndarray) -> np.ndarray:
    """Return the shares of the unknowns that an experiment determines."""
    information = DIFFERENCE**2 * columns.T @ columns
    return np.linalg.solve(information + np.eye(len(information)), information)
