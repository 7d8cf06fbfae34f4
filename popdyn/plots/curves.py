"""Curves: training with its certificate, and the interaction by distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes

from popdyn.dynamics import FreeEnergy
from popdyn.plots.plane import sample
from popdyn.plots.style import COLORS, GREY, legend_below
from popdyn.snapshots import times

__all__ = [
    "certificate_lines",
    "draw_band",
    "draw_interaction",
    "draw_training",
    "pair_distances",
]


def draw_training(axis: Axes, shown: Sequence[Mapping[str, Any]], title: str) -> None:
    """Fill a panel with the loss (left) and the held-out criterion (right) by step.

    The dot marks the state that was kept: the lowest criterion. Gauss–Newton steps have χ² for each
    degree of freedom (``misfit``) and their size in standard errors in place of these, on
    logarithmic scales. A learner that solves its problem in one go has no curve, and the panel
    says so. Each member of an ensemble has a line of its own.
    """
    axis.set_title(title)
    rows = [m for m in shown if "step" in m]
    found = rows[0] if rows else {}
    names = [k for k in found if k not in ("step", "member") and _numbers(rows, k)]
    if not names:
        axis.text(0.5, 0.5, "no training loop", ha="center", va="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    left = "loss" if "loss" in names else names[0]
    right = next((n for n in ("criterion", *names) if n in names and n != left), None)
    words = {"criterion": "held-out criterion", "outer_step": "outer step"}
    handles, other = [], axis.twinx() if right else None
    for member in dict.fromkeys(m.get("member") for m in rows):  # of an ensemble, else None
        own = [m for m in rows if m.get("member") == member]
        steps = [m["step"] for m in own]
        handles += axis.plot(steps, _column(own, left), color=COLORS[0], lw=1.2, label=left)
        if other is None or right is None:
            continue
        values = _column(own, right)
        name = words.get(right, right)
        handles += other.plot(steps, values, color=COLORS[1], lw=1.2, label=name)
        if right == "criterion":
            best = int(np.nanargmin(values)) if np.isfinite(values).any() else 0
            handles += other.plot(steps[best], values[best], "o", color=COLORS[1], label="kept")
    axis.set(xlabel="step", ylabel=left)
    axis.yaxis.label.set_color(COLORS[0])
    if left == "misfit":
        _logarithmic(axis, _column(rows, left))
    if other is not None and right is not None:
        if right == "outer_step":
            _logarithmic(other, _column(rows, right))
        other.set_ylabel(words.get(right, right), color=COLORS[1])
    handles = list({line.get_label(): line for line in handles}.values())
    for line in handles[1:]:  # one legend for the lines of both axes
        dot = line.get_marker() == "o"
        name = str(line.get_label())
        axis.plot([], [], "o" if dot else "-", color=COLORS[1], label=name)
    legend_below(axis, dots=1.0)


def _logarithmic(axis: Axes, values: np.ndarray) -> None:
    """Take a logarithmic scale, unless no value is above 0: where nothing was learned at once."""
    if (values > 0.0).any():
        axis.set_yscale("log")


def certificate_lines(certificate: Mapping[str, Any]) -> list[str]:
    """Return a certificate as short lines of text, such as ``inner residual 0.021``."""
    lines = []
    for key, value in certificate.items():
        if isinstance(value, Mapping):
            lines += [f"{key.replace('_', ' ')} {line}" for line in certificate_lines(value)]
        elif isinstance(value, bool) or value is None:
            lines.append(f"{key.replace('_', ' ')}: {'–' if value is None else value}")
        elif isinstance(value, (int, float)):
            lines.append(f"{key.replace('_', ' ')} {value:.3g}")
        elif isinstance(value, str):
            lines.append(f"{key.replace('_', ' ')}: {value}")
    return lines


def pair_distances(data: xr.DataTree, points: int = 200) -> np.ndarray:
    """Return distances between particles of the same snapshot, over all snapshots."""
    out = []
    for k in range(len(times(data))):
        x = sample(data, k, points).astype(np.float64)
        gap = np.linalg.norm(x[:, None] - x[None], axis=-1)
        out.append(gap[np.triu_indices(len(x), 1)])
    return np.concatenate(out)


def draw_interaction(
    axis: Axes,
    shown: Mapping[str, FreeEnergy],
    distances: np.ndarray,
    dim: int,
    title: str,
) -> None:
    """Fill a panel with W by distance, 0 at 0, averaged over directions.

    Behind the curves stands how often a distance occurs: where pairs are rare W is a guess. A band
    is one standard error on either side.

    Args:
        axis: The panel.
        shown: Energies by name; a name that starts with ``true`` is drawn in grey.
        distances: Distances between particles that were observed.
        dim: Dimension d.
        title: Of the panel.
    """
    far = float(np.quantile(distances, 0.98)) or 1.0
    r = np.linspace(0.0, far, 121)
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((16, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    z = (r[:, None, None] * directions).reshape(-1, dim).astype(np.float32)
    at, zero = torch.from_numpy(z), torch.zeros(1, dim)
    curves = {
        name: np.asarray(energy.interaction(z)).reshape(len(r), -1).mean(1)
        for name, energy in shown.items()
    }
    bands = {
        name: np.asarray(std(at, zero).detach()).reshape(len(r), -1).mean(1)
        for name, energy in shown.items()
        if (std := getattr(energy.W, "value_std", None))
    }
    behind = axis.twinx()
    behind.hist(distances, list(np.linspace(0, far, 41)), density=True, color=GREY, alpha=0.25)
    behind.set_yticks([])
    axis.set_zorder(behind.get_zorder() + 1)
    axis.patch.set_visible(False)
    for i, (name, values) in enumerate(curves.items()):
        true = name.startswith("true")
        paint = GREY if true else COLORS[i % len(COLORS)]
        axis.plot(r, values, color=paint, lw=3 if true else 1.4, alpha=0.8, label=name)
        if name in bands:
            draw_band(axis, r, values, bands[name], paint)
    axis.set(title=title, xlabel="distance |z|", ylabel="W(z) − W(0)")
    legend_below(axis, 2)


def draw_band(axis: Axes, x: np.ndarray, values: np.ndarray, std: np.ndarray, color: str) -> None:
    """Draw one standard error on either side of a curve, all of one name in the legend."""
    axis.fill_between(
        x, values - std, values + std, color=color, alpha=0.25, lw=0, label="standard error"
    )


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(isinstance(m.get(key), (int, float)) for m in rows)


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    values = [m.get(key) for m in rows]
    return np.array([v if isinstance(v, (int, float)) else math.nan for v in values])
