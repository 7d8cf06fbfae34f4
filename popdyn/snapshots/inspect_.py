"""What a person asks of a store: sizes, times, provenance, moments, and what can be learned."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from popdyn.snapshots.oddities import oddities
from popdyn.snapshots.reachable import TooLittleError, reachable_skill
from popdyn.snapshots.reader import open_snapshots
from popdyn.snapshots.tree import GROUPS, counts, dimension, positions, times

__all__ = ["component_names", "inspect", "moments"]

PROVENANCE = (
    "title",
    "history",
    "source",
    "observation",
    "dynamics",
    "initial",
    "scheme",
    "step",
    "seed",
    "standardize",
    "import",
)
ROWS = 2**18


def inspect(
    data: xr.DataTree | str | os.PathLike[str], progress: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Describe a tree or a store, a piece at a time, however large it is.

    Args:
        data: A tree, or the path of a store.
        progress: Called after each of 2 (K + 1) equal parts of the work.

    Returns:
        ``dimension``, ``times``, ``particles`` for each group, ``provenance``, ``components`` by
        name, ``moments`` of each training snapshot, ``notes`` (what is odd in the first 2¹⁸
        particles of each: repeated or far away ones, constant components), and what can be
        learned of ∇V: ``reachable_skill`` (None with fewer than 20 particles in a snapshot),
        ``reachable_limit``, ``particles_for`` and ``verdict``.

    Raises:
        PopdynError: If the store is damaged.

    Example:
        >>> from popdyn.snapshots import make_tree
        >>> x = np.random.default_rng(0).normal(size=(2, 100, 2))
        >>> inspect(make_tree(x, x[:, :0], [0.0, 1.0]))["particles"]
        {'train': [100, 100], 'test': [0, 0]}
    """
    tree = data if isinstance(data, xr.DataTree) else open_snapshots(data)
    report: dict[str, Any] = {
        "dimension": dimension(tree),
        "times": times(tree).tolist(),
        "particles": {group: counts(tree, group).tolist() for group in GROUPS},
        "provenance": {k: tree.attrs[k] for k in PROVENANCE if k in tree.attrs},
        "components": component_names(tree),
        "moments": moments(tree, progress),
        "notes": _odd(tree),
    }
    try:
        found = reachable_skill(tree, progress)
    except TooLittleError as error:
        return {**report, "reachable_skill": None, "verdict": str(error)}
    return {
        **report,
        "reachable_skill": found.skill,
        "reachable_limit": found.limit,
        "gradient_signal": found.signal,
        "particles_for": {f"{target:g}": n for target, n in found.particles_for.items()},
        "verdict": found.verdict,
    }


def component_names(data: xr.DataTree) -> list[str]:
    """Return what the source of an imported tree called its components, else x[0], x[1], …"""
    names = (data.attrs.get("import") or {}).get("components") or []
    d = dimension(data)
    return [str(n) for n in names] if len(names) == d else [f"x[{i}]" for i in range(d)]


def _odd(data: xr.DataTree) -> list[str]:
    groups = {k: [g for g in GROUPS if counts(data, g)[k]] for k in range(len(times(data)))}

    def population(k: int) -> np.ndarray:
        return np.concatenate([positions(data, k, g, stop=ROWS) for g in groups[k]])[:ROWS]

    def where(k: int, row: int) -> str:
        n = int(counts(data)[k])
        return f"particle {row}" if row < n else f"test particle {row - n}"

    return oddities(map(population, groups), times(data).tolist(), component_names(data), where)


def moments(data: xr.DataTree, progress: Callable[[], None] | None = None) -> list[dict[str, Any]]:
    """Return for each training snapshot mean, standard deviation, lowest and highest ``(d)``.

    Over all particles, in float64.
    """
    out = []
    for k, n in enumerate(counts(data)):
        shift = positions(data, k, stop=1)[0].astype(np.float64)
        total, square = np.zeros_like(shift), np.zeros_like(shift)
        low, high = np.full_like(shift, np.inf), np.full_like(shift, -np.inf)
        for start in range(0, n, ROWS):
            x = positions(data, k, start=start, stop=start + ROWS)
            low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
            # About the first particle, so that squares of large means do not cancel.
            x = x - shift
            total += x.sum(axis=0)
            square += (x**2).sum(axis=0)
        mean = total / n
        std = np.sqrt(np.maximum(square / n - mean**2, 0))
        row = {"mean": mean + shift, "std": std, "min": low, "max": high}
        out.append({name: values.tolist() for name, values in row.items()})
        if progress is not None:
            progress()
    return out
