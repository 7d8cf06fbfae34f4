"""AnnData files: positions from an array of ``obsm``, or from principal components of X."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from popdyn.base.errors import PopdynError
from popdyn.snapshots.cells import Cells, ImportOptions, name_among, refuse

__all__ = ["is_annotated", "read_annotated"]

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
    import pandas as pd
    from scipy.sparse import issparse

    try:
        adata = anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path)
    except Exception as error:
        # Its readers raise what HDF5, Zarr and their own registry happen to raise.
        refuse(path, error)
    columns = [str(c) for c in adata.obs.columns]
    # A file that popdyn exported has both, and the times of the labels.
    usual = ("sample_labels",) if "popdyn_times" in adata.uns else ("time", "sample_labels")
    obs = name_among(keys.obs_key or keys.label_key, usual, columns, path, "obs column")
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
    times = adata.uns.get("popdyn_times")
    return Cells(x, labels, name, obs, times, components, notes=notes)


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


def _principal_components(matrix: Any, components: int, path: Path) -> np.ndarray:
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
    if issparse(matrix):
        # Sparse input is centred implicitly; this solver starts from a fixed vector.
        pca = PCA(components, svd_solver="arpack", random_state=0)
        sparse: Any = matrix
        return np.asarray(pca.fit_transform(csr_matrix(sparse, dtype=np.float64)))
    pca = PCA(components, svd_solver="full")
    return np.asarray(pca.fit_transform(np.asarray(matrix, dtype=np.float64)))


def _values(matrix: Any) -> np.ndarray:
    """Return all numbers of a dense matrix, or those that a sparse one holds."""
    from scipy.sparse import issparse

    return np.asarray(matrix.data if issparse(matrix) else matrix)
