"""Files of labelled cells: one reader for each kind, all to the same rows and labels."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.snapshots.annotated import is_annotated, read_annotated
from popdyn.snapshots.cells import Cells, ImportOptions, checked, name_among, refuse
from popdyn.snapshots.tables import read_table

__all__ = ["SOURCES", "read_cells"]


def read_cells(source: str | os.PathLike[str] | xr.Dataset, keys: ImportOptions) -> Cells:
    """Read a source of any kind.

    Raises:
        PopdynError: If it does not exist, is of no known kind, or lacks what was asked for; the
            line lists what is there.
    """
    if isinstance(source, xr.Dataset):
        kind, where = "Dataset", "the Dataset"
    else:
        where, kind = str(source), _kind(Path(source))
    if keys.columns is not None and SOURCES.get(kind) is not read_table:
        raise PopdynError(
            f"columns were named and {where} is no table: expected the name of an array "
            "(--data-key, --obsm-key), or --components"
        )
    if keys.data_key is not None and SOURCES.get(kind) is read_table:
        raise PopdynError(
            f"the array '{keys.data_key}' was named and {where} is a table: expected --columns"
        )
    if isinstance(source, xr.Dataset):
        return checked(_from_dataset(source, keys), keys, where)
    return checked(SOURCES[kind](Path(source), keys), keys, where)


def _kind(path: Path) -> str:
    """Return the key of ``SOURCES`` for a path."""
    if not path.exists():
        raise PopdynError(f"{path} does not exist: expected a file of cells")
    if path.is_dir():
        if is_annotated(path):
            return ".zarr"
        if (path / "zarr.json").exists() or (path / ".zgroup").exists():
            raise PopdynError(
                f"{path} is a Zarr store and no AnnData: expected one of AnnData's, or a file of "
                "cells (a store of popdyn's needs no import)"
            )
        return "directory"
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    kind = "".join(suffixes) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])
    if kind not in SOURCES:
        known = ", ".join(s for s in SOURCES if s.startswith("."))
        raise PopdynError(f"{path} ends in '{kind}': expected one of {known}")
    return kind


def _from_npz(path: Path, keys: ImportOptions) -> Cells:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            data = name_among(keys.data_key, ("pcs", "x", "data"), names, path, "array")
            usual = ("sample_labels", "labels", "time")
            label = name_among(keys.label_key, usual, names, path, "array")
            times = archive["times"] if "times" in names else None
            x, labels = archive[data], archive[label]
    except Exception as error:
        # Damaged archives raise what zipfile, zlib and NumPy happen to raise.
        refuse(path, error)
    return Cells(x, labels, data, label, times)


def _from_npy(path: Path, keys: ImportOptions) -> Cells:
    return _npy_pair(path, path.with_name(f"{keys.label_key or 'sample_labels'}.npy"))


def _from_directory(path: Path, keys: ImportOptions) -> Cells:
    found = sorted(p.stem for p in path.glob("*.npy"))
    data = name_among(keys.data_key, ("data",), found, path, "array")
    label = name_among(keys.label_key, ("sample_labels",), found, path, "array")
    return _npy_pair(path / f"{data}.npy", path / f"{label}.npy")


def _npy_pair(data: Path, label: Path) -> Cells:
    if not label.exists():
        raise PopdynError(f"{label} does not exist: expected the labels beside {data.name}")
    times = data.with_name("times.npy")
    try:
        x, labels = (np.load(p, allow_pickle=False) for p in (data, label))
        at = np.load(times, allow_pickle=False) if times.exists() else None
    except (ValueError, OSError, EOFError) as error:
        refuse(data, error)
    return Cells(x, labels, data.name, label.name, at)


def _from_dataset(source: xr.Dataset, keys: ImportOptions) -> Cells:
    names = [str(name) for name in source.variables]
    data = name_among(keys.data_key, ("x", "pcs", "data"), names, "the Dataset", "variable")
    x = source[data]
    first = str(x.dims[0]) if x.dims else "sample"
    usual = (first, "time", "sample_labels")
    label = name_among(keys.label_key, usual, names, "the Dataset", "variable")
    values, labels = x.values, source[label].values
    if values.ndim == 3 and len(labels) == len(values):
        # Padded snapshots (time, particle, component): rows that are all NaN are padding.
        labels = np.repeat(labels, values.shape[1])
        values = values.reshape(-1, values.shape[2])
        real = ~np.isnan(values).all(axis=1)
        values, labels = values[real], labels[real]
    return Cells(values, labels, data, label)


SOURCES: dict[str, Callable[[Path, ImportOptions], Cells]] = {
    ".npz": _from_npz,
    ".npy": _from_npy,
    ".csv": read_table,
    ".csv.gz": read_table,
    ".tsv": read_table,
    ".tsv.gz": read_table,
    ".parquet": read_table,
    ".parquet.gz": read_table,
    ".h5ad": read_annotated,
    ".zarr": read_annotated,
    "directory": _from_directory,
}
