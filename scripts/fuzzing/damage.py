"""Damages of stores, runs and benches: each is reported, or makes no difference at all."""

from __future__ import annotations

import functools
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing.children import Outcome, ask, popdyn
from fuzzing.content import content, run_content, store_content
from fuzzing.goods import TRAIN
from fuzzing.tries import Kind, Place, Verdict, hygiene, shown

__all__ = ["DAMAGE"]

ROWS = {
    "store": "store.zarr",
    "store of shards": "sharded.zarr",
    "run: features": "run_features",
    "run: weak form": "run_weak_form",
    "run: network": "run_network",
    "run: ensemble": "run_ensemble",
    "run: unfinished": "unfinished",
    "bench: cells": "bench",
    "bench: stores": "bench",
    "bench: references": "bench",
    "bench: the rest": "bench",
}
WAYS = (
    "flip",
    "flip",
    "flip",
    "truncate",
    "delete",
    "swap",
    "append",
    "replace",
    "replace",
    "edit",
)
BENCH = ("bench", "suite.toml", "--learners", "zero,weak_form", "--out", "bench")


def attempt(row: str, index: int, place: Place) -> Verdict:
    """Damage a copy of a sound thing, and read it in every way that there is."""
    rng = place.rng
    name = ROWS[row]
    path = place.folder / name
    _copy_all(name, place)
    files = _files(path, row)
    for _ in range(20):
        said = _damage(files, path, _strangers(row, name, place), rng)
        if said:
            break
    else:
        return Verdict("no damage", True, "nothing could be damaged")
    reader = _store if row.startswith("store") else _bench if row.startswith("bench") else _run
    if row == "run: unfinished":
        reader = _unfinished
    verdict = reader(path, place)
    verdict.detail = f"{said}: {verdict.detail}"
    return verdict


def _copy_all(name: str, place: Place) -> None:
    """Copy the thing, and what belongs to it: its sibling, its suite."""
    for path in place.goods.values():
        if path.name == name or path.name.startswith(f"{name}."):
            _copy(path, place.folder / path.name)
    if name == "bench":
        _copy(place.goods["suite.toml"], place.folder / "suite.toml")


def _files(path: Path, row: str) -> list[Path]:
    roots = [path, *path.parent.glob(f"{path.name}.*")]
    found = sorted(p for root in roots for p in root.rglob("*") if p.is_file())
    found = [p for p in found if p.stat().st_size or p.suffix not in (".lock", "")]
    if row.startswith("bench: ") and row != "bench: the rest":
        part = row.removeprefix("bench: ")
        found = [p for p in found if p.relative_to(path).parts[0] == part]
    elif row == "bench: the rest":
        parts = ("cells", "stores", "references")
        # A report and tables are made anew from the rest by every bench.
        found = [p for p in found if p.relative_to(path).parts[0] not in parts]
    return found


def _strangers(row: str, name: str, place: Place) -> list[Path]:
    """Files of other things of the same kind, and of other times and groups of this one."""
    others = {
        "store.zarr": ("other.zarr",),
        "sharded.zarr": ("store.zarr",),
        "run_features": ("other_features", "run_weak_form"),
        "run_weak_form": ("run_noisy", "run_features"),
        "run_network": ("other_network",),
        "run_ensemble": ("run_weak_form",),
        "unfinished": ("run_network", "other_network"),
        "bench": ("other_bench",),
    }[name]
    roots = [place.goods[other] for other in others] + [place.folder / name]
    return sorted(p for root in roots for p in root.rglob("*") if p.is_file())


def _damage(files: list[Path], root: Path, strangers: list[Path], rng: random.Random) -> str:
    """Damage one file, or two; say how, or return nothing if that changed nothing."""
    way = rng.choice(WAYS)
    sizes = [f.stat().st_size + 1 for f in files]
    # Half of them anywhere by size, half in any file.
    file = rng.choices(files, sizes)[0] if rng.random() < 0.5 else rng.choice(files)
    old = file.read_bytes()
    name = _short(file, root)
    if way == "flip" and old:
        at = rng.randrange(len(old))
        new = bytearray(old)
        new[at] ^= 1 << rng.randrange(8)
        file.write_bytes(new)
        return f"bit of byte {at} of {name} flipped"
    if way == "truncate" and old:
        kept = int(rng.choice((0.0, rng.random(), 1 - 1 / len(old))) * len(old))
        file.write_bytes(old[:kept])
        return f"{name} cut to {kept} of {len(old)} bytes" if kept < len(old) else ""
    if way == "delete":
        file.unlink()
        return f"{name} deleted"
    if way == "append":
        file.write_bytes(old + rng.choice((b"\0", b"\n", b" ", old, b"{}")))
        return f"{name} appended to" if file.read_bytes() != old else ""
    if way == "swap":
        other = rng.choice([f for f in files if f.suffix == file.suffix])
        there = other.read_bytes()
        file.write_bytes(there)
        other.write_bytes(old)
        return f"{name} and {_short(other, root)} swapped" if there != old else ""
    if way == "replace":
        same = [s for s in strangers if s.name == file.name and s != file]
        if not same:
            return ""
        other = rng.choice(same)
        new_bytes = other.read_bytes()
        file.write_bytes(new_bytes)
        return f"{name} replaced by {_short(other, root)}" if new_bytes != old else ""
    if way == "edit" and file.suffix in (".json", ".jsonl", ".csv", ".html"):
        digits = [i for i, c in enumerate(old) if chr(c).isdigit()]
        if not digits:
            return ""
        at = rng.choice(digits)
        new_digit = str((int(chr(old[at])) + rng.randrange(1, 10)) % 10).encode()
        file.write_bytes(old[:at] + new_digit + old[at + 1 :])
        return f"digit at {at} of {name} changed"
    return ""


def _short(file: Path, root: Path) -> str:
    return os.path.relpath(file, root.parent)


def _store(path: Path, place: Place) -> Verdict:
    return _read(path, place, store_content)


def _run(path: Path, place: Place) -> Verdict:
    return _read(path, place, run_content)


def _read(path: Path, place: Place, reader: Callable[..., str]) -> Verdict:
    """Read in Python, and by ``popdyn validate`` where it takes this kind."""
    sound = _sound(reader, str(place.goods[path.name]))
    checked = _validated(path, place)
    done = ask(reader, str(path), cwd=place.folder)
    if breach := hygiene(done):
        return Verdict("error", True, breach)
    if checked is not None and (breach := hygiene(checked)):
        return Verdict("error", True, breach, f"popdyn validate {path.name}")
    reported = checked is not None and checked.code != 0
    if done.code != 0:
        if checked is not None and not reported:
            return Verdict("validate silent", True, done.last_line[:200])
        return Verdict("reported", detail=done.last_line[:200])
    if done.answer == sound:
        return Verdict("reported" if reported else "harmless", detail="same content")
    if reported:
        return Verdict("read in silence", True, "validate reports it, reading does not")
    return Verdict("SILENT", True, "other content, no word")


@functools.cache
def _sound(reader: Callable[..., str], path: str) -> str:
    done = ask(reader, path, cwd=Path(path).parent)
    if done.code != 0:
        raise RuntimeError(f"'{path}' is not sound: {done.err}")
    return str(done.answer)


@functools.cache
def _validates(path: Path) -> bool:
    """Return whether ``popdyn validate`` knows this kind of thing at all."""
    return popdyn("validate", path, cwd=path.parent).code == 0


def _validated(path: Path, place: Place) -> Outcome | None:
    if not _validates(place.goods[path.name]):
        return None
    return popdyn("validate", path.name, cwd=place.folder)


def _unfinished(path: Path, place: Place) -> Verdict:
    """Go on from a damaged checkpoint: refused, or the bits of an undisturbed run."""
    sound = _sound(_untimed_run, str(place.goods["run_network"]))
    # The run remembers where its data is.
    store = place.goods["store.zarr"]
    words = ("train", store, "--out", path.name, *TRAIN["network"], "--resume")
    done = popdyn(*words, cwd=place.folder)
    command = shown(words)
    if breach := hygiene(done):
        return Verdict("error", True, breach, command)
    if done.code != 0:
        return Verdict("reported", detail=done.last_line[:200], command=command)
    read = ask(_untimed_run, str(path), cwd=place.folder)
    if read.code != 0:
        return Verdict("SILENT", True, f"resumed to what cannot be read: {read.last_line}", command)
    if read.answer == sound:
        return Verdict("harmless", detail="resumed bit for bit", command=command)
    return Verdict("SILENT", True, "resumed to another run", command)


def _untimed_run(path: str) -> str:
    return run_content(path, timed=False)


def _bench(path: Path, place: Place) -> Verdict:
    """Check a bench folder, then go on with it as a user would: nothing else may come out."""
    checked = _validated(path, place)
    reported = checked is not None and checked.code != 0
    if checked is not None and (breach := hygiene(checked)):
        return Verdict("error", True, breach, "popdyn validate bench")
    # Going on takes seconds where a cell is done again: of what is reported one in six is enough.
    if reported and place.rng.random() > 1 / 6:
        return Verdict("reported", detail=checked.out.strip()[-200:] if checked else "")
    done = popdyn(*BENCH, cwd=place.folder, timeout=120)
    command = shown(BENCH)
    if breach := hygiene(done):
        return Verdict("error", True, breach, command)
    if done.code != 0:
        return Verdict("reported", detail=done.last_line[:200], command=command)
    sound = _sound(_untimed, str(place.goods["bench"]))
    read = ask(_untimed, str(path), cwd=place.folder)
    if read.code != 0:
        if breach := hygiene(read):
            return Verdict("error", True, breach, command)
        return Verdict("reported", detail=f"by its reader: {read.last_line[:160]}", command=command)
    if read.answer == sound:
        mended = "mended" if reported or done.seconds > 3 else "harmless"
        return Verdict(mended, detail="same results", command=command)
    return Verdict("SILENT", True, "other results, no word", command)


def _untimed(path: str) -> str:
    return content(path, timed=False)


def _copy(source: Path, target: Path) -> Any:
    return shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)


DAMAGE = Kind(
    "damage",
    "Bits flipped, files cut, deleted, swapped, appended to, edited, or taken from another store, "
    "run, bench, time or group",
    "other content without a word, or an error that is no line",
    tuple(ROWS),
    150,
    (
        *("store", "other", "sharded", "run_features", "run_weak_form", "run_network"),
        *("run_ensemble", "run_noisy", "other_features", "other_network", "unfinished"),
        *("bench", "other_bench"),
    ),
    attempt,
)
