"""Where blocks run: in this process, on local processes, or on a Dask cluster."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from popdyn.base.errors import PopdynError
from popdyn.base.processes import run_all
from popdyn.dynamics import Dynamics
from popdyn.simulation.blocks import Made, Report, simulate_block
from popdyn.simulation.config import SimulationConfig
from popdyn.snapshots.layout import Block
from popdyn.snapshots.writer import BlockWriter

__all__ = ["Task", "run_tasks"]

Done = Callable[["Task", Made | None], None]


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

    def run(self, task: Task, report: Report | None = None) -> Made | None:
        """Make the block of a task; return it, or write it and return None."""
        made = simulate_block(self.dynamics, self.config, task.group, task.block, report)
        if self.writer is None or task.wanted is None:
            return made
        for block in task.wanted:
            n = block.stop - block.start
            weights = None if made.weights is None else made.weights[block.k][:n]
            try:
                self.writer.write(block, made.x[block.k][:n], weights)
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
    here = scheduler is None and workers == 1
    arguments = ((task, report) if here else (task,) for task in tasks)
    for i, arrays in run_all(job.run, arguments, workers, scheduler):
        done(tasks[i], arrays)
        if report is not None and not here:
            report(config.particle_steps(tasks[i].group, tasks[i].block))


def disk_error(error: OSError, path: Path) -> Exception:
    """Return the line for a full disk, or the error itself if it is another."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return PopdynError(
        f"no space left on the disk of {path}: expected room for the whole store; what is written "
        "is kept, and the same command resumes there"
    )
