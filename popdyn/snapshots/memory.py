"""Snapshots from memory: arrays, an AnnData, a data frame, by the rules of an import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.options import read_options
from popdyn.snapshots.cells import Cells, ImportOptions, checked
from popdyn.snapshots.import_ import tree_of

if TYPE_CHECKING:
    import anndata
    import pandas as pd

__all__ = ["from_anndata", "from_arrays", "from_frame"]

_KEYS = ("data_key", "columns", "time_key", "obs_key", "obsm_key")
"""Options that say where in a source something is: each way in has those that mean something."""


def from_arrays(
    arrays: Sequence[Any] | np.ndarray, times: Sequence[Any] | np.ndarray, **options: Any
) -> xr.DataTree:
    """Make a data set of snapshots in memory.

    Args:
        arrays: One array ``(n_k, d)`` for each snapshot, of NumPy, torch or lists; numbers of
            particles may differ.
        times: The time of each ``(K + 1)``, all different: numbers, dates, or texts such as
            ``day 3`` or ``E7.5``. The snapshots are put into the order of their times.
        **options: ``components``, ``drop_missing``, ``time_map``, ``standardize``,
            ``test_fraction`` and ``seed``, as of ``popdyn import``.

    Returns:
        The data set, as :func:`popdyn.open_snapshots` gives it: a random fifth of each snapshot
        is its ``test`` group, the rest its ``train`` group.

    Raises:
        PopdynError: On shapes that do not agree, values that are not finite, a time that there
            is twice, or fewer than two snapshots; names the array and the row.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> data = from_arrays([rng.normal(size=(100, 2)), rng.normal(size=(50, 2))], [0, 0.5])
        >>> data["train/count"].values.tolist(), data["train/time"].values.tolist()
        ([80, 40], [0.0, 0.5])
    """
    o = _options(options, "from_arrays", ())
    if not isinstance(arrays, Iterable):
        raise PopdynError(f"the arrays are {arrays!r}: expected a list of arrays (particles, d)")
    snapshots = [_array(x, f"array {k}") for k, x in enumerate(arrays)]
    labels = np.asarray(_array(times, "times"))
    if labels.shape != (len(snapshots),):
        raise PopdynError(
            f"times have shape {labels.shape} and there are {len(snapshots)} arrays: expected one "
            "time for each"
        )
    for k, x in enumerate(snapshots):
        if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in "fiu":
            raise PopdynError(
                f"array {k} has shape {x.shape} and type {x.dtype}: expected numbers "
                "(particles, components)"
            )
        if x.shape[1] != snapshots[0].shape[1]:
            raise PopdynError(
                f"array {k} has {x.shape[1]} components, array 0 has {snapshots[0].shape[1]}: "
                "expected one and the same number"
            )
    if not snapshots:
        raise PopdynError("there are no arrays: expected two snapshots or more")
    twice = [label for k, label in enumerate(labels.tolist()) if label in labels.tolist()[:k]]
    if twice:
        raise PopdynError(f"the time {twice[0]} stands twice: expected one array for each time")
    sizes = [len(x) for x in snapshots]
    starts = np.cumsum([0, *sizes])

    def where(row: int) -> str:
        k = int(np.searchsorted(starts, row, side="right")) - 1
        return f"row {row - starts[k]} of array {k}"

    x = np.concatenate(snapshots)
    names = tuple(f"x{i + 1}" for i in range(x.shape[1]))
    cells = Cells(x, np.repeat(labels, sizes), "the arrays", "times", None, names, where)
    return tree_of(checked(cells, o, "from_arrays"), o, "arrays")


def from_anndata(
    adata: anndata.AnnData,
    obs_key: str | None = None,
    obsm_key: str | None = None,
    **options: Any,
) -> xr.DataTree:
    """Make a data set of the cells of an AnnData in memory.

    Args:
        adata: Annotated cells; it is not changed.
        obs_key: Column of ``obs`` with the time labels. None: ``time`` or ``sample_labels``.
        obsm_key: Array of ``obsm`` with the positions ``(n, d)``. None: ``X_pca``, or principal
            components of X.
        **options: ``components``, ``drop_missing``, ``time_map``, ``standardize``,
            ``test_fraction`` and ``seed``, as of ``popdyn import``.

    Returns:
        The data set, as :func:`popdyn.open_snapshots` gives it; see :func:`from_arrays`.

    Raises:
        PopdynError: If it lacks what was asked for, or on values that no import takes.

    Example:
        >>> import anndata, pandas as pd
        >>> obs = pd.DataFrame({"day": ["day 0", "day 2"] * 20}, index=list(map(str, range(40))))
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> cells = anndata.AnnData(obs=obs, obsm={"X_pca": X})
        >>> from_anndata(cells, obs_key="day", components=2)["train/time"].values.tolist()
        [0.0, 2.0]
    """
    from popdyn.snapshots.formats.annotated import cells_of_annotated

    if not all(hasattr(adata, name) for name in ("obs", "obsm", "uns", "X")):
        raise PopdynError(
            f"from_anndata was given {type(adata).__name__}: expected an AnnData (a file: "
            "import_data)"
        )
    given = options | {"obs_key": obs_key, "obsm_key": obsm_key}
    o = _options(given, "from_anndata", ("obs_key", "obsm_key"))
    cells = cells_of_annotated(adata, o, "the AnnData")
    return tree_of(checked(cells, o, "the AnnData"), o, "an AnnData")


def from_frame(
    frame: pd.DataFrame,
    time_key: str | None = None,
    columns: str | Sequence[str] | None = None,
    **options: Any,
) -> xr.DataTree:
    """Make a data set of the rows of a data frame, a particle each.

    Args:
        frame: The table, of pandas; it is not changed.
        time_key: Column of time labels. None: ``time``, ``sample_labels`` or ``label``.
        columns: Columns of positions, a list or names with commas. None: the columns of numbers,
            less those of whole numbers alone where others have fractions.
        **options: ``components``, ``drop_missing``, ``time_map``, ``standardize``,
            ``test_fraction`` and ``seed``, as of ``popdyn import``.

    Returns:
        The data set, as :func:`popdyn.open_snapshots` gives it; see :func:`from_arrays`.

    Raises:
        PopdynError: If it lacks a column, or on values that no import takes; names the row.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"day": [0, 1] * 10, "x": np.linspace(0, 1, 20)})
        >>> from_frame(frame, time_key="day")["train/count"].values.tolist()
        [8, 8]
    """
    from popdyn.snapshots.formats.tables import cells_of_frame

    if not all(hasattr(frame, name) for name in ("columns", "set_axis", "iloc")):
        raise PopdynError(
            f"from_frame was given {type(frame).__name__}: expected a pandas data frame (a file: "
            "import_data)"
        )
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise PopdynError(
            f"the frame has the column '{twice[0]}' twice: expected a name of its own for each"
        )
    if frame.empty:
        raise PopdynError("the frame is empty: expected a row for each particle")
    given = options | {"time_key": time_key, "columns": columns}
    o = _options(given, "from_frame", ("time_key", "columns"))
    cells = cells_of_frame(frame, o, "the frame", lambda row: f"row {row}")
    return tree_of(checked(cells, o, "the frame"), o, "a data frame")


def _options(given: dict[str, Any], whose: str, keys: Sequence[str]) -> ImportOptions:
    known = [f.name for f in fields(ImportOptions) if f.name in keys or f.name not in _KEYS]
    for name in given:
        if name not in known:
            raise PopdynError(
                f"{whose} has no option '{name}': expected one of {', '.join(known)}", field=name
            )
    return read_options(ImportOptions, given, whose)


def _array(x: Any, what: str) -> np.ndarray:
    """Return an array of any library, or a list, as NumPy's."""
    if hasattr(x, "detach"):  # torch's, perhaps on a GPU or with a graph
        x = x.detach().cpu()
    if hasattr(x, "toarray"):  # a sparse matrix
        x = x.toarray()
    try:
        return np.asarray(x)
    except (ValueError, TypeError) as error:
        raise PopdynError(f"{what} is no array: {str(error).splitlines()[0]}") from None
