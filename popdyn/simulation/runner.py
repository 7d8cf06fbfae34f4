"""Where blocks run: in this process, on local processes, or on a Dask cluster."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from popdyn.base.errors import PopdynError
from popdyn.base.processes import run_all
from popdyn.dynamics import Dynamics
from popdyn.simulation.blocks import Report, simulate_block
from popdyn.simulation.config import SimulationConfig
from popdyn.snapshots.layout import Block
from popdyn.snapshots.tree import sources
from popdyn.snapshots.writer import BlockWriter

__all__ = ["Task", "run_tasks"]

CONNECT_SECONDS = 10
FIRST_WORKER_SECONDS = 60
NO_WORKER_SECONDS = 30
POLL_SECONDS = 2
LOST = "the scheduler was lost: expected one that outlives the work; what is written is kept"

Done = Callable[["Task", list[np.ndarray] | None], None]


@dataclass(frozen=True)
class Task:
    """A block to make.

    Attributes:
        group: ``"train"`` or ``"test"``.
        block: Index of the block in its group.
        wanted: What of it to write; None if the arrays themselves are asked for.
    """

    group: str
    block: int
    wanted: tuple[Block, ...] | None = None


@dataclass(frozen=True)
class Job:
    """What all tasks share. Energies may hold callables: it travels by cloudpickle."""

    dynamics: Dynamics
    config: SimulationConfig
    writer: BlockWriter | None

    def run(self, task: Task, report: Report | None = None) -> list[np.ndarray] | None:
        """Make the block of a task; return it, or write it and return None."""
        arrays = simulate_block(self.dynamics, self.config, task.group, task.block, report)
        if self.writer is None or task.wanted is None:
            return arrays
        for block in task.wanted:
            try:
                self.writer.write(block, arrays[block.k][: block.stop - block.start])
            except OSError as error:
                raise disk_error(error, self.writer.path) from None
        return None


def run_tasks(
    dynamics: Dynamics,
    config: SimulationConfig,
    tasks: Sequence[Task],
    done: Done,
    *,
    writer: BlockWriter | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    report: Report | None = None,
) -> None:
    """Run tasks in any order; ``done`` is called here for each as it ends.

    Args:
        dynamics: What acts.
        config: The simulation.
        tasks: Blocks to make.
        done: Told of each task that ended, and its arrays where they are asked for.
        writer: Where tasks write.
        workers: Local processes; 1 is this one.
        scheduler: Address of a Dask scheduler instead.
        report: Told of progress.

    Raises:
        PopdynError: If the scheduler cannot be reached, a worker runs other versions, workers
            die again and again, or the disk is full.
    """
    job = Job(dynamics, config, writer)
    if scheduler is None and workers == 1:
        for task in tasks:
            done(task, job.run(task, report))
        return
    if scheduler is None:
        for i, arrays in run_all(job.run, ((task,) for task in tasks), workers):
            done(tasks[i], arrays)
            if report is not None:
                report(config.particle_steps(tasks[i].group, tasks[i].block))
        return
    with _quiet(), _client(scheduler) as client:
        _check_versions(client)
        for task, arrays in _on_cluster(client, job, tasks):
            done(task, arrays)
            if report is not None:
                report(config.particle_steps(task.group, task.block))


def disk_error(error: OSError, path: Path) -> Exception:
    """Return the line for a full disk, or the error itself if it is another."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return PopdynError(
        f"no space left on the disk of {path}: expected room for the whole store; what is written "
        "is kept, and the same command resumes there"
    )


def _on_cluster(
    client: Any, job: Job, tasks: Iterable[Task]
) -> Iterator[tuple[Task, list[np.ndarray] | None]]:
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.protocol.pickle import dumps
    from distributed.scheduler import KilledWorker

    # A task and not scattered data, which dies with the worker that holds it.
    shared = client.submit(bytes, dumps(job), pure=False)
    pending = {}
    for task in tasks:
        future = client.submit(_run_pickled, shared, task, sources(), pure=False)
        pending[future] = task
    for future in _answered(client, list(pending)):
        task = pending.pop(future)
        try:
            yield task, future.result()
        except (FutureCancelledError, CommClosedError):
            raise PopdynError(LOST) from None
        except KilledWorker:
            raise PopdynError(
                f"block {task.block} of {task.group} killed every worker that tried it: expected "
                "workers with more memory, or a smaller block"
            ) from None
        future.release()


def _answered(client: Any, futures: list[Any]) -> Iterator[Any]:
    """Yield futures as they end.

    Raises:
        PopdynError: If the scheduler is lost, or there was no worker for ``NO_WORKER_SECONDS``.
    """
    from distributed import wait

    last = time.monotonic()
    while futures:
        try:
            done = wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            if client.status != "running":
                raise PopdynError(LOST) from None
            if client.scheduler_info(n_workers=-1)["workers"]:
                last = time.monotonic()
            elif time.monotonic() - last > NO_WORKER_SECONDS:
                raise PopdynError(
                    f"the scheduler has had no worker for {NO_WORKER_SECONDS} s: expected at least "
                    "one; what is written is kept"
                ) from None
            continue
        except CancelledError:
            raise PopdynError(LOST) from None
        last = time.monotonic()
        futures = [future for future in futures if future not in done]
        yield from done


def _run_pickled(pickled: bytes, task: Task, expected: dict[str, str]) -> list[np.ndarray] | None:
    from distributed.protocol.pickle import loads

    # A worker that joined late was not asked for its versions before.
    _compare_versions(sources(), expected, "a worker")
    job: Job = loads(pickled)
    return job.run(task)


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PopdynError(
            f"scheduler '{scheduler}' cannot be reached ({line}): expected the address of a Dask "
            "scheduler, such as tcp://host:8786"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
        except TimeoutError:
            raise PopdynError(
                f"scheduler '{scheduler}' has no workers after {FIRST_WORKER_SECONDS} s: expected "
                "at least one"
            ) from None
        yield client


def _check_versions(client: Any) -> None:
    names = list(sources())

    def found() -> dict[str, str]:
        # Nested, so that it is pickled by value: a worker may have no popdyn, or an old one.
        from importlib.metadata import PackageNotFoundError, version

        out = {}
        for name in names:
            try:
                out[name] = version("popdyn-jko" if name == "popdyn" else name)
            except PackageNotFoundError:
                out[name] = "unknown"
        return out

    for address, versions in client.run(found).items():
        _compare_versions(versions, sources(), f"worker {address}")


def _compare_versions(found: dict[str, str], expected: dict[str, str], who: str) -> None:
    for name, version in expected.items():
        if found.get(name) != version:
            raise PopdynError(
                f"{who} has {name} {found.get(name)}: expected {version} as here, or the arrays "
                "would depend on who made them"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the cluster's own log of lost workers and closed connections off the terminal."""
    names = ("distributed", "tornado", "asyncio")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
