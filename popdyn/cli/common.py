"""Options and output that the commands share."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from popdyn.base.errors import PopdynError
from popdyn.base.options import OneOf
from popdyn.base.plain import LARGEST, json_of
from popdyn.base.registry import lookup
from popdyn.base.screen import Screen, escaped

if TYPE_CHECKING:
    import xarray as xr

    from popdyn.learners import Run

__all__ = [
    "Name",
    "NumberList",
    "NumberOrName",
    "console",
    "data_option",
    "emit",
    "from_option",
    "json_option",
    "out_option",
    "overwrite_option",
    "param_option",
    "run_and_store",
    "seed_option",
    "standard_output",
    "stores_of",
]

F = TypeVar("F", bound=Callable[..., Any])

console = Screen(stderr=True)
"""For a person: progress, notes, tables of a command whose answer is a file."""

standard_output = Screen()
"""For the answer itself, where it is a table."""


def emit(payload: dict[str, Any]) -> None:
    """Print one JSON object on standard output; numbers that are not finite become null."""
    ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    text = json.dumps(json_of(payload), ensure_ascii=ascii_only, allow_nan=False)
    click.echo(escaped(text))


def json_option(function: F) -> F:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
    )(function)


def overwrite_option(function: F) -> F:
    return click.option("--overwrite", is_flag=True, help="Replace an existing --out.")(function)


def data_option(function: F) -> F:
    return click.option(
        "--data",
        type=click.Path(),
        help="The run's store, if it is not where the run found it; of several experiments, which "
        "one, by its name or path.",
    )(function)


def from_option(what: str) -> Callable[[F], F]:
    return click.option(
        "--from",
        "from_",
        type=click.Choice(["previous", "first"]),
        default="previous",
        show_default=True,
        help=what,
    )


def seed_option(function: F) -> F:
    return click.option(
        "--seed", type=click.IntRange(0, LARGEST), default=0, show_default=True, help="Random seed."
    )(function)


def out_option(what: str) -> Callable[[F], F]:
    return click.option("--out", required=True, type=click.Path(), help=f"{what} to write.")


class Name(click.ParamType):
    """A name of a registry; a wrong one is answered with those that are near.

    Args:
        registries: ``module:attribute`` of each, imported when a name is checked.
        kind: What an entry is called.
    """

    def __init__(self, kind: str, *registries: str) -> None:
        self.name, self.one_of = kind, OneOf(kind, registries)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            lookup(self.one_of.entries, value, self.name)
        except PopdynError as error:
            self.fail(str(error), param, ctx)
        return value


class NumberOrName(Name):
    """A number of 0 or more, or a name of a registry."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            number = float(value)
        except ValueError:
            return super().convert(value, param, ctx)
        if not (math.isfinite(number) and number >= 0):
            self.fail(f"{value} is no {self.name}: expected a number ≥ 0 or a name", param, ctx)
        return number


class NumberList(click.ParamType):
    """A list of numbers with commas, such as ``0,0.1,0.2``."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind
        self.name = "k,…" if kind is int else "a,b,…"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        if not isinstance(value, str):
            return tuple(value) if isinstance(value, Iterable) else (value,)
        try:
            return tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            what = "whole numbers" if self.kind is int else "numbers"
            self.fail(f"'{value}': expected {what} with commas between them", param, ctx)


def param_option(flag: str, what: str) -> Callable[[F], F]:
    """Return a repeatable option ``flag k=v``; values are read as JSON where they can be."""

    def convert(ctx: Any, param: Any, pairs: tuple[str, ...]) -> dict[str, Any]:
        out = {}
        for pair in pairs:
            key, sign, text = pair.partition("=")
            if not sign or not key:
                raise click.BadParameter(f"'{pair}': expected name=value")
            try:
                out[key] = json.loads(text)
            except json.JSONDecodeError:
                out[key] = text
        return out

    return click.option(
        flag, multiple=True, metavar="K=V", callback=convert, help=f"Parameter of the {what}."
    )


def stores_of(name: str, run: Run, data: str | None) -> dict[str, Path]:
    """Return the stores of a run by the names of their experiments, or the one of ``--data``.

    Args:
        name: The run's folder.
        run: The run.
        data: A store, or the name of an experiment; None: all that the run was fitted to.

    Raises:
        PopdynError: If a store is not there; says where it was looked for.
    """
    recorded = {record["name"]: record["path"] for record in run.config.get("data", ())}
    if data is not None and data not in recorded:
        if not Path(data).exists():
            names = f", or one of {', '.join(recorded)}" if len(recorded) > 1 else ""
            raise PopdynError(f"--data '{data}' does not exist: expected a store{names}")
        return {data: Path(data)}
    wanted = recorded if data is None else {data: recorded[data]}
    out = {}
    for experiment, path in wanted.items():
        if path is None:
            raise PopdynError(f"'{name}' does not say where its data is: expected --data X.zarr")
        # A project folder that was moved as a whole keeps its stores beside its runs.
        places = [Path(path), Path(name).parent / Path(path).name, Path(Path(path).name)]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            looked = ", ".join(f"'{place}'" for place in dict.fromkeys(places))
            raise PopdynError(
                f"the store of '{name}' is not there (looked at {looked}): expected --data"
            )
        out[experiment] = found
    return out


def run_and_store(run: str, data: str | None) -> tuple[Run, xr.DataTree, Path]:
    """Return a run, its store, from ``--data`` or from where the run found it, and its path.

    Raises:
        PopdynError: If the store is not there, or there are several and none was named.
    """
    from popdyn.learners import load_run
    from popdyn.snapshots import open_snapshots

    loaded = load_run(run)
    stores = stores_of(run, loaded, data)
    if len(stores) > 1:
        names = ", ".join(stores)
        raise PopdynError(f"'{run}' has several data sets: expected --data, one of {names}")
    (path,) = stores.values()
    return loaded, open_snapshots(path), path
