"""A progress bar on a terminal, and nothing in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from popdyn.simulation.blocks import Report

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(total: int, *, visible: bool) -> Iterator[Report | None]:
    """Yield what to call with particle-steps as they are taken, or None if there is no bar.

    Args:
        total: Particle-steps of the whole simulation.
        visible: Whether a bar is wanted; it is shown on a terminal's standard error only.
    """
    console = Console(stderr=True)
    if not (visible and console.is_terminal):
        yield None
        return
    columns = (
        TextColumn("simulate"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=total, rate="")

        def report(steps: int) -> None:
            progress.update(bar, advance=steps)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            if speed:
                progress.update(bar, rate=f"{speed / 1e6:.1f} M particle-steps/s")

        yield report
