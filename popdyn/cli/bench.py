"""``popdyn bench``: a whole suite, and its leaderboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from popdyn.base.errors import PopdynError
from popdyn.base.screen import Screen
from popdyn.benchmark import bench, load_suite
from popdyn.benchmark.tables import Table as Leaderboard
from popdyn.benchmark.tables import leaderboards
from popdyn.benchmark.variants import split_names
from popdyn.cli.common import emit, json_option, out_option, overwrite_option, standard_output
from popdyn.cli.score import Points

__all__ = ["command"]

PIPE_WIDTH = 240


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if value else ()


def _rows(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return split_names(value or "")


def _options(
    ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        learner, dot, key = name.partition(".")
        if not (sign and dot and learner and key):
            raise click.BadParameter(f"'{pair}': expected learner.option=value")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        out.setdefault(learner, {})[key.replace("-", "_")] = value
    return out


@click.command(name="bench")
@click.argument("suite")
@out_option("Folder of results")
@click.option(
    "--learners",
    callback=_rows,
    metavar="A,B[K=V]",
    help="Learners, each a row; one with options in brackets is a row of its own.  "
    "[default: the suite's]",
)
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Seeds 0…S−1 of each."
)
@click.option("--entries", callback=_names, metavar="A,B", help="Entries.  [default: all]")
@click.option(
    "--option",
    "options",
    multiple=True,
    callback=_options,
    metavar="LEARNER.K=V",
    help="Option of a learner, over the suite's own; the value is JSON, or a word.",
)
@click.option("--points", type=Points(), help="Particles a side.  [default: the suite's]")
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Local processes."
)
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler instead; it sees --out.")
@overwrite_option
@json_option
def command(suite: str, out: str, as_json: bool, **options: Any) -> None:
    """Simulate, train and score everything in SUITE: a name, or the path of a suite.toml.

    What is done is not done again: the same command goes on where it was stopped, and tries
    cells that failed once more.

    \b
    Example:
      popdyn bench jko15 --learners zero,ijkonet --seeds 3 --workers 2 --out results/jko15
      popdyn bench jko15 --learners 'ijkonet,ijkonet[model=network],weak_form' --out results/models
      popdyn bench my/suite.toml --option ijkonet.steps=500 --out results/mine
    """
    loaded = load_suite(suite)
    results = bench(loaded, out, progress=True, say=_say, **options)
    failed = [row for row in results["rows"] if row["status"] != "ok"]
    if as_json:
        emit(results)
    else:
        # A pipe has no width of its own: rich would squeeze the table into 80 columns.
        wide = standard_output.is_terminal
        screen = standard_output if wide else Screen(width=PIPE_WIDTH)
        for found in leaderboards(results, loaded):
            screen.print(_table(found, screen.width))
        screen.print(str(Path(out) / "report.html"), soft_wrap=True)
    if failed:
        first = failed[0]
        raise PopdynError(
            f"{len(failed)} of {len(results['rows'])} cells failed; the first, {first['entry']} "
            f"by {first['learner']} with seed {first['seed']}: {first['reason']}"
        )


def _say(line: str) -> None:
    click.echo(f"popdyn: note: {line}", err=True)


def _table(found: Leaderboard, width: int) -> Table:
    rows = [[label for label, _ in found.head], *([c.text for c in row] for _, row in found.rows)]
    widths = [2 + max(map(len, column)) for column in zip(*rows, strict=True)]
    if wrapped := 2 * widths[0] > width:  # names of variants are long
        widths[0] = 2 + max(len(word) for row in rows for word in row[0].split(" "))
    # The name, the headline, the cells and the time come first; of the rest as much as fits.
    last = len(widths) - 1
    kept, left = set[int](), width
    for i in (0, 1, last, last - 2, *range(2, last)):
        if i not in kept and widths[i] <= left:
            kept.add(i)
            left -= widths[i]
    table = Table(title=found.caption, title_justify="left", box=None, pad_edge=False)
    for i in sorted(kept):
        table.add_column(
            found.head[i][0], justify="right" if i else "left", no_wrap=bool(i) or not wrapped
        )
    for kind, cells in found.rows:
        style = "dim" if kind == "reference" else None
        table.add_row(*(cells[i].text for i in sorted(kept)), style=style)
    return table
