"""The landscape of a potential: where its wells are, how deep, and who drains into them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes

from popdyn.dynamics import FreeEnergy
from popdyn.plots.maps import Surface, draw_potential, shared_levels
from popdyn.plots.plane import View
from popdyn.plots.style import COLORS

__all__ = ["Wells", "draw_landscape", "find_wells"]


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
    it does not; particles that end together share a well. A particle that runs off, or still
    runs at the end, is in none.

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
            mine = left & (np.linalg.norm(ends - ends[i], axis=1) < 0.25 * float(spread))
            left &= ~mine
            bottoms.append(ends[i])
            sizes.append(mine.sum() / len(x))
            lows.append(float(depths[i]) - mean)
    rank = np.argsort(sizes)[::-1]
    shape = (len(rank), x.shape[1])
    return Wells(
        np.array(bottoms).reshape(shape) if not len(rank) else np.array(bottoms)[rank],
        np.array(sizes)[rank],
        np.array(lows)[rank],
    )


def draw_landscape(
    axis: Axes, shown: tuple[Surface, Wells], view: View, title: str, smallest: float = 0.02
) -> None:
    """Fill a panel with the potential and its wells: depth, and the share that drains there."""
    surface, wells = shown
    draw_potential(axis, surface, view, shared_levels([surface]), title)
    if len(surface.ticks) == 2:
        levels = shared_levels([surface], 13)
        axis.contour(
            *surface.ticks, surface.values, levels, colors="white", linewidths=0.4, alpha=0.6
        )
    for bottom, share, depth in zip(wells.bottoms, wells.shares, wells.depths, strict=True):
        if share < smallest:
            continue
        place = view.plane.project(bottom[None])[0]
        point = (*place, depth)[:2] if len(surface.ticks) == 1 else place
        axis.plot(*point, marker="v", color=COLORS[1], markeredgecolor="white", markersize=8)
        # The label hangs into the window, not out of it.
        high = len(surface.ticks) == 2 and 2 * place[1] > view.low[1] + view.high[1]
        axis.annotate(
            f"{depth:.2g}\n{share:.0%}",
            point,
            xytext=(6, 0),
            textcoords="offset points",
            va="top" if high else "bottom",
            annotation_clip=True,  # a well outside the window has no label in it
            fontsize=7,
            color="black",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "lw": 0},
        )
