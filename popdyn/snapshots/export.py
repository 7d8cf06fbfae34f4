"""Ways out: a store's cells as .npz, .h5ad, or the two arrays that JKOnet* reads."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from popdyn.errors import PopdynError
from popdyn.snapshots.exported import ExportedCells, Learned, cells_of
from popdyn.snapshots.reader import open_snapshots

__all__ = ["TARGETS", "export", "target_of", "write_cells"]


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
    data = source if isinstance(source, xr.DataTree) else open_snapshots(source)
    return write_cells(lambda: cells_of(data, group=group, units=units), out, overwrite)


def write_cells(
    cells: Callable[[], ExportedCells], out: str | os.PathLike[str], overwrite: bool = False
) -> Path:
    """Write cells to a file, whole or not at all; they are asked for once ``out`` is known good.

    Raises:
        PopdynError: If ``out`` exists or has another suffix.
    """
    path = Path(out)
    target = target_of(path)
    if path.exists() and not overwrite:
        raise PopdynError(f"{path} exists: expected a new name, or --overwrite")
    if path.is_dir() and not (path / "data.npy").is_file():
        raise PopdynError(f"{path} is a folder without data.npy: expected an export to overwrite")
    found = cells()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    _remove(partial)
    try:
        target(found, partial)
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


def _to_npz(cells: ExportedCells, path: Path) -> None:
    np.savez(
        path,
        allow_pickle=False,
        pcs=cells.x,
        sample_labels=cells.labels,
        times=cells.times,
        is_test=cells.test,
        **_learned_arrays(cells),
    )


def _learned_arrays(cells: ExportedCells) -> dict[str, Any]:
    if cells.learned is None:
        return {}
    names = ("potential", "velocity", "held_out", "predicted", "predicted_times")
    return {name: getattr(cells.learned, name) for name in names}


def _to_h5ad(cells: ExportedCells, path: Path) -> None:
    import anndata
    import pandas as pd

    if cells.into is None:
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
        adata = anndata.AnnData(obs=obs, obsm={f"X_{cells.basis}": cells.x})
        adata.uns["popdyn_times"] = cells.times
    else:
        adata = _same_cells(cells, cells.into)
    if cells.learned is not None:
        _add_learned(adata, cells, cells.learned)
    adata.write_h5ad(path)


def _same_cells(cells: ExportedCells, file: Path) -> Any:
    """Return the AnnData of a file, once it is sure that its rows are these cells."""
    import anndata

    try:
        adata = anndata.read_h5ad(file)
    except (ValueError, OSError, KeyError) as error:
        raise PopdynError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    key = f"X_{cells.basis}"
    if adata.n_obs != len(cells.x):
        raise PopdynError(
            f"{file} has {adata.n_obs} cells: expected the {len(cells.x)} that were imported"
        )
    if key in adata.obsm:
        there = np.asarray(adata.obsm[key])[:, : cells.x.shape[1]]
        if not np.allclose(there, cells.x, rtol=1e-4, atol=1e-4 * np.abs(cells.x).max()):
            raise PopdynError(f"{file} has another {key}: expected the cells that were imported")
    else:
        adata.obsm[key] = cells.x
    return adata


def _add_learned(adata: Any, cells: ExportedCells, learned: Learned) -> None:
    adata.obs["popdyn_potential"] = learned.potential
    adata.obs["popdyn_held_out"] = learned.held_out
    # As wide as the positions: CellRank wants one shape, and drops the components that are NaN.
    velocity = np.full_like(np.asarray(adata.obsm[f"X_{cells.basis}"], np.float32), np.nan)
    velocity[:, : learned.velocity.shape[1]] = learned.velocity
    adata.obsm[f"velocity_{cells.basis}"] = velocity
    adata.uns["popdyn"] = learned.facts
    adata.uns["popdyn_predicted"] = {
        f"X_{cells.basis}": learned.predicted,
        "time": learned.predicted_times,
    }


def _to_folder(cells: ExportedCells, path: Path) -> None:
    path.mkdir()
    np.save(path / "data.npy", cells.x)
    np.save(path / "sample_labels.npy", cells.index)
    np.save(path / "times.npy", np.sort(cells.times))
    for name, array in _learned_arrays(cells).items():
        np.save(path / f"{name}.npy", array)


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
