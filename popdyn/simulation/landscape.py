"""What a learned landscape says of cells: wells, the passes between them, and who ends where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import depth_first_order, minimum_spanning_tree
from scipy.spatial import cKDTree
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.plain import indices
from popdyn.dynamics import Dynamics, FreeEnergy, ScalarField
from popdyn.dynamics.fields import Time
from popdyn.simulation.advance import advance
from popdyn.snapshots import positions, times

__all__ = ["Landscape", "Wells", "find_wells", "landscape"]

LEAST_SHARE = 0.02  # of the cells that drain into a well, below which it is none
REACH = 0.25  # of the cells' spread, from a bottom, within which a cell has arrived, or is of it
NEIGHBOURS = 10  # of a cell, over which a path may go on
ALONG = 5  # points at which V is looked at between two of them
CELLS = 2000  # of all snapshots that wells and passes are looked for with
SUBSTEPS = 10  # of a mean interval, after which arrivals are looked at
WAITED = 200  # mean intervals until the horizon
ARRIVED = 0.99  # share of the runs that is not waited beyond
# Of the distances of cells to their nearest: a bottom that is farther from all is not among them.
AMONG = 0.999


@dataclass(frozen=True, eq=False)
class Wells:
    """Where particles end that only descend V.

    Attributes:
        bottoms: Local minima, ``(m, d)``, the one with most particles first.
        shares: Share of the particles that drain into each.
        depths: V there, less the mean of V over the particles.
    """

    bottoms: np.ndarray
    shares: np.ndarray
    depths: np.ndarray


def find_wells(energy: FreeEnergy, x: np.ndarray, t: float = 0.0, steps: int = 600) -> Wells:
    """Find the wells of V that the particles ``(n, d)`` lie in.

    Each particle descends V with a step of its own that grows while V falls and shrinks where
    it does not; particles that end together share a well. A particle that runs off, still runs at
    the end, or ends where none of them was, is in none.

    Args:
        energy: Gives V.
        x: Particles, ``(n, d)``.
        t: Time, for a potential that depends on it.
        steps: Descent steps.
    """
    y = torch.from_numpy(np.array(x, dtype=np.float32))
    spread = y.std(0).mean().clamp_min(1e-6)
    value, gradient = energy.potential(y, t), energy.potential_gradient(y, t)
    rate = 0.05 * spread / gradient.norm(dim=1).mean().clamp_min(1e-12)
    rate = rate * torch.ones(len(y), 1)
    for _ in range(steps):
        # No step is longer than a part of the cloud: nobody jumps over a ridge.
        move = rate * gradient
        move = move * (0.1 * spread / move.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
        there = y - move
        after = energy.potential(there, t)
        fell = (after < value)[:, None]
        y, value = torch.where(fell, there, y), torch.where(fell[:, 0], after, value)
        rate = torch.where(fell, 1.2 * rate, 0.5 * rate)
        gradient = energy.potential_gradient(y, t)
    start = energy.potential_gradient(torch.from_numpy(np.array(x, dtype=np.float32)), t)
    typical = start.norm(dim=1).median().clamp_min(1e-12)
    low, high = (torch.from_numpy(f(x, axis=0)).float() for f in (np.min, np.max))
    inside = ((y > low - spread) & (y < high + spread)).all(1)
    rest = (gradient.norm(dim=1) < 0.05 * typical) & inside & value.isfinite()
    ends, depths = y[rest].numpy(), value[rest].numpy()
    order = np.argsort(depths)
    bottoms, sizes, lows = [], [], []
    mean = float(energy.potential(np.asarray(x, dtype=np.float32), t).mean())
    left = np.ones(len(ends), dtype=bool)
    for i in order:
        if left[i]:
            mine = left & (np.linalg.norm(ends - ends[i], axis=1) < REACH * float(spread))
            left &= ~mine
            bottoms.append(ends[i])
            sizes.append(mine.sum() / len(x))
            lows.append(float(depths[i]) - mean)
    rank = np.argsort(sizes)[::-1]
    found = np.array(bottoms).reshape(len(rank), x.shape[1])
    rank = rank[_among(x, found[rank])]
    return Wells(found[rank], np.array(sizes)[rank], np.array(lows)[rank])


@dataclass(frozen=True, eq=False)
class Landscape:
    """Wells, the passes between them, and the cells' fates; printed, a short table.

    Attributes:
        bottoms: Where V has its m wells, ``(m, d)``, the one that most cells drain into first.
        shares: Share of the cells that drain into each, ``(m)``.
        depths: V there less its mean over the cells, ``(m)``.
        depth_errors: Standard errors of the depths, ``(m)``; NaN where V does not know its own.
        barriers: Height of the lowest pass from well i to well j above the bottom of i, ``(m, m)``;
            ∞ where no cells lie between.
        pass_errors: Standard errors of these heights, likewise.
        fates: Probability that a cell reaches each well first, ``(n, m)``: the committor.
        arrival: Mean time until a cell is in a well, ``(n)``, of the runs that arrive; NaN if none.
        index: Snapshot of each cell, ``(n)``.
        horizon: Time after which nobody is waited for.
        notes: What has to be known to believe it, a line each.

    Example:
        >>> import numpy as np
        >>> one, zero = np.ones(1), np.zeros((1, 1))
        >>> bowl = Landscape(zero, one, -one, 0.1 * one, zero, zero, zero + 1, one, one, 5.0)
        >>> print(bowl)
        1 well(s), fates of 1 cells within a time of 5
          0: V -1 ± 0.1 from its mean, 100% of the cells drain here, 100% end here, after 1
    """

    bottoms: np.ndarray
    shares: np.ndarray
    depths: np.ndarray
    depth_errors: np.ndarray
    barriers: np.ndarray
    pass_errors: np.ndarray
    fates: np.ndarray
    arrival: np.ndarray
    index: np.ndarray
    horizon: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        many = f"fates of {len(self.fates)} cells within a time of {self.horizon:g}"
        lines = [f"{len(self.bottoms)} well(s), {many}"]
        after = np.nanmean(self.arrival) if np.isfinite(self.arrival).any() else np.nan
        for i, (share, depth, error) in enumerate(
            zip(self.shares, self.depths, self.depth_errors, strict=True)
        ):
            known = "" if np.isnan(error) else f" ± {error:.2g}"
            ends = np.nanmean(self.fates[:, i]) if len(self.fates) else np.nan
            arrives = f", after {after:.3g}" if len(self.bottoms) == 1 and after > 0 else ""
            lines.append(
                f"  {i}: V {depth:.3g}{known} from its mean, {share:.0%} of the cells drain here, "
                f"{ends:.0%} end here{arrives}{self._lowest_pass(i)}"
            )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _lowest_pass(self, i: int) -> str:
        if len(self.bottoms) < 2:
            return ""
        j = int(np.argmin(np.where(np.arange(len(self.bottoms)) == i, np.inf, self.barriers[i])))
        error = np.asarray(self.pass_errors)[i, j]
        return f", lowest pass {self.barriers[i, j]:.3g}" + (
            "" if np.isnan(error) else f" ± {error:.2g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists and numbers; NaN and ∞ as None."""
        out: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name == "notes":
                out[name] = list(value)
                continue
            plain = np.asarray(value).astype(object) if np.ndim(value) else value
            if np.ndim(value):
                plain[~np.isfinite(np.asarray(value, dtype=float))] = None
                plain = plain.tolist()
            out[name] = plain
        return out


class _Held(ScalarField):
    """V that stands still after the last snapshot: nothing says how it would move on."""

    def __init__(self, inner: Any, last: float) -> None:
        self.inner, self.last, self.time_dependent = inner, last, True

    def _until(self, t: Time) -> Time:
        return torch.as_tensor(t).clamp(max=self.last)

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        return self.inner.value(x, self._until(t))  # type: ignore[no-any-return]

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        return self.inner.gradient(x, self._until(t))  # type: ignore[no-any-return]


def landscape(
    learned: Any,
    data: xr.DataTree | None = None,
    *,
    snapshots: Sequence[int] | None = None,
    cells: int | Sequence[np.ndarray] = 200,
    replicates: int = 20,
    horizon: float | None = None,
    seed: int = 0,
) -> Landscape:
    """Find the wells of a learned landscape, the passes between them, and the cells' fates.

    Wells and passes are those of V at the last snapshot. A pass is the highest point of the path
    over neighbouring cells whose highest point is lowest: no path is looked for where no cells
    are. A fate is a share of simulated runs of the learned dynamics, noise and interaction
    included, from the cell at the time of its snapshot until it first comes near a bottom; after
    the last snapshot V stands still.

    Args:
        learned: A run, dynamics, or a free energy.
        data: The snapshots; those of the run if None.
        snapshots: Indices of the snapshots whose cells are asked; all if None.
        cells: Cells of each that are asked, the first of the train group and then of the test
            group; or the positions themselves, ``(n_k, d)`` for each of the snapshots asked.
        replicates: Runs of each cell.
        horizon: Time that a cell is given; two hundred mean intervals if None.
        seed: Seeds the noise.

    Raises:
        PopdynError: Where V is not known, or no well is found among the cells; on a snapshot that
            there is not, a number that is not positive, or no data.

    References:
        Committors: E and Vanden-Eijnden, J. Stat. Phys. 123 (2006) 503.

    Example:
        >>> import popdyn
        >>> wells = popdyn.FreeEnergy("double_well", diffusivity=0.2)
        >>> data = popdyn.simulate(wells, particles=200, seed=0)
        >>> found = landscape(wells, data, cells=20)
        >>> found.fates.shape[1] == len(found.bottoms)
        True
    """
    dynamics: Dynamics = getattr(learned, "dynamics", learned)
    if data is None:
        if not hasattr(learned, "snapshots"):
            raise PopdynError(f"no data is given beside {learned!r}: expected the snapshots")
        data = learned.snapshots()
    energy, t = dynamics.energy, times(data)
    asked = range(len(t)) if snapshots is None else indices(snapshots, "snapshots")
    given = cells if isinstance(cells, Sequence) else None
    most = cells if given is None else len(asked)
    for name, value in (("cells", most), ("replicates", replicates), ("horizon", horizon)):
        if value is not None and not value > 0:  # type: ignore[operator]
            raise PopdynError(f"{name} is {value}: expected more than 0")
    if given is not None and len(given) != len(asked):
        raise PopdynError(f"cells has {len(given)} arrays: expected {len(asked)}, as snapshots")
    if wrong := [k for k in asked if not 0 <= k < len(t)]:
        raise PopdynError(f"snapshot {wrong[0]} is asked for: the data has 0 to {len(t) - 1}")
    if energy.V is None:
        raise PopdynError("a landscape needs a potential V: expected one that was learned or given")
    everyone = [
        np.concatenate([positions(data, k, group) for group in ("train", "test")])
        for k in range(len(t))
    ]
    last, interval = float(t[-1]), float(t[-1] - t[0]) / (len(t) - 1)
    rng = np.random.default_rng(seed)
    pooled = np.concatenate(everyone)
    pooled = pooled[rng.permutation(len(pooled))[:CELLS]]
    wells = find_wells(energy, pooled, last)
    kept = wells.shares >= LEAST_SHARE
    bottoms, shares, depths = wells.bottoms[kept], wells.shares[kept], wells.depths[kept]
    if not len(bottoms):
        raise PopdynError("no well is found among the cells: V falls towards where there are none")
    barriers, places = _passes(energy, pooled, bottoms, last)
    waited = WAITED * interval if horizon is None else float(horizon)
    checks = max(1, round(waited / interval))
    held = _held(dynamics, last) if energy.V.time_dependent else dynamics
    radius = REACH * float(pooled.std(0).mean())
    fates, arrival, index = [], [], []
    for i, k in enumerate(asked):
        x = everyone[k][:most] if given is None else np.asarray(given[i])
        found = _fates(
            held, x, float(t[k]), bottoms, radius, (waited, checks), replicates, [seed, k]
        )
        fates.append(found[0])
        arrival.append(found[1])
        index.append(np.full(len(x), k))
    return Landscape(
        bottoms,
        shares,
        depths,
        _errors(energy, bottoms, pooled, last),
        barriers,
        np.array(
            [_errors(energy, places[i], bottoms[i : i + 1], last) for i in range(len(places))]
        ),
        np.concatenate(fates),
        np.concatenate(arrival),
        np.concatenate(index),
        waited,
        tuple(
            _notes(
                getattr(learned, "word", None),
                1.0 - float(wells.shares.sum()),
                1.0 - float(np.concatenate(fates).sum(1).mean()),
                float(np.nanmax(np.concatenate([[0.0], *arrival]))),
                float(t[-1] - t[0]),
            )
        ),
    )


def _among(cells: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
    """Return which bottoms have a cell near them: elsewhere V is not known."""
    if not len(bottoms):
        return np.zeros(0, dtype=bool)
    tree = cKDTree(cells)
    away = np.asarray(tree.query(cells, k=[min(2, len(cells))])[0])
    near: np.ndarray = tree.query(bottoms)[0] <= np.quantile(away, AMONG)
    return near


def _notes(word: str | None, lost: float, nowhere: float, latest: float, lasts: float) -> list[str]:
    """Return what has to be known to believe a landscape."""
    notes = []
    if word not in (None, "explained"):
        notes.append(f"the fit is {word}: so are its wells, passes and fates")
    if lost > LEAST_SHARE:
        notes.append(
            f"{lost:.0%} of the cells descend to where there are none, or do not come to rest: no "
            "well is known there"
        )
    if nowhere > LEAST_SHARE:
        notes.append(f"{nowhere:.0%} of the runs reach none of the wells in time")
    if latest > lasts:
        notes.append(
            f"arrivals take up to {latest:.3g} and the data lasts {lasts:.3g}: fates are "
            "extrapolated, with a V that stands still after the last snapshot"
        )
    return notes


def _held(dynamics: Dynamics, last: float) -> Dynamics:
    energy = dynamics.energy
    still = FreeEnergy(_Held(energy.V, last), energy.W, energy.diffusivity)
    terms = {k: v for k, v in dynamics.terms.items() if k in ("circulation", "diffusion")}
    more: dict[str, Any] = {}
    if "circulation" in terms:
        more["circulation"] = terms["circulation"].field  # type: ignore[attr-defined]
    if dynamics.beta is None:
        more["diffusivity"] = terms["diffusion"].field  # type: ignore[attr-defined]
    return Dynamics(still, **more) if more else still


def _passes(
    energy: FreeEnergy, x: np.ndarray, bottoms: np.ndarray, t: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the heights of the lowest passes, ``(m, m)``, and where they are, ``(m, m, d)``.

    Among all paths over a graph those of the tree of least V have the lowest highest point.
    """
    nodes, m = np.concatenate([bottoms, x]), len(bottoms)
    count = min(NEIGHBOURS + 1, len(nodes))
    _, near = cKDTree(nodes).query(nodes, count)
    i, j = np.repeat(np.arange(len(nodes)), count - 1), near[:, 1:].ravel()
    share = np.linspace(0.0, 1.0, ALONG)[:, None, None]
    along = (1.0 - share) * nodes[i] + share * nodes[j]
    values = energy.potential(along.reshape(-1, nodes.shape[1]), t).reshape(ALONG, -1)
    highest = values.max(0)
    place = along[values.argmax(0), np.arange(len(i))]
    # Weights of a sparse tree must not be 0, which would be no edge.
    weights = highest - highest.min() + 1.0
    tree = minimum_spanning_tree(coo_array((weights, (i, j)), shape=(len(nodes),) * 2).tocsr())
    both = tree.maximum(tree.T).tocsr()
    where = {frozenset(pair): n for n, pair in enumerate(zip(i.tolist(), j.tolist(), strict=True))}
    floor = energy.potential(bottoms, t)
    heights = np.full((m, m), np.inf)
    places = np.full((m, m, nodes.shape[1]), np.nan)
    for a in range(m):
        order, before = depth_first_order(both, a, directed=False)
        top = {a: (-np.inf, a)}  # the highest edge on the way from a
        for node in order[1:]:
            parent = int(before[node])
            edge = where[frozenset((parent, int(node)))]
            top[int(node)] = max(top[parent], (float(highest[edge]), edge))
        for b in range(m):
            if b == a:
                heights[a, a], places[a, a] = 0.0, bottoms[a]
            elif b in top:
                height, edge = top[b]
                heights[a, b], places[a, b] = height - floor[a], place[edge]
    return heights, places


def _fates(
    dynamics: Dynamics,
    x: np.ndarray,
    start: float,
    bottoms: np.ndarray,
    radius: float,
    until: tuple[float, int],
    replicates: int,
    seed: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of runs that reach each well first, ``(n, m)``, and the mean time."""
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence(seed).generate_state(1)[0])
    )
    noisy = dynamics.beta is None or dynamics.beta > 0.0
    runs = replicates if noisy else 1
    y = torch.from_numpy(np.array(x, dtype=np.float32)).expand(runs, *x.shape).clone()
    ends = torch.from_numpy(np.asarray(bottoms, dtype=np.float32))
    reached = torch.full(y.shape[:2], -1)
    when = torch.full(y.shape[:2], float("nan"), dtype=torch.float64)
    horizon, checks = until
    step = horizon / checks
    for n in range(checks + 1):
        distance, nearest = torch.cdist(y, ends.expand(runs, *ends.shape)).min(-1)
        new = (reached < 0) & (distance < radius)
        reached[new] = nearest[new]
        when[new] = n * step
        if n == checks or float((reached >= 0).double().mean()) > ARRIVED:
            break
        now = start + n * step
        y = advance(dynamics, y, now, now + step, substeps=SUBSTEPS, generator=generator)
    shares = torch.stack([(reached == j).double().mean(0) for j in range(len(bottoms))], 1)
    arrived = np.where((reached >= 0).any(0).numpy(), when.nanmean(0).numpy(), np.nan)
    return shares.numpy(), arrived


def _errors(energy: FreeEnergy, x: np.ndarray, reference: np.ndarray, t: float) -> np.ndarray:
    """Return the standard errors of V at ``x`` less its mean over a reference, ``(k)``."""
    known: Any = getattr(energy.V, "value_std", None)
    if energy.V is None or known is None or not np.isfinite(x).all():
        return np.full(len(x), np.nan)
    here, there = (torch.from_numpy(np.asarray(a, dtype=np.float64)) for a in (x, reference))
    found: np.ndarray = known(here, there, t if energy.V.time_dependent else None).numpy()
    return found
