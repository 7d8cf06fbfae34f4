"""``popdyn score``: how much of the energy came back, beside the reference rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from popdyn.base.screen import Screen
from popdyn.cli.common import (
    console,
    data_option,
    emit,
    from_option,
    json_option,
    seed_option,
    standard_output,
    stores_of,
)
from popdyn.learners import load_run
from popdyn.scores import reference_rows, score
from popdyn.scores.tables import tables_of
from popdyn.snapshots import open_snapshots

__all__ = ["command"]

PIPE_WIDTH = 160


class Points(click.ParamType):
    """A number of points, or ``all``."""

    name = "n|all"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        if value == "all":
            return "all"
        try:
            points = int(value)
        except ValueError:
            points = 0
        if points < 2:
            self.fail(f"'{value}': expected a whole number of at least 2, or all", param, ctx)
        return points


@click.command(name="score")
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", type=click.Path())
@data_option
@click.option("--points", type=Points(), default=2000, show_default=True, help="Particles a side.")
@from_option("Observed snapshot that predictions start from.")
@click.option(
    "--units",
    type=click.Choice(["store", "original"]),
    default="store",
    show_default=True,
    help="Units of the distances, for a standardised store.",
)
@click.option("--standard-errors", is_flag=True, help="Also for distances; some four times slower.")
@seed_option
@json_option
def command(
    runs: tuple[str, ...],
    data: str | None,
    points: int | str,
    from_: str,
    units: str,
    standard_errors: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Score each RUN against the truth, where there is one, and against the snapshots; of several
    experiments that share the dynamics each by itself.

    \b
    Example:
      popdyn score runs/st
      popdyn score runs/a runs/b --points all --json
    """
    options: dict[str, Any] = {
        "points": points,
        "from_": from_,
        "units": units,
        "standard_errors": standard_errors,
        "seed": seed,
    }
    loaded = [(name, load_run(name)) for name in runs]
    stores = [stores_of(name, run, data) for name, run in loaded]
    references: dict[tuple[Path, tuple[int, ...]], dict[str, Any]] = {}
    results: list[dict[str, Any]] = []
    rows: dict[tuple[Path, tuple[int, ...]], list[tuple[str, dict[str, Any]]]] = {}
    for (name, run), places in zip(loaded, stores, strict=True):
        each = []
        for experiment, path in places.items():
            with console.status(f"scoring {name}"):
                tree = open_snapshots(path)
                hold_out = tuple(run.held_out(tree))
                key = (path, hold_out)
                if key not in references:
                    references[key] = reference_rows(tree, hold_out=hold_out, **options)
                found = score(run, tree, references=references[key], **options)
            each.append({"data": experiment, **found})
            which = f"{name}, {experiment}" if len(places) > 1 else name
            rows.setdefault(key, []).append((f"{which} ({run.how})", found))
        if len(each) == 1:
            del each[0]["data"]
            results.append({"run": name, **each[0]})
        else:
            results.append({"run": name, "experiments": each})
    if as_json:
        emit(results[0] if len(results) == 1 else {"runs": results})
        return
    # A pipe has no width of its own: rich would squeeze the table into 80 columns.
    screen = standard_output if standard_output.is_terminal else Screen(width=PIPE_WIDTH)
    for key, more in references.items():
        for table in tables_of([*rows[key], *more.items()], f"the truth of {key[0]}"):
            screen.print(table.rich())
            screen.print()
        for note in sorted({note for _, r in rows[key] for note in r.get("notes", ())}):
            console.print(f"note: {note}")
