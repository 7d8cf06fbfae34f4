"""Whole figures, one function each, and the registry that the command line reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from popdyn.base.errors import PopdynError
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.plots import curves, maps, populations
from popdyn.plots.plane import View, sample, view_of
from popdyn.plots.style import new_figure, styled
from popdyn.plots.wells import draw_landscape, find_wells
from popdyn.snapshots import dimension, times

__all__ = [
    "cells_figure",
    "force_figure",
    "interaction_figure",
    "landscape_figure",
    "potential_figure",
    "prediction_figure",
    "shown_times",
    "snapshots_figure",
    "training_figure",
    "trajectories_figure",
    "truth_of",
]

PlaneLike = str | Sequence[int] | None


def truth_of(data: xr.DataTree) -> FreeEnergy | None:
    """Return the true energy that the data carries, or None."""
    spec = data.attrs.get("dynamics")
    return None if spec is None else Dynamics.from_spec(spec).energy


def shown_times(data: xr.DataTree, *energies: FreeEnergy | None) -> list[float]:
    """Return the times at which energies are drawn: more than the last only where V moves."""
    t = times(data)
    if not any(e is not None and e.time_dependent for e in energies):
        return [float(t[-1])]
    return [float(t[0]), float(t[len(t) // 2]), float(t[-1])]


@styled
def potential_figure(
    estimate: FreeEnergy,
    data: xr.DataTree,
    truth: FreeEnergy | None = None,
    *,
    plane: PlaneLike = None,
) -> Figure:
    """Return the true and the recovered potential on one colour scale, and the gradient's error.

    Of an ensemble the standard error of its gradient is drawn too, on the error's scale. The
    particles of the first and of the last snapshot lie on top.

    Each potential has mean 0 over the particles. Colours are faint where no particles are near:
    what is shown there is a guess. For d > 2 it is averaged over the particles seen there.

    Args:
        estimate: The learned energy.
        data: Its data set; gives the particles and the window.
        truth: The known energy; that of the data if None, and none if it has none.
        plane: Two components, counted from 1, or ``"pca"``; the latter if None and d > 2.
    """
    view, truth = view_of(data, plane), truth or truth_of(data)
    moments = shown_times(data, estimate, truth)
    several = hasattr(estimate.V, "gradient_std")
    if truth is None:  # the times beside each other; with a truth one below the other
        figure, axes = new_figure(len(moments), 1 + several)
        axes = axes.T
    else:
        figure, axes = new_figure(3 + several, len(moments))
    for row, t in zip(axes, moments, strict=True):
        at = f", t = {t:g}" if len(moments) > 1 else ""
        back = maps.surface(estimate, view, t)
        if truth is None:
            levels = maps.shared_levels([back])
            maps.draw_potential(row[0], back, view, levels, f"recovered V{at}")
            if several:
                _draw_std(row[1], estimate, view, t, None, at)
            continue
        true = maps.surface(truth, view, t)
        levels = maps.shared_levels([true, back])
        maps.draw_potential(row[0], true, view, levels, f"true V{at}")
        maps.draw_potential(row[1], back, view, levels, f"recovered V{at}")
        error = maps.gradient_error(estimate, truth, view, t)
        maps.draw_error(row[2], error, view, error.range[1], f"error of the gradient{at}")
        if several:
            _draw_std(row[3], estimate, view, t, error.range[1], at)
    for axis in axes[:, : 1 if truth is None else 2].flat:
        maps.draw_ends(axis, data, view)
    return figure


def _draw_std(
    axis: Axes, estimate: FreeEnergy, view: View, t: float, highest: float | None, at: str
) -> None:
    std = maps.gradient_std(estimate, view, t)
    highest = std.range[1] if highest is None else highest
    title = f"standard error of the gradient{at}"
    maps.draw_error(axis, std, view, highest, title, "standard error of ∇V̂")


@styled
def force_figure(
    estimate: FreeEnergy,
    data: xr.DataTree,
    truth: FreeEnergy | None = None,
    *,
    plane: PlaneLike = None,
) -> Figure:
    """Return the force field, −∇V − mean ∇W, true and recovered, arrows on one scale.

    Arguments as for :func:`potential_figure`.
    """
    view, truth = view_of(data, plane), truth or truth_of(data)
    moments = shown_times(data, estimate, truth)
    panels = [("recovered force", estimate)]
    if truth is not None:
        panels.insert(0, ("true force", truth))
    if truth is None:
        figure, axes = new_figure(len(moments))
        axes = axes.T
    else:
        figure, axes = new_figure(len(panels), len(moments))
    t_all = times(data)
    for row, t in zip(axes, moments, strict=True):
        population = sample(data, int(np.abs(t_all - t).argmin()), 1000)
        longest = None
        for axis, (title, energy) in zip(row, panels, strict=True):
            at = f", t = {t:g}"
            longest = maps.draw_force(
                axis, energy, view, population, title + at, t=t, longest=longest
            )
    return figure


@styled
def landscape_figure(
    estimate: FreeEnergy, data: xr.DataTree, *, plane: PlaneLike = None, points: int = 400
) -> Figure:
    """Return the learned landscape with its wells: depth, and the share that drains into each.

    Args:
        estimate: The learned energy.
        data: Gives the particles that descend.
        plane: As for :func:`potential_figure`.
        points: Particles that descend.
    """
    view = view_of(data, plane)
    moments = shown_times(data, estimate)
    figure, axes = new_figure(len(moments))
    t_all = times(data)
    for axis, t in zip(axes[0], moments, strict=True):
        k = int(np.abs(t_all - t).argmin())
        wells = find_wells(estimate, sample(data, k, points), t)
        shown = maps.surface(estimate, view, t)
        draw_landscape(axis, shown, view, wells, f"landscape and wells, t = {t:g}")
    return figure


@styled
def cells_figure(data: xr.DataTree, *, plane: PlaneLike = None) -> Figure:
    """Return the particles of all snapshots, coloured by time."""
    view = view_of(data, plane)
    figure, axes = new_figure()
    populations.draw_cells(axes[0, 0], data, view, "observed, by time")
    return figure


@styled
def snapshots_figure(
    estimate: FreeEnergy,
    data: xr.DataTree,
    *,
    hold_out: Sequence[int] = (),
    plane: PlaneLike = None,
    seed: int = 0,
) -> Figure:
    """Return every snapshot as observed, and as predicted from the one before.

    Args:
        estimate: The learned energy.
        data: The observed snapshots.
        hold_out: Indices that no prediction starts from.
        plane: As for :func:`potential_figure`.
        seed: Seed of the noise.
    """
    view, t = view_of(data, plane), times(data)
    # As if all were asked for; a held-out one is reached from the last observed before it.
    ahead = {
        k: populations.predicted(
            estimate, data, hold_out=tuple({*hold_out, k}), points=800, seed=seed
        ).get(k)
        for k in range(1, len(t))
    }
    columns = min(3, len(t))
    figure, axes = new_figure(columns, -(-len(t) // columns))
    for axis in axes.flat[len(t) :]:
        axis.set_axis_off()
    for k in range(len(t)):
        name = f"t = {t[k]:g}" + (", held out" if k in hold_out else "")
        populations.draw_comparison(axes.flat[k], sample(data, k, 800), ahead.get(k), view, name)
    return figure


@styled
def prediction_figure(
    estimate: FreeEnergy,
    data: xr.DataTree,
    *,
    hold_out: Sequence[int] = (),
    plane: PlaneLike = None,
    seed: int = 0,
) -> Figure:
    """Return the prediction of the held-out snapshots beside where it started and what was there.

    Without held-out snapshots the last one is shown. Arguments as for :func:`snapshots_figure`.
    """
    view, t = view_of(data, plane), times(data)
    wanted = sorted(k for k in set(hold_out) if k > 0) or [len(t) - 1]
    ahead = populations.predicted(estimate, data, hold_out=hold_out or wanted, seed=seed)
    shown = [k for k in wanted if k in ahead]
    if not shown:
        raise PopdynError(f"nothing was observed before the held-out snapshots {wanted}")
    figure, axes = new_figure(len(shown))
    for axis, k in zip(axes[0], shown, strict=True):
        before = max(j for j in range(k) if j not in hold_out)
        populations.draw_comparison(
            axis,
            sample(data, k, 800),
            ahead[k],
            view,
            f"t = {t[k]:g}, predicted from t = {t[before]:g}",
            start=sample(data, before, 800),
        )
    return figure


@styled
def trajectories_figure(
    estimate: FreeEnergy, data: xr.DataTree, *, plane: PlaneLike = None, seed: int = 0
) -> Figure:
    """Return paths of single particles under the learned energy, from the first snapshot on."""
    view = view_of(data, plane)
    figure, axes = new_figure()
    paths = populations.paths_of(estimate, data, seed=seed)
    populations.draw_paths(axes[0, 0], paths, view, "paths of single particles")
    return figure


@styled
def interaction_figure(
    estimate: FreeEnergy, data: xr.DataTree, truth: FreeEnergy | None = None
) -> Figure:
    """Return the interaction by distance, true and recovered, over the distances observed."""
    truth = truth or truth_of(data)
    energies = {} if truth is None else {"true W": truth}
    figure, axes = new_figure()
    distances = curves.pair_distances(data)
    shown = energies | {"recovered W": estimate}
    curves.draw_interaction(axes[0, 0], shown, distances, dimension(data), "interaction")
    return figure


@styled
def training_figure(
    metrics: Sequence[Mapping[str, Any]], certificate: Mapping[str, Any], learner: str
) -> Figure:
    """Return the training curve of a run, with the certificate below it.

    Args:
        metrics: ``run.metrics``.
        certificate: ``run.certificate``.
        learner: ``run.learner``.
    """
    figure, axes = new_figure()
    curves.draw_training(axes[0, 0], metrics, f"training of {learner}")
    lines = "\n".join(curves.certificate_lines(certificate)) or "no certificate"
    if figure.legends:  # both are below the panel, where they would cover each other
        figure.legends[0].set_title(lines, FontProperties(size=7))
    else:
        figure.supxlabel(lines, fontsize=7)
    return figure
