"""Populations: cells by time, the prediction beside what was observed, single particles."""

from __future__ import annotations

from collections.abc import Sequence
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
from popdyn.simulation import advance
from popdyn.snapshots import times

Color = str | tuple[float, float, float, float]

__all__ = ["Paths", "draw_cells", "draw_comparison", "draw_paths", "paths_of", "predicted"]


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
    points: int = 800,
    seed: int = 0,
) -> dict[int, np.ndarray]:
    """Return predicted snapshots, each run from the last observed one before it.

    Args:
        energy: Drives the particles.
        data: Gives the observed snapshots; fresh particles where there are any.
        hold_out: Indices that are predicted and never started from; every index but 0 is
            predicted if there are none.
        points: Particles to start from.
        seed: Seed of the noise.

    Returns:
        Positions ``(n, d)`` by index of the snapshot.
    """
    t = times(data)
    wanted = sorted(k for k in set(hold_out) if k > 0) or range(1, len(t))
    out = {}
    for k in wanted:
        start = max((j for j in range(k) if j not in hold_out), default=None)
        if start is None:  # nothing was observed before it
            continue
        x = torch.from_numpy(np.array(sample(data, start, points)))
        generator = torch.Generator().manual_seed(seed)
        out[k] = advance(energy, x, float(t[start]), float(t[k]), generator=generator).numpy()
    return out


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


def draw_cells(axis: Axes, data: xr.DataTree, view: View, title: str, points: int = 400) -> None:
    """Fill a panel with the particles of all snapshots, coloured by time."""
    t = times(data)
    norm, colors = Normalize(t[0], t[-1]), SHADES
    for k in range(len(t)):
        u = view.plane.project(sample(data, k, points))
        color = colors(float(norm(t[k])))
        if u.shape[1] == 1:
            axis.hist(u[:, 0], 41, density=True, histtype="step", color=color)
        else:
            _points(axis, u, 4, color, 0.6, f"t = {t[k]:g}")
    color_bar(axis, ScalarMappable(norm, colors), "time")
    axis.set_title(title)
    _frame(axis, view)


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
    clouds = [(start, COLORS[5], "started from"), (observed, GREY, "observed")]
    clouds.append((prediction, color, "predicted"))
    for x, paint, name in clouds:
        if x is None:
            continue
        u = view.plane.project(x[np.isfinite(x).all(1)])
        if view.low.size == 1:
            bins = list(np.linspace(view.low[0], view.high[0], 41))
            axis.hist(u[:, 0], bins, density=True, histtype="step", color=paint, label=name)
        else:
            _points(axis, u, 5, paint, 0.5, name)
    axis.set_title(title)
    _frame(axis, view)
    legend_below(axis)


def draw_paths(
    axis: Axes, paths: Paths, view: View, title: str, shown: int = 12, cloud: bool = True
) -> None:
    """Fill a panel with the paths of single particles, from a dot to an arrow head.

    Args:
        axis: The panel.
        paths: The particles that were followed.
        view: Where to look.
        title: Of the panel.
        shown: How many paths.
        cloud: Whether the observed particles are drawn behind them.
    """
    # Spread over the population: starting points far from each other, chosen one by one among
    # the nine tenths that are nearest to its middle.
    start = paths.x[0]
    middle = np.linalg.norm(start - np.median(start, axis=0), axis=1)
    chosen = [int(middle.argmin())]
    gap = np.linalg.norm(start - start[chosen[0]], axis=1)
    gap[middle > np.quantile(middle, 0.9)] = -np.inf
    while len(chosen) < min(shown, int(np.isfinite(gap).sum())):
        chosen.append(int(gap.argmax()))
        gap = np.minimum(gap, np.linalg.norm(start - start[chosen[-1]], axis=1))
    axis.set_title(title)
    if view.low.size == 1:
        for i in chosen:
            axis.plot(paths.times, view.plane.project(paths.x[:, i])[:, 0], color=COLORS[0], lw=0.9)
        axis.set(xlabel="time", ylabel=view.plane.labels[0])
        return
    if cloud:
        _points(axis, view.cloud, 3, GREY, 0.3, "observed")
    colors = SHADES
    norm = Normalize(paths.times[0], paths.times[-1])
    for i in chosen:
        u = view.plane.project(paths.x[:, i])
        pieces = np.stack([u[:-1], u[1:]], axis=1)
        axis.add_collection(
            LineCollection(list(pieces), colors=colors(norm(paths.times[:-1])), lw=1.4)
        )
    ends = np.stack([view.plane.project(paths.x[a][chosen]) for a in (0, -1)])
    axis.plot(*ends[0].T, "o", color=colors(0.0), markersize=3, label="start")
    axis.plot(*ends[1].T, "s", color=COLORS[1], markersize=3, label="end")
    color_bar(axis, ScalarMappable(norm, colors), "time")
    _frame(axis, view)
    legend_below(axis, dots=1.5)


def _points(axis: Axes, u: np.ndarray, size: float, color: Color, alpha: float, name: str) -> None:
    axis.scatter(
        u[:, 0],
        u[:, 1],
        s=size,
        color=[color],
        alpha=alpha,
        linewidths=0,
        label=name,
        rasterized=True,  # thousands of dots are a picture, not a drawing
    )


def _frame(axis: Axes, view: View) -> None:
    axis.set(xlabel=view.plane.labels[0], xlim=(view.low[0], view.high[0]))
    if view.low.size == 1:
        axis.set_ylabel("density")
        return
    axis.set(ylabel=view.plane.labels[1], ylim=(view.low[1], view.high[1]), aspect=view.aspect)
