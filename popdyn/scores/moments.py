"""What the gradient scores are made of: averages of gradients and their errors on each snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from popdyn.base.errors import PopdynError
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.dynamics.pairwise import mean_interaction_gradient

__all__ = ["GradientTable", "Moments", "gauge_constant", "gradient_table", "part_moments"]

MAX_PAIRS = 40_000
MAX_FORCE_PARTICLES = 1000

PARTS = ("potential", "interaction", "force")
COLUMNS = 6


@dataclass(frozen=True)
class Moments:
    """Averages over each of the K snapshots, arrays of shape ``(..., K)``, dimensionless.

    The leading axes are bootstrap replicates. With g the estimated and g* the true gradient:

    Attributes:
        error: E|g − g*|².
        truth: E|g*|².
        cosine: Sum of the cosines of g and g* per particle; 0 where g = 0.
        directed: Fraction of the particles where g* ≠ 0, which alone have a cosine.
        cross: E (g − g*)·u, u the gauge direction: z for W, −(x − m_k) for V.
        gauge: E|u|².
        gauge_error: E|g − g* − c u|² with the one best c for V and W; None without W.
        uvp: 100 τ²/Var of the snapshot before, for ``l2_uvp``.
    """

    error: np.ndarray
    truth: np.ndarray
    cosine: np.ndarray
    directed: np.ndarray
    cross: np.ndarray
    gauge: np.ndarray
    gauge_error: np.ndarray | None
    uvp: np.ndarray

    def without_gauge(self, c: np.ndarray) -> Moments:
        """Return the moments with ``gauge_error`` filled in for the constant c, ``(...)``."""
        c = c[..., None]
        error = self.error - 2.0 * c * self.cross + c**2 * self.gauge
        # |g − g* − c u|² ≥ 0: below it there is rounding only.
        return replace(self, gauge_error=np.maximum(error, 0.0))

    def at(self, k: int) -> Moments:
        """Return the moments of snapshot k alone, with a K axis of length 1."""
        parts: dict[str, Any] = {
            name: None if value is None else value[..., k : k + 1]
            for name, value in vars(self).items()
        }
        return Moments(**parts)


def gauge_constant(potential: Moments, interaction: Moments) -> np.ndarray:
    """Return the c, ``(...)``, best for ∇V̂ − ∇V* ≈ −c (x − m_k) and ∇Ŵ − ∇W* ≈ c z together.

    Minimises the sum of the two *relative* squared errors, ΣE|e_V − c u_V|²/ΣE|∇V*|² +
    ΣE|e_W − c u_W|²/ΣE|∇W*|²: so c maximises the sum of the two skills, and does not depend on
    which of the two happens to be the larger force. (The force itself cannot choose c: it does
    not see the gauge.) A truth that is 0 has no relative error: it takes the unit of the other.
    """
    scales = [m.truth.sum(-1) for m in (potential, interaction)]
    other = [scales[1], scales[0]]
    numerator, denominator = np.zeros_like(scales[0]), np.zeros_like(scales[0])
    for m, own, fallback in zip((potential, interaction), scales, other, strict=True):
        scale = np.where(own > 0, own, np.where(fallback > 0, fallback, 1.0))
        numerator = numerator + m.cross.sum(-1) / scale
        denominator = denominator + m.gauge.sum(-1) / scale
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1.0), 0.0)


@dataclass(frozen=True)
class GradientTable:
    """One snapshot: a row of the six averaged columns for each particle, pair or force.

    Attributes:
        particles: Number of particles n, which the bootstrap resamples.
        rows: Columns of :class:`Moments` for each part, ``(rows, 6)``.
        members: Indices of the particles in a row: ``(rows,)``, or ``(rows, 2)`` for pairs.
    """

    particles: int
    rows: dict[str, np.ndarray]
    members: dict[str, np.ndarray]

    def means(self, part: str, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the weighted means of the columns, ``(6,)`` or ``(replicates, 6)``.

        A pair weighs the product of the weights ``(replicates, n)`` of its two particles: pairs
        that share a particle are not independent.
        """
        rows, members = self.rows[part], self.members[part]
        if weights is None:
            return rows.mean(0)
        w = weights[:, members]
        if members.ndim == 2:
            w = w.prod(-1)
        return (w @ rows) / np.maximum(w.sum(-1, keepdims=True), 1e-300)


def gradient_table(
    estimate: Dynamics,
    truth: Dynamics,
    x: np.ndarray,
    t: float,
    rng: np.random.Generator,
) -> GradientTable:
    """Return the table of one snapshot.

    Args:
        estimate: The dynamics to score.
        truth: The true ones.
        x: The snapshot's particles, ``(n, d)`` float32.
        t: Its time.
        rng: Draws the pairs where there are more than 40 000 of them.

    Raises:
        PopdynError: If a gradient is not finite, or an energy does not fit the dimension.
    """
    centred = x.astype(np.float64) - x.astype(np.float64).mean(0)
    everyone = np.arange(len(x))
    g, g_true = (_evaluate(each.energy, "V", x, t) for each in (estimate, truth))
    rows = {"potential": _columns(g, g_true, -centred)}
    members = {"potential": everyone}
    if not (estimate.interacting or truth.interacting):
        rows["force"], members["force"] = rows["potential"], everyone
        turns = [_turn(each, x, t) for each in (estimate, truth)]
        # With V alone the force is −∇V: the same errors, the same squares.
        if any(turn is not None for turn in turns):
            total, total_true = (
                gradient if turn is None else gradient - turn
                for gradient, turn in zip((g, g_true), turns, strict=True)
            )
            rows["force"] = _columns(total, total_true, np.zeros_like(centred))
        return GradientTable(len(x), rows, members)
    if len(x) < 2:
        raise PopdynError("a test snapshot has 1 particle: expected at least 2 for an interaction")
    i, j = _pairs(len(x), rng)
    z = x[i] - x[j]
    rows["interaction"] = _columns(
        _evaluate(estimate.energy, "W", z, None), _evaluate(truth.energy, "W", z, None), z
    )
    members["interaction"] = np.stack([i, j], 1)
    few = everyone[:MAX_FORCE_PARTICLES]
    total, total_true = (
        gradient[few] + _mean_field(each.energy, x[few])
        for gradient, each in ((g, estimate), (g_true, truth))
    )
    for each, sum_ in ((estimate, total), (truth, total_true)):
        turn = _turn(each, x[few], t)
        sum_ -= 0.0 if turn is None else turn
    rows["force"] = _columns(total, total_true, np.zeros_like(centred[few]))
    members["force"] = few
    return GradientTable(len(x), rows, members)


def part_moments(
    tables: Sequence[GradientTable],
    uvp: np.ndarray,
    weights: Sequence[np.ndarray] | None = None,
) -> dict[str, Moments]:
    """Return the moments of each part over the snapshots.

    Args:
        tables: One table for each snapshot k = 1…K.
        uvp: 100 τ²/Var of the snapshot before each, ``(K,)`` or ``(replicates, K)``.
        weights: Bootstrap weights of the particles, ``(replicates, n_k)`` for each snapshot.
    """
    out = {}
    for part in tables[0].rows:
        means = [
            table.means(part, None if weights is None else weights[k])
            for k, table in enumerate(tables)
        ]
        error, true, cosine, directed, cross, gauge = np.moveaxis(np.stack(means, -1), -2, 0)
        out[part] = Moments(error, true, cosine, directed, cross, gauge, None, uvp)
    if "interaction" in out:
        c = gauge_constant(out["potential"], out["interaction"])
        for part in ("potential", "interaction"):
            out[part] = out[part].without_gauge(c)
    return out


def _columns(g: np.ndarray, g_true: np.ndarray, u: np.ndarray) -> np.ndarray:
    error = g - g_true
    size, size_true = np.linalg.norm(g, axis=1), np.linalg.norm(g_true, axis=1)
    directed = size_true > 0
    both = directed & (size > 0)
    cosine = np.zeros(len(g))
    # Each vector is scaled to length 1 first: the product of two tiny lengths would underflow.
    cosine[both] = np.sum(
        (g[both] / size[both, None]) * (g_true[both] / size_true[both, None]), axis=1
    )
    out = np.empty((len(g), COLUMNS))
    out[:, 0] = np.sum(error**2, axis=1)
    out[:, 1] = np.sum(g_true**2, axis=1)
    out[:, 2], out[:, 3] = cosine, directed
    out[:, 4] = np.sum(error * u, axis=1)
    out[:, 5] = np.sum(u.astype(np.float64) ** 2, axis=1)
    return out


def _evaluate(energy: FreeEnergy, term: str, x: np.ndarray, t: float | None) -> np.ndarray:
    """Return ∇V or ∇W in float64; evaluated in float32, in which the energies live."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    try:
        g = energy.potential_gradient(x, t) if term == "V" else energy.interaction_gradient(x)
    except RuntimeError as error:
        raise PopdynError(
            f"the energy could not be evaluated in dimension {x.shape[1]} of the data: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return _finite(np.asarray(g, np.float64), f"∇{term}")


def _turn(dynamics: Dynamics, x: np.ndarray, t: float) -> np.ndarray | None:
    """Return the drift that is no gradient, such as a circulation's, float64, or None."""
    y = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    with torch.no_grad():
        parts = [term.drift(y, t) for term in dynamics.terms.values() if not term.conservative]
    each = [part.double().numpy() for part in parts if part is not None]
    return _finite(np.sum(each, axis=0), "the circulation") if each else None


def _mean_field(energy: FreeEnergy, x: np.ndarray) -> np.ndarray:
    if energy.W is None or len(x) < 2:
        return np.zeros(x.shape)
    y = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    with torch.no_grad():
        pull = mean_interaction_gradient(energy.W, y, y, exclude_self=True)
    return _finite(pull.double().numpy(), "∇W∗ρ")


def _finite(g: np.ndarray, name: str) -> np.ndarray:
    bad = int((~np.isfinite(g)).any(1).sum())
    if bad:
        raise PopdynError(f"{name} is not finite at {bad} of {len(g)} points of a test snapshot")
    return g


def _pairs(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs i < j where there are at most 40 000, else as many random ones, i ≠ j."""
    if n * (n - 1) // 2 <= MAX_PAIRS:
        i, j = np.triu_indices(n, 1)
        return i, j
    i = rng.integers(n, size=MAX_PAIRS)
    return i, (i + rng.integers(1, n, size=MAX_PAIRS)) % n
