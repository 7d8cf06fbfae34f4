"""The figure of a run that says most, for a notebook."""

from __future__ import annotations

import base64
import html
import io
import os
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from popdyn.base.errors import PopdynError
from popdyn.base.registry import lookup
from popdyn.dynamics import Dynamics
from popdyn.plots.style import color_bar, new_figure, style
from popdyn.snapshots import opened

__all__ = ["energy_html", "picture_html", "plot", "small_picture"]

BOX = 4.0
"""Half of the side of the square that a known potential is drawn on: that of the usual start."""


def plot(
    run: Any,
    figure: str | None = None,
    *,
    data: xr.DataTree | str | os.PathLike[str] | None = None,
    plane: Any = None,
    seed: int = 0,
) -> Figure:
    """Return a figure of a run; nothing is shown, and pyplot knows nothing of it.

    Args:
        run: A run of :func:`popdyn.fit` or :func:`popdyn.load_run`.
        figure: A name of ``popdyn.plots.FIGURES``: ``potential``, ``force``, ``interaction``,
            ``snapshots`` and others. None: the potential, or the interaction or the snapshots
            where no potential was learned.
        data: The data set, the path of its store, or the name of an experiment of the run. None:
            the one that the run was fitted to.
        plane: Two components, counted from 1, or ``"pca"``; the latter if None and d > 2.
        seed: Seeds what the figure simulates.

    Returns:
        A Matplotlib figure: a notebook shows it, ``figure.savefig`` writes it.

    Raises:
        PopdynError: On an unknown figure, or a data set that is not there any more.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=200, snapshots=3)
        >>> len(popdyn.plot(popdyn.fit(data, learner="weak_form"), "snapshots").axes)
        3
    """
    from popdyn.plots import FIGURES

    if not (hasattr(run, "energy") and hasattr(run, "snapshots")):
        raise PopdynError(f"plot was given {type(run).__name__}: expected a run, as fit gives it")
    if figure is None:
        of = {"potential": run.energy.V, "interaction": run.energy.W}
        figure = next((name for name, term in of.items() if term is not None), "snapshots")
    entry = lookup(FIGURES, figure, "figure")
    if data is None or (isinstance(data, str) and data in run.experiments):
        tree = run.snapshots(data)
    else:
        tree = opened(data)
    return entry.draw(run, tree, plane, seed)


def small_picture(run: Any) -> str:
    """Return the figure of a run as an HTML image; a line that says why where there is none.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=100, snapshots=3)
        >>> small_picture(popdyn.fit(data, "zero"))[:4]
        '<img'
    """
    try:
        return picture_html(plot(run), f"what {run.learner} learned")
    except PopdynError as error:
        return f"<p>no figure: {html.escape(str(error))}</p>"


def energy_html(dynamics: Dynamics) -> str:
    """Return dynamics as HTML: its parts in words, and of a known static potential its map.

    A learned one has no picture without the particles that it was learned from: see its run.

    Example:
        >>> from popdyn import FreeEnergy
        >>> energy_html(FreeEnergy("double_well")).startswith("<pre>")
        True
    """
    words = f"<pre>{html.escape(str(dynamics))}</pre>"
    energy = dynamics.energy
    V = energy.V
    if V is None or V.spec() is None or V.time_dependent:
        return words
    ticks = np.linspace(-BOX, BOX, 81)
    try:
        values = energy.potential(np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2))
    except PopdynError:  # it has no form in two dimensions
        return words
    with style():
        figure, axes = new_figure()
        axis = axes[0, 0]
        drawn = axis.contourf(ticks, ticks, values.reshape(81, 81), 25)
        axis.set(xlabel="x₁", ylabel="x₂", title=f"V = {V.label()}", aspect="equal")
        color_bar(axis, drawn, "V")
        return words + picture_html(figure, f"map of {V.label()}")


def picture_html(figure: Figure, alt: str) -> str:
    """Return a figure as an HTML image, three inches high."""
    height = figure.get_size_inches()[1]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=96)
    text = base64.b64encode(buffer.getvalue()).decode()
    size = f"height: {min(height, 3):.3g}in; max-width: 100%; object-fit: contain"
    return f'<img alt="{html.escape(alt)}" style="{size}" src="data:image/png;base64,{text}">'
