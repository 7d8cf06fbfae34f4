"""Ways out for a run: the cells with their potential, their force, and the predicted snapshots."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.learners.run import Run
from popdyn.simulation.landscape import landscape
from popdyn.simulation.predict import predict
from popdyn.snapshots import positions, standardization, times
from popdyn.snapshots.export import write_cells
from popdyn.snapshots.exported import ExportedCells, Learned, cells_of

__all__ = ["export_run"]

ACTING = 20_000  # particles of a snapshot whose interaction is felt; more change nothing
OF_WELLS = ("shares", "depths", "depth_errors", "barriers", "pass_errors")


def export_run(
    run: Run,
    data: xr.DataTree,
    out: str | os.PathLike[str],
    *,
    into: str | os.PathLike[str] | None = None,
    group: str = "all",
    units: str = "source",
    from_: str = "previous",
    fates: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    reads: Iterable[str | os.PathLike[str] | None] = (),
) -> Path:
    """Write a run's cells with what was learned about them, for programs that never saw popdyn.

    An ``.h5ad`` holds, beside the positions ``obsm["X_pca"]``:

    - ``obs["popdyn_potential"]``: V at the cell and the time of its snapshot, in the units of
      the store; mean 0 over the training snapshots;
    - ``obs["popdyn_held_out"]``: whether the cell's snapshot was held out;
    - ``obsm["velocity_pca"]``: the force there, −∇V − ∇W∗ρ, in the units of the positions over
      those of time: the name under which scVelo plots a velocity in the basis ``pca`` and
      CellRank's ``VelocityKernel(attr="obsm", xkey="X_pca", vkey="velocity_pca")`` reads it;
    - ``uns["popdyn_predicted"]``: the predicted snapshots, ``X_pca`` and the ``time`` of each cell.

    With ``fates`` also what :func:`popdyn.landscape` finds: ``obsm["popdyn_fates"]``, the
    probability that the cell reaches each well first; ``obs["popdyn_fate"]``, the most probable one
    (−1: none); ``obs["popdyn_arrival"]``, the mean time until then; ``uns["popdyn_landscape"]``,
    bottoms, depths and passes with their errors.

    Positions that were imported from another ``obsm`` array, such as ``X_umap``, keep its name:
    ``velocity_umap``. An ``.npz`` or a folder holds the same arrays under plain names.

    Args:
        run: The run.
        data: Its snapshots.
        out: ``.h5ad``, ``.npz``, or a folder in the JKOnet* layout.
        into: The ``.h5ad`` that the cells were imported from: ``out`` is then that file with
            everything that it held, and what was learned added.
        group: ``"all"``, ``"train"`` or ``"test"``.
        units: ``"source"``, as before any standardisation, or ``"store"``.
        from_: Each snapshot is predicted from the observed one before it (``"previous"``) or from
            the first (``"first"``): the held-out ones where there are any, else all but the first.
        fates: Whether wells, passes and fates are looked for, which V has to have.
        seed: Seeds the noise of predictions and fates.
        overwrite: Replace an earlier export at ``out``, once the new one is whole.
        reads: Run and store, where they lie on disk: they are never replaced, nor is ``into``.

    Returns:
        What was written.

    Raises:
        PopdynError: If ``out`` may not be written or has another suffix, or ``into`` is not what
            was imported.
    """
    if into is not None and (Path(out).suffix != ".h5ad" or group != "all" or units != "source"):
        raise PopdynError("into is given: expected an .h5ad to write, with all cells as imported")

    def cells() -> ExportedCells:
        found = cells_of(data, group=group, units=units)
        own = cells_of(data, group=group, units="store")  # where the energy lives
        learned = _learned(run, data, own, units, from_, seed)
        if fates:
            learned = _with_fates(learned, run, data, own, units, seed)
        return replace(found, learned=learned, into=None if into is None else Path(into))

    return write_cells(cells, out, overwrite, [*reads, into])


def _learned(
    run: Run, data: xr.DataTree, own: ExportedCells, units: str, from_: str, seed: int
) -> Learned:
    held_out = set(run.held_out(data))
    t = times(data)
    potential = np.empty(len(own.x), np.float32)
    velocity, growth = np.empty_like(own.x), np.empty(len(own.x), np.float32)
    grows = "growth" in run.dynamics.terms
    for k, time in enumerate(t):
        here = own.index == k
        if not here.any():
            continue
        x = own.x[here]
        population = np.concatenate([positions(data, k, g) for g in ("train", "test")])
        potential[here] = run.energy.potential(x, float(time))
        velocity[here] = run.dynamics.drift(x, population[:ACTING], float(time))
        growth[here] = run.dynamics.growth(x, float(time))
    mean, scale = standardization(data) if units == "source" else (0.0, 1.0)
    predicted, at = _predicted(run, data, held_out, from_, seed)
    facts = {
        "learner": run.learner,
        "diffusivity": run.energy.diffusivity,
        "units": units,
        "predicted_from": from_,
        "growth": "learned" if grows else "left out: nothing is born and nothing dies",
    }
    return Learned(
        potential,
        (velocity * scale).astype(np.float32),
        np.isin(own.index, sorted(held_out)),
        (predicted * scale + mean).astype(np.float32),
        at,
        facts,
        growth if grows else None,
    )


def _with_fates(
    learned: Learned, run: Run, data: xr.DataTree, own: ExportedCells, units: str, seed: int
) -> Learned:
    """Return what was learned with the wells that each cell ends in."""
    each = [np.flatnonzero(own.index == k) for k in range(len(times(data)))]
    found = landscape(run, data, cells=[own.x[rows] for rows in each], seed=seed)
    order = np.concatenate(each)
    fates, arrival = np.empty_like(found.fates), np.empty_like(found.arrival)
    fates[order], arrival[order] = found.fates, found.arrival
    mean, scale = standardization(data) if units == "source" else (0.0, 1.0)
    about = {"bottoms": found.bottoms * scale + mean}
    about |= {name: np.asarray(getattr(found, name)) for name in OF_WELLS}
    facts = learned.facts | {"landscape": "; ".join(found.notes)}
    return replace(learned, fates=fates, arrival=arrival, landscape=about, facts=facts)


def _predicted(
    run: Run, data: xr.DataTree, held_out: set[int], from_: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    t = times(data)
    first = min(k for k in range(len(t)) if k not in held_out)
    wanted = [k for k in sorted(held_out) or range(len(t)) if k > first]
    clouds = [
        # As if k itself had not been seen either: else its prediction would be a copy of it.
        predict(run.dynamics, data, [t[k]], hold_out=[*held_out, k], from_=from_, seed=seed)
        for k in wanted
    ]
    x = [positions(cloud, 0) for cloud in clouds]
    at = np.repeat(t[wanted], [len(cells) for cells in x])
    return np.concatenate(x).astype(np.float64), at
