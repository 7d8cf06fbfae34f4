"""Where tasks run: each in a process of its own, here or on a Dask cluster."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

from popdyn.base.errors import PopdynError
from popdyn.base.processes import Helper, HelperDiedError, die_with_parent
from popdyn.benchmark.cells import Task, run_task

__all__ = ["Launch", "main", "workplace"]

Launch = Callable[[Task], int]
"""Runs a task in a process of its own and returns the exit status, negative for a signal."""

# Imported once by the process that cells are copies of: a cell starts in no time.
_PRELOAD = ("popdyn.benchmark.cells", "scipy.spatial", "sklearn.mixture", "ot")
_CONNECT_SECONDS = 10
_MODULE = "from popdyn.benchmark.workers import main; main()"


@contextlib.contextmanager
def workplace(workers: int, scheduler: str | None) -> Iterator[tuple[Executor, Launch]]:
    """Yield an executor, and what to submit to it.

    Args:
        workers: Local processes at a time.
        scheduler: Address of a Dask scheduler whose workers see the same files; or None.

    Raises:
        PopdynError: If no scheduler answers, or it has no workers.
    """
    if scheduler is not None:
        with _cluster(scheduler) as executor:
            yield executor, launch_fresh
        return
    local = _Local()
    executor = ThreadPoolExecutor(workers)
    try:
        yield executor, local.launch
    finally:
        local.stop()
        executor.shutdown(cancel_futures=True)


class _Local:
    """A helper for each thread, with everything imported, runs each task in a copy of itself.

    So a task has a process of its own, whose memory is counted and whose death is a row, and the
    script that called runs once.
    """

    def __init__(self) -> None:
        self.mine = threading.local()
        self.helpers: list[Helper] = []
        self.stopped = False
        self.lock = threading.Lock()

    def launch(self, task: Task) -> int:
        with self.lock:
            if self.stopped:
                return 0
            helper: Helper | None = getattr(self.mine, "helper", None)
            if helper is None:
                helper = self.mine.helper = Helper(_work_in_a_copy)
                self.helpers.append(helper)
        try:
            return int(helper.call(task))
        except HelperDiedError as error:
            self.mine.helper = None
            return error.status or 1

    def stop(self) -> None:
        """End all helpers, and with them whatever they do."""
        with self.lock:
            self.stopped = True
            for helper in self.helpers:
                helper.close()


def _work_in_a_copy(task: Task) -> int:
    """Run a task in a fork of this process and return its exit status."""
    for name in _PRELOAD:
        importlib.import_module(name)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            die_with_parent(parent)
            _work(task)
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


def _work(task: Task) -> None:
    run_task(task)


def launch_fresh(task: Task) -> int:
    """Run a task in a new interpreter: for a Dask worker, which may have no children."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _MODULE]
    done = subprocess.run(command, input=json.dumps(task), text=True, env=environment, check=False)
    return done.returncode


def main() -> None:
    """Run the task that stands on standard input, for as long as the Dask worker lives."""
    die_with_parent()
    run_task(json.loads(sys.stdin.read()))


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PopdynError(
            f"--scheduler '{address}': no Dask scheduler answers there ({reason})"
        ) from None
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise PopdynError(f"--scheduler '{address}': expected workers, the cluster has none")
        yield client.get_executor(pure=False, retries=0)
