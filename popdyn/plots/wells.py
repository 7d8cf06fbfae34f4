"""The landscape of a potential: where its wells are, how deep, and who drains into them."""

from __future__ import annotations

from matplotlib.axes import Axes

from popdyn.plots.maps import Surface, draw_potential, shared_levels
from popdyn.plots.plane import View
from popdyn.plots.style import COLORS
from popdyn.simulation.landscape import Wells

__all__ = ["draw_landscape"]


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
