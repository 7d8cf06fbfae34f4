"""``bench``: every entry, learner and seed of a suite; what is done is not done again."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from popdyn.benchmark.cells import (
    Cell,
    Task,
    cell_options,
    is_done,
    plain,
    read_json,
    write_failure,
    write_json,
)
from popdyn.benchmark.commands import bench_command
from popdyn.benchmark.progress import Progress
from popdyn.benchmark.report import write_report
from popdyn.benchmark.results import results_of, write_results
from popdyn.benchmark.stores import definition
from popdyn.benchmark.suite import Entry, Suite
from popdyn.benchmark.suites import load_suite
from popdyn.benchmark.workers import Launch, workplace
from popdyn.errors import PopdynError
from popdyn.learners import LEARNERS
from popdyn.learners.registry import options_of
from popdyn.registry import lookup

__all__ = ["bench"]

MARK = "suite.json"
OWN = ("stores", "cells", "references", "results.json", "results.csv", "report.html", MARK)


def bench(
    suite: str | os.PathLike[str] | Suite,
    out: str | os.PathLike[str],
    *,
    learners: Sequence[str] = (),
    seeds: int = 1,
    entries: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    points: int | str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Simulate, train and score a suite; write ``results.json``, ``results.csv``, ``report.html``.

    Each cell runs in a process of its own on one thread, so the numbers do not depend on
    ``workers``. A cell that fails leaves a row that says why; the next call tries it again, and
    nothing that was finished.

    Args:
        suite: A suite, its name, or the path of its file.
        out: Folder of the results; one suite each.
        learners: Names of learners; those of the suite if empty.
        seeds: Seeds 0…S−1, each for data and training.
        entries: Names of the entries to run; all if empty.
        options: Options of single learners, by name, over those of the suite.
        points: Particles a side for the distribution scores, or ``"all"``; the suite's if None.
        workers: Local processes at a time. A script needs the usual
            ``if __name__ == "__main__":``.
        scheduler: Address of a Dask scheduler whose workers see the same files, instead.
        overwrite: Throw away what is in ``out`` first.
        progress: Whether to show progress and time left on a terminal.

    Returns:
        What ``results.json`` holds.

    Raises:
        PopdynError: On an unknown suite, entry, learner or option, an ``out`` that holds other
            results, a scheduler that does not answer, or if no data could be made at all.
    """
    loaded = load_suite(suite)
    names = tuple(dict.fromkeys(learners or loaded.learners))
    chosen = [loaded.entry(name) for name in entries] or list(loaded.entries)
    given = _options(loaded, names, options or {})
    if seeds < 1 or workers < 1:
        wrong, value = ("seeds", seeds) if seeds < 1 else ("workers", workers)
        raise PopdynError(f"{wrong} is {value}: expected 1 or more")
    score = {"points": 2000, "from_": "previous", **loaded.score}
    if points is not None:
        score["points"] = points
    folder = _claim(Path(out), loaded, chosen, seeds, overwrite)
    cells = [
        Cell(entry, name, seed, cell_options(entry, name, given[name]), score)
        for entry in chosen
        for name in names
        for seed in range(seeds)
    ]
    lock = FileLock(folder / ".lock")
    try:
        with lock.acquire(timeout=0):
            for left in (folder / "cells").glob(".*"):  # by a process that was killed
                shutil.rmtree(left)
            rows = _run(cells, folder, workers, scheduler, progress)
            results = results_of(loaded, rows)
            write_results(results, folder)
            command = bench_command(
                loaded, out, names, seeds=seeds, entries=entries, options=options, points=points
            )
            write_report(loaded, results, cells, folder, command=command, progress=progress)
    except Timeout:
        raise PopdynError(f"another popdyn bench writes to '{folder}': expected one") from None
    return results


def _options(
    suite: Suite, learners: Sequence[str], given: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    for name in (*learners, *given):
        lookup(LEARNERS, name, "learner")
    for name in given:
        if name not in learners:
            raise PopdynError(
                f"an option is given for '{name}': expected one of the learners that run, "
                f"{', '.join(learners)}"
            )
    out = {}
    for name in learners:
        out[name] = {**suite.options.get(name, {}), **given.get(name, {})}
        own = {k: v for k, v in out[name].items() if k != "ensemble"}
        options_of(name, own)  # a wrong option must speak up before the work
    return out


def _claim(out: Path, suite: Suite, entries: Sequence[Entry], seeds: int, overwrite: bool) -> Path:
    """Return the folder, marked as this suite's own."""
    if out.exists() and not out.is_dir():
        raise PopdynError(f"--out '{out}' is a file: expected a folder")
    mark = read_json(out / MARK)
    if overwrite and mark is not None:
        for name in OWN:
            path = out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        mark = None
    if mark is None:
        strange = [p.name for p in out.iterdir() if p.name != ".lock"] if out.exists() else []
        if strange:
            raise PopdynError(
                f"--out '{out}' holds '{sorted(strange)[0]}' and no results of a bench: "
                "expected a new folder"
            )
        mark = {"popdyn_bench": 1, "suite": suite.name, "definitions": {}}
    if mark["suite"] != suite.name:
        raise PopdynError(
            f"--out '{out}' holds results of the suite '{mark['suite']}': expected another "
            f"folder for '{suite.name}', or --overwrite"
        )
    for entry in entries:
        now = definition(entry, 0)
        if mark["definitions"].setdefault(entry.name, now) != now:
            raise PopdynError(
                f"--out '{out}' holds results of another definition of '{entry.name}': "
                "expected another folder, or --overwrite"
            )
    write_json(out / MARK, mark)
    return out


def _run(
    cells: Sequence[Cell], folder: Path, workers: int, scheduler: str | None, progress: bool
) -> list[dict[str, Any]]:
    """Run what is missing, and return a row for each cell."""
    waiting: dict[str, list[Cell]] = {}
    for cell in cells:
        waiting.setdefault(cell.data, []).append(cell)
    prepare = {name: _prepare_task(mine[0], folder) for name, mine in waiting.items()}
    shown = Progress(prepare.values(), cells, visible=progress)

    def follow(task: Task) -> Iterable[Task]:
        """Return the tasks that a finished one makes possible."""
        if task["kind"] == "cell":
            return []
        mine = [_cell_task(cell, folder) for cell in waiting[task["name"]]]
        answer = read_json(Path(task["file"])) or {}
        if "rows" in answer:
            missing = [new for new in mine if not is_done(new)]
            shown.skip(new for new in mine if new not in missing)
            return missing
        for lost in mine:
            reason = f"no data: {answer['reason']}"
            write_failure(lost, Path(lost["folder"]) / "cell.json", reason)
        shown.skip(mine, failed=True)
        return []

    with workplace(workers, scheduler) as (executor, launch), shown:
        _drain(executor, launch, list(prepare.values()), follow, shown)
    rows = [(read_json(folder / "cells" / c.name / "cell.json") or {})["row"] for c in cells]
    if all(str(row.get("reason", "")).startswith("no data: ") for row in rows):
        raise PopdynError(f"no entry has data; the first says: {rows[0]['reason'][9:]}")
    return rows


def _drain(
    executor: Executor,
    launch: Launch,
    tasks: Sequence[Task],
    follow: Callable[[Task], Iterable[Task]],
    shown: Progress,
) -> None:
    running: dict[Future[int], Task] = {executor.submit(launch, task): task for task in tasks}
    while running:
        done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in done:
            task = running.pop(future)
            file = _answer(task)
            try:
                status = future.result()
            except Exception as error:  # the cluster lost its worker
                write_failure(task, file, f"the worker was lost: {type(error).__name__}")
            else:
                if status != 0 or not file.exists():
                    write_failure(task, file, _death(status))
            shown.done(task, failed=(read_json(file) or {}).get("key") is None)
            running |= {executor.submit(launch, new): new for new in follow(task)}
        shown.tick()


def _answer(task: Task) -> Path:
    return Path(task["file"]) if task["kind"] == "prepare" else Path(task["folder"]) / "cell.json"


def _death(status: int) -> str:
    if status >= 0:
        return f"the process ended with status {status} and gave no result"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    hint = ": out of memory?" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{hint}"


def _prepare_task(cell: Cell, folder: Path) -> Task:
    return _plain(
        {
            "kind": "prepare",
            "name": cell.data,
            "entry": cell.entry.table(),
            "seed": cell.seed,
            "hold_out": cell.entry.hold_out,
            "score": cell.score,
            "store": str((folder / "stores" / f"{cell.data}.zarr").resolve()),
            "file": str((folder / "references" / f"{cell.data}.json").resolve()),
        }
    )


def _cell_task(cell: Cell, folder: Path) -> Task:
    shared = _prepare_task(cell, folder)
    own = {
        "kind": "cell",
        "name": cell.name,
        "learner": cell.learner,
        "options": cell.options,
        "references": shared.pop("file"),
        "folder": str((folder / "cells" / cell.name).resolve()),
    }
    return _plain(shared | own)


def _plain(task: Task) -> Task:
    return dict(plain(task))
