"""The layout of JKOnet*: a folder with data.npy and sample_labels.npy."""

from pathlib import Path

import numpy as np

from popdyn.base.errors import PopdynError
from popdyn.base.files import write_manifest
from popdyn.snapshots.cells import Cells, ImportOptions, name_among, refuse
from popdyn.snapshots.exported import ExportedCells
from popdyn.snapshots.formats import FORMATS, Format


def read_file(path: Path, keys: ImportOptions) -> Cells:
    return _pair(path, path.with_name(f"{keys.time_key or 'sample_labels'}.npy"))


def read_folder(path: Path, keys: ImportOptions) -> Cells:
    found = sorted(p.stem for p in path.glob("*.npy"))
    data = name_among(keys.data_key, ("data",), found, path, "array")
    label = name_among(keys.time_key, ("sample_labels",), found, path, "array")
    return _pair(path / f"{data}.npy", path / f"{label}.npy")


def _pair(data: Path, label: Path) -> Cells:
    if not label.exists():
        raise PopdynError(f"{label} does not exist: expected the labels beside {data.name}")
    times = data.with_name("times.npy")
    try:
        x, labels = (np.load(p, allow_pickle=False) for p in (data, label))
        at = np.load(times, allow_pickle=False) if times.exists() else None
    except (ValueError, OSError, EOFError) as error:
        refuse(data, error)
    return Cells(x, labels, data.name, label.name, at)


def write(cells: ExportedCells, path: Path) -> None:
    path.mkdir()
    np.save(path / "data.npy", cells.x)
    np.save(path / "sample_labels.npy", cells.index)
    np.save(path / "times.npy", np.sort(cells.times))
    for name, array in cells.learned_arrays.items():
        np.save(path / f"{name}.npy", array)
    write_manifest(path, "export")


FORMATS.enter(
    "npy",
    Format("npy", "data.npy with sample_labels.npy beside it.", (".npy",), read_file),
    __name__,
)
FORMATS.enter(
    "jkonet",
    Format("jkonet", "A folder with both, the layout of JKOnet*.", ("",), read_folder, write),
    __name__,
)
