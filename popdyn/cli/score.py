"""``popdyn score``: how much of the energy came back, beside the reference rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

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
from popdyn.scores import SCORES, reference_rows, score
from popdyn.snapshots import open_snapshots

__all__ = ["command"]

Row = tuple[str, dict[str, Any]]

SYMBOLS = {"potential": "∇V", "interaction": "∇W", "force": "force"}
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
            found = score(
                run.dynamics, tree, hold_out=hold_out, references=references[key], **options
            )
        found = {"run": name, "learner": run.learner, "verdict": run.word} | found
        results.append(found)
    if as_json:
        emit(results[0] if len(results) == 1 else {"runs": results})
        return
    # A pipe has no width of its own: rich would squeeze the table into 80 columns.
    screen = standard_output if standard_output.is_terminal else Screen(width=PIPE_WIDTH)
    for key, rows in references.items():
        mine = [
            (f"{r['run']} ({r['learner']})", r)
            for r, (_, run), path in zip(results, loaded, stores, strict=True)
            if (path, tuple(run.config.get("hold_out") or ())) == key
        ]
        for table in _tables([*mine, *rows.items()], str(key[0])):
            screen.print(table)
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


def _tables(rows: Sequence[Row], store: str) -> list[Table]:
    out = []
    if any("gradient" in row for _, row in rows):
        out.append(_energy_table(rows, f"energy, against the truth of {store}"))
    common = _common_times(rows)
    times = rows[0][1]["distribution"]["times"]
    shown = ", ".join(f"{times[i]:g}" for i in common)
    out.append(_distribution_table(rows, common, f"distribution, mean over the times {shown}"))
    if len(times) > 1:
        out.append(_time_table(rows, "w2", times))
    return out


def _energy_table(rows: Sequence[Row], title: str) -> Table:
    columns: list[tuple[str, str]] = []
    for part in SYMBOLS:
        found = {name for _, row in rows for name in row.get("gradient", {}).get(part, {})}
        columns += [(part, name) for name in SCORES if name in found]
    table = _table(title, [f"{SYMBOLS[p]} {n}".replace("_", " ") for p, n in columns])
    table.add_column("β (true)", justify="right")
    for label, row in rows:
        if "gradient" not in row:
            continue
        values = [_text(row["gradient"].get(part, {}).get(name)) for part, name in columns]
        beta = row["diffusivity"]
        error = beta["standard_error"]
        spread = "" if error is None else f" ± {error:.2g}"
        values.append(f"{beta['estimate']:.4g}{spread} ({beta['true']:.4g})")
        table.add_row(_escape(label), *values)
    return table


def _distribution_table(rows: Sequence[Row], common: list[int], title: str) -> Table:
    names = [s.name for s in SCORES.values() if s.kind == "distribution"]
    table = _table(title, [*(n.replace("_", " ") for n in names), "outside", "points"])
    for label, row in rows:
        found = row["distribution"]
        means = [_text(_mean(found[name], common)) for name in names]
        outside = _text(_mean(found.get("outside"), common))
        table.add_row(_escape(label), *means, outside, _points(found))
    return table


def _time_table(rows: Sequence[Row], name: str, times: Sequence[float]) -> Table:
    table = _table(f"{name} at each time", [f"{t:g}" for t in times])
    for label, row in rows:
        table.add_row(_escape(label), *(_text(value) for value in row["distribution"][name]))
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=_escape(title), title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _common_times(rows: Sequence[Row]) -> list[int]:
    """Return the indices of the times that every row with values has: only they compare."""
    lists = [row["distribution"]["points"] for _, row in rows]
    full = [values for values in lists if any(v is not None for v in values)]
    return [i for i in range(len(lists[0])) if all(values[i] is not None for values in full)]


def _mean(values: Sequence[float | None] | None, common: Sequence[int]) -> float | None:
    chosen = [] if values is None else [values[i] for i in common]
    numbers = [v for v in chosen if v is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(chosen) else None


def _points(found: dict[str, Any]) -> str:
    pairs = zip(found["points_predicted"], found["points"], strict=True)
    sides = sorted({f"{a}×{b}" for a, b in pairs if a is not None})
    return ", ".join(sides) or "–"


def _text(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) >= 1e4:
        return f"{value:.1e}"
    # More decimals for what is small, such as an MMD.
    decimals = 3 if abs(value) >= 0.1 or value == 0 else 6 if abs(value) < 0.001 else 4
    return f"{value:.{decimals}f}"


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
