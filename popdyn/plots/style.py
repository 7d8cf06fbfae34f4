"""How every figure looks, and how it becomes a file or a piece of a page."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from popdyn.errors import PopdynError

P = ParamSpec("P")

__all__ = [
    "COLORS",
    "FORMATS",
    "GREY",
    "legend_below",
    "new_figure",
    "panel_svg",
    "save_figure",
    "sketch",
    "style",
    "styled",
]

# Okabe and Ito's palette: told apart by colour-blind readers, on white and on black.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREY = "#808080"
FORMATS = ("png", "svg", "pdf")

# Text and axes of a figure for a page take this colour, which then becomes the page's own.
_INK = "#123456"
_SIZE = 3.4, 3.0


@contextmanager
def style(ink: str = "black") -> Iterator[None]:
    """Draw with popdyn's settings, whatever the user's own are; text and axes in ``ink``."""
    settings: dict[str, Any] = {
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "axes.linewidth": 0.8,
        "axes.titlesize": 10,
        "figure.facecolor": "white" if ink == "black" else "none",
        "axes.facecolor": "white" if ink == "black" else "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "image.cmap": "viridis",
        "legend.edgecolor": GREY,
        "legend.facecolor": "white" if ink == "black" else "none",
        "legend.fontsize": 8,
        "savefig.facecolor": "auto",
        "svg.fonttype": "none",
        "svg.hashsalt": "popdyn",
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)  # type: ignore[arg-type]
        yield


def new_figure(columns: int = 1, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, ``(rows, columns)``; no window is ever opened."""
    width, height = _SIZE
    figure = Figure(figsize=(width * columns + 0.4, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that makes a figure: it draws in popdyn's settings."""

    @wraps(draw)
    def inside(*args: P.args, **keywords: P.kwargs) -> Figure:
        with style():
            return draw(*args, **keywords)

    return inside


def legend_below(axis: Axes, columns: int = 3, dots: float = 2.5) -> None:
    """Put the legend under a panel, where it hides nothing; dots are drawn larger there."""
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=columns,
        frameon=False,
        markerscale=dots,
        handletextpad=0.3,
        columnspacing=1.0,
        borderpad=0.0,
    )


def sketch(draw: Callable[[Axes], None]) -> Figure:
    """Return a figure of one panel that ``draw`` fills."""
    figure, axes = new_figure()
    draw(axes[0, 0])
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write a figure; the ending chooses the format (``.png``, ``.svg``, ``.pdf``).

    Raises:
        PopdynError: On another ending.
    """
    path = Path(path)
    ending = path.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise PopdynError(f"figure '{path}' ends in '{path.suffix}': expected .png, .svg or .pdf")
    # Without a date the same run gives the same bytes.
    metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[ending]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "popdyn"}):
        figure.savefig(path, format=ending, dpi=dpi, metadata=metadata)


def panel_svg(draw: Callable[[Axes], None], name: str, alt: str, dpi: int = 130) -> str:
    """Return one panel as an SVG element for a page.

    Text and axes take the page's own colour, light or dark; ids get a prefix, so that many
    panels live on one page.

    Args:
        draw: Fills the axes.
        name: Prefix of the ids; letters, digits and hyphens.
        alt: What a reader who does not see it is told.
        dpi: Resolution of what is rasterised within.
    """
    with style(_INK):
        figure = sketch(draw)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", dpi=dpi, transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    # The view box alone decides the shape; the page decides the size.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    label = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
