"""``popdyn import``: a file of real snapshots becomes a store."""

from __future__ import annotations

from typing import Any

import click

from popdyn.cli.common import console, emit, json_option, out_option, overwrite_option, seed_option
from popdyn.snapshots import counts, dimension, import_data, times
from popdyn.snapshots.standardize import METHODS

__all__ = ["command"]


def _time_map(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    pairs = {}
    for part in value.split(","):
        label, sign, time = part.rpartition("=")
        try:
            pairs[label.strip()] = float(time)
        except ValueError:
            sign = ""
        if not sign:
            raise click.BadParameter(f"'{part}': expected label=time with commas between")
    return pairs


@click.command(name="import")
@click.argument("source", type=click.Path())
@out_option("Store")
@click.option("--data-key", help="Array, or columns with commas, of positions.")
@click.option("--label-key", help="Array or column of time labels.")
@click.option("--obs-key", help="Column of obs with the time labels (.h5ad).")
@click.option("--obsm-key", help="Array of obsm (.h5ad); X_pca or a PCA of X without it.")
@click.option("--components", type=click.IntRange(1), help="Leading components to keep.")
@click.option(
    "--time-map", callback=_time_map, metavar="LABEL=TIME,…", help="True times of labels."
)
@click.option(
    "--standardize",
    type=click.Choice(list(METHODS)),
    default="none",
    show_default=True,
    help="Mean 0, and one scale for all components or one for each.",
)
@click.option(
    "--test-fraction",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of each snapshot for the test group.",
)
@seed_option
@overwrite_option
@json_option
def command(source: str, out: str, as_json: bool, **options: Any) -> None:
    """Make a store of SOURCE: .npz, .npy, a folder of .npy, .csv, .parquet or .h5ad.

    Numeric labels are the true times, unless --time-map gives them.

    \b
    Example:
      popdyn import eb5.npz --out eb5.zarr
      popdyn import cells.h5ad --obs-key day --time-map d0=0,d3=3,d7=7 --out cells.zarr
    """
    data = import_data(source, out=out, **options)
    train, test = counts(data), counts(data, "test")
    if as_json:
        emit(
            {
                "store": out,
                "dimension": dimension(data),
                "times": times(data),
                "labels": data.attrs["labels"],
                "train": train,
                "test": test,
            }
        )
        return
    console.print(
        f"{out}: {len(train)} snapshots in {dimension(data)} components, "
        f"{train.sum()} cells to learn from and {test.sum()} to test on",
        highlight=False,
    )
