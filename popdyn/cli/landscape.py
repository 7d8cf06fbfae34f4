"""``popdyn landscape``: wells of a learned potential, passes between them, and the cells' fates."""

from __future__ import annotations

import click

from popdyn.cli.common import (
    NumberList,
    data_option,
    emit,
    json_option,
    run_and_store,
    seed_option,
    standard_output,
)
from popdyn.simulation.landscape import landscape

__all__ = ["command"]


@click.command(name="landscape")
@click.argument("run", type=click.Path())
@data_option
@click.option("--snapshots", type=NumberList(int), help="Whose cells are asked.  [default: all]")
@click.option(
    "--cells",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Cells of each snapshot that are asked where they end.",
)
@click.option(
    "--replicates",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Simulated runs of each cell.",
)
@click.option(
    "--horizon",
    type=click.FloatRange(0, min_open=True),
    help="Time that a cell is given.  [default: 200 mean intervals]",
)
@seed_option
@json_option
def command(
    run: str,
    data: str | None,
    snapshots: tuple[int, ...] | None,
    cells: int,
    replicates: int,
    horizon: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Say where the potential of RUN has its wells, and in which of them the cells end.

    Depths and passes have the standard errors that the fit knows; fates are shares of simulated
    runs of what was learned, noise included. Positions and V are in the units of the store.

    \b
    Example:
      popdyn landscape runs/st
      popdyn landscape runs/eb5 --snapshots 0 --cells 1000 --json
    """
    loaded, tree, _ = run_and_store(run, data)
    found = landscape(
        loaded,
        tree,
        snapshots=snapshots,
        cells=cells,
        replicates=replicates,
        horizon=horizon,
        seed=seed,
    )
    if as_json:
        emit({"run": run} | found.to_dict())
        return
    standard_output.print(str(found), soft_wrap=True)
