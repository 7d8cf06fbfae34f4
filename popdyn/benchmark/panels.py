"""The figures of one entry for the report: small panels that a page can lay out as it likes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from popdyn.dynamics import FreeEnergy
from popdyn.learners import Run
from popdyn.plots import curves, maps, populations
from popdyn.plots.figures import shown_times, truth_of
from popdyn.plots.plane import View, sample, view_of
from popdyn.plots.style import COLORS, panel_svg
from popdyn.plots.wells import draw_landscape, find_wells
from popdyn.snapshots import dimension, times

GRID = 91  # points along an axis of a map: as many as a panel can show
DOTS = 300  # particles of a snapshot: enough to see a population, few enough for a page

__all__ = ["Group", "Panel", "entry_panels"]


@dataclass(frozen=True)
class Panel:
    """One figure: an SVG element, and a line below it."""

    svg: str
    caption: str = ""


@dataclass
class Group:
    """Panels that belong together, with a heading and what a reader has to know."""

    title: str
    note: str
    panels: list[Panel] = field(default_factory=list)


class _Artist:
    """Draws panels with ids of their own."""

    def __init__(self, name: str) -> None:
        self.name, self.numbers = name, itertools.count()

    def __call__(self, alt: str, draw: Callable[[Axes], Any], caption: str = "") -> Panel:
        prefix = f"f-{self.name}-{next(self.numbers)}"
        return Panel(panel_svg(draw, prefix, f"{alt}, {self.name}"), caption)


def entry_panels(
    name: str,
    data: xr.DataTree,
    runs: Mapping[str, Run],
    *,
    hold_out: Sequence[int] = (),
    plane: Sequence[int] | None = None,
) -> list[Group]:
    """Return all figures of an entry, in the order in which a reader wants them.

    Args:
        name: Of the entry; letters, digits, hyphens, underscores and dots.
        data: Its store.
        runs: Runs to show, by learner.
        hold_out: Indices of held-out snapshots.
        plane: Components to show; popdyn's own choice if None.
    """
    artist = _Artist(name.replace(".", "_"))
    view, truth = view_of(data, plane), truth_of(data)
    energies = {learner: run.energy for learner, run in runs.items()}
    moments = shown_times(data, truth, *energies.values())
    groups = [_potentials(artist, view, truth, energies, moments)]
    if truth is not None:
        groups.append(_errors(artist, view, truth, energies, moments))
    else:
        groups.append(_landscapes(artist, view, data, energies))
    if any(e.W is not None for e in (truth, *energies.values()) if e is not None):
        groups.append(_interactions(artist, data, truth, energies))
    groups.append(_forces(artist, view, data, truth, energies, moments))
    groups.append(_snapshots(artist, view, data, energies, hold_out))
    groups.append(_training(artist, runs))
    return [group for group in groups if group.panels]


def _at(t: float, moments: Sequence[float]) -> str:
    return f", t = {t:g}" if len(moments) > 1 else ""


def _potentials(
    artist: _Artist,
    view: View,
    truth: FreeEnergy | None,
    energies: Mapping[str, FreeEnergy],
    moments: Sequence[float],
) -> Group:
    note = "One colour scale for all; mean 0 over the particles; faint where no particles are near."
    if view.plane.axes.shape[1] > 2:
        note += " Averaged over the particles seen there."
    group = Group("Potential V", note)
    for t in moments:
        shown = {} if truth is None else {"true V": maps.surface(truth, view, t, GRID)}
        shown |= {f"V by {name}": maps.surface(e, view, t, GRID) for name, e in energies.items()}
        if not shown:
            continue
        levels = maps.shared_levels(list(shown.values()))
        for title, surface in shown.items():
            title += _at(t, moments)

            def draw(
                axis: Axes, surface: Any = surface, title: str = title, levels: Any = levels
            ) -> None:
                maps.draw_potential(axis, surface, view, levels, title)

            group.panels.append(artist(f"Map of {title}", draw))
    return group


def _errors(
    artist: _Artist,
    view: View,
    truth: FreeEnergy,
    energies: Mapping[str, FreeEnergy],
    moments: Sequence[float],
) -> Group:
    note = (
        "|∇V̂ − ∇V*|. The brightest colour is an error as large as the true gradient itself "
        "(its 98 % quantile): a map that is bright all over is no better than predicting nothing."
    )
    group = Group("Error of the gradient", note)
    for t in moments:
        size = maps.gradient_error(FreeEnergy(), truth, view, t, GRID).range[1]
        shown = {name: maps.gradient_error(e, truth, view, t, GRID) for name, e in energies.items()}
        highest = size or max((s.range[1] for s in shown.values()), default=1.0)
        for name, surface in shown.items():
            title = f"error by {name}{_at(t, moments)}"

            def draw(
                axis: Axes, surface: Any = surface, title: str = title, highest: float = highest
            ) -> None:
                maps.draw_error(axis, surface, view, highest, title)

            group.panels.append(artist(f"Map of the {title}", draw))
    return group


def _landscapes(
    artist: _Artist, view: View, data: xr.DataTree, energies: Mapping[str, FreeEnergy]
) -> Group:
    note = (
        "Triangles mark wells of the learned potential at the last time, with their depth below "
        "the mean and the share of the cells that drain into them; lines follow single cells "
        "from the first snapshot under the learned energy."
    )
    group = Group("Landscape and paths", note)
    t, last = float(times(data)[-1]), len(times(data)) - 1
    for name, energy in energies.items():
        wells = find_wells(energy, sample(data, last, 400), t)
        surface = maps.surface(energy, view, t)

        def draw(axis: Axes, surface: Any = surface, wells: Any = wells, name: str = name) -> None:
            draw_landscape(axis, surface, view, wells, f"wells by {name}, t = {t:g}")

        group.panels.append(artist(f"Landscape by {name}", draw))
        paths = populations.paths_of(energy, data)

        def follow(axis: Axes, paths: Any = paths, name: str = name) -> None:
            populations.draw_paths(axis, paths, view, f"paths by {name}")

        group.panels.append(artist(f"Paths of single particles by {name}", follow))
    return group


def _interactions(
    artist: _Artist,
    data: xr.DataTree,
    truth: FreeEnergy | None,
    energies: Mapping[str, FreeEnergy],
) -> Group:
    note = (
        "W by distance, averaged over directions; grey bars: how often a distance occurs. W and V "
        "share a gauge, a quadratic, which the mean's motion fixes more or less well."
    )
    group = Group("Interaction W", note)
    shown = ({} if truth is None else {"true W": truth}) | dict(energies)
    distances, d = curves.pair_distances(data), dimension(data)

    def draw(axis: Axes) -> None:
        curves.draw_interaction(axis, shown, distances, d, "interaction")

    group.panels.append(artist("Interaction by distance", draw))
    return group


def _forces(
    artist: _Artist,
    view: View,
    data: xr.DataTree,
    truth: FreeEnergy | None,
    energies: Mapping[str, FreeEnergy],
    moments: Sequence[float],
) -> Group:
    note = (
        "−∇V − mean ∇W. Arrow lengths grow with the square root of the force and share one scale, "
        "as the colours do; grey: the snapshot."
    )
    group = Group("Force field", note)
    shown = ({} if truth is None else {"true force": truth}) | {
        f"force by {name}": e for name, e in energies.items()
    }
    clock = times(data)
    longest: list[float] = []  # the first panel, the truth, sets the scale of all
    for t in moments:
        population = sample(data, int(np.abs(clock - t).argmin()), 1000)
        for title, energy in shown.items():

            def draw(
                axis: Axes,
                energy: FreeEnergy = energy,
                title: str = f"{title}, t = {t:g}",
                t: float = t,
                population: np.ndarray = population,
            ) -> None:
                size = longest[0] if longest else None
                found = maps.draw_force(
                    axis,
                    energy,
                    view,
                    population,
                    title,
                    t=t,
                    longest=size,
                    points=13,
                    cloud=DOTS,
                )
                longest.append(found)

            group.panels.append(artist(f"Arrows of the {title}", draw))
    return group


def _snapshots(
    artist: _Artist,
    view: View,
    data: xr.DataTree,
    energies: Mapping[str, FreeEnergy],
    hold_out: Sequence[int],
) -> Group:
    clock = times(data)
    held = sorted(k for k in hold_out if k > 0)
    wanted = held or [len(clock) - 1]
    what = "held out" if held else "last"
    note = (
        f"Observed particles by time, and the {what} snapshot as predicted from the observed one "
        "before it."
    )
    group = Group("Snapshots, observed and predicted", note)
    group.panels.append(
        artist(
            "Observed particles by time",
            lambda axis: populations.draw_cells(axis, data, view, "observed, by time", DOTS // 2),
        )
    )
    for i, (name, energy) in enumerate(energies.items()):
        ahead = populations.predicted(energy, data, hold_out=wanted, points=DOTS)
        for k in (k for k in wanted if k in ahead):

            def draw(
                axis: Axes, k: int = k, name: str = name, x: np.ndarray = ahead[k], i: int = i
            ) -> None:
                title = f"by {name}, t = {clock[k]:g}"
                color = COLORS[(i + 1) % len(COLORS)]
                populations.draw_comparison(axis, sample(data, k, DOTS), x, view, title, color)

            group.panels.append(artist(f"Prediction by {name} at t = {clock[k]:g}", draw))
    return group


def _training(artist: _Artist, runs: Mapping[str, Run]) -> Group:
    note = (
        "The dot marks the state that was kept: the lowest held-out criterion. Below each curve "
        "stands the certificate: what the learner can say about its own solution. A learner "
        "without a curve solves its problem in one go."
    )
    group = Group("Training", note)
    for name, run in runs.items():

        def draw(axis: Axes, run: Run = run, name: str = name) -> None:
            curves.draw_training(axis, run.metrics, f"training of {name}")

        lines = curves.certificate_lines(run.certificate) or ["no certificate"]
        state = "converged" if run.converged else "not converged"
        facts = [f"{run.steps} steps", f"{run.seconds:.1f} s", state] if run.steps else []
        caption = f"{name}: " + "; ".join([*facts, *lines])
        curve = artist(f"Training curve of {name}", draw, caption)
        group.panels.append(curve if run.metrics else Panel("", caption))
    return group
