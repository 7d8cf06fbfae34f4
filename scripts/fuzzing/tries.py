"""A try, its verdict, and what every command has to keep whatever it is given."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing.children import Outcome

__all__ = ["Kind", "Place", "Verdict", "hygiene", "shown"]

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass
class Verdict:
    """What came of a try.

    Attributes:
        outcome: One word or two; a column of the table.
        failed: Whether it must not be.
        detail: What happened, in a line.
        command: The command line.
    """

    outcome: str
    failed: bool = False
    detail: str = ""
    command: str = ""


@dataclass(frozen=True)
class Place:
    """Where a try may write, and what it draws from.

    Attributes:
        folder: An empty folder of its own.
        goods: Sound things to copy from, by name.
        rng: Its random numbers.
    """

    folder: Path
    goods: Mapping[str, Path]
    rng: random.Random


@dataclass(frozen=True)
class Kind:
    """A kind of tries.

    Attributes:
        name: Its name.
        title: What its table is called.
        failure: What counts as a failure.
        rows: Names of the table's rows: try number n belongs to row n modulo their number.
        tries: Of each row, at full size.
        needs: Names of the goods.
        attempt: ``(row, index within the row, place) → verdict``.
    """

    name: str
    title: str
    failure: str
    rows: tuple[str, ...]
    tries: int
    needs: tuple[str, ...]
    attempt: Callable[[str, int, Place], Verdict] = field(repr=False)


def shown(arguments: Any) -> str:
    """Return a command line as a person would type it."""
    return "popdyn " + shlex.join(str(a) for a in arguments)


def hygiene(done: Outcome, *, as_json: bool = False, killed: bool = False) -> str:
    """Return what a command did that none may do, or nothing."""
    if done.code is None:
        return f"no end within {done.seconds:.0f} s"
    if "Traceback (most recent call last)" in done.err + done.out:
        return f"traceback: {done.last_line[:200]}"
    if "error: unexpected " in done.last_line:
        return done.last_line[:300]
    if killed:
        return ""
    if done.code not in (0, 1, 2):
        return f"exit status {done.code}: {done.last_line[:200]}"
    if found := CONTROL.search(done.out + done.err):
        around = (done.out + done.err)[max(0, found.start() - 40) : found.end() + 20]
        return f"control character {found.group()!r} in {around!r}"
    # What `popdyn validate` finds is its answer, on standard output.
    if done.code and "popdyn: error: " not in done.err and not done.out.strip():
        return f"exit status {done.code} without a line that says why"
    if as_json and done.code == 0:
        return _json_breach(done.out)
    return ""


def _json_breach(text: str) -> str:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} in JSON")

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError as error:
        return f"{error}: {text[:120]!r}"
    return ""
