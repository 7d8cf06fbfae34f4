"""Tables of cells: which columns are positions, and where in the file a wrong value stands."""

import csv
import gzip
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from popdyn.base.errors import PopdynError
from popdyn.snapshots.cells import Cells, ImportOptions, listed, name_among, refuse
from popdyn.snapshots.formats import FORMATS, Format

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("time", "sample_labels", "label")
SHOWN = 40
"""Characters of a value that an error shows."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_table(path: Path, keys: ImportOptions) -> Cells:
    """Read ``.csv``, ``.tsv`` or ``.parquet``, also compressed as ``.gz``.

    Without ``keys.columns`` the positions are the columns of numbers; where some hold fractions,
    those that hold whole numbers alone (``batch``, counts) are left out, and this is noted.

    Raises:
        PopdynError: If it cannot be read, lacks a column, or a column of numbers holds a text;
            names the line and the column.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix.lower() == ".gz" else content
        kind = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
        frame, separator = _frame(content, kind.lower())
    except (ValueError, OSError, EOFError) as error:
        refuse(path, error)

    def where(row: int) -> str:
        return f"row {row}" if separator is None else f"line {_line(content, separator, row)}"

    return cells_of_frame(frame, keys, path, where)


def cells_of_frame(
    frame: "pd.DataFrame", keys: ImportOptions, path: object, where: Callable[[int], str]
) -> Cells:
    """Return the cells of a data frame, a row each.

    Args:
        frame: The table.
        keys: Which columns to take.
        path: What an error calls it.
        where: Says where a row stands.

    Raises:
        PopdynError: If it lacks a column, or a column of numbers holds a text.
    """
    columns = [str(c) for c in frame.columns]
    frame = frame.set_axis(columns, axis="columns")
    label = name_among(keys.time_key, LABELS, columns, path, "column")
    parts = None
    if keys.split_by is not None:
        column = name_among(keys.split_by, (), columns, path, "column")
        parts = frame[column].to_numpy()
        frame = frame.drop(columns=[column] if column != label else [])
    table = _Table(path, frame, label, where)
    notes: tuple[str, ...] = ()
    if keys.columns is None:
        chosen, notes = table.positions()
    else:
        chosen = table.asked(keys.columns)
    x = np.column_stack([table.numbers(c) for c in chosen])
    names = tuple(chosen)
    labels = frame[label].to_numpy()
    return Cells(x, labels, ",".join(names), label, None, names, where, notes, parts=parts)


class _Table:
    """A data frame, its column of labels, and the file that it comes from."""

    def __init__(self, path: object, frame: "pd.DataFrame", label: str, where: Any) -> None:
        self.path, self.frame, self.label, self.where = path, frame, label, where

    def positions(self) -> tuple[list[str], tuple[str, ...]]:
        """Return the columns to take where none are asked for, and what is to be said of it."""
        # A nameless column is the row index of whoever wrote the table.
        named = [
            c
            for c in self.frame.columns
            if c != self.label and not c.startswith(("Unnamed:", "__index_level_"))
        ]
        kinds = {c: self._kind(c) for c in named}
        fractions = [c for c in named if kinds[c] == "numbers"]
        taken = fractions or [c for c in named if kinds[c] == "whole numbers"]
        if not taken:
            raise PopdynError(
                f"{self.path} has the columns {listed([self._named(c, kinds[c]) for c in named])} "
                f"beside its labels '{self.label}': expected columns of numbers"
            )
        left = [c for c in named if c not in taken]
        notes = []
        if left:
            why = ", ".join(f"{c} ({kinds[c]})" for c in left[:20]) + ", …" * (len(left) > 20)
            notes.append(
                f"the columns {listed(taken)} are taken as positions and left out are {why}: "
                "--columns a,b,… chooses others"
            )
        if not fractions:
            notes.append(
                f"the columns {listed(taken)} hold whole numbers alone: if they are counts or "
                "batches and no positions, --columns a,b,… chooses others"
            )
        return taken, tuple(notes)

    def _named(self, column: str, kind: str) -> str:
        """Return a column's name, and of one without numbers what stands in it instead."""
        first = self.frame[column].dropna().astype(str)
        return f"{column} ({kind}" + (
            f", such as '{first.iloc[0][:SHOWN]}')" if len(first) else ")"
        )

    def asked(self, columns: str | Sequence[str]) -> list[str]:
        chosen = columns.split(",") if isinstance(columns, str) else [str(c) for c in columns]
        chosen = [c if c in self.frame.columns else c.strip() for c in chosen]
        for column in chosen:
            name_among(column, (), list(self.frame.columns), self.path, "column")
        if self.label in chosen or len(set(chosen)) < len(chosen) or not chosen:
            raise PopdynError(
                f"columns are {','.join(chosen)}: expected different columns of {self.path} "
                f"beside its labels '{self.label}'"
            )
        return chosen

    def _kind(self, column: str) -> str:
        """Return what a column holds; half of numbers or more makes it one of numbers."""
        missing = self.frame[column].isna().to_numpy()
        if missing.all():
            return "empty"
        values = _parsed(self.frame[column])
        found = ~np.isnan(values)
        if 2 * found.sum() < (~missing).sum():
            return "no numbers"
        self.numbers(column)
        return "numbers" if (values[found] % 1 != 0).any() else "whole numbers"

    def numbers(self, column: str) -> np.ndarray:
        """Return a column as float64, NaN where it is empty.

        Raises:
            PopdynError: On a value that is no number.
        """
        values = _parsed(self.frame[column])
        wrong = np.isnan(values) & ~self.frame[column].isna().to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            found = str(self.frame[column].iloc[row])[:SHOWN]
            raise PopdynError(
                f"{self.path}: column '{column}' is '{found}' in "
                f"{self.where(row)} ({wrong.sum()} such values): expected numbers, or --columns "
                "without it"
            )
        return values


def _parsed(column: "pd.Series[Any]") -> np.ndarray:
    """Return the numbers of a column, NaN where there is none."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column) or column.dtype.kind in "mMc":
        return np.full(len(column), np.nan)
    with np.errstate(invalid="ignore"):
        parsed = pd.to_numeric(column, errors="coerce")
        return np.asarray(parsed.to_numpy(dtype=np.float64, na_value=np.nan))


def _frame(content: bytes, kind: str) -> tuple["pd.DataFrame", str | None]:
    import pandas as pd

    if kind == ".parquet":
        return pd.read_parquet(io.BytesIO(content)), None
    separator = SEPARATORS[kind]
    head = content[: content.find(b"\n")].decode("utf-8", "replace")
    if separator not in head:
        # A spreadsheet of much of Europe writes semicolons, others tabulators.
        separator = next((s for s in ",;\t" if s in head), separator)
    frame = pd.read_csv(
        io.BytesIO(content),
        sep=separator,
        encoding="utf-8-sig",
        skipinitialspace=True,
        low_memory=False,
    )
    return frame, separator


def _line(content: bytes, separator: str, row: int) -> int:
    """Return the line of the file on which a row ends, from 1; the header is no row."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig")), delimiter=separator)
    records = (reader.line_num for record in reader if record)
    return next(line for i, line in enumerate(records) if i == row + 1)


FORMATS.enter(
    "table",
    Format(
        "table",
        "A table with a column of labels; the others hold positions.",
        (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".parquet.gz"),
        read=read_table,
        table=True,
    ),
    __name__,
)
