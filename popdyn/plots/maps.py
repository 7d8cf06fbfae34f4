"""Maps in a plane: the potential, its error, and the force field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, Normalize

from popdyn.dynamics import FreeEnergy
from popdyn.plots.curves import draw_band
from popdyn.plots.plane import View, sample
from popdyn.plots.style import COLORS, GREY, SHADES, color_bar, legend_below
from popdyn.snapshots import times

__all__ = [
    "ForceField",
    "Surface",
    "draw_curves",
    "draw_error",
    "draw_force",
    "draw_forces",
    "draw_potential",
    "force_field",
    "gradient_error",
    "gradient_off",
    "gradient_size",
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
        label: What is shown.
    """

    ticks: list[np.ndarray]
    values: np.ndarray
    near: np.ndarray
    label: str

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
    return _shown(lambda x: energy.potential(x, t) - mean, view, points, "V")


def gradient_size(energy: FreeEnergy, view: View, t: float = 0.0) -> float:
    """Return the root mean square of |∇V| over the particles; 1 where there is no force."""
    size = _gap(energy, FreeEnergy(), view.particles, t)
    return float(np.sqrt(np.square(size).mean())) or 1.0


def gradient_off(estimate: FreeEnergy, truth: FreeEnergy, view: View, t: float = 0.0) -> float:
    """Return the root mean square of ∇V̂ − ∇V* over the particles, in the unit of ∇V*'s own."""
    gap = _gap(estimate, truth, view.particles, t)
    return float(np.sqrt(np.square(gap).mean())) / gradient_size(truth, view, t)


def _gap(estimate: FreeEnergy, truth: FreeEnergy, x: np.ndarray, t: float) -> np.ndarray:
    """Return |∇V̂ − ∇V*| at positions, ``(n, d) → (n)``."""
    gap = estimate.potential_gradient(x, t) - truth.potential_gradient(x, t)
    return np.linalg.norm(gap, axis=1)


def gradient_error(
    estimate: FreeEnergy, truth: FreeEnergy, view: View, t: float = 0.0, points: int = _GRID
) -> Surface:
    """Return |∇V̂ − ∇V*| on the view's grid, for d > 2 averaged as in :func:`surface`.

    The unit is the gradient's own root mean square, so that 1 is as wrong as no gradient at all.
    """
    size = gradient_size(truth, view, t)
    return _shown(
        lambda x: _gap(estimate, truth, x, t) / size, view, points, "share of the gradient"
    )


def gradient_std(
    estimate: FreeEnergy,
    of: FreeEnergy,
    view: View,
    t: float = 0.0,
    points: int = _GRID,
) -> Surface:
    """Return the standard error of ∇V̂, its length, in the unit of ∇V of another energy."""
    size = gradient_size(of, view, t)

    def std(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(estimate.potential_gradient_std(x, t), axis=1) / size

    return _shown(std, view, points, "share of the gradient")


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
    axis: Axes,
    shown: Surface,
    view: View,
    levels: np.ndarray,
    title: str,
    ends: xr.DataTree | None = None,
) -> None:
    """Fill a panel with a potential: colours by ``levels``, faint where there is no data.

    In one dimension the curve is drawn. In two the first and the last snapshot of the data
    ``ends`` lie on top.
    """
    _fill(axis, shown, view, levels, title, colormaps["viridis"])
    if ends is None or len(shown.ticks) == 1:
        return
    t = times(ends)
    for k, color in ((0, "white"), (len(t) - 1, COLORS[1])):
        name = f"t = {t[k]:g}"
        view.dots(axis, sample(ends, k, 250), 5, color, name, edgecolors="black", linewidths=0.2)
    view.frame(axis)
    axis.legend(
        loc="upper right", fontsize="x-small", facecolor="0.7", framealpha=0.8, markerscale=2
    )


def draw_error(axis: Axes, shown: Surface, view: View, title: str) -> None:
    """Fill a panel with an error: colours from 0 to as large as the gradient itself."""
    _fill(axis, shown, view, np.linspace(0.0, 1.0, 26), title, colormaps["magma"])


def draw_curves(
    axis: Axes, shown: Mapping[str, FreeEnergy], view: View, t: float, title: str
) -> None:
    """Fill a panel with potentials of one dimension, and a standard error on either side.

    Args:
        axis: The panel.
        shown: Energies by name; a name that starts with ``true`` is drawn in grey.
        view: Where to look; curves are faint where no particles are near.
        t: Time.
        title: Of the panel.
    """
    ticks, x = view.grid(_GRID)
    near = view.supported(x)
    high: list[float] = []
    for i, (name, energy) in enumerate(shown.items()):
        values = energy.potential(x, t) - energy.potential(view.particles, t).mean()
        paint = _curve(axis, ticks[0], values, near, name, i)
        std = getattr(energy.V, "value_std", None)
        if std is not None:
            here, there = (torch.from_numpy(np.array(y)) for y in (x, view.particles))
            draw_band(axis, ticks[0], values, std(here, there, t).detach().numpy(), paint)
        high += [*values[near & np.isfinite(values)]]
    low, top = (min(high), max(high)) if high else (0.0, 1.0)
    pad = 0.1 * (top - low) or 1.0
    axis.set(title=title, xlabel=view.plane.labels[0], ylabel="V", ylim=(low - pad, top + pad))
    legend_below(axis, 2)


def _curve(
    axis: Axes, x: np.ndarray, values: np.ndarray, near: np.ndarray, name: str, i: int
) -> str:
    """Draw the i-th curve, faint where no particles are near, and return its colour."""
    paint, wide = (GREY, 3.0) if name.startswith("true") else (COLORS[i % len(COLORS)], 1.4)
    axis.plot(x, values, color=paint, lw=wide, alpha=_FAINT)
    axis.plot(x, np.where(near, values, np.nan), color=paint, lw=wide, label=name)
    return paint


@dataclass(frozen=True, eq=False)
class ForceField:
    """A force on the grid of a view: where, its components in the plane, and where it is known.

    Attributes:
        x: Points in d dimensions, ``(n, d)``.
        force: Components in the plane, ``(n, 2)``; ``(n, 1)`` for d = 1.
        size: Their length, ``(n)``.
        near: Whether particles are near, ``(n)``.
        spacing: Between the points, along the axis where it is smaller.
    """

    x: np.ndarray
    force: np.ndarray
    size: np.ndarray
    near: np.ndarray
    spacing: float

    @property
    def longest(self) -> float:
        """The largest force that is no outlier, where particles are near."""
        seen = np.quantile(self.size[self.near], 0.98) if self.near.any() else self.size.max()
        return float(seen) or 1.0


def force_field(
    energy: FreeEnergy, view: View, population: np.ndarray, t: float = 0.0, points: int = 17
) -> ForceField:
    """Return the force, −∇V − mean ∇W over the population, at ``points`` along each axis.

    For d > 2 it is the mean over the particles seen there, of all snapshots.
    """
    ticks, x = view.grid(points)
    at = view.particles if view.deep else x
    force = np.asarray(energy.force(at, population, t)) @ view.plane.axes.T
    if view.deep:
        force = view.averaged(force, ticks).reshape(-1, 2)
    spacing = float(min((view.high - view.low) / (points - 1)))
    return ForceField(x, force, np.linalg.norm(force, axis=1), view.supported(x), spacing)


def draw_forces(axis: Axes, shown: Mapping[str, ForceField], view: View, title: str) -> None:
    """Fill a panel with forces of one dimension by name, the truth in grey."""
    for i, (name, field) in enumerate(shown.items()):
        _curve(axis, view.plane.project(field.x)[:, 0], field.force[:, 0], field.near, name, i)
    axis.set(title=title, xlabel=view.plane.labels[0], ylabel="force")
    legend_below(axis, 2)


def draw_force(
    axis: Axes,
    shown: ForceField,
    view: View,
    population: np.ndarray,
    title: str,
    longest: float,
) -> None:
    """Fill a panel with a force as arrows over the particles.

    Args:
        axis: The panel.
        shown: The force.
        view: Where to look.
        population: Particles to draw, ``(m, d)``.
        title: Of the panel.
        longest: Force that the longest arrow stands for, for panels to be compared.
    """
    axis.set_title(title)
    u, size, near = view.plane.project(shown.x), shown.size, shown.near
    view.dots(axis, population, 3, GREY, alpha=0.35)
    # Lengths by the square root: weak forces keep a direction that can be seen, and none is
    # so long that it covers its neighbours.
    share = np.minimum(size / longest, 1.0)
    arrows = (shown.force * (np.sqrt(share) / np.maximum(size, 1e-12))[:, None])[near]
    axis.quiver(
        *u[near].T,
        *arrows.T,
        np.minimum(size, longest)[near],
        cmap=SHADES,
        clim=(0, longest),
        angles="xy",
        scale_units="xy",
        scale=1.0 / (1.3 * shown.spacing),
        width=0.006,
        pivot="mid",
    )
    color_bar(axis, ScalarMappable(Normalize(0, longest), SHADES), "|force| (length: its root)")
    view.frame(axis)


def _shown(
    function: Callable[[np.ndarray], np.ndarray], view: View, points: int, label: str
) -> Surface:
    ticks, x = view.grid(points)
    if view.deep:
        values = view.averaged(np.asarray(function(view.particles)), ticks)
    else:
        values = np.asarray(function(x))
    shape = tuple(len(t) for t in reversed(ticks))
    return Surface(ticks, values.reshape(shape), view.supported(x).reshape(shape), label)


def _fill(
    axis: Axes,
    shown: Surface,
    view: View,
    levels: np.ndarray,
    title: str,
    colors: Colormap,
) -> None:
    axis.set_title(title)
    if len(shown.ticks) == 1:
        axis.plot(shown.ticks[0], shown.values, color=COLORS[0], alpha=_FAINT)
        seen = np.where(shown.near, shown.values, np.nan)
        axis.plot(shown.ticks[0], seen, color=COLORS[0])
        pad = 0.1 * (levels[-1] - levels[0])
        axis.set(
            xlabel=view.plane.labels[0],
            ylabel=shown.label,
            ylim=(levels[0] - pad, levels[-1] + pad),
        )
        return
    norm = BoundaryNorm(levels, colors.N, extend="both")
    # Values that no potential should have are painted as the highest.
    image = colors(norm(np.nan_to_num(shown.values, nan=levels[-1] + 1)))
    image[..., 3] = np.where(shown.near, 1.0, _FAINT)
    corners = (*(view.low[0], view.high[0]), *(view.low[1], view.high[1]))
    axis.imshow(image, extent=corners, origin="lower", interpolation="nearest", aspect="auto")
    bar = color_bar(axis, ScalarMappable(norm, colors), shown.label)
    bar.set_ticks([levels[0], 0.5 * (levels[0] + levels[-1]), levels[-1]])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "−"))
    view.frame(axis)
