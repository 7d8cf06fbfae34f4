"""Figures: what was true, what came back, and where the particles were."""

from popdyn.plots.maps import potential_figure
from popdyn.plots.style import save_figure

__all__ = ["potential_figure", "save_figure"]
