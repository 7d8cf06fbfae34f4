"""AnnData files: positions are an array of ``obsm``, or principal components of X."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from popdyn.base.errors import PopdynError
from popdyn.snapshots.cells import Cells, ImportOptions, name_among, refuse
from popdyn.snapshots.exported import ExportedCells, Learned
from popdyn.snapshots.formats import FORMATS, MARK, Format

DEFAULT_COMPONENTS = 5


def is_annotated(path: Path) -> bool:
    """Whether a folder is an AnnData written as Zarr, of either version."""
    for name, inside in ((".zattrs", False), ("zarr.json", True)):
        try:
            document = json.loads((path / name).read_bytes())
            found = document.get("attributes", {}) if inside else document
            if found.get("encoding-type") == "anndata":
                return True
        except (OSError, ValueError, AttributeError):
            continue
    return False


def read_annotated(path: Path, keys: ImportOptions) -> Cells:
    """Read ``.h5ad``, or an AnnData written as Zarr.

    Raises:
        PopdynError: If it cannot be read, or lacks what was asked for.
    """
    import anndata

    try:
        adata = anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path)
    except Exception as error:
        # Its readers raise what HDF5, Zarr and their own registry happen to raise.
        refuse(path, error)
    return cells_of_annotated(adata, keys, path)


def cells_of_annotated(adata: Any, keys: ImportOptions, path: object) -> Cells:
    """Return the cells of an AnnData.

    Args:
        adata: The AnnData.
        keys: What to look for in it.
        path: What an error calls it.

    Raises:
        PopdynError: If it lacks what was asked for.
    """
    import pandas as pd
    from scipy.sparse import issparse

    columns = [str(c) for c in adata.obs.columns]
    # A file that popdyn exported has both, and the times of the labels.
    usual = ("sample_labels",) if "popdyn_times" in adata.uns else ("time", "sample_labels")
    obs = name_among(keys.obs_key or keys.time_key, usual, columns, path, "obs column")
    arrays = [str(k) for k in adata.obsm]
    obsm = keys.obsm_key or keys.data_key
    if obsm is None and "X_pca" in arrays:
        obsm = "X_pca"
    components: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if obsm is None:
        name, n = "PCA of X", keys.components or DEFAULT_COMPONENTS
        x = _principal_components(adata.X, n, path)
        components = tuple(f"PC{i + 1}" for i in range(n))
        notes = (_said_of_components(adata.X, n, arrays),)
    else:
        name = name_among(obsm, (), arrays, path, "obsm array")
        found = adata.obsm[name]
        if isinstance(found, pd.DataFrame):
            components, found = tuple(map(str, found.columns)), found.to_numpy()
        x = np.asarray(found.toarray() if issparse(found) else found)
    labels = adata.obs[obs].to_numpy()
    parts = None
    if keys.split_by is not None:
        parts = adata.obs[name_among(keys.split_by, (), columns, path, "obs column")].to_numpy()
    times = adata.uns.get("popdyn_times")
    return Cells(x, labels, name, obs, times, components, notes=notes, parts=parts)


def _said_of_components(matrix: Any, n: int, arrays: list[str]) -> str:
    values = _values(matrix)
    there = f"; obsm has {', '.join(arrays)}" if arrays else ""
    made = f"there is no obsm 'X_pca'{there}: {n} principal components of X were computed here"
    if values.size and values.min() >= 0 and values.max() > 1 and not (values % 1).any():
        return (
            f"{made}, of raw counts (whole numbers up to {values.max():g}), where the depth of "
            "sequencing rules: normalise, take logarithms and reduce first (scanpy: "
            "normalize_total, log1p, pca), then --obsm-key X_pca"
        )
    return f"{made}, of values that are no raw counts: --obsm-key names an array instead"


def _principal_components(matrix: Any, components: int, path: object) -> np.ndarray:
    from scipy.sparse import csr_matrix, issparse
    from sklearn.decomposition import PCA

    if matrix is None or min(matrix.shape) < components:
        shape = None if matrix is None else matrix.shape
        raise PopdynError(f"{path} has X of shape {shape}: expected {components} components in it")
    values = _values(matrix)
    if not np.isfinite(values).all():
        where = ""
        if values is matrix:
            row, column = (int(i) for i in np.argwhere(~np.isfinite(matrix))[0])
            where = f" at row {row}, column {column}"
        raise PopdynError(f"{path}: X is not finite{where}: expected finite numbers")
    if not values.any():
        raise PopdynError(f"{path}: X is 0 in all cells: expected some spread, or --obsm-key")
    stored: Any = matrix
    if issparse(matrix):
        if components < min(matrix.shape):  # what this solver asks for
            # Sparse input is centred implicitly; the solver starts from a fixed vector.
            pca = PCA(components, svd_solver="arpack", random_state=0)
            return np.asarray(pca.fit_transform(csr_matrix(stored, dtype=np.float64)))
        stored = stored.toarray()
    pca = PCA(components, svd_solver="full")
    return np.asarray(pca.fit_transform(np.asarray(stored, dtype=np.float64)))


def _values(matrix: Any) -> np.ndarray:
    """Return all numbers of a dense matrix, or those that a sparse one holds."""
    from scipy.sparse import issparse

    return np.asarray(matrix.data if issparse(matrix) else matrix)


def write_annotated(cells: ExportedCells, path: Path) -> None:
    import anndata
    import h5py
    import pandas as pd

    rows = np.arange(len(cells.x))
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
        adata, rows = _same_cells(cells, cells.into)
    if cells.weights is not None:
        adata.obs["weight"] = _spread(cells.weights, rows, adata.n_obs)
    if cells.masses is not None:
        adata.uns["popdyn_masses"] = cells.masses
    if cells.learned is not None:
        _add_learned(adata, rows, cells.basis, cells.learned)
    adata.write_h5ad(path)
    with h5py.File(path, "a") as file:
        file.attrs["popdyn"] = _outline(file)


def _same_cells(cells: ExportedCells, file: Path) -> tuple[Any, np.ndarray]:
    """Return the AnnData of a file, once it is sure that it has these cells, and their rows."""
    import anndata

    try:
        adata = anndata.read_h5ad(file)
    except (ValueError, OSError, KeyError) as error:
        raise PopdynError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    key = f"X_{cells.basis}"
    rows = np.arange(len(cells.x)) if adata.n_obs == len(cells.x) else cells.rows
    if rows is None or rows.max() >= adata.n_obs:
        raise PopdynError(
            f"{file} has {adata.n_obs} cells: expected the {len(cells.x)} that were imported, or "
            "those and what the import left out"
        )
    if key in adata.obsm:
        there = np.asarray(adata.obsm[key])[rows, : cells.x.shape[1]]
        if not np.allclose(there, cells.x, rtol=1e-4, atol=1e-4 * np.abs(cells.x).max()):
            raise PopdynError(f"{file} has another {key}: expected the cells that were imported")
    else:
        adata.obsm[key] = _spread(cells.x, rows, adata.n_obs)
    return adata, rows


def _spread(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Return values of some rows as those of all: NaN, and False, for the others."""
    if len(rows) == count:
        return values
    empty = False if values.dtype == bool else np.nan
    out = np.full((count, *values.shape[1:]), empty, values.dtype)
    out[rows] = values
    return out


def _add_learned(adata: Any, rows: np.ndarray, basis: str, learned: Learned) -> None:
    adata.obs["popdyn_potential"] = _spread(learned.potential, rows, adata.n_obs)
    adata.obs["popdyn_held_out"] = _spread(learned.held_out, rows, adata.n_obs)
    if learned.growth_rate is not None:
        adata.obs["growth_rate"] = _spread(learned.growth_rate, rows, adata.n_obs)
    if learned.fates is not None and learned.arrival is not None:
        adata.obs["popdyn_fate"] = _spread(learned.fate.astype(np.float32), rows, adata.n_obs)
        adata.obs["popdyn_arrival"] = _spread(learned.arrival, rows, adata.n_obs)
        adata.obsm["popdyn_fates"] = _spread(learned.fates, rows, adata.n_obs)
        adata.uns["popdyn_landscape"] = learned.landscape
    # As wide as the positions: CellRank wants one shape, and drops the components that are NaN.
    velocity = np.full_like(np.asarray(adata.obsm[f"X_{basis}"], np.float32), np.nan)
    velocity[rows, : learned.velocity.shape[1]] = learned.velocity
    adata.obsm[f"velocity_{basis}"] = velocity
    adata.uns["popdyn"] = learned.facts
    adata.uns["popdyn_predicted"] = {
        f"X_{basis}": learned.predicted,
        "time": learned.predicted_times,
    }


def marked(path: Path) -> bool:
    import h5py

    with h5py.File(path) as file:
        return bool(file.attrs.get("popdyn") == _outline(file))


def _outline(file: Any) -> str:
    """Return a digest of the names and shapes in a file: who adds to it changes it."""
    found: list[str] = []
    file.visititems(lambda name, item: found.append(f"{name} {getattr(item, 'shape', '')}"))
    return f"{MARK} {hashlib.sha256(chr(10).join(sorted(found)).encode()).hexdigest()}"


FORMATS.enter(
    "h5ad",
    Format(
        "h5ad",
        "An AnnData file.",
        (".h5ad",),
        read=read_annotated,
        write=write_annotated,
        marked=marked,
    ),
    __name__,
)
FORMATS.enter(
    "zarr",
    Format(
        "zarr",
        "An AnnData as Zarr, of either version.",
        (".zarr",),
        read=read_annotated,
        recognises=is_annotated,
    ),
    __name__,
)
