"""Cells on their way out: those of a store in the order of its source, and what a run adds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.registry import lookup
from popdyn.snapshots.cells import ORIGIN
from popdyn.snapshots.standardize import standardization
from popdyn.snapshots.tree import GROUPS, counts, masses, positions, times, weights

__all__ = ["CHOICES", "ExportedCells", "Learned", "cells_of"]

CHOICES = {"all": GROUPS, "train": ("train",), "test": ("test",)}


@dataclass(frozen=True)
class Learned:
    """What a learned energy says of the cells, in their order.

    Attributes:
        potential: V at each cell and the time of its snapshot ``(n)``.
        velocity: The force there, in the units of the positions over those of time ``(n, d)``.
        held_out: Whether the cell's snapshot was held out ``(n)``.
        predicted: Cells of the predicted snapshots ``(m, d)``.
        predicted_times: The time of each ``(m)``.
        facts: Where it comes from: texts and numbers.
        growth_rate: g at each cell ``(n)``, in 1/time; None where none was learned.
        fates: Probability of each cell to reach each of m wells first ``(n, m)``; None where nobody
            asked.
        arrival: Mean time until then ``(n)``.
        landscape: What is known of the wells, by name.
    """

    potential: np.ndarray
    velocity: np.ndarray
    held_out: np.ndarray
    predicted: np.ndarray
    predicted_times: np.ndarray
    facts: dict[str, Any]
    growth_rate: np.ndarray | None = None
    fates: np.ndarray | None = None
    arrival: np.ndarray | None = None
    landscape: dict[str, Any] | None = None

    @property
    def fate(self) -> np.ndarray:
        """The well that a cell most probably reaches first ``(n)``; −1 where it reaches none."""
        assert self.fates is not None
        return np.where(self.fates.any(1), self.fates.argmax(1), -1).astype(np.int32)


@dataclass(frozen=True)
class ExportedCells:
    """What every target writes.

    Attributes:
        x: Positions ``(n, d)`` float32.
        labels: The label of each row's snapshot ``(n)``.
        test: Whether a row is of the test group ``(n)``.
        times: True times ``(K + 1)``, in the order of the sorted distinct labels.
        index: Index of each row's snapshot ``(n)``.
        basis: What AnnData calls the space of the positions: ``obsm`` ``X_<basis>``.
        weights: Mass of each cell ``(n)``, None where all weigh the same.
        masses: Total mass of each snapshot where it was measured, in the order of ``times``.
        learned: What a run adds, or None.
        into: An .h5ad file with the same cells that is written out with what was learned added.
        rows: The row of the source that each cell comes from, ``(n)``, where that is known.
    """

    x: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    times: np.ndarray
    index: np.ndarray
    basis: str = "pca"
    weights: np.ndarray | None = None
    masses: np.ndarray | None = None
    learned: Learned | None = None
    into: Path | None = None
    rows: np.ndarray | None = None

    @property
    def further_arrays(self) -> dict[str, Any]:
        """Weights and masses where there are any, and what a run adds, as arrays by name."""
        found = {"weights": self.weights, "masses": self.masses}
        names = (
            *("potential", "velocity", "held_out", "predicted", "predicted_times"),
            *("growth_rate", "fates", "arrival"),
        )
        if self.learned is not None:
            found |= {n: getattr(self.learned, n) for n in names}
            found |= {f"well_{name}": v for name, v in (self.learned.landscape or {}).items()}
        return {name: values for name, values in found.items() if values is not None}


def cells_of(data: xr.DataTree, *, group: str = "all", units: str = "source") -> ExportedCells:
    """Return the cells of a tree, in the order of the source that it was imported from."""
    groups = lookup(CHOICES, group, "group")
    if units not in ("source", "store"):
        raise PopdynError(f"units is '{units}': expected source or store")
    pieces, index, test, order, heavy = [], [], [], [], []
    for name in groups:
        for k, n in enumerate(counts(data, name)):
            pieces.append(positions(data, k, name))
            heavy.append(weights(data, k, name))
            index.append(np.full(n, k))
            test.append(np.full(n, name == "test"))
            if ORIGIN in data.children:
                order.append(data[ORIGIN].to_dataset()[name].values[k, :n])
    x, at = np.concatenate(pieces), np.concatenate(index)
    # Without an origin: by snapshot, training particles first.
    rows = np.argsort(np.concatenate(order) if order else at, kind="stable")
    if units == "source":
        mean, scale = standardization(data)
        if mean.any() or (scale != 1).any():
            x = (x.astype(np.float64) * scale + mean).astype(np.float32)
    t = times(data)
    names = np.asarray(data.attrs.get("labels", t))
    by_label = np.argsort(names, kind="stable")
    total = masses(data)
    mass = [w for w in heavy if w is not None]
    return ExportedCells(
        x[rows],
        names[at[rows]],
        np.concatenate(test)[rows],
        t[by_label],
        at[rows],
        _basis(str((data.attrs.get("import") or {}).get("data", ""))),
        np.concatenate(mass)[rows] if mass else None,
        None if total is None else total[by_label],
        rows=np.concatenate(order)[rows] if order else None,
    )


def _basis(name: str) -> str:
    """Return what AnnData calls the space of an array: X_umap is umap, and all else pca."""
    return name[2:] if name.startswith("X_") and len(name) > 2 else "pca"
