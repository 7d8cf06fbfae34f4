"""Exact optimal couplings of neighbouring snapshots."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.intervals import Intervals

__all__ = ["Couplings", "couple", "optimal_pairs"]

MAX_ITERATIONS = 10_000_000


@dataclass(frozen=True)
class Couplings:
    """Pairs of particles of neighbouring snapshots, those of all intervals one after another.

    Attributes:
        ends: y in the later snapshot, ``(n, d)``.
        speeds: (y − x)/τ, ``(n, d)``.
        weights: Their masses, of mean 1 over each interval, ``(n)``.
        intervals: τ of each, ``(n)``.
        snapshots: Index of the later snapshot, ``(n)``.
        times: Its time, ``(n)``.
    """

    ends: Tensor
    speeds: Tensor
    weights: Tensor
    intervals: Tensor
    snapshots: Tensor
    times: Tensor

    def __len__(self) -> int:
        return len(self.ends)


def couple(
    snapshots: Sequence[Tensor],
    intervals: Intervals,
    block: int,
    seed: int,
    iterations: int = MAX_ITERATIONS,
    debias: float = 0.0,
) -> Couplings:
    """Return exact couplings of each snapshot with the next, solved in float64.

    A plan between two samples moves particles even where nothing moved, and at the edge of the
    data outwards on average: there y finds its partner further in. With ``debias`` a second set of
    pairs, of other blocks, is added: in it each y is also coupled with another block of its own
    snapshot, and where that takes it, y′, stands for y in the displacement, y′ − x. What sampling
    alone does cancels there, and the means keep their noise.

    Args:
        snapshots: Particles, ``(n_k, d)`` each.
        intervals: Which of them follow each other, and when.
        block: Both snapshots are cut into random blocks of at most this size, which are coupled
            one by one; 0 for one plan of all particles.
        seed: Seeds the blocks.
        iterations: Most iterations of the network simplex.
        debias: Weight in [0, 1] of the second set; the first has the rest.

    Raises:
        PopdynError: If the solver of the transport problem does not converge.
    """
    parts: list[list[Tensor]] = []
    sets = [(taken, w) for taken, w in ((False, 1.0 - debias), (True, debias)) if w > 0.0]
    each = enumerate(zip(intervals.before, intervals.after, intervals.tau, strict=True))
    for (number, (k, end_of, tau)), (taken_off, weight) in itertools.product(each, sets):
        x, y = snapshots[k], snapshots[end_of]
        rng = np.random.default_rng([seed, 5, number])
        count = -(-max(len(x), len(y)) // block) if block else 1
        count = min(max(count, 2) if taken_off else count, len(x), len(y))
        rows = np.array_split(rng.permutation(len(x)), count)
        columns = np.array_split(rng.permutation(len(y)), count)
        for n, (i, j) in enumerate(zip(rows, columns, strict=True)):
            source, target = _float64(x[i]), _float64(y[j])
            a, b, mass = optimal_pairs(source, target, iterations)
            start, end = x[i[a]], y[j[b]]
            arrival = end
            if taken_off:
                others = _float64(y[columns[(n + 1) % count]])
                arrival = torch.from_numpy(_barycentres(others, target, iterations)[b]).to(end)
            size = len(mass)
            parts.append(
                [
                    end,
                    (arrival - start) / float(tau),
                    torch.from_numpy(mass * (size * weight * len(sets))).to(end),
                    end.new_full((size,), float(tau)),
                    torch.full((size,), int(end_of), device=end.device),
                    end.new_full((size,), float(intervals.times[end_of])),
                ]
            )
    return Couplings(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _float64(x: Tensor) -> np.ndarray:
    return x.double().cpu().numpy()  # type: ignore[no-any-return]


def _barycentres(x: np.ndarray, y: np.ndarray, iterations: int) -> np.ndarray:
    """Return where the exact plan takes each y in x, on average."""
    a, b, mass = optimal_pairs(x, y, iterations)
    out = np.zeros_like(y)
    np.add.at(out, b, mass[:, None] * x[a])
    return out / np.bincount(b, mass, len(y))[:, None]


def optimal_pairs(
    x: np.ndarray, y: np.ndarray, iterations: int = MAX_ITERATIONS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of an exact plan for the squared distance: rows, columns and masses.

    Args:
        x, y: Particles of equal mass, ``(n, d)`` and ``(m, d)``.
        iterations: Most iterations of the network simplex.

    Raises:
        PopdynError: If the solver does not converge.
    """
    import ot  # it takes a second to load, and most commands never come here

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is raised below
        cost = ot.dist(x.astype(np.float64), y.astype(np.float64))
        plan, log = ot.emd([], [], cost, numItermax=iterations, log=True)
    if log["warning"] is not None:
        reason = " ".join(str(log["warning"]).split())
        raise PopdynError(
            f"the coupling of {len(x)} with {len(y)} particles did not converge in {iterations} "
            f"iterations: smaller blocks are easier ({reason})"
        )
    rows, columns = np.nonzero(plan)
    mass = plan[rows, columns]
    return rows, columns, mass / mass.sum()
