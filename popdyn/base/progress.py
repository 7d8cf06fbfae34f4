"""A progress bar on a terminal, and nothing in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from popdyn.base.screen import Screen

__all__ = ["Advance", "progress_bar"]

Advance = Callable[[int, str], None]
"""Told how much more is done, and what to say of it."""


@contextmanager
def progress_bar(what: str, total: int, *, visible: bool, unit: str = "") -> Iterator[Advance]:
    """Yield what to call as work is done.

    Args:
        what: What is done, a word.
        total: All the work.
        visible: Whether a bar is wanted; it is shown on a terminal's standard error only.
        unit: Of the work, millions of which a second are shown.
    """
    console = Screen(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[said]}"),
        TimeRemainingColumn(),
    )
    hidden = not (visible and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        bar = progress.add_task(what, total=total, said="")

        def advance(done: int, said: str = "") -> None:
            progress.update(bar, advance=done, said=said)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            if unit and speed:
                progress.update(bar, said=f"{speed / 1e6:.1f} M {unit}/s")

        yield advance
