"""Maps in a plane: the potential, its error, and the force field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap

from popdyn.dynamics import FreeEnergy
from popdyn.plots.plane import View, sample
from popdyn.plots.style import COLORS, GREY, SHADES, color_bar
from popdyn.snapshots import times

__all__ = [
    "Surface",
    "draw_ends",
    "draw_error",
    "draw_force",
    "draw_potential",
    "gradient_error",
    "gradient_std",
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
    """Return the potential on the view's grid, with mean 0 over the particles.

    For d > 2 it is averaged over the particles seen at each place: a slice through so many
    dimensions would run where no particle is.
    """
    mean = energy.potential(view.particles, t).mean()
    return _shown(lambda x: energy.potential(x, t) - mean, view, points)


def gradient_error(
    estimate: FreeEnergy, truth: FreeEnergy, view: View, t: float = 0.0, points: int = _GRID
) -> Surface:
    """Return |∇V̂ − ∇V*| on the view's grid, for d > 2 averaged as in :func:`surface`."""

    def error(x: np.ndarray) -> np.ndarray:
        gap = estimate.potential_gradient(x, t) - truth.potential_gradient(x, t)
        return np.linalg.norm(gap, axis=1)

    return _shown(error, view, points)


def gradient_std(estimate: FreeEnergy, view: View, t: float = 0.0, points: int = _GRID) -> Surface:
    """Return the standard error of an ensemble's ∇V̂, its length, on the view's grid."""

    def std(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(estimate.potential_gradient_std(x, t), axis=1)

    return _shown(std, view, points)


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


def draw_ends(axis: Axes, data: xr.DataTree, view: View, points: int = 250) -> None:
    """Put the first and the last snapshot on top of a map, with a legend; nothing where d = 1."""
    if len(view.plane.axes) < 2:
        return
    t = times(data)
    for k, color in ((0, "white"), (len(t) - 1, COLORS[1])):
        dots = view.plane.project(sample(data, k, points))
        axis.scatter(
            dots[:, 0],
            dots[:, 1],
            s=5,
            color=color,
            edgecolors="black",
            linewidths=0.2,
            label=f"t = {t[k]:g}",
            rasterized=True,
        )
    axis.set(xlim=(view.low[0], view.high[0]), ylim=(view.low[1], view.high[1]))
    axis.legend(
        loc="upper right", fontsize="x-small", facecolor="0.7", framealpha=0.8, markerscale=2
    )


def draw_error(
    axis: Axes,
    shown: Surface,
    view: View,
    highest: float,
    title: str,
    label: str = "|∇V̂ − ∇V*|",
) -> None:
    """Fill a panel with an error: colours from 0 to ``highest``."""
    levels = np.linspace(0.0, max(highest, 1e-9), 25)
    _fill(axis, shown, view, levels, title, label, colormaps["magma"])


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
    cloud: int = 800,
) -> float:
    """Fill a panel with the force, −∇V − mean ∇W, as arrows over the particles.

    For d > 2 an arrow is the mean over the particles seen there, of all snapshots.

    Args:
        axis: The panel.
        energy: Exerts the force, together with the population.
        view: Where to look.
        population: Particles that interact, ``(m, d)``; drawn as well.
        title: Of the panel.
        t: Time.
        longest: Force that the longest arrow stands for; that of this energy if None.
        points: Arrows along each axis.
        cloud: Particles drawn.

    Returns:
        The force of the longest arrow, for panels to be compared.
    """
    ticks, x = view.grid(points)
    near = view.supported(x)
    if view.deep:
        there = np.asarray(energy.force(view.particles, population, t)) @ view.plane.axes.T
        force = view.averaged(there, ticks).reshape(-1, 2)
    else:
        force = np.asarray(energy.force(x, population, t)) @ view.plane.axes.T
    size = np.linalg.norm(force, axis=1)
    longest = longest or float(np.quantile(size[near], 0.98) if near.any() else size.max()) or 1.0
    dots = view.plane.project(population[:cloud])
    axis.set_title(title)
    if len(ticks) == 1:
        axis.plot(x[:, 0], force[:, 0], color=COLORS[0])
        axis.set(xlabel=view.plane.labels[0], ylabel="force")
        return longest
    axis.scatter(dots[:, 0], dots[:, 1], s=3, color=GREY, alpha=0.35, linewidths=0, rasterized=True)
    # Lengths by the square root: weak forces keep a direction that can be seen, and none is
    # so long that it covers its neighbours.
    share = np.minimum(size / longest, 1.0)
    arrows = (force * (np.sqrt(share) / np.maximum(size, 1e-12))[:, None])[near]
    step = min((view.high - view.low) / (points - 1))
    axis.quiver(
        *view.plane.project(x)[near].T,
        *arrows.T,
        np.minimum(size, longest)[near],
        cmap=SHADES,
        clim=(0, longest),
        angles="xy",
        scale_units="xy",
        scale=1.0 / (1.3 * step),
        width=0.006,
        pivot="mid",
    )
    mappable = ScalarMappable(cmap=SHADES)
    mappable.set_clim(0, longest)
    color_bar(axis, mappable, "|force| (length: its root)")
    _frame(axis, view)
    return longest


def _shown(function: Callable[[np.ndarray], np.ndarray], view: View, points: int) -> Surface:
    ticks, x = view.grid(points)
    if view.deep:
        values = view.averaged(np.asarray(function(view.particles)), ticks)
    else:
        values = np.asarray(function(x))
    return _on_grid(ticks, values, view, x)


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
        axis.set(
            xlabel=view.plane.labels[0], ylabel=label, ylim=(levels[0] - pad, levels[-1] + pad)
        )
        return
    norm = BoundaryNorm(levels, colors.N, extend="both")
    # Values that no potential should have are painted as the highest.
    image = colors(norm(np.nan_to_num(shown.values, nan=levels[-1] + 1)))
    image[..., 3] = np.where(shown.near, 1.0, _FAINT)
    corners = (*(view.low[0], view.high[0]), *(view.low[1], view.high[1]))
    axis.imshow(image, extent=corners, origin="lower", interpolation="nearest", aspect="auto")
    bar = color_bar(axis, ScalarMappable(norm, colors), label)
    bar.set_ticks([levels[0], 0.5 * (levels[0] + levels[-1]), levels[-1]])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "−"))
    _frame(axis, view)


def _frame(axis: Axes, view: View) -> None:
    axis.set(
        xlabel=view.plane.labels[0],
        ylabel=view.plane.labels[1],
        xlim=(view.low[0], view.high[0]),
        ylim=(view.low[1], view.high[1]),
        aspect=view.aspect,
    )
