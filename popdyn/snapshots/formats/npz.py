"""NumPy archives: positions and labels, as popdyn and TrajectoryNet write them."""

import zipfile
from pathlib import Path

import numpy as np

from popdyn.snapshots.cells import Cells, ImportOptions, name_among, refuse
from popdyn.snapshots.exported import ExportedCells
from popdyn.snapshots.formats import FORMATS, MARK, Format


def read(path: Path, keys: ImportOptions) -> Cells:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            data = name_among(keys.data_key, ("pcs", "x", "data"), names, path, "array")
            usual = ("sample_labels", "labels", "time")
            label = name_among(keys.time_key, usual, names, path, "array")
            times = archive["times"] if "times" in names else None
            x, labels, parts = archive[data], archive[label], None
            if keys.split_by is not None:
                parts = archive[name_among(keys.split_by, (), names, path, "array")]
    except Exception as error:
        # Damaged archives raise what zipfile, zlib and NumPy happen to raise.
        refuse(path, error)
    return Cells(x, labels, data, label, times, parts=parts)


def write(cells: ExportedCells, path: Path) -> None:
    np.savez(
        path,
        allow_pickle=False,
        pcs=cells.x,
        sample_labels=cells.labels,
        times=cells.times,
        is_test=cells.test,
        **cells.further_arrays,
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = MARK.encode()


def marked(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.comment == MARK.encode()


FORMATS.enter(
    "npz",
    Format(
        "npz",
        "A NumPy archive with pcs and sample_labels.",
        (".npz",),
        read=read,
        write=write,
        marked=marked,
    ),
    __name__,
)
