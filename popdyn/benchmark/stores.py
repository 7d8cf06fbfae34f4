"""The stores of a suite: made once, known again by what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.files import tidy
from popdyn.benchmark.suite import Entry, Suite
from popdyn.benchmark.suites import load_suite
from popdyn.simulation import simulate
from popdyn.snapshots import counts, import_data, open_snapshots, positions, times, write

__all__ = ["definition", "experiments", "made_from", "make_store", "make_suite", "store_digest"]

ATTRIBUTE = "suite_entry"
BLOCK = 1 << 20
APART = 2**32  # between the seeds of an entry's experiments: further than anybody counts


def definition(entry: Entry, seed: int) -> str:
    """Return a digest of everything that a store of this entry is made from."""
    parts: dict[str, Any] = {
        "energy": dict(entry.energy),
        "simulation": dict(entry.simulation),
        "seed": seed,
    }
    if entry.source is not None:
        parts["source"] = entry.reading
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def experiments(entry: Entry, name: str, seed: int) -> list[tuple[Entry, str, int]]:
    """Return the experiments of an entry, each with the name of its store and its seed.

    Example:
        >>> start = {"initial_params": {"high": 2.0}}
        >>> two = Entry("q", energy={"potential": "quadratic"}, starts=(start,))
        >>> [name for _, name, _ in experiments(two, "q-seed0", 0)]
        ['q-seed0.zarr', 'q-seed0.start2.zarr']
    """
    names = [name, *(f"{name}.start{n}" for n in range(2, 2 + len(entry.starts)))]
    return [
        (own, f"{name}.zarr", seed + APART * n)
        for n, (own, name) in enumerate(zip(entry.experiments, names, strict=True))
    ]


def make_store(
    entry: Entry,
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> bool:
    """Write the store of an entry, unless it is already there.

    Args:
        entry: What to simulate or import.
        path: Store to write.
        seed: Seed of the simulation, or of the split into train and test group.
        overwrite: Replace a store that is there.
        progress: Whether to show a bar on a terminal.

    Returns:
        Whether anything was made.

    Raises:
        PopdynError: If a store is there that was made from something else, the file of an
            imported entry is missing, or the simulation fails.

    Example:
        >>> import tempfile
        >>> from popdyn.benchmark import Entry
        >>> entry = Entry("q", energy={"potential": "quadratic"}, simulation={"particles": 100})
        >>> path = tempfile.mkdtemp() + "/q.zarr"
        >>> make_store(entry, path), make_store(entry, path)
        (True, False)
    """
    mark = _mark(entry, seed)
    if Path(path).exists() and not overwrite:
        if open_snapshots(path).attrs.get(ATTRIBUTE) == mark:
            tidy(path)
            return False
        raise PopdynError(
            f"'{path}' was not made from the present definition of entry '{entry.name}': "
            "expected another --out, or --overwrite"
        )
    if entry.source is None:
        simulate(
            entry.dynamics,
            **entry.simulation,
            seed=seed,
            out=Path(path),
            overwrite=overwrite,
            progress=progress,
            attrs={ATTRIBUTE: mark},
        )
        return True
    data = import_data(_cells(entry), seed=seed, **entry.reading)
    data.attrs[ATTRIBUTE] = mark
    write(data, path, overwrite=overwrite)
    return True


def made_from(entry: Entry, seed: int, path: Path) -> bool:
    """Return whether a store was made from this entry; so are one that is not there or damaged."""
    if not path.exists():
        return True
    try:
        found = open_snapshots(path).attrs.get(ATTRIBUTE)
    except PopdynError:
        return True
    return bool(found == _mark(entry, seed))


def _mark(entry: Entry, seed: int) -> dict[str, str]:
    return {"name": entry.name, "definition": definition(entry, seed)}


def make_suite(
    suite: str | os.PathLike[str] | Suite,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    entries: tuple[str, ...] = (),
    overwrite: bool = False,
    progress: bool = False,
    report: Callable[[Path, bool], None] = lambda path, made: None,
) -> list[Path]:
    """Write the stores of a suite into a folder, ``OUT/ENTRY.zarr``; finished ones are kept.

    Those of further experiments of an entry are ``OUT/ENTRY.start2.zarr`` and so on.

    Args:
        suite: A suite, its name, or the path of its file.
        out: Folder.
        seed: Seed of each simulation.
        entries: Names of the entries to make; all if empty.
        overwrite: Replace stores that are there.
        progress: Whether to show bars on a terminal.
        report: Called after each store with its path and whether it was made now.

    Returns:
        The stores, in the suite's order.

    Raises:
        PopdynError: As :func:`make_store`; on an unknown entry.

    Example:
        >>> import tempfile
        >>> stores = make_suite("jko15", tempfile.mkdtemp(), entries=("sphere",))
        >>> [store.name for store in stores]
        ['sphere.zarr']
    """
    loaded = load_suite(suite)
    chosen = [loaded.entry(name) for name in entries] or list(loaded.entries)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise PopdynError(f"--out '{folder}' is a file: expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one, name, own in (e for entry in chosen for e in experiments(entry, entry.name, seed)):
        path = folder / name
        report(path, make_store(one, path, seed=own, overwrite=overwrite, progress=progress))
        paths.append(path)
    return paths


def store_digest(data: xr.DataTree) -> str:
    """Return a digest of a data set's particles, times and truth: what results depend on."""
    digest = hashlib.sha256(np.ascontiguousarray(times(data)).tobytes())
    for group in ("train", "test"):
        for k, n in enumerate(counts(data, group)):
            digest.update(f"{group} {k} {n}".encode())
            for start in range(0, int(n), BLOCK):
                x = positions(data, k, group, start, start + BLOCK)
                digest.update(np.ascontiguousarray(x).tobytes())
    for name in ("energy", "dynamics", "standardize"):
        digest.update(json.dumps(data.attrs.get(name), sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _cells(entry: Entry) -> Path:
    file = entry.file
    if not file.exists():
        assert entry.source is not None
        origin = entry.source.get("origin")
        raise PopdynError(
            f"the cells of entry '{entry.name}' are not at '{file}': expected them there, or in "
            "the folder that POPDYN_DATA names" + (f"; they are {origin}" if origin else "")
        )
    return file
