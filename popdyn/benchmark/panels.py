"""The figures of one entry for the report: small panels that a page can lay out as it likes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from popdyn.learners import Run
from popdyn.plots import figures
from popdyn.plots.figures import Scene
from popdyn.plots.style import panel_svg

__all__ = ["Figure", "Group", "entry_panels"]


@dataclass(frozen=True)
class Figure:
    """One figure of a page: an SVG element, and a line below it."""

    svg: str
    caption: str = ""


@dataclass
class Group:
    """Figures that belong together, with a heading and what a reader has to know."""

    title: str
    note: str
    panels: list[Figure]


POTENTIAL = (
    "One colour scale for all; mean 0 over the particles; faint where no particles are near."
)
DEEP = " Averaged over the particles seen there."
ERROR = (
    "|∇V̂ − ∇V*| in units of the true gradient's root mean square over the particles. The "
    "brightest colour is an error as large as the gradient itself: a map that is bright all over "
    "is no better than predicting nothing. Titles say the error's root mean square."
)
LANDSCAPE = (
    "Triangles mark wells of the learned potential, with their depth below the mean and the share "
    "of the cells that drain into them; lines follow single cells from the first snapshot under "
    "the learned energy."
)
INTERACTION = (
    "W by distance, averaged over directions; grey bars: how often a distance occurs. W and V "
    "share a gauge, a quadratic, which the mean's motion fixes more or less well."
)
FORCE = (
    "−∇V − mean ∇W. Arrow lengths grow with the square root of the force and share one scale, "
    "as the colours do; grey: the snapshot."
)
SNAPSHOTS = (
    "Observed particles by time, and the {} snapshot as predicted from the observed one before it."
)
TRAINING = (
    "The dot marks the state that was kept: the lowest held-out criterion. Below each curve "
    "stands the certificate: what the learner can say about its own solution. A learner "
    "without a curve solves its problem in one go."
)


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
    scene = Scene(runs, data, hold_out=hold_out, plane=plane, page=True)
    numbers = itertools.count()

    def group(title: str, note: str, *shown: Callable[[Scene], figures.Rows]) -> Group:
        drawn = []
        for panel in (panel for show in shown for row in show(scene) for panel in row):
            prefix = f"f-{name.replace('.', '_')}-{next(numbers)}"
            alt = f"{panel.kind} {panel.title}, {name}"
            svg = panel_svg(panel.draw, prefix, alt) if panel.draw else ""
            drawn.append(Figure(svg, "; ".join(panel.caption)))
        return Group(title, note, drawn)

    groups = []
    if scene.shown("V") or scene.interacts:  # else nobody knows an energy
        note = POTENTIAL + DEEP * scene.view.deep
        groups.append(group("Potential V", note, figures.values))
        if scene.truth is not None:
            groups.append(group("Error of the gradient", ERROR, figures.errors))
        else:
            shown = figures.landscape, figures.trajectories
            groups.append(group("Landscape and paths", LANDSCAPE, *shown))
        if scene.interacts:
            groups.append(group("Interaction W", INTERACTION, figures.interaction))
        groups.append(group("Force field", FORCE, figures.force))
    note = SNAPSHOTS.format("held out" if any(k > 0 for k in hold_out) else "last")
    shown = figures.cells, figures.prediction
    groups.append(group("Snapshots, observed and predicted", note, *shown))
    groups.append(group("Training", TRAINING, figures.training))
    return [group for group in groups if group.panels]
