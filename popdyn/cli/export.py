"""``popdyn export``: a store or a run as files that other programs read."""

from __future__ import annotations

from pathlib import Path

import click

from popdyn.base.errors import PopdynError
from popdyn.base.files import manifest_kind
from popdyn.cli.common import (
    console,
    data_option,
    emit,
    from_option,
    json_option,
    overwrite_option,
    run_and_store,
    seed_option,
)
from popdyn.snapshots import export
from popdyn.snapshots.exported import CHOICES

__all__ = ["command"]

OF_RUNS = ("data", "into", "from_", "fates", "seed")


@click.command(name="export")
@click.argument("source", type=click.Path())
@click.option(
    "--out", type=click.Path(), help=".npz, .h5ad, or a folder in the JKOnet* layout, to write."
)
@click.option("--to-h5ad", type=click.Path(), help="The same as --out, for an AnnData file.")
@click.option(
    "--group",
    type=click.Choice(list(CHOICES)),
    default="all",
    show_default=True,
    help="Which particles.",
)
@click.option(
    "--units",
    type=click.Choice(["source", "store"]),
    default="source",
    show_default=True,
    help="As before standardisation, or as the store has them.",
)
@data_option
@click.option(
    "--into",
    type=click.Path(),
    help="Of a run: the .h5ad that was imported; all that it holds is kept.",
)
@from_option("Of a run: what its predicted snapshots start from.")
@click.option("--fates", is_flag=True, help="Of a run: the wells that each cell ends in, too.")
@seed_option
@overwrite_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    out: str | None,
    to_h5ad: str | None,
    group: str,
    units: str,
    data: str | None,
    into: str | None,
    from_: str,
    fates: bool,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the cells of SOURCE, a store or a run, to a file: its kind follows from the name.

    Of a run the file also holds the potential and the force at every cell, and the predicted
    snapshots. In an .h5ad they are obs "popdyn_potential", obsm "velocity_pca" (as scVelo and
    CellRank name a velocity in the basis pca), and uns "popdyn_predicted". With --fates also obs
    "popdyn_fate" and "popdyn_arrival", obsm "popdyn_fates" and uns "popdyn_landscape".

    \b
    Example:
      popdyn export st.zarr --out st.npz
      popdyn export st.zarr --group train --out jkonet/data/st
      popdyn export runs/eb5 --to-h5ad eb5-learned.h5ad --fates
      popdyn export runs/eb5 --to-h5ad learned.h5ad --into cells.h5ad
    """
    target = _target(out, to_h5ad)
    if manifest_kind(source) == "run":
        from popdyn.learners.export import export_run

        run, tree, store = run_and_store(source, data)
        path = export_run(
            run,
            tree,
            target,
            into=into,
            group=group,
            units=units,
            from_=from_,
            fates=fates,
            seed=seed,
            overwrite=overwrite,
            reads=[source, store],
        )
    else:
        given = click.core.ParameterSource.COMMANDLINE
        for name in OF_RUNS:
            if ctx.get_parameter_source(name) is given:
                option = name.strip("_")
                raise PopdynError(f"--{option} belongs to a run: '{source}' is none")
        path = export(source, target, group=group, units=units, overwrite=overwrite)
    if as_json:
        emit({"source": source, "out": str(path), "group": group, "units": units})
    else:
        console.print(f"{path} written")


def _target(out: str | None, to_h5ad: str | None) -> str:
    if (out is None) == (to_h5ad is None):
        raise click.UsageError("expected one of --out and --to-h5ad")
    if to_h5ad is not None and Path(to_h5ad).suffix != ".h5ad":
        raise click.UsageError(f"--to-h5ad is '{to_h5ad}': expected a name that ends in .h5ad")
    return str(out or to_h5ad)
