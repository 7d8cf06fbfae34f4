"""``popdyn import``: a file of real snapshots becomes a store."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from popdyn.base.options import flags
from popdyn.cli.common import console, emit, json_option, out_option, overwrite_option, seed_option
from popdyn.snapshots import counts, dimension, import_data, times
from popdyn.snapshots.cells import ImportOptions

__all__ = ["command"]

SHOWN = 12
"""Components that are printed by name."""


def _time_map(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    pairs, part = {}, ""
    for piece in value.split(","):
        # A label may hold commas itself: what ends in no time goes on.
        part = f"{part},{piece}" if part else piece
        label, _, time = part.rpartition("=")
        try:
            pairs[label.strip()] = float(time)
        except ValueError:
            continue
        part = ""
    if part or "" in pairs:
        raise click.BadParameter(f"'{part or value}': expected label=time with commas between")
    return pairs


@click.command(name="import")
@click.argument("source", type=click.Path())
@out_option("Store")
@click.option("--columns", metavar="A,B,…", help="Columns of positions, of a table.")
@click.option(
    "--time-map", callback=_time_map, metavar="LABEL=TIME,…", help="True times of labels."
)
@seed_option
@overwrite_option
@json_option
def command(source: str, out: str, as_json: bool, **options: Any) -> None:
    """Make a store of SOURCE: .npz, .npy, a folder of .npy, .csv, .tsv, .parquet (also .gz),
    .h5ad, or an AnnData as Zarr.

    Numeric labels are the true times, unless --time-map gives them; "day 3", "E7.5" and "24h" stand
    for their number, and dates for days since the first. What was decided without being asked for,
    and what looks odd in the cells, is said.

    \b
    Example:
      popdyn import eb5.npz --out eb5.zarr
      popdyn import cells.csv --columns x,y --time-key day --out cells.zarr
      popdyn import cells.h5ad --obs-key day --time-map ctrl=0,late=7 --out cells.zarr
    """
    given = {name: value for name, value in options.items() if value is not None}
    data = import_data(source, out=out, **given)
    train, test, done = counts(data), counts(data, "test"), data.attrs["import"]
    if as_json:
        emit(
            {
                "store": out,
                "dimension": dimension(data),
                "components": done["components"],
                "times": times(data),
                "labels": data.attrs["labels"],
                "train": train,
                "test": test,
                "dropped": done["dropped"],
                "notes": done["notes"],
            }
        )
        return
    names = done["components"]
    shown = ", ".join(names[:SHOWN]) + (f", … {names[-1]}" if len(names) > SHOWN else "")
    console.print(
        f"{out}: {len(train)} snapshots in {dimension(data)} components ({shown}), {train.sum()} "
        f"cells to learn from and {test.sum()} to test on, {done['dropped']} left out",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for name in ("time", done["label"], "train", "test"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in zip(times(data), data.attrs["labels"], train, test, strict=True):
        table.add_row(f"{row[0]:g}", *map(str, row[1:]))
    console.print(table)
    for note in done["notes"]:
        console.print(f"note: {note}", soft_wrap=True)


command.params[2:2] = flags(ImportOptions, less=("seed",))
