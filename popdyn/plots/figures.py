"""What can be shown of a run, one function each: panels that a figure, or a page, lays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from popdyn.base.errors import PopdynError
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.plots import curves, maps, populations
from popdyn.plots.plane import PlaneLike, View, sample, view_of
from popdyn.plots.style import COLORS, new_figure, style
from popdyn.plots.wells import draw_landscape
from popdyn.simulation.landscape import find_wells
from popdyn.snapshots import dimension, times

__all__ = [
    "FIGURES",
    "FigureEntry",
    "Panel",
    "Scene",
    "cells_figure",
    "figure_of",
    "training_figure",
]


SMALL = 7  # points: a line below the panels
LINE = 1.2 * SMALL / 72  # inches: its height


class Learned(Protocol):
    """What a figure reads of a run."""

    learner: str
    config: dict[str, Any]
    metrics: list[dict[str, float]]
    certificate: dict[str, Any]
    steps: int
    seconds: float
    converged: bool

    @property
    def energy(self) -> FreeEnergy:
        """The learned V, W and β."""

    def held_out(self, data: xr.DataTree) -> list[int]:
        """Return the snapshots that it was not shown."""


class Panel(NamedTuple):
    """One panel: what it is, its title, what fills its axes (None: nothing), lines below it."""

    kind: str
    title: str
    draw: Callable[[Axes], Any] | None
    caption: Sequence[str] = ()


Rows = list[list[Panel]]


@dataclass(frozen=True, eq=False)
class Scene:
    """Runs, and the data set that they are shown on.

    Attributes:
        runs: Runs by the name that titles give them, empty for a single one.
        data: Gives the particles and the window.
        truth: The known energy; that of the data if None, and none if it has none.
        hold_out: Indices of held-out snapshots, that no prediction starts from.
        plane: Two components, counted from 1, or ``"pca"``; the latter if None and d > 2.
        seed: Seed of the noise.
        page: Whether the panels are for a page, on which many stand side by side: small ones.
    """

    runs: Mapping[str, Learned]
    data: xr.DataTree
    truth: FreeEnergy | None = None
    hold_out: Sequence[int] = ()
    plane: PlaneLike = None
    seed: int = 0
    page: bool = False
    energies: dict[str, FreeEnergy] = field(init=False)

    def __post_init__(self) -> None:
        spec = self.data.attrs.get("dynamics")
        truth = Dynamics.from_spec(spec).energy if self.truth is None and spec else self.truth
        object.__setattr__(self, "truth", truth)
        object.__setattr__(self, "energies", {n: run.energy for n, run in self.runs.items()})

    @cached_property
    def view(self) -> View:
        return view_of(self.data, self.plane)

    @cached_property
    def times(self) -> np.ndarray:
        return times(self.data)

    @property
    def moments(self) -> list[float]:
        """The times at which energies are drawn: more than the last only where V moves."""
        t = self.times
        moving = any(
            e is not None and e.time_dependent for e in (self.truth, *self.energies.values())
        )
        return [float(t[k]) for k in ((0, len(t) // 2, -1) if moving else (-1,))]

    @property
    def grid(self) -> int:
        """Points along an axis of a map: as many as a panel can show."""
        return 91 if self.page else 141

    @property
    def points(self) -> int:
        """Particles of a snapshot: enough to see a population, few enough for a page."""
        return 300 if self.page else 800

    @property
    def interacts(self) -> bool:
        return any(e is not None and e.W is not None for e in (self.truth, *self.energies.values()))

    def shown(self, what: str) -> dict[str, FreeEnergy]:
        """Return the energies by title, the truth first where it is known."""
        found = {} if self.truth is None else {f"true {what}": self.truth}
        return found | {
            f"{what} by {name}" if name else f"recovered {what}": energy
            for name, energy in self.energies.items()
        }

    def at(self, t: float) -> str:
        return f", t = {t:g}" if len(self.moments) > 1 else ""

    def near(self, t: float, points: int) -> np.ndarray:
        """Return particles of the snapshot that is nearest in time."""
        return sample(self.data, int(np.abs(self.times - t).argmin()), points)


@dataclass(frozen=True)
class FigureEntry:
    """An entry of ``FIGURES``.

    Attributes:
        name: Registry key, and the file's name.
        summary: One line on what it shows.
        panels: Its panels, in rows.
        applies_to: Whether it has anything to show of a scene.
    """

    name: str
    summary: str
    panels: Callable[[Scene], Rows]
    applies_to: Callable[[Scene], bool]

    def applies(self, run: Learned, data: xr.DataTree) -> bool:
        """Return whether the figure has anything to show."""
        return self.applies_to(Scene({"": run}, data))

    def draw(self, run: Learned, data: xr.DataTree, plane: PlaneLike, seed: int) -> Figure:
        """Return the figure of a run."""
        held = tuple(run.held_out(data))
        return _laid_out(self.panels(Scene({"": run}, data, None, held, plane, seed)))


FIGURES: dict[str, FigureEntry] = {}


def _figure(
    summary: str, applies_to: Callable[[Scene], bool] = lambda scene: True
) -> Callable[[Callable[[Scene], Rows]], Callable[[Scene], Rows]]:
    """Return a decorator that enters a function that makes panels as a figure of its name."""

    def enter(panels: Callable[[Scene], Rows]) -> Callable[[Scene], Rows]:
        name = panels.__name__
        FIGURES[name] = FigureEntry(name, summary, panels, applies_to)
        return panels

    return enter


def figure_of(
    name: str,
    estimate: FreeEnergy,
    data: xr.DataTree,
    truth: FreeEnergy | None = None,
    *,
    hold_out: Sequence[int] = (),
    plane: PlaneLike = None,
    seed: int = 0,
) -> Figure:
    """Return a figure of ``FIGURES`` of an energy on a data set.

    Args:
        name: Of the figure.
        estimate: The learned energy.
        data: Its data set; gives the particles and the window.
        truth: The known energy; that of the data if None, and none if it has none.
        hold_out: Indices of held-out snapshots, that no prediction starts from.
        plane: Two components, counted from 1, or ``"pca"``; the latter if None and d > 2.
        seed: Seed of the noise.

    Example:
        >>> import popdyn
        >>> energy = popdyn.FreeEnergy("quadratic")
        >>> data = popdyn.simulate(energy, particles=100, snapshots=3)
        >>> len(figure_of("force", energy, data).axes) > 0
        True
    """
    run: Any = SimpleNamespace(energy=estimate)
    with style():
        return _laid_out(FIGURES[name].panels(Scene({"": run}, data, truth, hold_out, plane, seed)))


def cells_figure(data: xr.DataTree, *, plane: PlaneLike = None) -> Figure:
    """Return the particles of all snapshots, coloured by time.

    Args:
        data: The snapshots.
        plane: Two components, counted from 1, or ``"pca"``; the latter if None and d > 2.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=100, snapshots=3)
        >>> cells_figure(data).axes[0].get_xlabel()
        'x₁'
    """
    return figure_of("cells", FreeEnergy(), data, plane=plane)


def training_figure(
    metrics: Sequence[Mapping[str, Any]], certificate: Mapping[str, Any], learner: str
) -> Figure:
    """Return the training curve of a run, with the certificate below it.

    Args:
        metrics: ``run.metrics``.
        certificate: ``run.certificate``.
        learner: ``run.learner``.

    Example:
        >>> metrics = [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.5}]
        >>> len(training_figure(metrics, {"inner_residual": 0.05}, "ijkonet").axes)
        1
    """
    return _laid_out([[training_panel(metrics, certificate, learner)]])


def _laid_out(rows: Rows) -> Figure:
    """Return panels as a figure: as wide as it can be, a single long row in lines of three."""
    if len(rows) == 1 and len(rows[0]) > 4:
        rows = [rows[0][i : i + 3] for i in range(0, len(rows[0]), 3)]
    elif len(rows) > len(rows[0]):
        rows = [list(column) for column in zip(*rows, strict=True)]
    with style():
        figure, axes = new_figure(len(rows[0]), len(rows))
        for axis in axes.flat:
            axis.set_axis_off()
        for row, places in zip(rows, axes, strict=True):
            for panel, axis in zip(row, places, strict=False):
                if panel.draw:
                    axis.set_axis_on()
                    panel.draw(axis)
        captions = [line for row in rows for panel in row for line in panel.caption]
        figure.set_figheight(figure.get_figheight() + LINE * len(captions))
        lines = "\n".join(captions)
        if lines and figure.legends:  # both are below the panels, where they would cover each other
            figure.legends[0].set_title(lines, FontProperties(size=SMALL))
        elif lines:
            figure.supxlabel(lines, fontsize=SMALL)
        # The layout settles in a second pass: colour bars hang on the sizes of their panels.
        figure.draw_without_rendering()
    return figure


def _row(kind: str, draw: Callable[..., Any], shown: Mapping[str, Any]) -> list[Panel]:
    """Return a panel for each thing that is shown, by its title."""
    return [
        Panel(kind, title, partial(draw, shown=each, title=title)) for title, each in shown.items()
    ]


@_figure("The potential, true and recovered, and the error of its gradient.")
def potential(scene: Scene) -> Rows:
    """Show each potential, its gradient's error, and the standard error where there is one.

    Each has mean 0 over the particles. Colours are faint where no particles are near: what is
    shown there is a guess. For d > 2 it is averaged over the particles seen there.
    """
    return [v + e for v, e in zip(values(scene), errors(scene), strict=True)]


def values(scene: Scene) -> Rows:
    """Show true and recovered potentials on one colour scale, first and last snapshot on top.

    In one dimension they are curves in one panel.
    """
    rows, ends = [], None if scene.page else scene.data
    for t in scene.moments:
        if scene.view.low.size == 1:
            draw_all = partial(maps.draw_curves, view=scene.view, t=t)
            rows.append(
                _row("Curves of the", draw_all, {f"potential{scene.at(t)}": scene.shown("V")})
            )
            continue
        shown = {
            f"{title}{scene.at(t)}": maps.surface(energy, scene.view, t, scene.grid)
            for title, energy in scene.shown("V").items()
        }
        levels = maps.shared_levels(list(shown.values()))
        draw = partial(maps.draw_potential, view=scene.view, levels=levels, ends=ends)
        rows.append(_row("Map of", draw, shown))
    return rows


def errors(scene: Scene) -> Rows:
    """Show |∇V̂ − ∇V*|, and in a figure the standard error of ∇V̂ where it is known.

    The brightest colour is an error as large as the gradient itself (its root mean square over the
    particles), everywhere: figures can be compared. A title says what the error is on the whole.
    """
    rows = []
    for t in scene.moments:
        view, shown = scene.view, {}
        for name, energy in scene.energies.items():
            by = f" by {name}{scene.at(t)}" if name else scene.at(t)
            if scene.truth is not None:
                error = maps.gradient_error(energy, scene.truth, view, t, scene.grid)
                share = maps.gradient_off(energy, scene.truth, view, t)
                shown[f"error of ∇V{by}: {share:.2g}"] = error
            if hasattr(energy.V, "gradient_std") and not scene.page:
                of = energy if scene.truth is None else scene.truth
                std = maps.gradient_std(energy, of, view, t, scene.grid)
                shown[f"standard error of ∇V{by}"] = std
        rows.append(_row("Map of the", partial(maps.draw_error, view=view), shown))
    return rows


@_figure("The force field, true and recovered.")
def force(scene: Scene) -> Rows:
    """Show −∇V − mean ∇W as arrows on one scale, that of the first panel.

    In one dimension they are curves in one panel.
    """
    rows, points = [], 13 if scene.page else 17
    for t in scene.moments:
        x = scene.near(t, 1000)
        shown = {
            title: maps.force_field(energy, scene.view, x, t, points)
            for title, energy in scene.shown("force").items()
        }
        if scene.view.low.size == 1:
            draw_all = partial(maps.draw_forces, view=scene.view)
            rows.append(_row("Curves of the", draw_all, {f"force, t = {t:g}": shown}))
            continue
        longest = next(iter(shown.values())).longest
        draw = partial(
            maps.draw_force, view=scene.view, population=x[: scene.points], longest=longest
        )
        fields = {f"{title}, t = {t:g}": field for title, field in shown.items()}
        rows.append(_row("Arrows of the", draw, fields))
    return rows


@_figure("The interaction by distance, true and recovered.", lambda scene: scene.interacts)
def interaction(scene: Scene) -> Rows:
    """Show W by distance, over the distances observed."""
    distances, dim = curves.pair_distances(scene.data), dimension(scene.data)
    draw = partial(curves.draw_interaction, distances=distances, dim=dim)
    return [_row("Curves of the", draw, {"interaction": scene.shown("W")})]


@_figure("The learned landscape with its wells.")
def landscape(scene: Scene) -> Rows:
    """Show each landscape with its wells: depth, and the share that drains into each."""
    shown = {}
    for name, energy in scene.energies.items():
        moving = energy.time_dependent or len(scene.moments) == 1
        for t in scene.moments if moving else scene.moments[-1:]:
            when = f"t = {t:g}" if moving else "the same at all times"
            title = f"wells by {name}, {when}" if name else f"landscape and wells, {when}"
            surface = maps.surface(energy, scene.view, t, scene.grid)
            shown[title] = surface, find_wells(energy, scene.near(t, 400), t)
    levels = maps.shared_levels([surface for surface, _ in shown.values()])
    return [_row("Landscape and", partial(draw_landscape, view=scene.view, levels=levels), shown)]


@_figure("The particles of all snapshots, by time.")
def cells(scene: Scene) -> Rows:
    """Show the particles of all snapshots, coloured by time."""
    draw = partial(populations.draw_cells, view=scene.view, points=scene.points // 2)
    return [_row("Particles", draw, {"observed, by time": scene.data})]


@_figure("Every snapshot, observed and predicted.")
def snapshots(scene: Scene) -> Rows:
    """Show every snapshot as observed, and as predicted from the last observed one before it."""
    held = {k: ", held out" * (k in scene.hold_out) for k in range(len(scene.times))}
    return [_compared(scene, held, origins=False)]


@_figure("The held-out snapshots (or the last), observed and predicted.")
def prediction(scene: Scene) -> Rows:
    """Show the prediction of the held-out snapshots, or the last, and where it started.

    Raises:
        PopdynError: If nothing was observed before the held-out snapshots.
    """
    wanted = sorted(k for k in set(scene.hold_out) if k > 0) or [len(scene.times) - 1]
    starts = {k: populations.start_of(k, scene.hold_out) for k in wanted}
    said = {
        k: f", predicted from t = {scene.times[j]:g}" for k, j in starts.items() if j is not None
    }
    if not said:
        raise PopdynError(f"nothing was observed before the held-out snapshots {wanted}")
    return [_compared(scene, dict.fromkeys(said, "") if scene.page else said, origins=True)]


def _compared(scene: Scene, said: Mapping[int, str], *, origins: bool) -> list[Panel]:
    """Return snapshots as observed and as predicted, and where that started if it is wanted."""
    panels, held = [], scene.hold_out
    for i, (name, energy) in enumerate(scene.energies.items()):
        found = populations.predicted(
            energy, scene.data, hold_out=held, wanted=said, points=scene.points, seed=scene.seed
        )
        for k, words in said.items():
            begun = populations.start_of(k, held)
            start = begun if origins else None
            title = f"t = {scene.times[k]:g}{words}" + (f" by {name}" if name else "")
            if k in found:
                off = populations.distances(scene.data, k, begun, found[k], scene.points)
                title = "\n".join(filter(None, [title, off]))
            draw = partial(
                populations.draw_comparison,
                observed=sample(scene.data, k, scene.points),
                prediction=found.get(k),
                view=scene.view,
                title=title,
                color=COLORS[(i + 1) % len(COLORS)],
                start=None if start is None else sample(scene.data, start, scene.points),
            )
            panels.append(Panel("Prediction of", title, draw))
    return panels


@_figure("Paths of single particles under the learned energy.")
def trajectories(scene: Scene) -> Rows:
    """Show paths of single particles under the learned energy, from the first snapshot on."""
    shown = {
        f"paths by {name}" if name else "paths of single particles": populations.paths_of(
            energy, scene.data, seed=scene.seed
        )
        for name, energy in scene.energies.items()
    }
    draw = partial(populations.draw_paths, view=scene.view)
    return [_row("Single particles,", draw, shown)]


@_figure("The training curve with its certificate.")
def training(scene: Scene) -> Rows:
    """Show each training curve with its certificate; on a page no curve where none was made."""
    panels = []
    for name, run in scene.runs.items():
        panel = training_panel(run.metrics, run.certificate, run.learner)
        if scene.page:
            state = "converged" if run.converged else "not converged"
            facts = [f"{run.steps} steps", f"{run.seconds:.1f} s", state] if run.steps else []
            first, *others = [*facts, *panel.caption]
            draw = panel.draw if run.metrics else None
            panel = panel._replace(draw=draw, caption=[f"{name}: {first}", *others])
        panels.append(panel)
    return [panels]


def training_panel(
    metrics: Sequence[Mapping[str, Any]], certificate: Mapping[str, Any], learner: str
) -> Panel:
    """Return a training curve, with its certificate below."""
    title = f"training of {learner}"
    lines = curves.certificate_lines(certificate) or ["no certificate"]
    draw = partial(curves.draw_training, shown=metrics, title=title)
    return Panel("Curve of the", title, draw, lines)
