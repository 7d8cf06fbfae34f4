"""``popdyn import``: a file of real snapshots becomes a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import xarray as xr
from rich.table import Table

from popdyn.base.options import flags
from popdyn.cli.common import console, emit, json_option, out_option, overwrite_option, seed_option
from popdyn.snapshots import counts, dimension, import_data, import_experiments, times
from popdyn.snapshots.cells import ImportOptions
from popdyn.snapshots.experiments import store_name
from popdyn.snapshots.tree import masses

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
        what = "time" if param.name == "time_map" else param.name
        raise click.BadParameter(f"'{part or value}': expected label={what} with commas between")
    return pairs


@click.command(name="import")
@click.argument("source", type=click.Path())
@out_option("Store, or with --split-by the folder of stores,")
@click.option("--columns", metavar="A,B,…", help="Columns of positions, of a table.")
@click.option(
    "--time-map", callback=_time_map, metavar="LABEL=TIME,…", help="True times of labels."
)
@click.option(
    "--mass", callback=_time_map, metavar="LABEL=M,…", help="Measured mass of each snapshot."
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
      popdyn import cells.csv --split-by replicate --out replicates
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "split_by" in given:
        found = import_experiments(source, out=out, **given)
        stores = {str(Path(out) / store_name(value)): data for value, data in found.items()}
    else:
        stores = {out: import_data(source, out=out, **given)}
    if as_json:
        told = [_document(store, data) for store, data in stores.items()]
        emit({"stores": told} if "split_by" in given else told[0])
        return
    for store, data in stores.items():
        _say(store, data)


def _document(store: str, data: xr.DataTree) -> dict[str, Any]:
    done, mass = data.attrs["import"], masses(data)
    return {
        "store": store,
        "dimension": dimension(data),
        "components": done["components"],
        "times": times(data),
        "labels": data.attrs["labels"],
        "train": counts(data),
        "test": counts(data, "test"),
        **({} if mass is None else {"mass": mass}),
        "dropped": done["dropped"],
        "notes": done["notes"],
    }


def _say(store: str, data: xr.DataTree) -> None:
    train, test, done = counts(data), counts(data, "test"), data.attrs["import"]
    mass, names = masses(data), data.attrs["import"]["components"]
    shown = ", ".join(names[:SHOWN]) + (f", … {names[-1]}" if len(names) > SHOWN else "")
    console.print(
        f"{store}: {len(train)} snapshots in {dimension(data)} components ({shown}), {train.sum()} "
        f"cells to learn from and {test.sum()} to test on, {done['dropped']} left out",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for name in ("time", done["label"], "train", "test"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [*zip(times(data), data.attrs["labels"], train, test, strict=True)]
    if mass is not None:
        table.add_column("mass", justify="right", no_wrap=True)
    for k, row in enumerate(rows):
        measured = [] if mass is None else [f"{mass[k]:g}"]
        table.add_row(f"{row[0]:g}", *map(str, row[1:]), *measured)
    console.print(table)
    for note in done["notes"]:
        console.print(f"note: {note}", soft_wrap=True)


command.params[2:2] = flags(ImportOptions, less=("seed",))
