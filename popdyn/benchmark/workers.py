"""Where the tasks of a bench run: each in a process of its own, here or on a Dask cluster."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator

from popdyn.base.processes import Helper, HelperDiedError, die_with_parent, run_all
from popdyn.benchmark.cells import Task

__all__ = ["run_apart"]

# Imported once by the process that cells are copies of: a cell starts in no time.
_PRELOAD = ("popdyn.benchmark.cells", "scipy.spatial", "sklearn.mixture", "ot")


def run_apart(
    tasks: Iterable[Task], workers: int, scheduler: str | None
) -> Iterator[tuple[int, int | str]]:
    """Run tasks; yield each one's index, and its exit status or what became of its worker.

    A task has a process of its own, whose memory is counted and whose death is a row.

    Args:
        tasks: What to do.
        workers: Local processes at a time.
        scheduler: Address of a Dask scheduler whose workers see the same files; or None.

    Raises:
        PopdynError: If no scheduler answers, or it has no workers.
    """
    work = _work_in_a_copy if scheduler is None else _work_in_a_helper
    yield from run_all(work, ((task,) for task in tasks), workers, scheduler, lost=_lost)


def _lost(error: Exception) -> int | str:
    return error.status or 1 if isinstance(error, HelperDiedError) else type(error).__name__


def _work_in_a_copy(task: Task) -> int:
    """Run a task in a fork of this process, which has everything imported; return its status."""
    for name in _PRELOAD:
        importlib.import_module(name)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            die_with_parent(parent)
            task.run()
            status = 0
        except KeyboardInterrupt:
            status = 128 + signal.SIGINT
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _work_in_a_helper(task: Task) -> int:
    """Run a task in a new interpreter, as a Dask worker's threads must not fork."""
    with Helper(Task.run) as helper:
        try:
            helper.call(task)
        except HelperDiedError as error:
            return error.status or 1
    return 0
