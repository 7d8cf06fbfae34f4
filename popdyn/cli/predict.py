"""``popdyn predict``: snapshots of the learned dynamics at any times."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from popdyn.cli.common import (
    NumberList,
    console,
    data_option,
    emit,
    from_option,
    json_option,
    out_option,
    overwrite_option,
    run_and_store,
    seed_option,
)
from popdyn.simulation.predict import predict
from popdyn.snapshots import counts, positions, times, write
from popdyn.snapshots.writer import store_target

__all__ = ["command"]


@click.command(name="predict")
@click.argument("run", type=click.Path())
@click.option("--times", "at", required=True, type=NumberList(float), help="Times to predict.")
@out_option("Store of the predicted snapshots")
@data_option
@from_option("Start from the observed snapshot before each time, or from the first one.")
@seed_option
@overwrite_option
@json_option
def command(
    run: str,
    at: tuple[float, ...],
    out: str,
    data: str | None,
    from_: str,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Simulate the learned energy of RUN from the snapshots that were observed.

    \b
    Example:
      popdyn predict runs/eb5 --times 1,3 --out predicted.zarr
      popdyn predict runs/both --data treated --times 1,3 --out treated.zarr
    """
    from popdyn.scores import Support

    loaded, tree, store = run_and_store(run, data)
    reads: list[str | Path] = [run, store]
    store_target(out, overwrite=overwrite, reads=reads).check()
    hold_out = loaded.held_out(tree)
    predicted = predict(loaded.dynamics, tree, at, hold_out=hold_out, from_=from_, seed=seed)
    write(predicted, out, overwrite=overwrite, reads=reads)
    observed = [k for k in range(len(times(tree))) if k not in hold_out]
    support = Support(tree, observed)
    outside = [support.fraction_outside(positions(predicted, k)) for k in range(len(at))]
    n = np.asarray(counts(predicted)).tolist()
    if as_json:
        emit({"out": out, "times": at, "particles": n, "outside": outside, "from": from_})
        return
    for t, number, fraction in zip(at, n, outside, strict=True):
        console.print(
            f"t = {t:g}: {number} particles, {fraction:.1%} outside the training data's support",
        )
    if "growth" in loaded.dynamics.terms:
        mass = ", ".join(f"{m:.4g}" for m in np.asarray(predicted["train"]["mass"]))
        console.print(f"{out}: the mass is {mass}; each particle has its weight")
    else:
        console.print(f"{out}: growth is left out; nothing is born and nothing dies")
