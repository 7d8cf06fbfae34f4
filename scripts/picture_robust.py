"""Draw how far the learned force is off where one joint system is seen less and less well.

popdyn bench robust --seeds 3 --out robust
scripts/picture_robust robust/results.json docs/notebook/figures/robust.png
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

INK, FAINT = "#0072b2", "#e69f00"
AXES: tuple[tuple[str, dict[str, float], str], ...] = (
    (
        "particles of a snapshot",
        {"cells-200": 200, "cells-1000": 1000, "reference": 5000, "cells-20000": 20_000},
        "log",
    ),
    ("snapshots", {"times-3": 3, "times-6": 6, "reference": 11, "times-21": 21}, "log"),
    (
        "noise, % of the spread",
        {"reference": 0, "noise-5": 5, "noise-10": 10, "noise-20": 20},
        "linear",
    ),
    ("outliers, %", {"reference": 0, "outliers-1": 1, "outliers-2": 2}, "linear"),
)
MARKED = {"explained": "o", "undetermined": "s", "unexplained": "x", "below_noise": "v"}


def lost(rows: Sequence[dict[str, Any]], entry: str) -> list[tuple[float, str]]:
    """Return 1 − skill of the force, and the verdict, of each seed of an entry."""
    own = [r for r in rows if r["entry"] == entry and r["status"] == "ok"]
    return [(1.0 - r["scores"]["gradient"]["force"]["skill"], r["verdict"]) for r in own]


def panel(axis: Axes, rows: Sequence[dict[str, Any]], places: dict[str, float]) -> None:
    """Draw one axis: a point for each seed, and the line of their means."""
    known = {place: found for e, place in places.items() if (found := lost(rows, e))}
    means = [np.mean([value for value, _ in found]) for found in known.values()]
    axis.plot(list(known), means, color=INK, lw=1.2)
    for place, found in known.items():
        for value, verdict in found:
            axis.plot(place, value, MARKED[verdict], color=INK, ms=5, fillstyle="none")


@click.command()
@click.argument("results", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--learner", default="ijkonet", show_default=True)
def main(results: Path, out: Path, learner: str) -> None:
    """Draw results.json of `popdyn bench robust` into a picture."""
    rows = [r for r in json.loads(results.read_text())["rows"] if r["learner"] == learner]
    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    axes = figure.subplots(1, len(AXES), sharey=True)
    for axis, (name, places, scale) in zip(axes, AXES, strict=True):
        panel(axis, rows, places)
        axis.set_xlabel(name, fontsize=9)
        axis.set_xscale(scale)
        axis.set_yscale("log")
        axis.xaxis.set_major_locator(FixedLocator(list(places.values())))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xticklabels([f"{value:g}" for value in places.values()], fontsize=8)
        axis.grid(alpha=0.25)
    for value, _ in lost(rows, "noise-10-untold"):
        axes[2].plot(10, value, "o", color=FAINT, ms=5, fillstyle="none", label="not told")
    handles, labels = axes[2].get_legend_handles_labels()
    axes[2].legend(handles[:1], labels[:1], fontsize=8)
    axes[0].set_ylabel("1 − skill of the force", fontsize=9)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
