"""``popdyn plot``: figures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from popdyn.base.errors import PopdynError
from popdyn.cli.common import (
    console,
    data_option,
    emit,
    json_option,
    out_option,
    overwrite_option,
    seed_option,
    stores_of,
)
from popdyn.learners import load_run
from popdyn.plots import FIGURES, animate, save_figure
from popdyn.plots.style import FORMATS, figure_target
from popdyn.snapshots import open_snapshots

__all__ = ["command"]

ANIMATION = "animation"


class PlaneType(click.ParamType):
    """``pca``, or two components such as ``1,2``."""

    name = "i,j|pca"

    def convert(self, value: Any, param: Any, ctx: Any) -> str | tuple[int, ...]:
        if value == "pca" or isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"'{value}': expected pca, or components such as 1,2", param, ctx)


@click.command(name="plot")
@click.argument("run", type=click.Path())
@out_option("Folder of figures")
@data_option
@click.option(
    "--format", "ending", type=click.Choice(FORMATS), default="png", show_default=True, help="File."
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([*FIGURES, ANIMATION]),
    help="This figure alone; may be given again.  [default: all but the animation]",
)
@click.option(
    "--plane", type=PlaneType(), help="Components to show, counted from 1.  [default: pca if d > 2]"
)
@click.option("--animation", "moving", is_flag=True, help="Write an animated GIF, too.")
@seed_option
@overwrite_option
@json_option
def command(
    run: str,
    out: str,
    data: str | None,
    ending: str,
    only: tuple[str, ...],
    plane: str | tuple[int, ...] | None,
    moving: bool,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw the figures of RUN into a folder; of several experiments each into one of its own.

    \b
    Example:
      popdyn plot runs/st --out figures
      popdyn plot runs/eb5 --out figures --plane 1,2 --only prediction --only landscape
    """
    loaded = load_run(run)
    stores = stores_of(run, loaded, data)
    if Path(out).exists() and not Path(out).is_dir():
        raise PopdynError(f"--out '{out}' is a file: expected a folder")
    reads: list[str | Path] = [run, *stores.values()]
    jobs = []
    for experiment, store in stores.items():
        tree = open_snapshots(store)
        folder = Path(out) / experiment.replace("/", "-") if len(stores) > 1 else Path(out)
        wanted = [n for n in FIGURES if (n in only if only else FIGURES[n].applies(loaded, tree))]
        files = {name: folder / f"{name}.{ending}" for name in wanted}
        if moving or ANIMATION in only:
            files[ANIMATION] = folder / f"{ANIMATION}.gif"
        for name, file in files.items():
            jobs.append((name, tree, figure_target(file, overwrite=overwrite, reads=reads)))
    for _, _, target in jobs:
        target.check()
    for name, tree, target in jobs:
        with target:
            if name == ANIMATION:
                animate(loaded.energy, tree, target.place, plane=plane, seed=seed)
            else:
                save_figure(FIGURES[name].draw(loaded, tree, plane, seed), target.place)
        _say(target.path, as_json)
    if as_json:
        emit({"run": run, "figures": [str(target.path) for _, _, target in jobs]})


def _say(file: Path, as_json: bool) -> None:
    if not as_json:
        console.print(str(file))
