"""The registry of figures, which the command line reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import xarray as xr
from matplotlib.figure import Figure

from popdyn.dynamics import FreeEnergy
from popdyn.plots.figures import (
    PlaneLike,
    cells_figure,
    force_figure,
    interaction_figure,
    landscape_figure,
    potential_figure,
    prediction_figure,
    snapshots_figure,
    training_figure,
    trajectories_figure,
    truth_of,
)

__all__ = ["FIGURES", "FigureEntry", "Learned"]


class Learned(Protocol):
    """What a figure reads of a run."""

    learner: str
    config: dict[str, Any]
    metrics: list[dict[str, float]]
    certificate: dict[str, Any]

    @property
    def energy(self) -> FreeEnergy:
        """The learned V, W and β."""


@dataclass(frozen=True)
class FigureEntry:
    """An entry of ``FIGURES``.

    Attributes:
        name: Registry key, and the file's name.
        summary: One line on what it shows.
        draw: ``(run, data, plane, seed) → Figure``.
        applies: Whether the figure has anything to show.
    """

    name: str
    summary: str
    draw: Callable[[Learned, xr.DataTree, PlaneLike, int], Figure]
    applies: Callable[[Learned, xr.DataTree], bool] = lambda run, data: True


def _held(run: Learned) -> tuple[int, ...]:
    return tuple(run.config.get("hold_out", ()))


def _interacts(run: Learned, data: xr.DataTree) -> bool:
    truth = truth_of(data)
    return run.energy.W is not None or (truth is not None and truth.W is not None)


FIGURES: dict[str, FigureEntry] = {
    entry.name: entry
    for entry in (
        FigureEntry(
            "potential",
            "The potential, true and recovered, and the error of its gradient.",
            lambda run, data, plane, seed: potential_figure(run.energy, data, plane=plane),
        ),
        FigureEntry(
            "force",
            "The force field, true and recovered.",
            lambda run, data, plane, seed: force_figure(run.energy, data, plane=plane),
        ),
        FigureEntry(
            "interaction",
            "The interaction by distance, true and recovered.",
            lambda run, data, plane, seed: interaction_figure(run.energy, data),
            _interacts,
        ),
        FigureEntry(
            "landscape",
            "The learned landscape with its wells.",
            lambda run, data, plane, seed: landscape_figure(run.energy, data, plane=plane),
        ),
        FigureEntry(
            "cells",
            "The particles of all snapshots, by time.",
            lambda run, data, plane, seed: cells_figure(data, plane=plane),
        ),
        FigureEntry(
            "snapshots",
            "Every snapshot, observed and predicted.",
            lambda run, data, plane, seed: snapshots_figure(
                run.energy, data, hold_out=_held(run), plane=plane, seed=seed
            ),
        ),
        FigureEntry(
            "prediction",
            "The held-out snapshots (or the last), observed and predicted.",
            lambda run, data, plane, seed: prediction_figure(
                run.energy, data, hold_out=_held(run), plane=plane, seed=seed
            ),
        ),
        FigureEntry(
            "trajectories",
            "Paths of single particles under the learned energy.",
            lambda run, data, plane, seed: trajectories_figure(
                run.energy, data, plane=plane, seed=seed
            ),
        ),
        FigureEntry(
            "training",
            "The training curve with its certificate.",
            lambda run, data, plane, seed: training_figure(
                run.metrics, run.certificate, run.learner
            ),
        ),
    )
}
