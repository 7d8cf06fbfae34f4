"""``popdyn plot``: figures of a run."""

from __future__ import annotations

from pathlib import Path

import click

from popdyn.cli.common import console, emit, json_option, out_option
from popdyn.energies import FreeEnergy
from popdyn.errors import PopdynError
from popdyn.learners import load_run
from popdyn.snapshots import open_snapshots

__all__ = ["command"]


@click.command(name="plot")
@click.argument("run", type=click.Path())
@out_option("Folder of figures")
@click.option("--data", type=click.Path(), help="Store, if it is not where the run found it.")
@click.option("--format", "ending", type=click.Choice(["png", "svg", "pdf"]), default="png", show_default=True)
@click.option("--only", type=click.Choice(["potential"]), help="This figure alone.")
@json_option
def command(run: str, out: str, data: str | None, ending: str, only: str | None, as_json: bool) -> None:
    """Draw the figures of RUN into a folder.

    \b
    Example:
      popdyn plot runs/st --out figures
    """
    from popdyn.plots import potential_figure, save_figure

    loaded = load_run(run)
    path = data or loaded.config.get("data")
    if path is None or not Path(path).exists():
        raise PopdynError(f"the store of '{run}' is not at '{path}': expected --data X.zarr")
    tree = open_snapshots(path)
    spec = tree.attrs.get("energy")
    truth = None if spec is None else FreeEnergy.from_spec(spec)
    Path(out).mkdir(parents=True, exist_ok=True)
    file = Path(out) / f"potential.{ending}"
    save_figure(potential_figure(loaded.energy, tree, truth), file)
    if as_json:
        emit({"run": run, "figures": [str(file)]})
    else:
        console.print(str(file), highlight=False)
