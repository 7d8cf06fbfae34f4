"""How far a bench is, and how long it still takes: on a terminal only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from popdyn.benchmark.cells import Cell, Task

__all__ = ["Progress"]


class Progress:
    """Counts tasks by kind; time left from the mean time of what is done of each kind.

    Args:
        prepare: Tasks that make data.
        cells: All cells.
        visible: Whether to show anything, on a terminal.
    """

    def __init__(self, prepare: Iterable[Task], cells: Sequence[Cell], *, visible: bool) -> None:
        self.left = Counter(["data" for _ in prepare] + [cell.learner for cell in cells])
        self.total = sum(self.left.values())
        self.spent: dict[str, list[float]] = {}
        self.failed = 0
        self.begin = self.last = time.monotonic()
        console = Console(stderr=True)
        self.bars: Bars | None = None
        self.bar = TaskID(0)
        if visible and console.is_terminal:
            self.bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[failed]}", style="red"),
                console=console,
                transient=True,
            )
            self.bar = self.bars.add_task("bench", total=self.total, left="", failed="")

    def __enter__(self) -> Progress:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bars:
            self.bars.stop()

    def done(self, task: Task, *, failed: bool) -> None:
        """Count a task that ended; its cost is the time since the last one did."""
        now = time.monotonic()
        kind = self._count(task, failed)
        self.spent.setdefault(kind, []).append(now - self.last)
        self.last = now
        self.tick()

    def skip(self, tasks: Iterable[Task], *, failed: bool = False) -> None:
        """Count cells that are done already, or that have no data."""
        for task in tasks:
            self._count(task, failed)

    def tick(self) -> None:
        """Show the present state."""
        if self.bars:
            completed = self.total - sum(self.left.values())
            failed = f"{self.failed} failed" if self.failed else ""
            self.bars.update(self.bar, completed=completed, left=self._time_left(), failed=failed)

    def _count(self, task: Task, failed: bool) -> str:
        kind = "data" if task["kind"] == "prepare" else str(task["learner"])
        self.left[kind] -= 1
        self.failed += failed
        return kind

    def _time_left(self) -> str:
        if not self.spent:
            return "time left unknown"
        means = {kind: sum(values) / len(values) for kind, values in self.spent.items()}
        # A learner that was not seen yet is taken to cost what the others cost.
        usual = sum(means.values()) / len(means)
        seconds = sum(n * means.get(kind, usual) for kind, n in self.left.items())
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours:d}:{minutes:02d}:{rest:02d} left"
