"""``popdyn score``: how much of the energy came back, beside the reference rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from popdyn.base.errors import PopdynError
from popdyn.base.screen import Screen
from popdyn.cli.common import (
    console,
    data_option,
    emit,
    from_option,
    json_option,
    seed_option,
    standard_output,
)
from popdyn.learners import Run, load_run
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
    """Score each RUN against the truth, where there is one, and against the snapshots.

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
    stores = [_find_store(name, run, data) for name, run in loaded]
    references: dict[tuple[Path, tuple[int, ...]], dict[str, Any]] = {}
    results = []
    for (name, run), path in zip(loaded, stores, strict=True):
        hold_out = tuple(run.config.get("hold_out") or ())
        key = (path, hold_out)
        with console.status(f"scoring {name}"):
            tree = open_snapshots(path)
            if key not in references:
                references[key] = reference_rows(tree, hold_out=hold_out, **options)
            found = score(run, tree, references=references[key], **options)
        results.append({"run": name, **found})
    if as_json:
        emit(results[0] if len(results) == 1 else {"runs": results})
        return
    # A pipe has no width of its own: rich would squeeze the table into 80 columns.
    screen = standard_output if standard_output.is_terminal else Screen(width=PIPE_WIDTH)
    for key, rows in references.items():
        mine = [
            (f"{r['run']} ({run.how})", r)
            for r, (_, run), path in zip(results, loaded, stores, strict=True)
            if (path, tuple(run.config.get("hold_out") or ())) == key
        ]
        for table in tables_of([*mine, *rows.items()], f"the truth of {key[0]}"):
            screen.print(table.rich())
            screen.print()
        for note in sorted({note for _, r in mine for note in r.get("notes", ())}):
            console.print(f"note: {note}")


def _find_store(name: str, run: Run, data: str | None) -> Path:
    if data is not None:
        if not Path(data).exists():
            raise PopdynError(f"--data '{data}' does not exist: expected a store")
        return Path(data)
    recorded = run.config.get("data")
    if recorded is None:
        raise PopdynError(f"'{name}' does not say where its data is: expected --data X.zarr")
    # A project folder that was moved as a whole keeps its stores beside its runs.
    places = [Path(recorded), Path(name).parent / Path(recorded).name, Path(Path(recorded).name)]
    for place in places:
        if place.exists():
            return place
    looked = ", ".join(f"'{place}'" for place in dict.fromkeys(places))
    raise PopdynError(f"the store of '{name}' is not there (looked at {looked}): expected --data")
