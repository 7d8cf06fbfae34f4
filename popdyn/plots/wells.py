"""The landscape of a potential: where its wells are, how deep, and who drains into them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from popdyn.plots.maps import Surface, draw_potential
from popdyn.plots.plane import View
from popdyn.plots.style import COLORS, legend_below
from popdyn.simulation.landscape import Wells

__all__ = ["draw_landscape"]

WELL = "well: V there, share of the cells that drains there"


def draw_landscape(
    axis: Axes,
    shown: tuple[Surface, Wells],
    view: View,
    levels: np.ndarray,
    title: str,
    smallest: float = 0.02,
) -> None:
    """Fill a panel with the potential, colours by ``levels``, and its wells.

    Beside each stand V at its bottom, less the mean over the particles, and the share of them that
    drains there.
    """
    surface, wells = shown
    draw_potential(axis, surface, view, levels, title)
    if len(surface.ticks) == 2:
        axis.contour(
            *surface.ticks, surface.values, levels[::2], colors="white", linewidths=0.4, alpha=0.6
        )
    for bottom, share, depth in zip(wells.bottoms, wells.shares, wells.depths, strict=True):
        if share < smallest:
            continue
        place = view.plane.project(bottom[None])[0]
        point = (*place, depth)[:2] if len(surface.ticks) == 1 else place
        axis.plot(*point, "v", color=COLORS[1], markeredgecolor="white", markersize=8, label=WELL)
        # The label hangs into the window, not out of it.
        high = len(surface.ticks) == 2 and 2 * place[1] > view.low[1] + view.high[1]
        axis.annotate(
            f"{depth:.2g}\n{share:.0%}".replace("-", "−"),
            point,
            xytext=(6, 0),
            textcoords="offset points",
            va="top" if high else "bottom",
            annotation_clip=True,  # a well outside the window has no label in it
            fontsize=7,
            color="black",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "lw": 0},
        )
    if axis.get_legend_handles_labels()[0]:
        legend_below(axis, dots=1.0)
