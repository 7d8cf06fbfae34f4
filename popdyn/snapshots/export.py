"""Ways out: a store's cells as .npz, .h5ad, or the two arrays that JKOnet* reads."""

import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.files import MANIFEST, Target, read_manifest
from popdyn.snapshots.exported import ExportedCells, cells_of
from popdyn.snapshots.formats import format_of
from popdyn.snapshots.reader import open_snapshots

__all__ = ["export", "write_cells"]

KIND = "export"


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

    Example:
        >>> import tempfile, popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50, snapshots=3)
        >>> export(data, tempfile.mkdtemp() + "/cells.npz").name
        'cells.npz'
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
    write = format_of(Path(out), Path(out).suffix, write=True).write
    assert write is not None
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
        known = format_of(path, path.suffix, write=True).marked
        marked = known is not None and known(path)
    except (OSError, KeyError, zipfile.BadZipFile):
        marked = False
    if not marked:
        raise PopdynError(
            f"'{path}' is no {KIND} of popdyn's as it was written: it is not replaced"
        )
    return set()
