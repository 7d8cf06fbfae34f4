"""A picture of every registry entry that is a function of position."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.dynamics.fields import Entry, NamedField, RadialField

REACH = 4.0  # half the side of the picture: the square on which `simulate` starts
RESOLUTION = 161
INK = "0.5"


def grid(n: int = RESOLUTION) -> tuple[np.ndarray, torch.Tensor]:
    """Return one axis, and the points of the square as rows."""
    axis = np.linspace(-REACH, REACH, n)
    x, y = np.meshgrid(axis, axis)
    return axis, torch.tensor(np.stack([x.ravel(), y.ravel()], 1), dtype=torch.float32)


def map_of(ax: Axes, entry: Entry) -> None:
    """Draw a scalar function of the plane, at time 0.3 where it moves."""
    axis, points = grid()
    t = 0.3 if entry.time_dependent else None
    values = NamedField(entry).value(points, t).numpy().reshape(len(axis), -1)
    low, high = np.quantile(values, [0.0, 0.95])
    if high > low:
        levels = np.linspace(low, high, 18)
        ax.contourf(axis, axis, values, levels, cmap="viridis", extend="max")
    else:
        ax.pcolormesh(axis, axis, values, cmap="viridis")


def profile(ax: Axes, entry: Entry) -> None:
    """Draw a kernel and its force over the distance."""
    r = torch.linspace(0.01, REACH, 300)[:, None]
    kernel = RadialField(entry) if entry.radial else NamedField(entry)
    value, force = kernel.value(r).numpy(), -kernel.gradient(r)[:, 0].numpy()
    far = value[-1]
    ax.plot(r, value - far, color="#0072b2", label="W")
    ax.plot(r, force, color="#d55e00", ls="--", label="−W′")
    top = 1.1 * np.quantile(np.abs(np.r_[value - far, force]), 0.97)
    ax.set(ylim=(-top, top), xlabel="distance")
    ax.axhline(0, color="0.7", lw=0.6, zorder=0)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK)


def turning(ax: Axes, entry: Entry) -> None:
    """Draw the drift of a circulation, in a double well where it follows the levels of V."""
    axis, points = grid(17)
    energy = FreeEnergy("double_well") if entry.of_potential else FreeEnergy()
    drift = Dynamics(energy, circulation=entry.name).drift(points)
    if entry.of_potential:
        drift = drift + energy.potential_gradient(points)
    u, v = (drift[:, i].numpy().reshape(len(axis), -1) for i in (0, 1))
    ax.quiver(axis, axis, u, v, np.hypot(u, v), cmap="viridis", angles="xy")


def scattered(ax: Axes, law: Any) -> None:
    """Draw a thousand starting points."""
    x = law.sample(1000, 2, torch.Generator().manual_seed(0))
    ax.plot(*x.T.numpy(), ".", ms=2, color="#0072b2", alpha=0.6)
    ax.set(xlim=(-5, 5), ylim=(-5, 5))


PICTURED: dict[str, Callable[[Axes, Any], None]] = {
    "potentials": map_of,
    "interactions": profile,
    "diffusions": map_of,
    "growths": map_of,
    "circulations": turning,
    "initial": scattered,
}


def picture(kind: str, name: str, entry: Any, folder: Path) -> str:
    """Draw an entry unless its picture is newer than the entry; return its path from the root."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{kind}-{name}.png"
    function = getattr(entry, "function", None) or entry.sample
    source = Path(inspect.getsourcefile(inspect.unwrap(function)) or __file__)
    newest = max(source.stat().st_mtime, Path(__file__).stat().st_mtime)
    if not file.exists() or file.stat().st_mtime < newest:
        figure, ax = plt.subplots(figsize=(2.6, 2.2), layout="constrained")
        PICTURED[kind](ax, entry)
        # Grey ink on nothing can be read on a light page and on a dark one.
        ax.tick_params(labelsize=7, color=INK, labelcolor=INK)
        ax.xaxis.label.set_color(INK)
        for spine in ax.spines.values():
            spine.set_color(INK)
        if kind != "interactions":
            ax.set_aspect("equal")
        figure.savefig(file, dpi=150, transparent=True)
        plt.close(figure)
    return file.relative_to(folder.parents[1]).as_posix()
