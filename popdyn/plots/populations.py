"""Populations: cells by time, the prediction beside what was observed, single particles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from popdyn.dynamics import FreeEnergy
from popdyn.plots.plane import View, sample
from popdyn.plots.style import COLORS, GREY, SHADES, color_bar, legend_below
from popdyn.scores.transport import w2
from popdyn.simulation import advance
from popdyn.snapshots import times
from popdyn.snapshots.tree import weights

__all__ = [
    "Paths",
    "distances",
    "draw_cells",
    "draw_comparison",
    "draw_paths",
    "paths_of",
    "predicted",
    "start_of",
]

PATHS = 12  # of single particles: more would cover each other


@dataclass(frozen=True, eq=False)
class Paths:
    """Particles followed under an energy.

    Attributes:
        times: ``(frames,)``.
        x: Positions, ``(frames, n, d)``.
    """

    times: np.ndarray
    x: np.ndarray


def predicted(
    energy: FreeEnergy,
    data: xr.DataTree,
    *,
    hold_out: Sequence[int] = (),
    wanted: Iterable[int] | None = None,
    points: int = 800,
    seed: int = 0,
) -> dict[int, np.ndarray]:
    """Return predicted snapshots, each run from the last observed one before it.

    Args:
        energy: Drives the particles.
        data: Gives the observed snapshots; fresh particles where there are any.
        hold_out: Indices that are never started from.
        wanted: Indices to predict; the held-out ones if None, or all where there are none.
        points: Particles to start from.
        seed: Seed of the noise.

    Returns:
        Positions ``(n, d)`` by index of the snapshot, where one before it was observed.
    """
    t, out = times(data), {}
    for k in sorted(set(hold_out)) or range(len(t)) if wanted is None else wanted:
        start = start_of(k, hold_out)
        if start is not None:
            x = torch.from_numpy(np.array(sample(data, start, points)))
            generator = torch.Generator().manual_seed(seed)
            moved = advance(energy, x, float(t[start]), float(t[k]), generator=generator)
            out[k] = moved.numpy()
    return out


def distances(
    data: xr.DataTree, k: int, start: int | None, prediction: np.ndarray, points: int
) -> str:
    """Return W₂ of a predicted snapshot, and of the start and of others observed for comparison.

    All three are of as many points: the floor is that of two samples of what was observed. Nothing
    where particles have weights, of which samples know nothing, or a prediction is not finite.
    """
    both = sample(data, k, 2 * points)
    n = min(len(both) // 2, len(prediction))
    if n < 2 or not np.isfinite(prediction[:n]).all() or weights(data, k, stop=0) is not None:
        return ""
    found = [w2(prediction[:n], both[:n])]
    if start is not None:
        found.append(w2(sample(data, start, n), both[:n]))
    found.append(w2(both[n : 2 * n], both[:n]))
    names = ("W₂", "copied", "floor") if start is not None else ("W₂", "floor")
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(names, found, strict=True))


def start_of(k: int, hold_out: Sequence[int] = ()) -> int | None:
    """Return the last observed snapshot before the k-th; None if there is none."""
    return max((j for j in range(k) if j not in hold_out), default=None)


def paths_of(
    energy: FreeEnergy, data: xr.DataTree, *, points: int = 400, frames: int = 61, seed: int = 0
) -> Paths:
    """Return particles of the first snapshot followed to the time of the last."""
    t = times(data)
    clock = np.linspace(t[0], t[-1], frames)
    x = torch.from_numpy(np.array(sample(data, 0, points)))
    generator = torch.Generator().manual_seed(seed)
    # A frame is a part of an interval between snapshots, so a few steps each are fine ones.
    substeps = max(1, -(-20 * (len(t) - 1) // (frames - 1)))
    rows = [x.numpy()]
    for start, stop in pairwise(clock):
        x = advance(energy, x, start, stop, substeps=substeps, generator=generator)
        rows.append(x.numpy())
    return Paths(clock, np.stack(rows))


def draw_cells(axis: Axes, shown: xr.DataTree, view: View, title: str, points: int) -> None:
    """Fill a panel with the particles of all snapshots, coloured by time."""
    t = times(shown)
    norm, colors = Normalize(t[0], t[-1]), SHADES
    for k in range(len(t)):
        x, color = sample(shown, k, points), colors(float(norm(t[k])))
        if view.low.size == 1:
            u = view.plane.project(x)
            axis.hist(u[:, 0], 41, density=True, histtype="step", color=color)
        else:
            view.dots(axis, x, 4, color, f"t = {t[k]:g}", alpha=0.6)
    color_bar(axis, ScalarMappable(norm, colors), "time")
    axis.set_title(title)
    view.frame(axis)


def draw_comparison(
    axis: Axes,
    observed: np.ndarray,
    prediction: np.ndarray | None,
    view: View,
    title: str,
    color: str = COLORS[1],
    start: np.ndarray | None = None,
) -> None:
    """Fill a panel with an observed snapshot and, over it, the predicted one.

    Args:
        axis: The panel.
        observed: Positions ``(n, d)``.
        prediction: Positions ``(m, d)``, or None.
        view: Where to look.
        title: Of the panel.
        color: Of the prediction.
        start: The snapshot that the prediction started from, ``(l, d)``, or None.
    """
    # Rings over dots: neither hides the other.
    clouds = [
        (start, COLORS[5], "started from", 4.0, False),
        (observed, GREY, "observed", 7.0, False),
        (prediction, color, "predicted", 10.0, True),
    ]
    for x, paint, name, size, ring in clouds:
        if x is None:
            continue
        x = x[np.isfinite(x).all(1)]
        if view.low.size == 1:
            u = view.plane.project(x)[:, 0]
            bins = list(np.linspace(view.low[0], view.high[0], 41))
            axis.hist(u, bins, density=True, histtype="step", color=paint, label=name)
        else:
            view.dots(axis, x, size, paint, name, ring=ring, alpha=0.9 if ring else 0.5)
    axis.set_title(title)
    view.frame(axis)
    legend_below(axis)


def draw_paths(axis: Axes, shown: Paths, view: View, title: str) -> None:
    """Fill a panel with the paths of single particles, from a dot to an arrow head.

    Args:
        axis: The panel.
        shown: The particles that were followed.
        view: Where to look.
        title: Of the panel.
    """
    # Spread over the population: starting points far from each other, chosen one by one among
    # the nine tenths that are nearest to its middle.
    start = shown.x[0]
    middle = np.linalg.norm(start - np.median(start, axis=0), axis=1)
    chosen = [int(middle.argmin())]
    gap = np.linalg.norm(start - start[chosen[0]], axis=1)
    gap[middle > np.quantile(middle, 0.9)] = -np.inf
    while len(chosen) < min(PATHS, int(np.isfinite(gap).sum())):
        chosen.append(int(gap.argmax()))
        gap = np.minimum(gap, np.linalg.norm(start - start[chosen[-1]], axis=1))
    axis.set_title(title)
    if view.low.size == 1:
        for i in chosen:
            axis.plot(shown.times, view.plane.project(shown.x[:, i])[:, 0], color=COLORS[0], lw=0.9)
        axis.set(xlabel="time", ylabel=view.plane.labels[0])
        return
    view.dots(axis, view.particles, 3, GREY, "observed", alpha=0.3)
    colors = SHADES
    norm = Normalize(shown.times[0], shown.times[-1])
    for i in chosen:
        u = view.plane.project(shown.x[:, i])
        pieces = np.stack([u[:-1], u[1:]], axis=1)
        axis.add_collection(
            LineCollection(list(pieces), colors=colors(norm(shown.times[:-1])), lw=1.4)
        )
    ends = np.stack([view.plane.project(shown.x[a][chosen]) for a in (0, -1)])
    axis.plot(*ends[0].T, "o", color=colors(0.0), markersize=3, label="start")
    axis.plot(*ends[1].T, "s", color=COLORS[1], markersize=3, label="end")
    color_bar(axis, ScalarMappable(norm, colors), "time")
    view.frame(axis)
    legend_below(axis, dots=1.5)
