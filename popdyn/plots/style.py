"""How every figure looks, and how it becomes a file or a piece of a page."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from popdyn.base.errors import PopdynError
from popdyn.base.files import Target, written

__all__ = [
    "COLORS",
    "FORMATS",
    "GREY",
    "MARK",
    "SHADES",
    "color_bar",
    "figure_target",
    "legend_below",
    "new_figure",
    "panel_svg",
    "save_figure",
    "sketch",
    "style",
]

# Okabe and Ito's palette: told apart by colour-blind readers, on white and on black.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREY = "#808080"
# Viridis without its ends, which vanish on a dark and on a light page: for arrows and dots.
SHADES = ListedColormap(colormaps["viridis"](np.linspace(0.25, 0.9, 128)), "popdyn")
FORMATS = ("png", "svg", "pdf")
# The remark that every figure carries in its metadata.
MARK = "made by popdyn"

# Text and axes of a figure for a page take this colour, which then becomes the page's own.
_INK = "#123456"
_SIZE = 3.4, 3.0


@contextmanager
def style(ink: str = "black") -> Iterator[None]:
    """Draw with popdyn's settings, whatever the user's own are; text and axes in ``ink``."""
    inked = ["axes.edgecolor", "axes.labelcolor", "text.color"]
    inked += [f"{axis}tick.{part}" for axis in "xy" for part in ("color", "labelcolor")]
    faces = ("figure.facecolor", "axes.facecolor", "legend.facecolor")
    settings: dict[str, Any] = {
        **dict.fromkeys(inked, ink),
        **dict.fromkeys(faces, "white" if ink == "black" else "none"),
        "axes.linewidth": 0.8,
        "axes.titlesize": 10,
        "font.family": "sans-serif",
        "font.size": 9,
        "image.cmap": "viridis",
        "legend.edgecolor": GREY,
        "legend.fontsize": 8,
        "savefig.facecolor": "auto",
        "svg.fonttype": "none",
        "svg.hashsalt": "popdyn",
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)  # type: ignore[arg-type]
        yield


class NotebookFigure(Figure):
    """A figure that a notebook shows, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def new_figure(columns: int = 1, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, ``(rows, columns)``; no window is ever opened."""
    width, height = _SIZE
    size = (width * columns + 0.4, height * rows)
    figure = NotebookFigure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure, figure.subplots(rows, columns, squeeze=False)


def color_bar(axis: Axes, mappable: ScalarMappable, label: str) -> Colorbar:
    """Put a colour bar beside a panel, as high as the panel is."""
    place = axis.inset_axes((1.04, 0.0, 0.05, 1.0))
    return axis.figure.colorbar(mappable, cax=place, label=label)


def legend_below(axis: Axes, columns: int = 3, dots: float = 2.5) -> None:
    """Put the legend under a panel, where it hides nothing; dots are drawn larger there.

    A figure that lays itself out has one for all its panels, below them.
    """
    figure = axis.figure
    if figure.get_layout_engine() is not None:
        shown = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        for legend in list(figure.legends):
            names = [text.get_text() for text in legend.get_texts()]
            shown = dict(zip(names, legend.legend_handles, strict=True)) | shown
            legend.remove()
        figure.legend(
            shown.values(),
            shown.keys(),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            markerscale=dots,
            handletextpad=0.3,
            columnspacing=1.0,
        )
        return
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
    # A fixed frame: panels line up on a page, and no layout has to be solved for each.
    figure = Figure(figsize=(3.6, 3.0))
    axes = figure.add_axes((0.15, 0.2, 0.66, 0.72))
    draw(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write a figure, whole or not at all; the ending chooses ``.png``, ``.svg`` or ``.pdf``.

    Args:
        figure: A figure of popdyn's, or any other of Matplotlib.
        path: Where to.
        dpi: Dots an inch of a picture of dots.

    Raises:
        PopdynError: On another ending.

    Example:
        >>> import os, tempfile, popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=100, snapshots=3)
        >>> path = tempfile.mkdtemp() + "/cells.svg"
        >>> save_figure(popdyn.plots.cells_figure(data), path)
        >>> os.path.exists(path)
        True
    """
    path = Path(path)
    ending = path.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise PopdynError(f"figure '{path}' ends in '{path.suffix}': expected .png, .svg or .pdf")
    # Without a date the same run gives the same bytes.
    remarks: dict[str, dict[str, Any]] = {
        "png": {"Software": MARK},
        "svg": {"Date": None, "Creator": MARK},
        "pdf": {"CreationDate": None, "Creator": MARK},
    }
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "popdyn"}
    with matplotlib.rc_context(settings), written(path) as beside:
        figure.savefig(beside, format=ending, dpi=dpi, metadata=remarks[ending])


def figure_target(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    reads: Iterable[str | os.PathLike[str] | None] = (),
) -> Target:
    """Return the target of a figure, which says whether it may be written there."""
    return Target(path, "figure", overwrite=overwrite, reads=reads, owned=_owned)


def _owned(path: Path) -> set[str]:
    # In all four formats the remark stands in the file as it is.
    if not path.is_file() or MARK.encode() not in path.read_bytes():
        raise PopdynError(
            f"'{path}' is no figure of popdyn's: it is not replaced, expected another --out"
        )
    return set()


def panel_svg(draw: Callable[[Axes], None], name: str, alt: str, dpi: int = 110) -> str:
    """Return one panel as an SVG element for a page.

    Text and axes take the page's own colour, light or dark; ids get a prefix, so that many
    panels live on one page; the page decides size and fonts.

    Args:
        draw: Fills the axes.
        name: Prefix of the ids; letters, digits, hyphens and underscores.
        alt: What a reader who does not see it is told.
        dpi: Resolution of what is rasterised within.
    """
    with style(_INK):
        figure = sketch(draw)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", dpi=dpi, transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"(data:image/png;base64,)([^\"]+)", _smaller, text)
    # Tenths of a pixel are enough, and half of the file.
    text = re.sub(r'="[^"]*"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m[0]), text)
    text = re.sub(r" font-family: [^;]*;", "", text)
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r'( id="|url\(#|href="#)', rf"\1{name}-", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    label = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


def _smaller(match: re.Match[str]) -> str:
    """Return an embedded picture with a palette of 128 colours, a fraction of its size."""
    picture = Image.open(io.BytesIO(base64.b64decode(match[2])))
    buffer = io.BytesIO()
    picture.quantize(128, method=Image.Quantize.FASTOCTREE).save(buffer, "png", optimize=True)
    found = base64.b64encode(buffer.getvalue()).decode()
    return match[1] + min(found, "".join(match[2].split()), key=len)
