"""Simple store, to be replaced within the hour by the streaming one behind the same names."""

import shutil
from pathlib import Path

import xarray as xr

from popdyn.errors import PopdynError

__all__ = ["open_snapshots", "write"]


def write(data: xr.DataTree, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a tree to a store."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise PopdynError(f"{path} exists: expected a new name, or overwrite")
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    data.to_zarr(partial, mode="w", consolidated=True)
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def open_snapshots(path: str | Path) -> xr.DataTree:
    """Open a store lazily."""
    if not (Path(path) / "zarr.json").is_file():
        raise PopdynError(f"{path} is not there, or no store: expected a folder written by popdyn")
    return xr.open_datatree(path, engine="zarr", chunks=None)
