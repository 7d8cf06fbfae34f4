"""``popdyn export``: a store as files that other programs read."""

from __future__ import annotations

import click

from popdyn.cli.common import console, emit, json_option, out_option, overwrite_option
from popdyn.snapshots import export
from popdyn.snapshots.export import CHOICES

__all__ = ["command"]


@click.command(name="export")
@click.argument("source", type=click.Path())
@out_option(".npz, .h5ad, or a folder in the JKOnet* layout,")
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
@overwrite_option
@json_option
def command(source: str, out: str, group: str, units: str, overwrite: bool, as_json: bool) -> None:
    """Write the cells of SOURCE to a file: its kind follows from the name.

    \b
    Example:
      popdyn export st.zarr --out st.npz
      popdyn export st.zarr --group train --out jkonet/data/st
    """
    path = export(source, out, group=group, units=units, overwrite=overwrite)
    if as_json:
        emit({"source": source, "out": str(path), "group": group, "units": units})
    else:
        console.print(f"{path} written", highlight=False)
