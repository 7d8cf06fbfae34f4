"""Ways in: labelled cells of any kind become train and test snapshots at true times."""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from popdyn.errors import PopdynError
from popdyn.registry import lookup
from popdyn.snapshots.reader import open_snapshots
from popdyn.snapshots.sources import Cells, Keys, read_cells
from popdyn.snapshots.standardize import METHODS
from popdyn.snapshots.store import write
from popdyn.snapshots.tree import make_tree
from popdyn.snapshots.writer import store_target

__all__ = ["ORIGIN", "import_data"]

ORIGIN = "origin"
"""The group that remembers from which row of the source each particle came."""


def import_data(
    source: str | os.PathLike[str] | xr.Dataset,
    *,
    out: str | os.PathLike[str] | None = None,
    data_key: str | Sequence[str] | None = None,
    label_key: str | None = None,
    obs_key: str | None = None,
    obsm_key: str | None = None,
    components: int | None = None,
    time_map: Mapping[Any, float] | None = None,
    standardize: str = "none",
    test_fraction: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
) -> xr.DataTree:
    """Make snapshots of the labelled cells of a file.

    Args:
        source: ``.npz`` (``pcs`` and ``sample_labels``), ``.npy`` or a folder (``data.npy`` and
            ``sample_labels.npy``), ``.csv``, ``.parquet`` (a column ``time``), ``.h5ad``, or an
            xarray Dataset.
        out: Store to write; in memory if None.
        data_key: Array, variable or columns of positions, where it has another name.
        label_key: Array, variable or column of labels, likewise.
        obs_key: Column of ``obs`` with the labels, for ``.h5ad``.
        obsm_key: Array of ``obsm``; without one ``X_pca``, or a PCA of X computed here.
        components: Leading components to keep.
        time_map: True time of each label; numeric labels are the true times without it.
        standardize: ``"none"``, ``"global"`` (mean 0, one scale for all components) or
            ``"component"`` (mean 0 and variance 1 each), over the training cells; recorded in
            the attribute ``standardize``.
        test_fraction: Share of each snapshot that becomes the test group.
        seed: Seed of the split.
        overwrite: Replace an existing ``out``.

    Returns:
        The tree; opened lazily if it was written.

    Raises:
        PopdynError: On anything missing, not finite, or that gives no increasing times.

    Example:
        >>> time = ("cell", [0, 1] * 4)
        >>> cells = xr.Dataset({"x": (("cell", "d"), np.ones((8, 2))), "time": time})
        >>> import_data(cells, test_fraction=0.25)["train/count"].values.tolist()
        [3, 3]
    """
    if not 0 <= test_fraction < 1:
        raise PopdynError(f"test_fraction is {test_fraction}: expected 0 or more, below 1")
    if components is not None and components < 1:
        raise PopdynError(f"components is {components}: expected 1 or more")
    method = lookup(METHODS, standardize, "standardize")
    if out is not None:
        read = None if isinstance(source, xr.Dataset) else source
        store_target(out, overwrite=overwrite, reads=[read]).check()
    cells = read_cells(source, Keys(data_key, label_key, obs_key, obsm_key, components))
    labels, times = _times(cells, time_map)
    rows = [np.flatnonzero(cells.labels == label) for label in labels]
    split = [_split(r, test_fraction, seed, k) for k, r in enumerate(rows)]
    train, test = [r for r, _ in split], [r for _, r in split]
    mean, scale = method(cells.x[np.concatenate(train)])
    x = ((cells.x.astype(np.float64) - mean) / scale).astype(np.float32)
    name = "an xarray Dataset" if isinstance(source, xr.Dataset) else Path(source).name
    attrs = {
        "title": f"imported from {name}",
        "observation": "unpaired",
        "seed": seed,
        "labels": [label.item() if isinstance(label, np.generic) else label for label in labels],
        "standardize": {"method": standardize, "mean": mean.tolist(), "scale": scale.tolist()},
        "import": {
            "source": name,
            "data": cells.x_name,
            "label": cells.label_name,
            "test_fraction": test_fraction,
        },
    }
    data = make_tree([x[r] for r in train], [x[r] for r in test], times, attrs)
    data[ORIGIN] = xr.DataTree(
        xr.Dataset({"train": _padded(train, "train"), "test": _padded(test, "test")})
    )
    if out is None:
        return data
    write(data, out, overwrite=overwrite)
    return open_snapshots(out)


def _times(cells: Cells, time_map: Mapping[Any, float] | None) -> tuple[list[Any], np.ndarray]:
    """Return the labels in the order of their true times, and those times."""
    values = cells.labels
    if values.dtype.kind == "O" and any(v is None or v != v for v in values.tolist()):
        row = next(i for i, v in enumerate(values.tolist()) if v is None or v != v)
        raise PopdynError(f"{cells.label_name} is empty at row {row}: expected a label")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise PopdynError(f"{cells.label_name} is {values[row]} at row {row}: expected a number")
    distinct = list(dict.fromkeys(values.tolist()))
    known = cells.times if time_map is None else {str(k): v for k, v in time_map.items()}
    found = {label: _time(label, known, cells.label_name) for label in distinct}
    if time_map is not None:
        strange = set(known or {}) - {_text(label, known or {}) for label in distinct}
        if strange:
            raise PopdynError(
                f"time_map names {', '.join(sorted(strange))}: expected labels of "
                f"{cells.label_name}, which are {_listed(distinct)}"
            )
    labels = sorted(distinct, key=lambda label: found[label])
    for a, b in itertools.pairwise(labels):
        if found[a] == found[b]:
            raise PopdynError(
                f"labels '{a}' and '{b}' both have the time {found[a]:g}: expected different times"
            )
    if len(labels) < 2:
        raise PopdynError(
            f"{cells.label_name} has the one label {_listed(labels)}: expected two snapshots or "
            "more"
        )
    return labels, np.array([found[label] for label in labels], dtype=np.float64)


def _time(label: Any, known: Mapping[str, float] | None, name: str) -> float:
    if known is not None:
        key = _text(label, known)
        if key not in known:
            raise PopdynError(
                f"label '{label}' of {name} has no time: expected it in time_map, which has "
                f"{_listed(list(known))}"
            )
        time = float(known[key])
    else:
        try:
            time = float(label)
        except (TypeError, ValueError):
            raise PopdynError(
                f"label '{label}' of {name} is no number: expected numbers, or a time_map "
                "(label=time, …)"
            ) from None
    if not math.isfinite(time):
        raise PopdynError(f"label '{label}' has the time {time}: expected a finite number")
    return time


def _text(label: Any, known: Mapping[str, float]) -> str:
    text = str(label)
    if text not in known and isinstance(label, float) and label.is_integer():
        return str(int(label))
    return text


def _split(rows: np.ndarray, fraction: float, seed: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the test rows of snapshot k, each in the order of the source."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,)))
    n = min(round(fraction * len(rows)), len(rows) - 1)
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[generator.permutation(len(rows))[:n]] = True
    return rows[~chosen], rows[chosen]


def _padded(rows: list[np.ndarray], name: str) -> xr.Variable:
    out = np.full((len(rows), max(len(r) for r in rows)), -1, dtype=np.int64)
    for k, r in enumerate(rows):
        out[k, : len(r)] = r
    return xr.Variable(("time", f"{name}_particle"), out)


def _listed(labels: Sequence[Any]) -> str:
    return ", ".join(map(str, labels[:12])) + (", …" if len(labels) > 12 else "")
