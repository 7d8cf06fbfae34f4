"""Figures: what was true, what came back, and where the particles were."""

from popdyn.plots.animation import animate
from popdyn.plots.catalogue import FIGURES
from popdyn.plots.figures import (
    cells_figure,
    force_figure,
    interaction_figure,
    landscape_figure,
    potential_figure,
    prediction_figure,
    snapshots_figure,
    training_figure,
    trajectories_figure,
)
from popdyn.plots.of_run import energy_html, plot, small_picture
from popdyn.plots.style import save_figure

__all__ = [
    "FIGURES",
    "animate",
    "cells_figure",
    "energy_html",
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
