"""Where tasks run: each in a process of its own, here or on a Dask cluster."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any

from popdyn.benchmark.cells import Task, run_task
from popdyn.errors import PopdynError

__all__ = ["Launch", "main", "workplace"]

Launch = Callable[[Task], int]
"""Runs a task in a process of its own and returns the exit status, negative for a signal."""

# Imported once by the process that all others are copies of: a cell starts in no time.
_PRELOAD = ["popdyn.benchmark.workers", "scipy.spatial", "sklearn.mixture", "ot"]
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
    except BaseException:
        local.stop()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


class _Local:
    """Processes copied from one that has everything imported."""

    def __init__(self) -> None:
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else None
        self.context: Any = multiprocessing.get_context(method)
        if method:
            self.context.set_forkserver_preload(_PRELOAD)
        self.running: set[BaseProcess] = set()
        self.stopped = False
        self.lock = threading.Lock()

    def launch(self, task: Task) -> int:
        process = self.context.Process(target=_work, args=(task,))
        with self.lock:
            if self.stopped:
                return 0
            process.start()
            self.running.add(process)
        process.join()
        with self.lock:
            self.running.discard(process)
        return int(process.exitcode or 0)

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()


def _work(task: Task) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        run_task(task)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # whoever asked is gone, and may ask again: two would do the same work


def launch_fresh(task: Task) -> int:
    """Run a task in a new interpreter: for a Dask worker, which may have no children."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _MODULE]
    done = subprocess.run(command, input=json.dumps(task), text=True, env=environment, check=False)
    return done.returncode


def main() -> None:
    """Run the task that stands on standard input."""
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
