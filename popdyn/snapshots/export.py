"""Ways out: a store's cells as .npz, .h5ad, or the two arrays that JKOnet* reads."""

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.files import MANIFEST, Target, read_manifest, write_manifest
from popdyn.snapshots.exported import ExportedCells, Learned, cells_of
from popdyn.snapshots.reader import open_snapshots

__all__ = ["TARGETS", "export", "target_of", "write_cells"]

KIND = "export"
# Where a file of each kind has a place for a remark that is lost when another program rewrites it.
_MARK = "made by popdyn"


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
        overwrite: Replace an earlier export at ``out``, once the new one is whole.

    Returns:
        What was written.

    Raises:
        PopdynError: If ``out`` may not be written (see :class:`popdyn.base.files.Target`) or has
            another suffix, or the store is damaged.
    """
    reads = [] if isinstance(source, xr.DataTree) else [source]
    data = source if isinstance(source, xr.DataTree) else open_snapshots(source)
    return write_cells(lambda: cells_of(data, group=group, units=units), out, overwrite, reads)


def write_cells(
    cells: Callable[[], ExportedCells],
    out: str | os.PathLike[str],
    overwrite: bool = False,
    reads: Iterable[str | os.PathLike[str] | None] = (),
) -> Path:
    """Write cells to a file, whole or not at all; they are asked for once ``out`` is known good.

    Raises:
        PopdynError: If ``out`` may not be written, or has another suffix.
    """
    write = target_of(Path(out))
    with Target(out, KIND, overwrite=overwrite, reads=reads, owned=_owned) as target:
        write(cells(), target.place)
    return target.path


def _owned(path: Path) -> set[str]:
    """Return popdyn's files in an export.

    Raises:
        PopdynError: If it is none, or another program has rewritten it.
    """
    if path.is_dir():
        return {*read_manifest(path, KIND), MANIFEST}
    try:
        marked = {".npz": _npz_marked, ".h5ad": _h5ad_marked}[path.suffix](path)
    except (OSError, KeyError, zipfile.BadZipFile):
        marked = False
    if not marked:
        raise PopdynError(
            f"'{path}' is no {KIND} of popdyn's as it was written: it is not replaced"
        )
    return set()


def _npz_marked(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.comment == _MARK.encode()


def _h5ad_marked(path: Path) -> bool:
    import h5py

    with h5py.File(path) as file:
        return bool(file.attrs.get("popdyn") == _outline(file))


def _outline(file: Any) -> str:
    """Return a digest of the names and shapes in a file: who adds to it changes it."""
    found: list[str] = []
    file.visititems(lambda name, item: found.append(f"{name} {getattr(item, 'shape', '')}"))
    return f"{_MARK} {hashlib.sha256(chr(10).join(sorted(found)).encode()).hexdigest()}"


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
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _MARK.encode()


def _learned_arrays(cells: ExportedCells) -> dict[str, Any]:
    if cells.learned is None:
        return {}
    names = ("potential", "velocity", "held_out", "predicted", "predicted_times")
    return {name: getattr(cells.learned, name) for name in names}


def _to_h5ad(cells: ExportedCells, path: Path) -> None:
    import anndata
    import h5py
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
    with h5py.File(path, "a") as file:
        file.attrs["popdyn"] = _outline(file)


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
    write_manifest(path, KIND)


TARGETS: dict[str, Callable[[ExportedCells, Path], None]] = {
    ".npz": _to_npz,
    ".h5ad": _to_h5ad,
    "": _to_folder,
}
