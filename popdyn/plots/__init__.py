"""Figures: what was true, what came back, and where the particles were."""

from functools import partial

from popdyn.plots.animation import animate
from popdyn.plots.figures import FIGURES, cells_figure, figure_of, training_figure
from popdyn.plots.of_run import energy_html, plot, small_picture
from popdyn.plots.style import save_figure

__all__ = [
    "FIGURES",
    "animate",
    "cells_figure",
    "energy_html",
    "figure_of",
    "force_figure",
    "interaction_figure",
    "landscape_figure",
    "plot",
    "potential_figure",
    "prediction_figure",
    "save_figure",
    "small_picture",
    "snapshots_figure",
    "training_figure",
    "trajectories_figure",
]

force_figure = partial(figure_of, "force")
interaction_figure = partial(figure_of, "interaction")
landscape_figure = partial(figure_of, "landscape")
potential_figure = partial(figure_of, "potential")
prediction_figure = partial(figure_of, "prediction")
snapshots_figure = partial(figure_of, "snapshots")
trajectories_figure = partial(figure_of, "trajectories")
