"""``bench``: every entry, learner and seed of a suite; what is done is not done again."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from popdyn.base.errors import PopdynError
from popdyn.base.files import Target
from popdyn.base.progress import Advance, progress_bar
from popdyn.base.registry import lookup
from popdyn.benchmark.cells import (
    Cell,
    Task,
    cell_breaches,
    cell_options,
    read_references,
    terms_of,
)
from popdyn.benchmark.commands import bench_command
from popdyn.benchmark.folder import KIND, Say, claim, is_empty, owned_files, publish
from popdyn.benchmark.records import put_aside, read_record
from popdyn.benchmark.report import report_of
from popdyn.benchmark.results import results_of
from popdyn.benchmark.suite import Suite
from popdyn.benchmark.suites import load_suite
from popdyn.benchmark.variants import learner_of, options_in_name, split_names
from popdyn.benchmark.workers import Run, workplace
from popdyn.learners import LEARNERS
from popdyn.learners.registry import OF_FIT, options_of

__all__ = ["bench"]


def bench(
    suite: str | os.PathLike[str] | Suite,
    out: str | os.PathLike[str],
    *,
    learners: Sequence[str] | str = (),
    seeds: int = 1,
    entries: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    points: int | str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:
    """Simulate, train and score a suite; write ``results.json``, ``results.csv``, ``report.html``.

    Each cell runs in a process of its own on one thread, so the numbers do not depend on
    ``workers``. A cell that fails leaves a row that says why; the next call tries it again, and
    nothing that was finished. What is not as popdyn wrote it, such as a score that somebody
    changed or a file that was cut, is kept under another name and made again.

    Args:
        suite: A suite, its name, or the path of its file.
        out: Folder of the results; one suite each.
        learners: Names of learners, each a row; ``ijkonet[model=network]`` is one with options of
            its own. Those of the suite if empty.
        seeds: Seeds 0…S−1, each for data and training.
        entries: Names of the entries to run; all if empty.
        options: Options of single learners, by name, over those of the suite; a variant's own win.
        points: Particles a side for the distribution scores, or ``"all"``; the suite's if None.
        workers: Local processes at a time. A script needs the usual
            ``if __name__ == "__main__":``.
        scheduler: Address of a Dask scheduler whose workers see the same files, instead.
        overwrite: Begin anew; the old results stay until the new ones are whole.
        progress: Whether to show progress and time left on a terminal.
        say: Called with a line for each thing that was put right, and for each part of an energy
            that a learner does not look for; a warning each if None.

    Returns:
        What ``results.json`` holds.

    Raises:
        PopdynError: On an unknown suite, entry, learner or option, an ``out`` that holds other
            results, or with ``overwrite`` anything that popdyn did not write, or that another
            process writes to, a scheduler that does not answer, or if no data could be made at all.

    Example:
        >>> import tempfile
        >>> bench("jko15", tempfile.mkdtemp() + "/out", learners="no_such")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        popdyn.base.errors.PopdynError: unknown learner 'no_such': ...
    """
    loaded = load_suite(suite)
    names = tuple(dict.fromkeys(split_names(learners) or loaded.learners))
    chosen = [loaded.entry(name) for name in entries] or list(loaded.entries)
    given = _options(loaded, names, options or {})
    if seeds < 1 or workers < 1:
        wrong, value = ("seeds", seeds) if seeds < 1 else ("workers", workers)
        raise PopdynError(f"{wrong} is {value}: expected 1 or more")
    score = {"points": 2000, "from_": "previous", **loaded.score}
    if points is not None:
        score["points"] = points
    cells = [
        Cell(entry, name, seed, cell_options(entry, name, given[name]), score)
        for entry in chosen
        for name in names
        for seed in range(seeds)
    ]
    say = say or partial(warnings.warn, stacklevel=2)
    command = bench_command(
        loaded, out, names, seeds=seeds, entries=entries, options=options, points=points
    )
    anew = overwrite and not is_empty(Path(out))
    target = Target(
        out,
        KIND,
        overwrite=anew,
        keep=anew,
        in_place=True,
        reads=_read_by(loaded, cells),
        owned=partial(owned_files, mend=not anew),
    )
    with target:
        folder = target.place
        try:
            claim(folder, loaded, chosen, seeds, say)
        except PopdynError:
            if not (anew and target.resumed):
                raise
            target.drop()  # begun for another suite and killed
            claim(folder, loaded, chosen, seeds, say)
        for line in dict.fromkeys(filter(None, map(_left_out, cells))):
            say(line)
        place = _Place(folder.resolve(), Path(out).resolve(), say)
        results = results_of(loaded, _run(cells, place, workers, scheduler, progress))
        page = report_of(loaded, results, cells, folder, command=command, progress=progress)
        publish(folder, results, page, say)
    return results


class _Place(NamedTuple):
    """Where a bench is written, where it will be, and whom to tell what was put right."""

    folder: Path
    final: Path
    say: Say


def _read_by(suite: Suite, cells: Iterable[Cell]) -> list[Path]:
    """Return the user's files that a bench reads."""
    own = [] if suite.packaged or suite.path is None else [suite.path]
    entries = {cell.entry.name: cell.entry for cell in cells}.values()
    return own + [entry.file for entry in entries if entry.source is not None]


def _left_out(cell: Cell) -> str:
    missing = terms_of(cell)[1]
    name = f"{cell.learner} on '{cell.entry.name}'"
    return f"{name}: {missing} of the true energy taken for 0, as its options say" * bool(missing)


def _options(
    suite: Suite, learners: Sequence[str], given: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    for name in (*learners, *given):
        lookup(LEARNERS, learner_of(name), "learner")
    for name in given:
        if name not in (*learners, *map(learner_of, learners)):
            raise PopdynError(
                f"an option is given for '{name}': expected one of the learners that run, "
                f"{', '.join(learners)}"
            )
    out = {}
    for name in learners:
        base, variant = learner_of(name), options_in_name(name)
        out[name] = {**suite.options.get(base, {}), **given.get(base, {}), **variant}
        own = {k: v for k, v in out[name].items() if k not in OF_FIT}
        options_of(base, own)  # a wrong option must speak up before the work
    return out


def _run(
    cells: Sequence[Cell], place: _Place, workers: int, scheduler: str | None, progress: bool
) -> list[dict[str, Any]]:
    """Run what is missing, and return a row for each cell."""
    waiting: dict[str, list[Task]] = {}
    for cell in cells:
        waiting.setdefault(cell.data, []).append(Task(cell, place.folder, place.final))
    prepare = {name: replace(tasks[0], prepare=True) for name, tasks in waiting.items()}
    before = {n: _mend(task, waiting[n], place.say) for n, task in prepare.items()}
    bar = progress_bar("bench", len(prepare) + len(cells), visible=progress)
    with workplace(workers, scheduler) as run, bar as advance:
        _work(list(prepare.values()), run, advance)
        left = [
            cell
            for name, task in prepare.items()
            for cell in _left(task, waiting[name], before[name], place.say)
        ]
        advance(len(cells) - len(left))
        _work(left, run, advance)
    rows = [_row(Task(cell, place.folder, place.final)) for cell in cells]
    if all(str(row.get("reason", "")).startswith("no data: ") for row in rows):
        raise PopdynError(f"no entry has data; the first says: {rows[0]['reason'][9:]}")
    return rows


def _mend(prepare: Task, cells: Iterable[Task], say: Say) -> dict[str, Any] | None:
    """Put aside what is not as popdyn wrote it; return the references that were there."""
    file = prepare.references
    try:
        references = read_references(file)
    except PopdynError as error:
        references = None
        say(f"{error}: kept as '{put_aside(file).name}' and made again")
    for cell in cells:
        for path, reason in cell_breaches(cell.place):
            if path.exists():
                say(f"{reason}: kept as '{put_aside(path).name}', and the cell is run again")
    return references


def _left(prepare: Task, cells: list[Task], before: dict[str, Any] | None, say: Say) -> list[Task]:
    """Return the cells on some data that are still to be run."""
    failure = read_record(prepare.failure)
    if failure is not None:
        for lost in cells:
            lost.fail(f"no data: {failure['reason']}")
        return []
    answer = read_references(prepare.references) or {}
    for line in answer["said"] if answer != before else ():
        say(line)
    done = [cell for cell in cells if cell.row()]
    for cell in done:
        cell.failure.unlink(missing_ok=True)
    return [cell for cell in cells if cell not in done]


def _row(task: Task) -> dict[str, Any]:
    failure = read_record(task.failure)
    row = task.row() if failure is None else failure["row"]
    assert row is not None  # a task without an answer has a failure
    return dict(row)


def _work(tasks: Sequence[Task], run: Run, advance: Advance) -> None:
    """Run tasks; one that gives no answer leaves a record of its failure."""
    for task in tasks:
        task.failure.unlink(missing_ok=True)  # of an earlier try
    failed = 0
    for i, status in run(tasks):
        task = tasks[i]
        if status != 0 or not task.is_answered():
            task.fail(_death(status))
        failed += task.failure.exists()
        advance(1, f"{failed} failed" if failed else "")


def _death(status: int | str) -> str:
    if isinstance(status, str):
        return f"the worker was lost: {status}"
    if status >= 0:
        return f"the process ended with status {status} and gave no result"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    hint = ": out of memory?" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{hint}"
