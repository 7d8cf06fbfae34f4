"""The folder of a bench: what in it is popdyn's, whether that is as it was written, and results."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from popdyn.base.errors import PopdynError
from popdyn.base.files import (
    MANIFEST,
    Breach,
    check_manifest,
    digest_of,
    files_below,
    is_litter,
    manifest_kind,
    read_manifest,
    write_bytes,
    write_manifest,
)
from popdyn.benchmark.cells import cell_breaches, read_cell, read_references
from popdyn.benchmark.records import is_record, put_aside, read_record, write_record
from popdyn.benchmark.results import csv_of
from popdyn.benchmark.stores import experiments, made_from
from popdyn.benchmark.suite import Entry, Suite
from popdyn.learners.run import KIND as RUN
from popdyn.learners.run import RUN_FORMAT
from popdyn.snapshots import validate
from popdyn.snapshots.reader import store_files

__all__ = [
    "FORMAT",
    "KIND",
    "Say",
    "check_bench",
    "claim",
    "is_empty",
    "owned_files",
    "publish",
    "report_is_sound",
]

KIND = "bench"
FORMAT = 2
"""Version of a bench folder; 1 had no digests."""

Say = Callable[[str], None]
"""Tells a person, in one line, what was put right."""

_SUITE = "suite.json"
_RESULTS = ("results.json", "results.csv", "report.html")
_FOLDERS = ("stores", "references", "cells")


def claim(folder: Path, suite: Suite, entries: list[Entry], seeds: int, say: Say) -> None:
    """Mark a folder as this suite's own, or see that it is.

    Raises:
        PopdynError: If it holds results of another suite, or of another definition of an entry.
    """
    folder.mkdir(exist_ok=True)
    try:
        recorded = read_manifest(folder, KIND, format=FORMAT)
    except PopdynError as error:
        recorded = {}
        if (folder / MANIFEST).exists():  # `owned_files` has seen that nothing else is there
            say(f"{error}: kept as '{put_aside(folder / MANIFEST).name}' and made again")
    mark = folder / _SUITE
    try:
        found = read_record(mark)
    except PopdynError as error:
        found = None
        say(f"{error}: kept as '{put_aside(mark).name}' and made again")
    if found is not None and found.get("suite") != suite.name:
        raise PopdynError(
            f"--out '{folder}' holds results of the suite '{found.get('suite')}': expected another "
            f"folder for '{suite.name}', or --overwrite"
        )
    for entry in entries:
        for seed in range(seeds):
            own = experiments(entry, f"{entry.name}-seed{seed}", seed)
            if not all(made_from(one, s, folder / "stores" / name) for one, name, s in own):
                raise PopdynError(
                    f"--out '{folder}' holds results of another definition of '{entry.name}': "
                    "expected another folder, or --overwrite"
                )
    if found is None:
        write_record(mark, {"suite": suite.name})
    there = {name for name in _RESULTS if _is_sound(folder, name, recorded)}
    write_manifest(folder, KIND, format=FORMAT, files={_SUITE, *there})


def publish(folder: Path, results: Mapping[str, Any], report: str | None, say: Say) -> None:
    """Write the results and, where there is a new one, the report; then their digests.

    A file of that name that is not as popdyn wrote it is kept under another.
    """
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    contents = {"results.json": text.encode(), "results.csv": csv_of(results).encode()}
    if report is not None:
        contents["report.html"] = report.encode()
    recorded = read_manifest(folder, KIND, format=FORMAT)
    for name, content in contents.items():
        file = folder / name
        if os.path.lexists(file) and not _is_sound(folder, name, recorded):
            if file.is_file() and not file.is_symlink() and file.read_bytes() == content:
                continue
            say(f"'{file}' is not as popdyn wrote it: kept as '{put_aside(file).name}'")
        write_bytes(file, content)
    write_manifest(folder, KIND, format=FORMAT, files={_SUITE, *_RESULTS})


def report_is_sound(folder: Path) -> bool:
    """Return whether the report is there as popdyn wrote it."""
    return _is_sound(folder, "report.html", read_manifest(folder, KIND, format=FORMAT))


def _is_sound(folder: Path, name: str, recorded: Mapping[str, str]) -> bool:
    file = folder / name
    return file.is_file() and not file.is_symlink() and digest_of(file) == recorded.get(name)


def owned_files(folder: Path, *, mend: bool = False) -> set[str]:
    """Return which files in a folder are those of a bench.

    Args:
        folder: A folder that exists.
        mend: Whether a cut mark is forgiven where all that lies there has a bench's names.

    Raises:
        PopdynError: If the folder has not the mark of a bench.
    """
    try:
        names = {MANIFEST, *read_manifest(folder, KIND, format=FORMAT)}
    except PopdynError as error:
        strange = _visible(folder)
        if mend and (not strange or _is_cut_bench(folder, strange)):
            return files_below(folder)
        hint = f", and holds '{strange[0]}'" if strange else ""
        raise PopdynError(f"--out: {error}{hint}; expected a new folder") from None
    for pattern in ("references/*.json", "cells/*/*.json"):
        found = (file for file in folder.glob(pattern) if is_record(file))
        names |= {file.relative_to(folder).as_posix() for file in found}
    for run in folder.glob("cells/*/run"):
        with contextlib.suppress(PopdynError):  # what has no mark is nobody's but the user's
            names |= _below(folder, run, {MANIFEST, *read_manifest(run, RUN, format=RUN_FORMAT)})
    for store in folder.glob("stores/*.zarr"):
        with contextlib.suppress(PopdynError):
            names |= _below(folder, store, store_files(store))
    for pattern in ("stores/*.popdyn", "cells/*/*.popdyn"):  # of a process that was killed
        for workshop in folder.glob(pattern):
            if manifest_kind(workshop) == "workshop":
                names |= _below(folder, workshop, files_below(workshop))
    return names


def _below(folder: Path, part: Path, names: set[str]) -> set[str]:
    prefix = part.relative_to(folder).as_posix()
    return {f"{prefix}/{name}" for name in names}


def is_empty(path: Path) -> bool:
    """Return whether there is nothing at a path, or a folder with nothing but hidden files."""
    return not os.path.lexists(path) or (path.is_dir() and not _visible(path))


def _visible(folder: Path) -> list[str]:
    names = (p.name for p in folder.iterdir()) if folder.is_dir() else ()
    return sorted(n for n in names if not n.startswith(".") and not is_litter(n))


def _is_cut_bench(folder: Path, names: list[str]) -> bool:
    """Return whether a folder with a mark that cannot be read is a bench by all else.

    Or without one: a process that is killed when it claims a folder leaves ``suite.json`` alone.
    """
    own = {MANIFEST, _SUITE, *_RESULTS, *_FOLDERS}
    records = (f for p in (_SUITE, "references/*.json", "cells/*/*.json") for f in folder.glob(p))
    return (
        ((folder / MANIFEST).is_file() or names == [_SUITE])
        and manifest_kind(folder) is None
        and all(name in own or ".aside-" in name for name in names)
        and any(map(is_record, records))
    )


def check_bench(path: str | os.PathLike[str]) -> list[Breach]:
    """Hold a bench folder against what was written there: every store, run, score and table.

    Returns:
        What is missing, changed, or of another cell; empty if all is as popdyn wrote it.

    Raises:
        PopdynError: If the folder is none of a bench.

    Example:
        >>> import tempfile
        >>> check_bench(tempfile.mkdtemp())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        popdyn.base.errors.PopdynError: ...
    """
    folder = Path(path)
    breaches = check_manifest(folder, KIND, format=FORMAT)
    recorded = read_manifest(folder, KIND, format=FORMAT)
    if not set(_RESULTS) <= recorded.keys():
        breaches.append(Breach("results.json", "is not there yet: the same command goes on"))
    return breaches + list(_cell_breaches(folder)) + list(_row_breaches(folder))


def _cell_breaches(folder: Path) -> Iterator[Breach]:
    for store in sorted(folder.glob("stores/*.zarr")):
        for found in validate(store)[:1]:
            yield Breach(store.relative_to(folder).as_posix(), f"{found.node}: {found.found}")
    for file in sorted(folder.glob("references/*.json")):
        if not file.name.endswith(".failure.json"):
            yield from _breach(folder, file, read_references)
    for cell in sorted(folder.glob("cells/*")):
        for place, reason in cell_breaches(cell) if cell.is_dir() else ():
            yield Breach(place.relative_to(folder).as_posix(), reason)


def _row_breaches(folder: Path) -> Iterator[Breach]:
    """Hold the rows of the results against the cells that they were taken from."""
    try:
        rows = json.loads((folder / "results.json").read_bytes())["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # named already
    for row in rows:
        if row["status"] != "ok":
            continue
        data = f"{row['entry']}-seed{row['seed']}"
        cell = folder / "cells" / f"{row['entry']}-{row['learner']}-seed{row['seed']}"
        stores = dict.fromkeys([folder / "stores" / f"{data}.zarr", *_seen(folder, cell)])
        beside = folder / "references" / f"{data}.json", cell / "cell.json", cell / "run"
        for part in (*stores, *beside):
            if not part.exists():
                yield Breach(part.relative_to(folder).as_posix(), "is missing")
        try:
            known = read_cell(cell)
        except PopdynError:
            continue  # named already
        if known is not None and known["row"] != row:
            found = "has other scores than results.json: the same bench command goes on"
            yield Breach((cell / "cell.json").relative_to(folder).as_posix(), found)


def _seen(folder: Path, cell: Path) -> list[Path]:
    """Return the stores that a cell's run has learned from; none where it does not say."""
    try:
        data = json.loads((cell / "run" / "config.json").read_bytes())["data"]
        return [folder / "stores" / Path(one["path"]).name for one in data]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # the run itself is what is named


def _breach(folder: Path, file: Path, read: Callable[[Path], Any]) -> Iterator[Breach]:
    try:
        read(file)
    except PopdynError as error:
        yield Breach(file.relative_to(folder).as_posix(), str(error))
