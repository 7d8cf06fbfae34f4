"""Figures: what was true, what came back, and where the particles were."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from popdyn.energies import FreeEnergy
from popdyn.errors import PopdynError
from popdyn.snapshots import counts, dimension, positions, times

matplotlib.use("Agg")  # a figure is a file here; a window would need a screen

__all__ = ["potential_figure", "save_figure"]


def potential_figure(
    estimate: FreeEnergy, data: xr.DataTree, truth: FreeEnergy | None = None, points: int = 400
) -> Figure:
    """Return the true and the recovered potential side by side, with particles on top.

    Both panels share one colour scale; each potential is shifted to mean 0 over the particles. For
    d > 2 the plane of the first two components through the mean is shown.

    Args:
        estimate: The learned energy.
        data: Its data set; gives the particles and the range.
        truth: The known energy, or None for the recovered panel alone.
        points: Particles drawn for each of the first and the last snapshot.

    Raises:
        PopdynError: In dimension 1.
    """
    d = dimension(data)
    if d < 2:
        raise PopdynError(f"the potential's figure needs dimension 2 or more, found {d}")
    t = times(data)
    group = "test" if counts(data, "test").min() > 0 else "train"
    first, last = (positions(data, k, group)[:points] for k in (0, len(t) - 1))
    everything = np.concatenate([first, last])
    low, high = np.quantile(everything[:, :2], [0.005, 0.995], axis=0)
    margin = 0.05 * (high - low)
    axes = [np.linspace(a, b, 121) for a, b in zip(low - margin, high + margin, strict=True)]
    grid = np.tile(everything.mean(0), (121 * 121, 1))
    grid[:, :2] = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)

    now = float(t[-1]) if estimate.time_dependent or (truth and truth.time_dependent) else None
    panels = [("recovered V", estimate)] if truth is None else [
        ("true V", truth), ("recovered V", estimate)
    ]  # fmt: skip
    surfaces = [
        (title, (energy.potential(grid, now) - energy.potential(everything, now).mean()))
        for title, energy in panels
    ]
    lowest, highest = np.quantile(surfaces[0][1], [0.0, 0.98])
    levels = np.linspace(lowest, max(highest, lowest + 1e-9), 25)
    figure = Figure(figsize=(5.2 * len(surfaces) + 0.8, 4.6), layout="constrained")
    subplots = figure.subplots(1, len(surfaces), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (title, values) in zip(subplots, surfaces, strict=True):
        filled = axis.contourf(*axes, values.reshape(121, 121), levels, cmap="viridis", extend="both")
        axis.scatter(*first[:, :2].T, s=4, c="white", alpha=0.6, label=f"t = {t[0]:g}")
        axis.scatter(*last[:, :2].T, s=4, c="tab:red", alpha=0.6, label=f"t = {t[-1]:g}")
        axis.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    subplots[0].legend(loc="upper right", framealpha=0.9, facecolor="0.6")
    figure.colorbar(filled, ax=list(subplots), label="potential, dimensionless")
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure; the ending chooses the format (``.png``, ``.svg``, ``.pdf``)."""
    figure.savefig(path, dpi=150)
