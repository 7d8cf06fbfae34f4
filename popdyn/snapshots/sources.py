"""Files of labelled cells: one reader for each kind, all to the same rows and labels."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from popdyn.errors import PopdynError

__all__ = ["SOURCES", "Cells", "Keys", "read_cells"]


@dataclass(frozen=True)
class Cells:
    """Rows of positions, each with the label of its snapshot.

    Attributes:
        x: Positions ``(n, d)``.
        labels: ``(n,)``, numbers or texts.
        x_name: What the source calls the positions.
        label_name: What it calls the labels.
        times: The true time of each label, where the source says so.
    """

    x: np.ndarray
    labels: np.ndarray
    x_name: str
    label_name: str
    times: dict[str, float] | None = None


@dataclass(frozen=True)
class Keys:
    """What to look for in a source; None means the usual name of its kind.

    Attributes:
        data: Array, variable, or columns (a list, or names with commas) of positions.
        label: Array, variable or column of labels.
        obs: Column of ``obs`` with the labels, of an AnnData file.
        obsm: Array of ``obsm`` with the positions; without one a PCA of X is computed.
        components: How many leading components to keep, or of a PCA to compute.
    """

    data: str | Sequence[str] | None = None
    label: str | None = None
    obs: str | None = None
    obsm: str | None = None
    components: int | None = None


def read_cells(source: str | os.PathLike[str] | xr.Dataset, keys: Keys) -> Cells:
    """Read a source of any kind.

    Raises:
        PopdynError: If it does not exist, is of no known kind, or lacks what was asked for; the
            line lists what is there.
    """
    if isinstance(source, xr.Dataset):
        cells = _from_dataset(source, keys)
    else:
        path = Path(source)
        if not path.exists():
            raise PopdynError(f"{path} does not exist: expected a file of cells")
        kind = "directory" if path.is_dir() else path.suffix.lower()
        if kind not in SOURCES:
            known = ", ".join(s for s in SOURCES if s.startswith("."))
            raise PopdynError(f"{path} ends in '{path.suffix}': expected one of {known}")
        cells = SOURCES[kind](path, keys)
    return _checked(
        cells, keys.components, "the Dataset" if isinstance(source, xr.Dataset) else source
    )


def _from_npz(path: Path, keys: Keys) -> Cells:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            data = _name(keys.data, ("pcs", "x", "data"), names, path, "array")
            label = _name(keys.label, ("sample_labels", "labels", "time"), names, path, "array")
            times = archive["times"] if "times" in names else None
            x, labels = archive[data], archive[label]
    except (ValueError, OSError, EOFError) as error:
        _refuse(path, error)
    return Cells(x, labels, data, label, _paired_times(labels, times))


def _from_npy(path: Path, keys: Keys) -> Cells:
    return _npy_pair(path, path.with_name(f"{keys.label or 'sample_labels'}.npy"))


def _from_directory(path: Path, keys: Keys) -> Cells:
    found = sorted(p.stem for p in path.glob("*.npy"))
    data = _name(keys.data, ("data",), found, path, "array")
    label = _name(keys.label, ("sample_labels",), found, path, "array")
    return _npy_pair(path / f"{data}.npy", path / f"{label}.npy")


def _npy_pair(data: Path, label: Path) -> Cells:
    if not label.exists():
        raise PopdynError(f"{label} does not exist: expected the labels beside {data.name}")
    times = data.with_name("times.npy")
    try:
        x, labels = (np.load(p, allow_pickle=False) for p in (data, label))
        at = np.load(times, allow_pickle=False) if times.exists() else None
    except (ValueError, OSError, EOFError) as error:
        _refuse(data, error)
    return Cells(x, labels, data.name, label.name, _paired_times(labels, at))


def _from_table(path: Path, keys: Keys) -> Cells:
    import pandas as pd

    try:
        table = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError) as error:
        _refuse(path, error)
    columns = [str(c) for c in table.columns]
    table.columns = pd.Index(columns)
    label = _name(keys.label, ("time", "sample_labels", "label"), columns, path, "column")
    if keys.data is None:
        # A nameless column is the row index of whoever wrote the table.
        data = [
            c
            for c in columns
            if c != label
            and pd.api.types.is_numeric_dtype(table[c])
            and not c.startswith(("Unnamed:", "__index_level_"))
        ]
    else:
        data = keys.data.split(",") if isinstance(keys.data, str) else list(keys.data)
        for column in data:
            _name(column, (), columns, path, "column")
    if not data:
        raise PopdynError(f"{path} has the columns {_list(columns)}: expected columns of numbers")
    return Cells(table[data].to_numpy(), table[label].to_numpy(), ",".join(data), label)


def _from_h5ad(path: Path, keys: Keys) -> Cells:
    import anndata

    try:
        adata = anndata.read_h5ad(path)
    except (ValueError, OSError, KeyError) as error:
        _refuse(path, error)
    columns = [str(c) for c in adata.obs.columns]
    # A file that popdyn exported has both, and the times of the labels.
    usual = ("sample_labels",) if "popdyn_times" in adata.uns else ("time", "sample_labels")
    obs = _name(keys.obs or keys.label, usual, columns, path, "obs column")
    obsm = keys.obsm or (keys.data if isinstance(keys.data, str) else None)
    if obsm is None and "X_pca" in adata.obsm:
        obsm = "X_pca"
    if obsm is None:
        x, name = _principal_components(adata.X, keys.components or 5, path), "PCA of X"
    else:
        name = _name(obsm, (), [str(k) for k in adata.obsm], path, "obsm array")
        x = np.asarray(adata.obsm[name])
    labels = adata.obs[obs].to_numpy()
    times = adata.uns.get("popdyn_times")
    return Cells(x, labels, name, obs, _paired_times(labels, times))


def _from_dataset(source: xr.Dataset, keys: Keys) -> Cells:
    names = [str(name) for name in source.variables]
    data = _name(keys.data, ("x", "pcs", "data"), names, "the Dataset", "variable")
    x = source[data]
    first = str(x.dims[0]) if x.dims else "sample"
    label = _name(keys.label, (first, "time", "sample_labels"), names, "the Dataset", "variable")
    values, labels = x.values, source[label].values
    if values.ndim == 3 and len(labels) == len(values):
        # Padded snapshots (time, particle, component): rows that are all NaN are padding.
        labels = np.repeat(labels, values.shape[1])
        values = values.reshape(-1, values.shape[2])
        real = ~np.isnan(values).all(axis=1)
        values, labels = values[real], labels[real]
    return Cells(values, labels, data, label)


def _principal_components(matrix: Any, components: int, path: Path) -> np.ndarray:
    from scipy.sparse import csr_matrix, issparse
    from sklearn.decomposition import PCA

    if matrix is None or min(matrix.shape) < components:
        shape = None if matrix is None else matrix.shape
        raise PopdynError(f"{path} has X of shape {shape}: expected {components} components in it")
    if issparse(matrix):
        # Sparse input is centred implicitly; this solver starts from a fixed vector.
        pca = PCA(components, svd_solver="arpack", random_state=0)
        sparse: Any = matrix
        return np.asarray(pca.fit_transform(csr_matrix(sparse, dtype=np.float64)))
    if not np.isfinite(matrix).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(matrix))[0])
        raise PopdynError(f"{path}: X is not finite at row {row}, column {column}")
    pca = PCA(components, svd_solver="full")
    return np.asarray(pca.fit_transform(np.asarray(matrix, dtype=np.float64)))


def _checked(cells: Cells, components: int | None, where: object) -> Cells:
    x, labels = np.asarray(cells.x), np.asarray(cells.labels)
    if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in "fiu":
        raise PopdynError(
            f"{where}: {cells.x_name} has shape {x.shape} and type {x.dtype}: "
            "expected numbers (cells, components)"
        )
    if labels.shape != (len(x),):
        raise PopdynError(
            f"{where}: {cells.label_name} has shape {labels.shape}, {cells.x_name} has {len(x)} "
            f"rows: expected one label for each row"
        )
    if components is not None and components > x.shape[1]:
        raise PopdynError(
            f"{where}: {cells.x_name} has {x.shape[1]} components: expected {components} or more"
        )
    x = np.ascontiguousarray(x[:, :components], dtype=np.float32)
    if not np.isfinite(x).all():
        row, component = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise PopdynError(
            f"{where}: {cells.x_name} is {x[row, component]} at row {row}, component {component} "
            f"({int((~np.isfinite(x)).sum())} such values): expected finite numbers"
        )
    return replace(cells, x=x, labels=labels)


def _paired_times(labels: np.ndarray, times: Any) -> dict[str, float] | None:
    """Return the times that a source of popdyn's own gives for its sorted labels."""
    if times is None:
        return None
    distinct = np.unique(labels)
    times = np.asarray(times)
    if times.shape != distinct.shape or times.dtype.kind not in "fiu":
        return None
    return {str(k): float(t) for k, t in zip(distinct.tolist(), times, strict=True)}


def _name(asked: Any, usual: Iterable[str], there: Sequence[str], where: object, kind: str) -> str:
    if asked is not None:
        if asked not in there:
            raise PopdynError(f"{where} has no {kind} '{asked}': expected one of {_list(there)}")
        return str(asked)
    for name in usual:
        if name in there:
            return name
    wanted = " or ".join(f"'{name}'" for name in usual)
    raise PopdynError(f"{where} has no {kind} {wanted}: name one of {_list(there)}")


def _list(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


def _refuse(path: Path, error: Exception) -> Any:
    if isinstance(error, PopdynError):
        raise error
    raise PopdynError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


SOURCES: dict[str, Callable[[Path, Keys], Cells]] = {
    ".npz": _from_npz,
    ".npy": _from_npy,
    ".csv": _from_table,
    ".parquet": _from_table,
    ".h5ad": _from_h5ad,
    "directory": _from_directory,
}
