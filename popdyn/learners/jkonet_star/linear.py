"""JKOnet* with energies linear in features: normal equations, ridges from held-out couplings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.estimation.couplings import Couplings
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.features import Block, FeatureMap, gaussian_block, polynomials
from popdyn.families.linear import (
    LinearPotential,
    RadialFeatures,
    RadialInteraction,
    time_basis,
)
from popdyn.families.mean_fields import fields_for

__all__ = ["Dictionary", "Normal", "choose_ridges", "mean_of", "solve"]

LAID_OUT = 20_000  # particles among which the bumps are laid out
CHUNK = 8_000_000  # numbers in a piece of the design matrix
RIDGES = np.logspace(-5.0, 2.0, 8)
OFF = np.inf  # the ridge of a group that takes no part


@dataclass(frozen=True)
class Normal:
    """Normal equations G θ = −b of ½E|A θ + v|²: G = E AᵀA, b = E Aᵀv, and E|v|²."""

    gram: np.ndarray
    right: np.ndarray
    square: float

    def loss(self, theta: np.ndarray) -> float:
        """Return E|A θ + v|²."""
        return float(theta @ self.gram @ theta + 2.0 * self.right @ theta + self.square)


def mean_of(parts: Sequence[Normal]) -> Normal:
    """Return the equations of all parts together."""
    n = len(parts)
    return Normal(
        np.sum([part.gram for part in parts], 0) / n,
        np.sum([part.right for part in parts], 0) / n,
        sum(part.square for part in parts) / n,
    )


class Dictionary:
    """What the energies are linear in: V's functions for each degree in time, W's, and β.

    Args:
        data: Training set: scaling, times.
        snapshots: Particles of each snapshot, which exert the interaction.
        potential: Whether V is learned.
        interaction: Whether W is.
        diffusion: Whether β is.
        times: Number of polynomials in time; 1 for a static V.
    """

    def __init__(
        self,
        data: TrainingSet,
        snapshots: Sequence[Tensor],
        potential: bool,
        interaction: bool,
        diffusion: bool,
        times: int,
    ) -> None:
        self.snapshots = [x.cpu() for x in snapshots]
        self.span = data.intervals.span
        self.times, self.diffusion = times, diffusion
        everything = torch.cat(self.snapshots)
        self.features: FeatureMap | None = None
        self.radial: RadialFeatures | None = None
        self.groups: list[str] = []
        if potential:
            scaling = data.scaling().cpu()
            self.features = FeatureMap(scaling, _blocks(everything, scaling, times == 1))
            mixing, names = self.features.mixing()
            self.mixing = torch.from_numpy(mixing)
            self.groups += [name + " in time" * (m > 0) for m in range(times) for name in names]
        if interaction:
            self.radial = _radial(everything, data.seed)
            mixing, names = self.radial.mixing()
            self.radial_mixing = torch.from_numpy(mixing)
            self.groups += [f"W: {name}" for name in names]
            self.fields = fields_for(self.radial, everything.amin(0), everything.amax(0))
        if diffusion:
            self.groups.append("β")

    def normal(self, pairs: Couplings, scores: Tensor | None, beta: float) -> Normal:
        """Return the normal equations of some pairs, in units of displacement.

        Args:
            pairs: The couplings.
            scores: ∇log ρ at their ends, ``(n, d)``, if there is diffusion.
            beta: β where it is known and not learned.
        """
        p = len(self.groups)
        gram, right, square = np.zeros((p, p)), np.zeros(p), 0.0
        dim = pairs.ends.shape[1]
        for k in pairs.snapshots.unique().tolist():
            own = torch.nonzero(pairs.snapshots == k)[:, 0]
            for part in own.split(max(1, CHUNK // (dim * p))):
                speeds = pairs.speeds[part].cpu()
                score = None if scores is None else scores[part].cpu()
                if score is not None:
                    speeds = speeds + beta * score
                root = (pairs.weights[part].sqrt() * pairs.intervals[part]).cpu()
                columns = self._columns(
                    pairs.ends[part].cpu(), k, float(pairs.times[part[0]]), score
                )
                # In float32 the equations of overlapping bumps would not stay positive.
                columns = (columns * root[:, None]).flatten(0, 1).double()
                target = (speeds.T * root).flatten().double()
                gram += (columns.T @ columns).numpy()
                right += (columns.T @ target).numpy()
                square += float(target.square().sum())
        n = len(pairs)
        return Normal(gram / n, right / n, square / n)

    def _columns(self, x: Tensor, k: int, t: float, score: Tensor | None) -> Tensor:
        """Return what each unknown adds to the force at x, with the sign of ∇V, ``(d, n, p)``."""
        parts = []
        if self.features is not None:
            gradients = self.features.gradients(x)[1] @ self.mixing.to(x)
            basis = time_basis(torch.tensor(t, dtype=x.dtype), self.span, self.times)
            parts += [gradients * b for b in basis]
        if self.radial is not None:
            parts.append(self.fields.gradients(x, self.snapshots[k], self.radial_mixing))
        if self.diffusion and score is not None:
            parts.append(score.T[..., None])
        return torch.cat(parts, 2)

    def energies(
        self, theta: np.ndarray
    ) -> tuple[LinearPotential | None, RadialInteraction | None, float | None]:
        """Return V, W and β of a solution; None for what is not learned."""
        V = W = None
        start = 0
        if self.features is not None:
            start = self.times * self.mixing.shape[1]
            own = torch.from_numpy(theta[:start].reshape(self.times, -1).T.copy())
            V = LinearPotential(self.features, self.mixing @ own, self.span)
        if self.radial is not None:
            own = torch.from_numpy(theta[start : start + self.radial_mixing.shape[1]])
            W = RadialInteraction(self.radial, self.radial_mixing @ own)
        return V, W, float(theta[-1]) if self.diffusion else None


def solve(normal: Normal, groups: Sequence[str], ridges: dict[str, float]) -> np.ndarray:
    """Return the minimiser with a ridge on each group, relative to its mean square; none on β.

    β is not below 0: where it would be, the rest is solved for at β = 0.
    """
    own, names = np.diag(normal.gram), np.array(groups)
    penalty = np.full(len(own), 1e-12 * own.max() + 1e-300)
    for name, ridge in ridges.items():
        penalty[names == name] += ridge * own[names == name].mean()
    use = np.flatnonzero(np.isfinite(penalty))
    theta = np.zeros(len(own))
    for _ in range(2):
        square = normal.gram[np.ix_(use, use)]
        square[np.diag_indices(len(use))] += penalty[use]
        theta[use] = -np.linalg.solve(square, normal.right[use])
        if names[-1] != "β" or theta[-1] >= 0:
            break
        theta[-1], use = 0.0, use[:-1]
    return theta


def choose_ridges(
    rounds: Sequence[Sequence[Normal]], groups: Sequence[str]
) -> tuple[dict[str, float], float]:
    """Return a ridge for each group by cross-validation, and what remains on held-out couplings.

    No group takes part at first. As long as a weaker ridge on some group explains the couplings
    of the parts left out better, the one that gains most is taken.

    Args:
        rounds: Normal equations of the couplings of separate parts of the particles, for each way
            to part them. Each part is held out once, from a fit to the others of its round.
        groups: The group of each unknown.

    Returns:
        The ridges, and the held-out loss over that of no energy at all.
    """
    pairs = [
        (mean_of([p for p in parts if p is not part]), part) for parts in rounds for part in parts
    ]

    def held_out(ridges: dict[str, float]) -> float:
        return sum(part.loss(solve(rest, groups, ridges)) for rest, part in pairs)

    ridges = {name: OFF for name in dict.fromkeys(groups) if name != "β"}
    loss = held_out(ridges)
    while True:
        trials = [
            ridges | {name: float(ridge)}
            for name in ridges
            for ridge in RIDGES[ridges[name] > RIDGES]
        ]
        losses = [held_out(trial) for trial in trials]
        if not losses or min(losses) >= loss:
            return ridges, loss / sum(part.square for _, part in pairs)
        loss = min(losses)
        ridges = trials[losses.index(loss)]


def _blocks(everything: Tensor, scaling: Any, fine: bool) -> list[Block]:
    """Return polynomials, and bumps of several widths; the narrow ones where V is static."""
    stride = max(1, len(everything) // LAID_OUT)
    z = scaling.standardise(everything[::stride]).double().numpy()
    dim = z.shape[1]
    half = scaling.half_width.clamp_min(1e-3)
    blocks: list[Block] = [*polynomials(dim, half, 4, 4 if dim <= 3 else 2 if dim <= 12 else 0)]
    fine = fine and dim <= 12
    for length in (0.6, 0.25) if fine else (0.6,):
        name = f"bumps of width {length:g} in one component"
        limit = 40 if dim <= 3 else 12
        blocks += [gaussian_block(z, [c], length, limit, name) for c in range(dim)]
    if dim > 1:
        blocks.append(gaussian_block(z, range(dim), 0.6, 100, "wide bumps"))
        if fine:
            blocks.append(gaussian_block(z, range(dim), 0.3, 250, "narrow bumps"))
    return blocks


def _radial(everything: Tensor, seed: int) -> RadialFeatures:
    """Return bumps over the distances of the data."""
    rng = np.random.default_rng([seed, 4])
    pairs = rng.integers(len(everything), size=(2, 20_000))
    reach = float((everything[pairs[0]] - everything[pairs[1]]).norm(dim=1).quantile(0.999))
    reach = max(reach, 1e-6)
    width = reach / 8.0
    return RadialFeatures(
        reach, torch.arange(9) * width, torch.full((9,), width, dtype=torch.float64)
    )
