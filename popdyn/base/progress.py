"""A progress bar on a terminal, and nothing in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.filesize import pick_unit_and_suffix
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from popdyn.base.screen import Screen

__all__ = ["Advance", "progress_bar"]


class Advance(Protocol):
    """Told how much more is done, and what to say of it."""

    def __call__(self, done: int, said: str = "", /) -> None: ...


@contextmanager
def progress_bar(what: str, total: int, *, visible: bool, unit: str = "") -> Iterator[Advance]:
    """Yield what to call as work is done.

    Args:
        what: What is done, a word.
        total: All the work.
        visible: Whether a bar is wanted; it is shown on a terminal's standard error only.
        unit: Of the work, whose rate is shown; none is if empty.
    """
    console = Screen(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[said]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    if not (visible and console.is_terminal):
        yield lambda done, said="": None
        return
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what, total=total, said="", rate="")

        def advance(done: int, said: str = "") -> None:
            progress.update(bar, advance=done, said=said)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            if unit and speed:
                size, prefix = pick_unit_and_suffix(int(speed), ["", "k ", "M ", "G "], 1000)
                progress.update(bar, rate=f"{speed / size:.3g} {prefix}{unit}/s")

        yield advance
