"""The registry of files of labelled cells: a module of this folder reads, writes or does both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from popdyn.base.errors import PopdynError
from popdyn.base.registry import Registry
from popdyn.snapshots.cells import Cells, ImportOptions
from popdyn.snapshots.exported import ExportedCells

__all__ = ["FORMATS", "MARK", "Format", "format_of"]

MARK = "made by popdyn"
"""What stands where a file has a place for a remark that another program does not keep."""


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: Registry key.
        summary: One line on what it is.
        suffixes: How its names end; ``""`` is a folder.
        read: ``(path, options) → Cells``, or None.
        write: ``(cells, path)`` writes a file that :attr:`marked` knows, or None.
        marked: Whether a file, no folder, is as popdyn wrote it.
        table: Whether positions are columns that have names.
        recognises: For folders with a suffix of their own: whether one is of this kind.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, ImportOptions], Cells] | None = None
    write: Callable[[ExportedCells, Path], None] | None = None
    marked: Callable[[Path], bool] | None = None
    table: bool = False
    recognises: Callable[[Path], bool] | None = None


FORMATS: Registry[Format] = Registry("popdyn.formats", "format", __name__)


def format_of(path: Path, suffix: str, *, write: bool = False) -> Format:
    """Return the format of a name that ends so, of those that can be read, or written.

    Raises:
        PopdynError: If there is none; says which there are.
    """
    able = [f for f in FORMATS.values() if (f.write if write else f.read) is not None]
    for each in able:
        if suffix in each.suffixes and (suffix or write or path.is_dir()):
            return each
    known = ", ".join(s for f in able for s in f.suffixes if s)
    folder = ", or a folder for the JKOnet* layout" if write else ""
    raise PopdynError(f"{path} ends in '{suffix}': expected one of {known}{folder}")
