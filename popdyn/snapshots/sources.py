"""Files of labelled cells: one reader for each kind, all to the same rows and labels."""

import os
from pathlib import Path

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.snapshots.cells import Cells, ImportOptions, checked, name_among
from popdyn.snapshots.formats import FORMATS, Format, format_of

__all__ = ["read_cells"]


def read_cells(source: str | os.PathLike[str] | xr.Dataset, keys: ImportOptions) -> Cells:
    """Read a source of any kind.

    Raises:
        PopdynError: If it does not exist, is of no known kind, or lacks what was asked for; the
            line lists what is there.
    """
    where = "the Dataset" if isinstance(source, xr.Dataset) else str(source)
    kind = None if isinstance(source, xr.Dataset) else _format(Path(source))
    table = kind is not None and kind.table
    if keys.columns is not None and not table:
        raise PopdynError(
            f"columns were named and {where} is no table: expected the name of an array "
            "(--data-key, --obsm-key), or --components"
        )
    if keys.data_key is not None and table:
        raise PopdynError(
            f"the array '{keys.data_key}' was named and {where} is a table: expected --columns"
        )
    if isinstance(source, xr.Dataset):
        return checked(_from_dataset(source, keys), keys, where)
    assert kind is not None
    assert kind.read is not None
    return checked(kind.read(Path(source), keys), keys, where)


def _format(path: Path) -> Format:
    if not path.exists():
        raise PopdynError(f"{path} does not exist: expected a file of cells")
    if path.is_dir():
        for each in FORMATS.values():
            if each.recognises is not None and each.recognises(path):
                return each
        if (path / "zarr.json").exists() or (path / ".zgroup").exists():
            raise PopdynError(
                f"{path} is a Zarr store and no AnnData: expected one of AnnData's, or a file of "
                "cells (a store of popdyn's needs no import)"
            )
        return format_of(path, "")
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    kind = "".join(suffixes) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])
    return format_of(path, kind)


def _from_dataset(source: xr.Dataset, keys: ImportOptions) -> Cells:
    names = [str(name) for name in source.variables]
    data = name_among(keys.data_key, ("x", "pcs", "data"), names, "the Dataset", "variable")
    x = source[data]
    first = str(x.dims[0]) if x.dims else "sample"
    usual = (first, "time", "sample_labels")
    label = name_among(keys.time_key, usual, names, "the Dataset", "variable")
    values, labels = x.values, source[label].values
    if values.ndim == 3 and len(labels) == len(values):
        # Padded snapshots (time, particle, component): rows that are all NaN are padding.
        labels = np.repeat(labels, values.shape[1])
        values = values.reshape(-1, values.shape[2])
        real = ~np.isnan(values).all(axis=1)
        values, labels = values[real], labels[real]
    return Cells(values, labels, data, label)
