"""Prediction: the simulator run on learned dynamics, from the snapshots that were observed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.host import usual_torch
from popdyn.base.plain import indices, plain_numbers
from popdyn.dynamics import Dynamics, HoldsDynamics, dynamics_of
from popdyn.simulation.advance import advance
from popdyn.simulation.blocks import LARGEST
from popdyn.simulation.config import MAX_STEPS
from popdyn.snapshots import counts, make_tree, positions, times
from popdyn.snapshots.tree import masses, not_held_out, weights

__all__ = ["predict"]


@plain_numbers(whole=("seed",))
@usual_torch()
def predict(
    dynamics: Dynamics | HoldsDynamics,
    data: xr.DataTree,
    at: Sequence[float],
    *,
    hold_out: Sequence[int] | int = (),
    from_: str = "previous",
    seed: int = 0,
) -> xr.DataTree:
    """Return snapshots of dynamics at any times after the first observed one.

    Every predicted population starts from all particles (train and test group) of an observed
    snapshot and is integrated by Heun's scheme (Euler's where β depends on the state) with 20
    steps for each mean interval of the data.
    Where particles grow or have weights, the predicted ones have weights, too, and the prediction
    has the mass: the observed mass of the start, or 1, times what has grown since.

    Args:
        dynamics: A run of :func:`popdyn.fit`, a learned energy, or any other dynamics.
        data: The observed snapshots.
        at: Times of the prediction, increasing; dimensionless as the data's.
        hold_out: Snapshot that may not serve as a start, or several.
        from_: ``previous`` starts each prediction from the nearest earlier observed snapshot,
            ``first`` all of them from the first one.
        seed: Seeds the noise where β > 0.

    Returns:
        A data set whose train group holds the predicted snapshots and whose test group is empty.

    Raises:
        PopdynError: On times that do not increase or lie before the first observed snapshot, or
            an unknown ``from_``.

    Example:
        >>> import popdyn
        >>> energy = popdyn.FreeEnergy("quadratic")
        >>> data = popdyn.simulate(energy, particles=100, times=[0, 1], seed=0)
        >>> later = popdyn.predict(energy, data, [0.5, 2.0])
        >>> later["train"]["time"].values, later["train"]["count"].values
        (array([0.5, 2. ]), array([200, 200]))
    """
    dynamics = dynamics_of(dynamics, "predict")
    known = times(data)
    observed = not_held_out(data, indices(hold_out, "hold_out"))
    wanted = [float(t) for t in at]
    if not wanted or any(b <= a for a, b in itertools.pairwise(wanted)):
        raise PopdynError(f"times are {wanted}: expected one or more, strictly increasing")
    if wanted[0] < known[observed[0]]:
        raise PopdynError(
            f"time {wanted[0]:g} lies before the first observed snapshot at "
            f"{known[observed[0]]:g}: dynamics run forward only"
        )
    if from_ not in ("previous", "first"):
        raise PopdynError(f"from is '{from_}': expected previous or first")
    step = float(np.diff(known).mean()) / 20
    if not (wanted[-1] - known[-1]) / step <= MAX_STEPS:
        raise PopdynError(
            f"time {wanted[-1]:g} lies {(wanted[-1] - known[-1]) / step:.3g} steps of {step:g} "
            f"beyond the data: expected {MAX_STEPS:.0e} or fewer"
        )
    populations, starts, weighing, total = [], [], [], []
    weighted = "growth" in dynamics.terms or weights(data, 0, stop=0) is not None
    measured = masses(data)
    for t in wanted:
        k = observed[0] if from_ == "first" else max(j for j in observed if known[j] <= t)
        groups = [g for g in ("train", "test") if counts(data, g)[k]]
        x = np.concatenate([positions(data, k, g) for g in groups])
        parts = [weights(data, k, g) for g in groups]
        w = np.concatenate([p for p in parts if p is not None] or [np.ones(len(x))])
        # Nobody weighs log 0, and stays so.
        heavy = torch.from_numpy(np.log(np.maximum(w.astype(np.float64), 1e-300)))
        begun = measured[k] if measured is not None else w.mean() if weighted else 1.0
        moving = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        if t > known[k]:
            generator = torch.Generator().manual_seed(seed)
            moving = advance(
                dynamics,
                moving,
                float(known[k]),
                t,
                step=step,
                generator=generator,
                log_weight=heavy if weighted else None,
            )
        if not (torch.isfinite(moving).all() and bool((heavy < LARGEST).all())):
            raise PopdynError(
                f"the prediction left finite numbers between time {known[k]:g} and {t:g}: "
                "the energy is too stiff for a step of "
                f"{step:g}"
            )
        populations.append(moving.numpy())
        grown = heavy.exp().numpy()
        weighing.append(grown)
        total.append(float(begun * grown.mean() / w.mean(dtype=np.float64)))
        starts.append(k)
    nobody = [np.empty((0, x.shape[1]), np.float32) for x in populations]
    attributes = {
        "title": f"prediction of {dynamics!r}",
        "observation": "unpaired",
        "dynamics": dynamics.spec(),
        "initial": {"predicted_from_snapshots": starts, "from": from_},
        "scheme": "heun" if dynamics.beta is not None else "euler_maruyama",
        "step": step,
        "seed": seed,
    }
    tested = [each[:, 0] for each in nobody]
    mass = [m / total[0] for m in total] if measured is None else total
    return make_tree(
        populations,
        nobody,
        wanted,
        attributes,
        weights={"train": weighing, "test": tested} if weighted else None,
        masses={"train": mass, "test": mass} if weighted or measured is not None else None,
    )
