"""One file of several experiments: a store for each value of a column."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.options import read_options
from popdyn.snapshots.cells import Cells, ImportOptions, listed
from popdyn.snapshots.import_ import tree_of
from popdyn.snapshots.labels import snapshots_of
from popdyn.snapshots.reader import open_snapshots
from popdyn.snapshots.sources import read_cells
from popdyn.snapshots.store import write
from popdyn.snapshots.writer import store_target

__all__ = ["import_experiments", "store_name"]

MOST = 100
"""Values of a column, above which it hardly names experiments."""


def import_experiments(
    source: str | os.PathLike[str],
    split_by: str,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, xr.DataTree]:
    """Make a data set for each value of a column, such as of replicates or treatments.

    Times mean the same in all of them. ``popdyn.fit`` takes all as experiments that share the
    dynamics.

    Args:
        source: As of :func:`popdyn.import_data`.
        split_by: The column, array or obs column that says which experiment a cell is of.
        out: Folder to write the stores into, ``VALUE.zarr`` each; in memory if None.
        overwrite: Replace stores that are there.
        **options: As of :func:`popdyn.import_data`.

    Returns:
        The data sets by the values; opened lazily if they were written.

    Raises:
        PopdynError: As :func:`popdyn.import_data`; on options that would give each its own units,
            values that can't be told apart as names of files, or an experiment with one snapshot.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "cells.csv"
        >>> lines = [f"{r},{t},{t + 0.1 * i}" for r in "ab" for t in (0, 1) for i in range(5)]
        >>> _ = file.write_text("\\n".join(["replicate,time,x", *lines]))
        >>> list(import_experiments(file, "replicate"))
        ['a', 'b']
    """
    o = read_options(ImportOptions, options | {"split_by": split_by}, "an import")
    if o.standardize != "none":
        raise PopdynError(
            f"standardize is '{o.standardize}' with split_by: expected none, for each data set "
            "would have units of its own",
            field="standardize",
        )
    if o.mass is not None:
        raise PopdynError(
            "mass is given with split_by: expected mass_from_counts or none, for each data set has "
            "masses of its own",
            field="mass",
        )
    cells = read_cells(source, o)
    assert cells.parts is not None
    values = np.unique(cells.parts).tolist()
    if len(values) > MOST:
        raise PopdynError(
            f"'{split_by}' has {len(values)} values ({listed(values)}): expected {MOST} or fewer "
            "experiments",
            field="split_by",
        )
    names = [store_name(value) for value in values]
    if len({name.lower() for name in names}) < len(names):
        raise PopdynError(f"'{split_by}' has {listed(values)}: expected names that files can have")
    # One reading of the labels for all: days since the first date are the same in each.
    labels, times, rows, notes = snapshots_of(cells, o.time_map)
    trees = {}
    for value in values:
        known = {
            str(label): float(t)
            for label, t, own in zip(labels, times, rows, strict=True)
            if (cells.parts[own] == value).any()
        }
        try:
            own = replace(o, time_map=known)
            tree = tree_of(_part(cells, value, notes), own, f"{Path(source).name}, {value}")
        except PopdynError as error:
            raise PopdynError(f"{split_by} '{value}': {error}") from None
        trees[value] = tree
    if out is None:
        return trees
    paths = {value: Path(out) / name for value, name in zip(values, names, strict=True)}
    if Path(out).exists() and not Path(out).is_dir():
        raise PopdynError(f"--out '{out}' is a file: expected a folder")
    for path in paths.values():
        store_target(path, overwrite=overwrite, reads=[source]).check()
    Path(out).mkdir(parents=True, exist_ok=True)
    for value, path in paths.items():
        write(trees[value], path, overwrite=overwrite)
    return {value: open_snapshots(path) for value, path in paths.items()}


def store_name(value: str) -> str:
    """Return the name of the store of a value.

    Example:
        >>> store_name("day 3/treated")
        'day_3_treated.zarr'
    """
    return (re.sub(r"[^\w.-]+", "_", value).strip(".") or "_") + ".zarr"


def _part(cells: Cells, value: str, notes: list[str]) -> Cells:
    """Return the cells of one experiment, in the order of the source."""
    assert cells.parts is not None
    kept = np.flatnonzero(cells.parts == value)
    rows, where = kept if cells.rows is None else cells.rows[kept], cells.where
    return replace(
        cells,
        x=cells.x[kept],
        labels=cells.labels[kept],
        times=None,
        rows=rows,
        where=lambda row: where(int(kept[row])),
        notes=(*cells.notes, *notes),
        parts=None,
    )
