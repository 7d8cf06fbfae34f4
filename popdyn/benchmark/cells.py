"""Cells: one learner on one store, trained and scored in a process of its own."""

from __future__ import annotations

import hashlib
import resource
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from threadpoolctl import threadpool_limits

from popdyn.base.cluster import versions
from popdyn.base.errors import PopdynError
from popdyn.base.files import MANIFEST, check_manifest
from popdyn.base.options import options_in
from popdyn.benchmark.records import digest, put_aside, read_record, write_record
from popdyn.benchmark.stores import experiments, make_store, store_digest
from popdyn.benchmark.suite import Entry
from popdyn.benchmark.variants import folder_name, learner_of
from popdyn.estimation.parts import AUTO
from popdyn.learners import LEARNERS, fit, load_run
from popdyn.learners.registry import OF_FIT
from popdyn.learners.run import KIND, RUN_FORMAT
from popdyn.scores import reference_rows, score
from popdyn.snapshots import open_snapshots, validate

__all__ = [
    *("Cell", "Task", "cell_breaches", "cell_options", "read_cell", "read_references", "terms_of"),
]


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
    W and β is not fitted by V alone. Of real cells nobody knows it, and the learner's own default
    stays. A wish of the entry that the learner has no option for is not
    passed on; those of ``fit`` itself are of every learner that has something to train.
    """
    kind = LEARNERS[learner_of(learner)].options
    known = set(options_in(kind))
    if known:
        known |= set(OF_FIT)
    wishes = dict(entry.fit) | dict(given)
    parts = [p for p in _parts(entry) if p != "diffusion" or wishes.get("diffusivity") is None]
    if "learn" in known and "learn" not in wishes and parts:
        wishes = {"learn": parts} | wishes
    return {k: v for k, v in wishes.items() if k in known or k in given}


def _parts(entry: Entry) -> list[str]:
    """Return the parts that an entry was simulated with; V is always one; of real cells none."""
    if entry.source is not None:
        return []
    energy = entry.free_energy
    found = {"interaction": energy.W is not None, "diffusion": bool(energy.diffusivity)}
    found |= {part: part in entry.dynamics.terms for part in ("growth", "circulation")}
    return ["potential", *(part for part, there in found.items() if there)]


def terms_of(cell: Cell) -> tuple[str, str]:
    """Return what a learner is to find, and which part of the true energy it takes for 0."""
    options = LEARNERS[learner_of(cell.learner)].options
    fields = {name: option.default for name, option in options_in(options).items()}
    if "learn" not in fields:
        return "", ""
    found = cell.options.get("learn", fields["learn"])
    learned = found.split(",") if isinstance(found, str) else list(found)
    if tuple(learned) == AUTO:
        return "what the snapshots ask for learned", ""
    beta = cell.options.get("diffusivity", fields.get("diffusivity"))
    told = " and ".join(p for p in learned if p != "diffusion" or beta is None) + " learned"
    if beta is not None:
        told += f", β = {beta:g} given"
    missing = [part for part in _parts(cell.entry) if part not in learned]
    if beta:
        missing = [part for part in missing if part != "diffusion"]
    return told, " and ".join(missing)


@dataclass(frozen=True)
class Task:
    """What a process of its own does: make the data of a cell, or train and score the cell.

    Attributes:
        cell: The cell.
        folder: Folder of the bench.
        final: Where that folder will be.
        prepare: Whether to make the data.
    """

    cell: Cell
    folder: Path
    final: Path
    prepare: bool = False

    @property
    def experiments(self) -> list[tuple[Entry, Path, int]]:
        """What is simulated or imported, where its store is, and with which seed."""
        own = experiments(self.cell.entry, self.cell.data, self.cell.seed)
        return [(entry, self.folder / "stores" / name, seed) for entry, name, seed in own]

    @property
    def store(self) -> Path:
        """That of the first experiment, on which a learner is scored."""
        return self.experiments[0][1]

    @property
    def references(self) -> Path:
        return self.folder / "references" / f"{self.cell.data}.json"

    @property
    def place(self) -> Path:
        return self.folder / "cells" / self.cell.name

    @property
    def failure(self) -> Path:
        """Where a task that gives no result says why: a result that was there stays."""
        data = self.references.with_suffix(".failure.json")
        return data if self.prepare else self.place / "failure.json"

    def run(self) -> None:
        """Do it; the answer is a file, whole or not there, and an error one of its own."""
        torch.set_num_threads(1)  # the same numbers, however many workers share the machine
        with threadpool_limits(1):
            try:
                self._prepare() if self.prepare else self._train_and_score()
            except Exception as error:
                kind = "" if isinstance(error, PopdynError) else f"{type(error).__name__}: "
                lines = str(error).splitlines() or [""]
                self.fail(kind + lines[0], traceback.format_exc())

    def fail(self, reason: str, trace: str = "") -> None:
        """Write the row of a task that gave no result, with the reason in one line."""
        row = self._identity | {"model": None, "status": "failed", "reason": reason}
        row |= {"seconds": None, "peak_memory_mb": None, "verdict": None, "scores": {}}
        record = {"row": row, "reason": reason, "traceback": trace.splitlines()}
        write_record(self.failure, record)

    def is_answered(self) -> bool:
        """Return whether there is a result, or a word why there is none."""
        there = self.references.exists() if self.prepare else self.row() is not None
        return there or self.failure.exists()

    def row(self) -> dict[str, Any] | None:
        """Return the cell's row if it is there, for this very store, configuration and run."""
        known = read_cell(self.place)
        if known is None or known["key"] != self._keys()[1]:
            return None
        return dict(known["row"]) if _has_run(known, self.place) else None

    def _prepare(self) -> None:
        """Make the store; score its reference rows; record ``{name, key, digest, rows, said}``."""
        cell = self.cell
        made = [self._make_store(*own) for own in self.experiments]
        data, said = made[0][0], [line for _, lines in made for line in lines]
        found = store_digest(data)
        if len(made) > 1:
            found = digest([found, *(store_digest(more) for more, _ in made[1:])])
        key = digest([found, cell.entry.hold_out, cell.seed, cell.score, versions()["popdyn"]])
        known = read_references(self.references)
        if known is None or known["key"] != key or said:
            rows = reference_rows(data, hold_out=cell.entry.hold_out, seed=cell.seed, **cell.score)
            record = {"name": cell.data, "key": key, "digest": found, "rows": rows, "said": said}
            write_record(self.references, record)

    @staticmethod
    def _make_store(entry: Entry, path: Path, seed: int) -> tuple[xr.DataTree, list[str]]:
        """Return the data, and what has to be said of it: a damaged store is made again."""
        there = path.exists()
        try:
            make_store(entry, path, seed=seed)
            data = open_snapshots(path)
            store_digest(data)
        except PopdynError as error:
            if not there or not validate(path):
                raise
            aside = put_aside(path)
            make_store(entry, path, seed=seed)
            return open_snapshots(path), [f"{error}: kept as '{aside.name}' and made again"]
        return data, []

    def _train_and_score(self) -> None:
        """Record what was found and the digest of the run that it was found with."""
        place, cell = self.place, self.cell
        run_key, key = self._keys()
        known = read_cell(place)
        trained = known is not None and known["run_key"] == run_key and _has_run(known, place)
        row = known["row"] if known is not None and trained else self._train()
        row["scores"] = score(
            load_run(place / "run").dynamics,
            open_snapshots(self.store),
            hold_out=cell.entry.hold_out,
            seed=cell.seed,
            references=self._rows_beside()["rows"],
            **cell.score,
        )
        record = {"name": place.name, "key": key, "run_key": run_key, "row": row}
        write_record(place / "cell.json", {**record, "run": _run_digest(place)})

    def _train(self) -> dict[str, Any]:
        stores = [path for _, path, _ in self.experiments]
        data = [open_snapshots(path) for path in stores]
        run = fit(
            data if len(data) > 1 else data[0],
            learner_of(self.cell.learner),
            hold_out=self.cell.entry.hold_out,
            seed=self.cell.seed,
            out=self.place / "run",
            overwrite=True,
            source=[str(self.final / path.relative_to(self.folder)) for path in stores],
            **self.cell.options,
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            **self._identity,
            "model": run.model,
            "status": "ok",
            "seconds": run.seconds,
            # Linux counts in KiB, macOS in bytes.
            "peak_memory_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
            "verdict": run.word,
        }

    @property
    def _identity(self) -> dict[str, Any]:
        learner = None if self.prepare else self.cell.learner
        return {"entry": self.cell.entry.name, "learner": learner, "seed": self.cell.seed}

    def _keys(self) -> tuple[str, str]:
        """Return what a run follows from, and what its scores follow from, as digests."""
        cell, data = self.cell, self._rows_beside()
        own = [cell.learner, cell.options, cell.entry.hold_out, cell.seed, versions()["popdyn"]]
        run_key = digest([data["digest"], *own])
        return run_key, digest([run_key, data["key"]])

    def _rows_beside(self) -> dict[str, Any]:
        found = read_references(self.references)
        assert found is not None  # a cell is not begun before they are there
        return found


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


def _has_run(known: Mapping[str, Any], folder: Path) -> bool:
    """Return whether the run is the one that was scored: a kill may have come between them."""
    return (folder / "run" / MANIFEST).is_file() and _run_digest(folder) == known["run"]


def _run_digest(folder: Path) -> str:
    return hashlib.sha256((folder / "run" / MANIFEST).read_bytes()).hexdigest()
