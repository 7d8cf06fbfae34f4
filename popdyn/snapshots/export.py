"""Ways out: a store's cells as .npz, .h5ad, or the two arrays that JKOnet* reads."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from popdyn.errors import PopdynError
from popdyn.registry import lookup
from popdyn.snapshots.import_ import ORIGIN
from popdyn.snapshots.reader import open_snapshots
from popdyn.snapshots.standardize import standardization
from popdyn.snapshots.tree import GROUPS, counts, positions, times

__all__ = ["TARGETS", "ExportedCells", "cells_of", "export", "target_of"]

CHOICES = {"all": GROUPS, "train": ("train",), "test": ("test",)}


@dataclass(frozen=True)
class ExportedCells:
    """What every target writes.

    Attributes:
        x: Positions ``(n, d)`` float32.
        labels: The label of each row's snapshot ``(n)``.
        test: Whether a row is of the test group ``(n)``.
        times: True times ``(K + 1)``, in the order of the sorted distinct labels.
        index: Index of each row's snapshot ``(n)``.
    """

    x: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    times: np.ndarray
    index: np.ndarray


def export(
    source: str | os.PathLike[str] | xr.DataTree,
    out: str | os.PathLike[str],
    *,
    group: str = "all",
    units: str = "source",
    overwrite: bool = False,
) -> Path:
    """Write a store's cells to a file that other programs read.

    Args:
        source: A store, or a tree.
        out: ``.npz`` (``pcs``, ``sample_labels``, ``times``, ``is_test``), ``.h5ad`` (``obsm``
            ``X_pca``, ``obs`` ``time``, ``sample_labels`` and ``group``), or a folder: the layout
            of JKOnet*, ``data.npy`` and ``sample_labels.npy`` (0 … K), with ``times.npy``.
        group: ``"all"``, ``"train"`` or ``"test"``.
        units: ``"source"``, as before any standardisation, or ``"store"``.
        overwrite: Replace an existing ``out``.

    Returns:
        What was written.

    Raises:
        PopdynError: If ``out`` exists or has another suffix, or the store is damaged.
    """
    path = Path(out)
    target = target_of(path)
    if path.exists() and not overwrite:
        raise PopdynError(f"{path} exists: expected a new name, or --overwrite")
    if path.is_dir() and not (path / "data.npy").is_file():
        raise PopdynError(f"{path} is a folder without data.npy: expected an export to overwrite")
    data = source if isinstance(source, xr.DataTree) else open_snapshots(source)
    cells = cells_of(data, group=group, units=units)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    _remove(partial)
    try:
        target(cells, partial)
        _remove(path)
        partial.rename(path)
    finally:
        _remove(partial)
    return path


def target_of(path: Path) -> Callable[[ExportedCells, Path], None]:
    """Return what writes a file of this name.

    Raises:
        PopdynError: If its suffix is of no known kind.
    """
    if path.suffix not in TARGETS:
        known = ", ".join(suffix for suffix in TARGETS if suffix)
        raise PopdynError(
            f"{path} ends in '{path.suffix}': expected one of {known}, or a folder for the JKOnet* "
            "layout"
        )
    return TARGETS[path.suffix]


def cells_of(data: xr.DataTree, *, group: str = "all", units: str = "source") -> ExportedCells:
    """Return the cells of a tree, in the order of the source that it was imported from."""
    groups = lookup(CHOICES, group, "group")
    if units not in ("source", "store"):
        raise PopdynError(f"units is '{units}': expected source or store")
    pieces, index, test, order = [], [], [], []
    for name in groups:
        for k, n in enumerate(counts(data, name)):
            pieces.append(positions(data, k, name))
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
    return ExportedCells(
        x[rows], names[at[rows]], np.concatenate(test)[rows], t[by_label], at[rows]
    )


def _to_npz(cells: ExportedCells, path: Path) -> None:
    np.savez(path, pcs=cells.x, sample_labels=cells.labels, times=cells.times, is_test=cells.test)


def _to_h5ad(cells: ExportedCells, path: Path) -> None:
    import anndata
    import pandas as pd

    # Times belong to snapshots in time order; labels of text are sorted in another one.
    distinct = np.unique(cells.labels)
    time = cells.times[np.searchsorted(distinct, cells.labels)]
    obs = pd.DataFrame(
        {
            "time": time,
            "sample_labels": cells.labels,
            "group": np.where(cells.test, "test", "train"),
        },
        index=[str(i) for i in range(len(cells.x))],
    )
    adata = anndata.AnnData(obs=obs, obsm={"X_pca": cells.x}, uns={"popdyn_times": cells.times})
    adata.write_h5ad(path)


def _to_folder(cells: ExportedCells, path: Path) -> None:
    path.mkdir()
    np.save(path / "data.npy", cells.x)
    np.save(path / "sample_labels.npy", cells.index)
    np.save(path / "times.npy", np.sort(cells.times))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


TARGETS: dict[str, Callable[[ExportedCells, Path], None]] = {
    ".npz": _to_npz,
    ".h5ad": _to_h5ad,
    "": _to_folder,
}
