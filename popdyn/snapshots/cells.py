"""Labelled cells as every reader gives them, and what all of them are held to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np

from popdyn.base.errors import PopdynError
from popdyn.base.options import Bounds, OneOf, Options

__all__ = ["Cells", "ImportOptions", "checked", "listed", "name_among", "refuse"]

MANY = 12
"""Components above which a note advises fewer: beyond, every cell is far from every other."""


def _row(row: int) -> str:
    return f"row {row}"


@dataclass(frozen=True)
class Cells:
    """Rows of positions, each with the label of its snapshot.

    Attributes:
        x: Positions ``(n, d)``.
        labels: ``(n,)``, numbers, texts or dates.
        x_name: What the source calls the positions.
        label_name: What it calls the labels.
        times: The true times of the sorted distinct labels, where the source says them.
        components: What the source calls each component ``(d)``; empty where it does not.
        where: Says where row i stands in the source.
        notes: What was decided without having been asked for, a sentence each.
        rows: Row of the source that each cell comes from ``(n,)``; all of them if None.
        dropped: How many rows of the source were left out.
        parts: What says which experiment each cell is of ``(n,)``, where that was asked for.
    """

    x: np.ndarray
    labels: np.ndarray
    x_name: str
    label_name: str
    times: np.ndarray | None = None
    components: tuple[str, ...] = ()
    where: Callable[[int], str] = _row
    notes: tuple[str, ...] = ()
    rows: np.ndarray | None = None
    dropped: int = 0
    parts: np.ndarray | None = None


ORIGIN = "origin"
"""The group that remembers from which row of the source each particle came."""


@dataclass(frozen=True, eq=False)
class ImportOptions(Options):
    """Options of an import: what to look for in a source, and what becomes of it.

    Attributes:
        data_key: Array or variable of positions, where it has another name than is usual.
        columns: Columns of positions, of a table: a list, or names with commas. Without them the
            columns of numbers, less those of whole numbers alone where others have fractions.
        time_key: Array, variable or column of time labels, likewise.
        obs_key: Column of obs with the time labels (AnnData).
        obsm_key: Array of obsm (AnnData). None: ``X_pca``, or a PCA of X.
        components: Leading components to keep, or of a PCA to compute.
        drop_missing: Leave out cells that lack a position or a label instead of refusing them.
        time_map: True time of each label. Without it numbers are the true times, dates give days
            since the first, and ``day 3``, ``E7.5`` or ``24h`` the number in them.
        mass_from_counts: The number of cells of each snapshot is its mass: where all of a
            population, or the same share of it, was collected each time.
        mass: Mass of each snapshot, by its label or its time, in any unit, where it was measured.
        split_by: Column or array that says which experiment a cell is of, such as a replicate:
            one store for each value, in the folder ``out``.
        standardize: Over the training cells: ``global`` is mean 0 and one scale for all
            components, ``component`` mean 0 and variance 1 each.
        test_fraction: Share of each snapshot for the test group.
        seed: Seed of the split.
    """

    data_key: str | None = None
    columns: str | Sequence[str] | None = None
    time_key: str | None = None
    obs_key: str | None = None
    obsm_key: str | None = None
    components: Annotated[int | None, Bounds(ge=1)] = None
    drop_missing: bool = False
    time_map: Mapping[Any, float] | None = None
    mass_from_counts: bool = False
    mass: Mapping[Any, float] | None = None
    split_by: str | None = None
    standardize: Annotated[str, OneOf("standardize", ("popdyn.snapshots.standardize:METHODS",))] = (
        "none"
    )
    test_fraction: Annotated[float, Bounds(ge=0, lt=1)] = 0.2
    seed: Annotated[int, Bounds(ge=0)] = 0


def checked(cells: Cells, keys: ImportOptions, source: object) -> Cells:
    """Return cells with float64 positions that float32 holds, named components, nothing missing.

    Raises:
        PopdynError: On shapes that do not agree, or a value that is missing, no finite number or
            beyond float32; says where it stands.
    """
    x, labels = np.asarray(cells.x), np.asarray(cells.labels)
    if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in "fiu":
        raise PopdynError(
            f"{source}: {cells.x_name} has shape {x.shape} and type {x.dtype}: "
            "expected numbers (cells, components)"
        )
    if labels.shape != (len(x),):
        raise PopdynError(
            f"{source}: {cells.label_name} has shape {labels.shape}, {cells.x_name} has {len(x)} "
            f"rows: expected one label for each row"
        )
    d, wanted, notes = x.shape[1], keys.components, list(cells.notes)
    if wanted is not None and wanted > d:
        raise PopdynError(f"{source}: {cells.x_name} has {d} components: expected {wanted} or more")
    if wanted is None and d > MANY:
        notes.append(
            f"all {d} components of {cells.x_name} are taken: far fewer are easier to learn in; "
            "--components 5 keeps the leading five"
        )
    cells = replace(cells, parts=_parts(cells, keys, source))
    x = np.asarray(x[:, :wanted], dtype=np.float64)
    names = cells.components or tuple(f"{cells.x_name}[{i}]" for i in range(d))
    cells = replace(cells, labels=labels, components=names[: x.shape[1]], notes=tuple(notes))
    if keys.drop_missing:
        cells, x = _without_missing(cells, x, source)
    _check_values(cells, x, source)
    return replace(cells, x=x)


def _without_missing(cells: Cells, x: np.ndarray, source: object) -> tuple[Cells, np.ndarray]:
    no_place, no_label = np.isnan(x).any(axis=1), _missing(cells.labels)
    if cells.parts is not None:
        no_label |= cells.parts == ""
    kept = ~(no_place | no_label)
    if kept.all():
        return cells, x
    if not kept.any():
        raise PopdynError(
            f"{source}: all {len(x)} cells lack a position or a label: expected some with both"
        )
    note = (
        f"{(~kept).sum()} of {len(x)} cells were left out: {no_place.sum()} lack a position, "
        f"{no_label.sum()} a label"
    )
    rows, where = np.flatnonzero(kept), cells.where
    return (
        replace(
            cells,
            labels=cells.labels[kept],
            where=lambda row: where(int(rows[row])),
            notes=(*cells.notes, note),
            rows=rows,
            dropped=int((~kept).sum()),
            parts=None if cells.parts is None else cells.parts[kept],
        ),
        x[kept],
    )


def _parts(cells: Cells, keys: ImportOptions, source: object) -> np.ndarray | None:
    """Return the experiments of all rows as texts, empty where there is none."""
    if keys.split_by is None:
        return None
    if cells.parts is None:
        raise PopdynError(
            f"{source} has no further arrays: expected a table, an .npz or an AnnData with "
            f"'{keys.split_by}'",
            field="split_by",
        )
    parts = np.asarray(cells.parts)
    if parts.shape != (len(cells.x),):
        raise PopdynError(
            f"{source}: {keys.split_by} has shape {parts.shape}: expected a value for each of "
            f"{len(cells.x)} rows"
        )
    lost = _missing(parts)
    if lost.any() and not keys.drop_missing:
        raise PopdynError(
            f"{source}: {keys.split_by} is missing at {cells.where(int(np.argmax(lost)))} "
            f"({lost.sum()} such cells): expected a value (--drop-missing leaves them out)"
        )
    texts = (
        v.decode() if isinstance(v, bytes) else f"{v:g}" if isinstance(v, float) else str(v)
        for v in parts.tolist()
    )
    return np.where(lost, "", np.array(list(texts), dtype=str))


def _check_values(cells: Cells, x: np.ndarray, source: object) -> None:
    lost = _missing(cells.labels)
    if lost.any():
        row = int(np.argmax(lost))
        raise PopdynError(
            f"{source}: {cells.label_name} is {_shown(cells.labels[row])} at {cells.where(row)} "
            f"({lost.sum()} such cells): expected a label (--drop-missing leaves them out)"
        )
    # What float32 cannot hold would become infinite.
    wrong = ~(np.abs(x) <= np.finfo(np.float32).max)
    if not wrong.any():
        return
    row, component = (int(i) for i in np.argwhere(wrong)[0])
    value = x[row, component]
    what = f"{cells.x_name} is {value:g} at {cells.where(row)}, component {component}"
    if cells.components[component] != f"{cells.x_name}[{component}]":
        what = f"column '{cells.components[component]}' is {_shown(value)} in {cells.where(row)}"
    cure = " (--drop-missing leaves such cells out)" if np.isnan(value) else ""
    raise PopdynError(
        f"{source}: {what} ({wrong.sum()} such values): expected finite numbers of float32{cure}"
    )


def _missing(labels: np.ndarray) -> np.ndarray:
    import pandas as pd

    missing = np.asarray(pd.isna(labels))
    if labels.dtype.kind in "OSU":
        missing |= np.array([v in ("", b"") for v in labels.tolist()])
    return missing


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else (str(value) or "empty")


def name_among(
    asked: str | None, usual: Iterable[str], there: Sequence[str], where: object, kind: str
) -> str:
    """Return the name that is asked for, or the first of the usual ones.

    Raises:
        PopdynError: If it is not there; lists what is.
    """
    if asked is not None:
        if asked not in there:
            raise PopdynError(f"{where} has no {kind} '{asked}': expected one of {listed(there)}")
        return str(asked)
    for name in usual:
        if name in there:
            return name
    wanted = " or ".join(f"'{name}'" for name in usual)
    raise PopdynError(f"{where} has no {kind} {wanted}: name one of {listed(there)}")


def listed(names: Sequence[Any]) -> str:
    """Return names with commas, the first twenty of them."""
    if not names:
        return "nothing"
    return ", ".join(map(str, names[:20])) + (", …" if len(names) > 20 else "")


def refuse(path: Path, error: Exception) -> NoReturn:
    """Raise the one line for a file that its reader could not read."""
    if isinstance(error, PopdynError):
        raise error
    lines = str(error).splitlines() or [repr(error)]
    raise PopdynError(f"{path} cannot be read: {lines[0]}") from None
