"""Cells: one learner on one store, trained and scored in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from popdyn.benchmark.stores import make_store, store_digest
from popdyn.benchmark.suite import Entry, entry_from
from popdyn.errors import PopdynError
from popdyn.learners import LEARNERS, fit, load_run
from popdyn.learners.simple import SimpleOptions
from popdyn.scores import reference_rows, score
from popdyn.snapshots import open_snapshots

__all__ = [
    "Cell",
    "Task",
    "cell_options",
    "is_done",
    "plain",
    "read_json",
    "run_task",
    "write_json",
]

Task = dict[str, Any]
"""What a worker is told, as JSON: ``kind`` (``prepare`` or ``cell``) and its arguments."""


@dataclass(frozen=True)
class Cell:
    """One learner on one entry with one seed.

    Attributes:
        entry: The entry.
        learner: Name of the learner.
        seed: Seed of the data, of the training and of the scores.
        options: Options of the learner.
        score: Keywords of ``score``.
    """

    entry: Entry
    learner: str
    seed: int
    options: Mapping[str, Any]
    score: Mapping[str, Any]

    @property
    def data(self) -> str:
        """Name of the data that the cell shares with other learners."""
        return f"{self.entry.name}-seed{self.seed}"

    @property
    def name(self) -> str:
        """Name of the cell and of its folder."""
        return f"{self.entry.name}-{self.learner}-seed{self.seed}"


def cell_options(entry: Entry, learner: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a learner's options on an entry: the entry's own wishes, then what was given.

    A wish of the entry that the learner has no option for is not passed on; ``ensemble`` is one of
    every learner that has something to train.
    """
    kind = LEARNERS[learner].options
    known = {f.name for f in dataclasses.fields(kind)}
    if kind is not SimpleOptions:
        known.add("ensemble")
    return {k: v for k, v in entry.fit.items() if k in known} | dict(given)


def run_task(task: Task) -> None:
    """Do what a task says; the answer is a file, whole or not there."""
    torch.set_num_threads(1)  # the same numbers, however many workers share the machine
    with threadpool_limits(1):
        {"prepare": _prepare, "cell": _run_cell}[task["kind"]](task)


def _prepare(task: Task) -> None:
    """Make the store; score its reference rows; write ``{key, digest, rows}``."""
    file = Path(task["file"])
    with _recorded(task, file):
        entry = _entry(task["entry"])
        make_store(entry, task["store"], seed=task["seed"])
        data = open_snapshots(task["store"])
        digest = store_digest(data)
        key = _digest([digest, task["hold_out"], task["seed"], task["score"], _versions()])
        known = read_json(file)
        if known is None or known.get("key") != key:
            rows = reference_rows(
                data, hold_out=task["hold_out"], seed=task["seed"], **task["score"]
            )
            write_json(file, {"key": key, "digest": digest, "rows": plain(rows)})


def _run_cell(task: Task) -> None:
    """Train and score; write ``cell.json`` beside the run, keyed by all that it follows from."""
    folder = Path(task["folder"])
    file = folder / "cell.json"
    with _recorded(task, file):
        references = _references(task)
        run_key, key = _keys(task, references)
        known = read_json(file)
        trained = known is not None and known.get("run_key") == run_key
        row = known["row"] if known is not None and trained else _train(task, folder)
        found = score(
            load_run(folder / "run").energy,
            open_snapshots(task["store"]),
            hold_out=task["hold_out"],
            seed=task["seed"],
            references=references["rows"],
            **task["score"],
        )
        row["scores"] = plain(found)
        write_json(file, {"key": key, "run_key": run_key, "row": row})


def is_done(task: Task) -> bool:
    """Return whether a cell's result is there, for this very store and configuration."""
    known = read_json(Path(task["folder"]) / "cell.json")
    return known is not None and known["key"] == _keys(task, _references(task))[1]


def _references(task: Task) -> dict[str, Any]:
    found = read_json(Path(task["references"]))
    assert found is not None  # a cell is not begun before they are there
    return found


def _keys(task: Task, references: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a run follows from, and what its scores follow from, as digests."""
    names = ("learner", "options", "hold_out", "seed")
    run_key = _digest([references["digest"], *(task[n] for n in names), _versions()])
    return run_key, _digest([run_key, references["key"]])


def _train(task: Task, folder: Path) -> dict[str, Any]:
    # Beside its final name and renamed: two processes never write into one run.
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        run = fit(
            open_snapshots(task["store"]),
            task["learner"],
            hold_out=task["hold_out"],
            seed=task["seed"],
            out=beside / "run",
            source=task["store"],
            **task["options"],
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return {
        **_identity(task),
        "status": "ok",
        "seconds": run.seconds,
        # Linux counts in KiB, macOS in bytes.
        "peak_memory_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
        "scores": {},
    }


def _identity(task: Task) -> dict[str, Any]:
    return {"entry": task["entry"]["name"], "learner": task.get("learner"), "seed": task["seed"]}


@contextlib.contextmanager
def _recorded(task: Task, file: Path) -> Iterator[None]:
    """Turn an error into a failed row in the task's file, with the reason in one line."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, PopdynError) else f"{type(error).__name__}: "
        lines = str(error).splitlines() or [""]
        write_failure(task, file, kind + lines[0])
        (file.parent / f"{file.stem}-traceback.txt").write_text(traceback.format_exc())


def write_failure(task: Task, file: Path, reason: str) -> None:
    """Write the file of a task that gave no result."""
    row = _identity(task) | {"status": "failed", "reason": reason}
    row |= {"seconds": None, "peak_memory_mb": None, "scores": {}}
    write_json(file, {"key": None, "row": row, "reason": reason})


def _entry(table: Mapping[str, Any]) -> Entry:
    return entry_from(table)


def _versions() -> str:
    return version("popdyn-jko")


def _digest(parts: Any) -> str:
    text = json.dumps(plain(parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def plain(value: Any) -> Any:
    """Return JSON: arrays as lists, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(file: Path) -> dict[str, Any] | None:
    """Return what a file holds, or None if there is none."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def write_json(file: Path, payload: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    text = json.dumps(payload, indent=1, ensure_ascii=False, allow_nan=False)
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(file)
