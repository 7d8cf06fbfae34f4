"""Cells: one learner on one store, trained and scored in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from threadpoolctl import threadpool_limits

from popdyn.base.errors import PopdynError
from popdyn.base.files import MANIFEST, check_manifest
from popdyn.base.options import options_in
from popdyn.benchmark.records import digest, plain, put_aside, read_record, write_record
from popdyn.benchmark.stores import make_store, store_digest
from popdyn.benchmark.suite import Entry, entry_from
from popdyn.benchmark.variants import folder_name, learner_of
from popdyn.learners import LEARNERS, fit, load_run
from popdyn.learners.run import KIND, RUN_FORMAT
from popdyn.scores import reference_rows, score
from popdyn.snapshots import open_snapshots, validate

__all__ = [
    "Cell",
    "Task",
    "cell_breaches",
    "cell_options",
    "failure_of",
    "finished_row",
    "read_cell",
    "read_references",
    "run_task",
    "terms_of",
    "write_failure",
]

Task = dict[str, Any]
"""What a worker is told, as JSON: ``kind`` (``prepare`` or ``cell``) and its arguments."""


@dataclass(frozen=True)
class Cell:
    """One learner on one entry with one seed.

    Attributes:
        entry: The entry.
        learner: Name of the row: a learner's, or ``learner[option=value]``.
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
        return f"{self.entry.name}-{folder_name(self.learner)}-seed{self.seed}"


def cell_options(entry: Entry, learner: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a learner's options on an entry: the entry's own wishes, then what was given.

    What the population was simulated with is learned where nothing else is wished: an energy of V,
    W and β is not fitted by V alone. A wish of the entry that the learner has no option for is not
    passed on; ``ensemble`` is one of every learner that has something to train.
    """
    kind = LEARNERS[learner_of(learner)].options
    known = set(options_in(kind))
    if known:
        known.add("ensemble")
    wishes = dict(entry.fit) | dict(given)
    parts = [p for p in _parts(entry) if p != "diffusion" or wishes.get("diffusivity") is None]
    if "learn" in known and "learn" not in wishes:
        wishes = {"learn": parts} | wishes
    return {k: v for k, v in wishes.items() if k in known or k in given}


def _parts(entry: Entry) -> list[str]:
    """Return the parts of the energy that an entry was simulated with; V is always one."""
    if entry.source is not None:
        return ["potential"]
    energy = entry.free_energy
    found = {"interaction": energy.W is not None, "diffusion": bool(energy.diffusivity)}
    return ["potential", *(part for part, there in found.items() if there)]


def terms_of(cell: Cell) -> tuple[str, str]:
    """Return what a learner is to find, and which part of the true energy it takes for 0."""
    options = LEARNERS[learner_of(cell.learner)].options
    fields = {name: option.default for name, option in options_in(options).items()}
    if "learn" not in fields:
        return "", ""
    found = cell.options.get("learn", fields["learn"])
    learned = found.split(",") if isinstance(found, str) else list(found)
    beta = cell.options.get("diffusivity", fields.get("diffusivity"))
    told = " and ".join(p for p in learned if p != "diffusion" or beta is None) + " learned"
    if beta is not None:
        told += f", β = {beta:g} given"
    missing = [part for part in _parts(cell.entry) if part not in learned]
    if beta:
        missing = [part for part in missing if part != "diffusion"]
    return told, " and ".join(missing)


def run_task(task: Task) -> None:
    """Do what a task says; the answer is a file, whole or not there."""
    torch.set_num_threads(1)  # the same numbers, however many workers share the machine
    with threadpool_limits(1):
        {"prepare": _prepare, "cell": _run_cell}[task["kind"]](task)


def _prepare(task: Task) -> None:
    """Make the store; score its reference rows; record ``{name, key, digest, rows, said}``."""
    file = Path(task["file"])
    with _recorded(task):
        entry = entry_from(task["entry"])
        data, said = _store(entry, task)
        found = store_digest(data)
        key = digest([found, task["hold_out"], task["seed"], task["score"], _versions()])
        known = read_references(file)
        if known is None or known["key"] != key or said:
            rows = reference_rows(
                data, hold_out=task["hold_out"], seed=task["seed"], **task["score"]
            )
            record = {"name": task["name"], "key": key, "digest": found}
            write_record(file, {**record, "rows": rows, "said": said})


def _store(entry: Entry, task: Task) -> tuple[xr.DataTree, list[str]]:
    """Return the data of an entry, and what has to be said of it: a damaged store is made again."""
    path = Path(task["store"])
    there = path.exists()
    try:
        make_store(entry, path, seed=task["seed"])
        data = open_snapshots(path)
        store_digest(data)
    except PopdynError as error:
        if not there or not validate(path):
            raise
        aside = put_aside(path)
        make_store(entry, path, seed=task["seed"])
        return open_snapshots(path), [f"{error}: kept as '{aside.name}' and made again"]
    return data, []


def _run_cell(task: Task) -> None:
    """Train and score; record what was found and the digest of the run that it was found with."""
    folder = Path(task["folder"])
    with _recorded(task):
        references = _references(task)
        run_key, key = _keys(task, references)
        known = read_cell(folder)
        trained = known is not None and known["run_key"] == run_key and _has_run(known, folder)
        row = known["row"] if known is not None and trained else _train(task, folder)
        found = score(
            load_run(folder / "run").dynamics,
            open_snapshots(task["store"]),
            hold_out=task["hold_out"],
            seed=task["seed"],
            references=references["rows"],
            **task["score"],
        )
        row["scores"] = plain(found)
        record = {"name": folder.name, "key": key, "run_key": run_key, "row": row}
        write_record(folder / "cell.json", {**record, "run": _run_digest(folder)})


def read_cell(folder: Path) -> dict[str, Any] | None:
    """Return the record of a finished cell, or None if there is none.

    Raises:
        PopdynError: If it is cut or was changed, or is that of another cell.
    """
    return _named(folder / "cell.json", folder.name)


def read_references(file: Path) -> dict[str, Any] | None:
    """Return the record of a store's reference rows, as :func:`read_cell` does."""
    return _named(file, file.stem)


def _named(file: Path, name: str) -> dict[str, Any] | None:
    found = read_record(file)
    if found is not None and found.get("name") != name:
        raise PopdynError(f"'{file}' is that of '{found.get('name')}': expected '{name}'")
    return found


def cell_breaches(folder: Path) -> list[tuple[Path, str]]:
    """Return what of a finished or half finished cell is not as popdyn wrote it, and why."""
    found = []
    try:
        read_cell(folder)
    except PopdynError as error:
        found.append((folder / "cell.json", str(error)))
    run = folder / "run"
    if run.exists():
        try:
            breaches = check_manifest(run, KIND, format=RUN_FORMAT)
        except PopdynError as error:
            found.append((run, str(error)))
        else:
            found += [(run, f"'{run / b.file}' {b.found}") for b in breaches[:1]]
    return found


def finished_row(task: Task) -> dict[str, Any] | None:
    """Return a cell's row if it is there, for this very store, configuration and run."""
    folder = Path(task["folder"])
    known = read_cell(folder)
    if known is None or known["key"] != _keys(task, _references(task))[1]:
        return None
    return dict(known["row"]) if _has_run(known, folder) else None


def _references(task: Task) -> dict[str, Any]:
    found = read_references(Path(task["references"]))
    assert found is not None  # a cell is not begun before they are there
    return found


def _keys(task: Task, references: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a run follows from, and what its scores follow from, as digests."""
    names = ("learner", "options", "hold_out", "seed")
    run_key = digest([references["digest"], *(task[n] for n in names), _versions()])
    return run_key, digest([run_key, references["key"]])


def _has_run(known: Mapping[str, Any], folder: Path) -> bool:
    """Return whether the run is the one that was scored: a kill may have come between them."""
    return (folder / "run" / MANIFEST).is_file() and _run_digest(folder) == known["run"]


def _run_digest(folder: Path) -> str:
    return hashlib.sha256((folder / "run" / MANIFEST).read_bytes()).hexdigest()


def _train(task: Task, folder: Path) -> dict[str, Any]:
    run = fit(
        open_snapshots(task["store"]),
        learner_of(task["learner"]),
        hold_out=task["hold_out"],
        seed=task["seed"],
        out=folder / "run",
        overwrite=True,
        source=task["source"],
        **task["options"],
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **_identity(task),
        "model": run.model,
        "status": "ok",
        "seconds": run.seconds,
        # Linux counts in KiB, macOS in bytes.
        "peak_memory_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
        "verdict": run.word,
        "scores": {},
    }


def _identity(task: Task) -> dict[str, Any]:
    return {"entry": task["entry"]["name"], "learner": task.get("learner"), "seed": task["seed"]}


@contextlib.contextmanager
def _recorded(task: Task) -> Iterator[None]:
    """Turn an error into a failed row in a file of its own, with the reason in one line."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, PopdynError) else f"{type(error).__name__}: "
        lines = str(error).splitlines() or [""]
        write_failure(task, kind + lines[0], traceback.format_exc())


def failure_of(task: Task) -> Path:
    """Return where a task that gives no result says why: a result that was there stays."""
    if task["kind"] == "prepare":
        return Path(task["file"]).with_suffix(".failure.json")
    return Path(task["folder"]) / "failure.json"


def write_failure(task: Task, reason: str, trace: str = "") -> None:
    """Write the row of a task that gave no result."""
    row = _identity(task) | {"model": None, "status": "failed", "reason": reason}
    row |= {"seconds": None, "peak_memory_mb": None, "verdict": None, "scores": {}}
    write_record(failure_of(task), {"row": row, "reason": reason, "traceback": trace.splitlines()})


def _versions() -> str:
    return version("popdyn-jko")
