"""Ways in: labelled cells of any kind become train and test snapshots at true times."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.options import read_options
from popdyn.snapshots.cells import ORIGIN, Cells, ImportOptions
from popdyn.snapshots.labels import snapshots_of
from popdyn.snapshots.oddities import oddities
from popdyn.snapshots.reader import open_snapshots
from popdyn.snapshots.sources import read_cells
from popdyn.snapshots.standardize import METHODS
from popdyn.snapshots.store import write
from popdyn.snapshots.tree import make_tree
from popdyn.snapshots.writer import store_target

__all__ = ["import_data", "tree_of"]


def import_data(
    source: str | os.PathLike[str] | xr.Dataset,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> xr.DataTree:
    """Make snapshots of the labelled cells of a file.

    Args:
        source: ``.npz`` (``pcs`` and ``sample_labels``), ``.npy`` or a folder (``data.npy`` and
            ``sample_labels.npy``), ``.csv``, ``.tsv``, ``.parquet`` (a column ``time``; also
            ``.gz``), ``.h5ad`` or an AnnData as Zarr, or an xarray Dataset.
        out: Store to write; in memory if None.
        overwrite: Replace an existing ``out``.
        **options: Keys of the source, ``components``, ``time_map``, ``standardize``,
            ``test_fraction``, ``seed`` and the others of ``ImportOptions``.

    Returns:
        The tree; opened lazily if it was written. Its attribute ``import`` says what was done:
        ``source``, ``data``, ``components`` and ``label`` by name, ``dropped`` cells, and
        ``notes``, a sentence on everything that was decided here or looks odd in the cells.

    Raises:
        PopdynError: On anything missing, not finite, or that gives no increasing times.

    Example:
        >>> time = ("cell", [0, 1] * 4)
        >>> cells = xr.Dataset({"x": (("cell", "d"), np.ones((8, 2))), "time": time})
        >>> import_data(cells, test_fraction=0.25)["train/count"].values.tolist()
        [3, 3]
    """
    o = read_options(ImportOptions, options, "an import")
    if out is not None:
        read = None if isinstance(source, xr.Dataset) else source
        store_target(out, overwrite=overwrite, reads=[read]).check()
    name = "an xarray Dataset" if isinstance(source, xr.Dataset) else Path(source).name
    data = tree_of(read_cells(source, o), o, name)
    if out is None:
        return data
    write(data, out, overwrite=overwrite)
    return open_snapshots(out)


def tree_of(cells: Cells, o: ImportOptions, name: str) -> xr.DataTree:
    """Return the snapshots of labelled cells, wherever they come from; see :func:`import_data`.

    Args:
        cells: What a reader gives, held to the rules of all of them.
        o: Options of the import.
        name: What the source is called.

    Raises:
        PopdynError: On labels that give no increasing times.
    """
    if cells.parts is not None:
        raise PopdynError(
            f"split_by is '{o.split_by}': expected none, for it gives several data sets "
            "(popdyn.import_experiments)",
            field="split_by",
        )
    method = METHODS[o.standardize]
    labels, times, rows, notes = snapshots_of(cells, o.time_map)
    odd = oddities(
        (cells.x[r] for r in rows),
        times.tolist(),
        cells.components,
        lambda k, row: cells.where(int(rows[k][row])),
    )
    split = [_split(r, o.test_fraction, o.seed, k) for k, r in enumerate(rows)]
    train, test = [r for r, _ in split], [r for _, r in split]
    mean, scale = method(cells.x[np.concatenate(train)])
    x = ((cells.x - mean) / scale).astype(np.float32)
    attrs = {
        "title": f"imported from {name}",
        "observation": "unpaired",
        "seed": o.seed,
        "labels": labels,
        "standardize": {"method": o.standardize, "mean": mean.tolist(), "scale": scale.tolist()},
        "import": {
            "source": name,
            "data": cells.x_name,
            "components": list(cells.components),
            "label": cells.label_name,
            "test_fraction": o.test_fraction,
            "dropped": cells.dropped,
            "notes": [*cells.notes, *notes, *odd],
        },
    }
    total = _masses(o, labels, times.tolist(), [len(r) for r in rows])
    masses = None if total is None else {"train": total, "test": total}
    data = make_tree([x[r] for r in train], [x[r] for r in test], times, attrs, masses=masses)
    if cells.rows is not None:
        train, test = [cells.rows[r] for r in train], [cells.rows[r] for r in test]
    data[ORIGIN] = xr.DataTree(
        xr.Dataset({"train": _padded(train, "train"), "test": _padded(test, "test")})
    )
    return data


def _masses(
    o: ImportOptions, labels: Sequence[Any], times: Sequence[float], cells: Sequence[int]
) -> list[float] | None:
    """Return the total mass of each snapshot, None where nobody measured it.

    Raises:
        PopdynError: On a mass of no snapshot, a snapshot without one, or both ways of giving them.
    """
    if o.mass is None:
        return [float(n) for n in cells] if o.mass_from_counts else None
    if o.mass_from_counts:
        raise PopdynError("mass beside mass_from_counts: expected one of them", field="mass")
    left = {str(key): float(value) for key, value in o.mass.items()}
    out = []
    for label, t in zip(labels, times, strict=True):
        keys = [key for key in left if key == str(label) or _number(key) == t]
        if not keys:
            raise PopdynError(
                f"mass has none for '{label}' at time {t:g}: expected one for each snapshot",
                field="mass",
            )
        out.append(left.pop(keys[0]))
    if left:
        raise PopdynError(
            f"mass has one for '{next(iter(left))}': expected labels or times of snapshots, "
            f"{', '.join(map(str, labels))}",
            field="mass",
        )
    return out


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


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
