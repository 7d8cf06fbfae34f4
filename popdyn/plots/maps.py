"""Maps in a plane: the potential, its error, the force field, the landscape with its wells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap

from popdyn.energies import FreeEnergy
from popdyn.plots.plane import View
from popdyn.plots.style import COLORS, GREY

__all__ = [
    "Surface",
    "Wells",
    "draw_error",
    "draw_force",
    "draw_landscape",
    "draw_potential",
    "find_wells",
    "gradient_error",
    "shared_levels",
    "surface",
]

_GRID = 141
_FAINT = 0.3  # opacity where no particles are near: what a learner says there is a guess


@dataclass(frozen=True, eq=False)
class Surface:
    """A function on the grid of a view.

    Attributes:
        ticks: Coordinates along each axis.
        values: ``(points, points)``, first axis upwards; ``(points,)`` for d = 1.
        near: Whether particles are near, of the same shape.
    """

    ticks: list[np.ndarray]
    values: np.ndarray
    near: np.ndarray

    @property
    def range(self) -> tuple[float, float]:
        """Smallest value, and the largest that is no outlier, where particles are near."""
        seen = self.values[self.near & np.isfinite(self.values)]
        if seen.size == 0:
            return 0.0, 1.0
        return float(seen.min()), float(np.quantile(seen, 0.98))


def surface(energy: FreeEnergy, view: View, t: float = 0.0, points: int = _GRID) -> Surface:
    """Return the potential on the view's grid, with mean 0 over the particles."""
    ticks, x = view.grid(points)
    values = energy.potential(x, t) - energy.potential(view.particles, t).mean()
    return _on_grid(ticks, values, view, x)


def gradient_error(
    estimate: FreeEnergy, truth: FreeEnergy, view: View, t: float = 0.0, points: int = _GRID
) -> Surface:
    """Return |∇V̂ − ∇V*| on the view's grid."""
    ticks, x = view.grid(points)
    gap = estimate.potential_gradient(x, t) - truth.potential_gradient(x, t)
    return _on_grid(ticks, np.linalg.norm(gap, axis=1), view, x)


def shared_levels(surfaces: Sequence[Surface], count: int = 25) -> np.ndarray:
    """Return colour levels for panels that are compared: those of the first, the truth.

    Where the first is flat, as the potential ``flat`` is, all of them decide.
    """
    low, high = surfaces[0].range
    if high - low < 1e-9:
        ranges = [s.range for s in surfaces]
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    return np.linspace(low, high if high - low > 1e-9 else low + 1.0, count)


def draw_potential(
    axis: Axes, shown: Surface, view: View, levels: np.ndarray, title: str, label: str = "V"
) -> None:
    """Fill a panel with a potential: colours by ``levels``, faint where there is no data.

    In one dimension the curve is drawn.
    """
    _fill(axis, shown, view, levels, title, label, colormaps["viridis"])


def draw_error(axis: Axes, shown: Surface, view: View, highest: float, title: str) -> None:
    """Fill a panel with an error: colours from 0 to ``highest``."""
    levels = np.linspace(0.0, max(highest, 1e-9), 25)
    _fill(axis, shown, view, levels, title, "|∇V̂ − ∇V*|", colormaps["magma"])


def draw_force(
    axis: Axes,
    energy: FreeEnergy,
    view: View,
    population: np.ndarray,
    title: str,
    *,
    t: float = 0.0,
    longest: float | None = None,
    points: int = 17,
) -> float:
    """Fill a panel with the force, −∇V − mean ∇W, as arrows over the particles.

    Args:
        axis: The panel.
        energy: Exerts the force, together with the population.
        view: Where to look.
        population: Particles that interact, ``(m, d)``; drawn as well.
        title: Of the panel.
        t: Time.
        longest: Force that the longest arrow stands for; that of this energy if None.
        points: Arrows along each axis.

    Returns:
        The force of the longest arrow, for panels to be compared.
    """
    ticks, x = view.grid(points)
    near = view.supported(x)
    force = np.asarray(energy.force(x, population, t)) @ view.plane.axes.T
    size = np.linalg.norm(force, axis=1)
    longest = longest or float(np.quantile(size[near], 0.98) if near.any() else size.max()) or 1.0
    cloud = view.plane.project(population[:800])
    axis.set_title(title)
    if len(ticks) == 1:
        axis.plot(x[:, 0], force[:, 0], color=COLORS[0])
        axis.set(xlabel=view.plane.labels[0], ylabel="force")
        return longest
    axis.scatter(*cloud.T, s=3, color=GREY, alpha=0.35, linewidths=0, rasterized=True)
    # An arrow longer than the longest that is compared would cover its neighbours.
    shrink = np.minimum(1.0, longest / np.maximum(size, 1e-12))[:, None]
    arrows = (force * shrink)[near]
    step = min((view.high - view.low) / (points - 1))
    axis.quiver(
        *view.plane.project(x)[near].T,
        *arrows.T,
        np.minimum(size, longest)[near],
        cmap="viridis",
        clim=(0, longest),
        angles="xy",
        scale_units="xy",
        scale=longest / (1.3 * step),
        width=0.006,
        pivot="mid",
    )
    mappable = ScalarMappable(cmap="viridis")
    mappable.set_clim(0, longest)
    axis.figure.colorbar(mappable, ax=axis, label="|force|")
    _frame(axis, view)
    return longest


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
    axis: Axes, shown: Surface, view: View, wells: Wells, title: str, smallest: float = 0.02
) -> None:
    """Fill a panel with the potential and its wells: depth, and the share that drains there."""
    draw_potential(axis, shown, view, shared_levels([shown]), title)
    if len(shown.ticks) == 2:
        levels = shared_levels([shown], 13)
        axis.contour(*shown.ticks, shown.values, levels, colors="white", linewidths=0.4, alpha=0.6)
    for bottom, share, depth in zip(wells.bottoms, wells.shares, wells.depths, strict=True):
        if share < smallest:
            continue
        place = view.plane.project(bottom[None])[0]
        point = (*place, depth)[:2] if len(shown.ticks) == 1 else place
        axis.plot(*point, marker="v", color=COLORS[1], markeredgecolor="white", markersize=8)
        axis.annotate(
            f"{depth:.2g}\n{share:.0%}",
            point,
            xytext=(6, -4),
            textcoords="offset points",
            fontsize=7,
            color="black",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "lw": 0},
        )


def _on_grid(ticks: list[np.ndarray], values: np.ndarray, view: View, x: np.ndarray) -> Surface:
    shape = tuple(len(t) for t in reversed(ticks))
    return Surface(ticks, np.asarray(values).reshape(shape), view.supported(x).reshape(shape))


def _fill(
    axis: Axes,
    shown: Surface,
    view: View,
    levels: np.ndarray,
    title: str,
    label: str,
    colors: Colormap,
) -> None:
    axis.set_title(title)
    if len(shown.ticks) == 1:
        axis.plot(shown.ticks[0], shown.values, color=COLORS[0], alpha=_FAINT)
        seen = np.where(shown.near, shown.values, np.nan)
        axis.plot(shown.ticks[0], seen, color=COLORS[0])
        pad = 0.1 * (levels[-1] - levels[0])
        axis.set(xlabel=view.plane.labels[0], ylabel=label, ylim=(levels[0] - pad, levels[-1] + pad))
        return
    norm = BoundaryNorm(levels, colors.N, extend="both")
    # Values that no potential should have are painted as the highest.
    image = colors(norm(np.nan_to_num(shown.values, nan=levels[-1] + 1)))
    image[..., 3] = np.where(shown.near, 1.0, _FAINT)
    corners = (*(view.low[0], view.high[0]), *(view.low[1], view.high[1]))
    axis.imshow(image, extent=corners, origin="lower", interpolation="nearest", aspect="auto")
    bar = axis.figure.colorbar(ScalarMappable(norm, colors), ax=axis, label=label)
    bar.set_ticks([levels[0], 0.5 * (levels[0] + levels[-1]), levels[-1]])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    _frame(axis, view)


def _frame(axis: Axes, view: View) -> None:
    axis.set(
        xlabel=view.plane.labels[0],
        ylabel=view.plane.labels[1],
        xlim=(view.low[0], view.high[0]),
        ylim=(view.low[1], view.high[1]),
        aspect="equal" if _square(view) else "auto",
    )


def _square(view: View) -> bool:
    width, height = view.high - view.low
    return bool(0.4 < width / height < 2.5)
