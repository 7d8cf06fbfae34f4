"""How a population moves between snapshots that are far apart: chosen by leaving some out.

Where no energy that stands still meets the snapshots, what lies between them is not determined by
them: any smooth curve of populations has a V(x, t). What is assumed of it decides what is predicted
there, and an observed snapshot that is left out says which assumption predicts best.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.learners.ijkonet import fit_ijkonet
from popdyn.learners.ijkonet_options import IJKOnetOptions
from popdyn.learners.training import Workplace
from popdyn.learners.training_set import TrainingSet
from popdyn.learners.weak_form.options import WeakFormOptions
from popdyn.learners.weak_form.solve import solve_weak_form
from popdyn.scores.transport import displacement_interpolation, w1
from popdyn.simulation import advance

__all__ = ["MEMBERS", "choose_between", "folds_of"]

FOLDS = 4  # snapshots that are left out in turn, at most
COMPARED = 1000  # particles a side
MEMBERS = 3  # of an ensemble of networks, where nobody says how many
SUBSTEPS = 20  # from a snapshot to the one that was left out
SOLVED_WITH = 1000  # particles of each snapshot that features are solved for with
NETWORK = {"model": "network", "steps": 400, "batch": 400, "every": 25}
"""Short training: twice as long says the same on what is left out."""
# In units of the mean square spread of the cells over the mean interval.
NOISES = (0.0, 0.05, 0.1)


def choose_between(
    data: TrainingSet, options: IJKOnetOptions, parts: Sequence[str], place: Workplace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose among static and moving V, several β and the nearest features.

    Args:
        data: The training set, in units of its own, with ``folds_of`` it.
        options: iJKOnet's; a β that is known is kept.
        parts: What features come nearest with.
        place: Says whether progress is shown.

    Returns:
        The options that are chosen, and the certificate of the choice, with W₁ in these units.
    """
    folds = folds_of(data)
    noises = NOISES if options.diffusivity is None else (options.diffusivity,)
    networks: list[dict[str, Any]] = [
        NETWORK | {"learn": ("potential",), "time_varying": moves, "diffusivity": noise}
        for moves in (True, False)
        for noise in noises
    ]
    candidates = [*networks, {"model": "features", "learn": tuple(parts)}]
    found = [[_left_out(data, k, options, c) for k in folds] for c in candidates]
    best = int(np.argmin([np.mean(values) for values in found]))
    references = np.array([_references(data, k) for k in folds])
    certificate = {
        "left_out": [data.indices[k] for k in folds],
        "chosen": candidates[best],
        "w1": found[best],
        "mccann": references[:, 0].tolist(),
        "copy_previous": references[:, 1].tolist(),
        "candidates": [c | {"w1": v} for c, v in zip(candidates, found, strict=True)],
    }
    return candidates[best], certificate


def folds_of(data: TrainingSet) -> list[int]:
    """Return which snapshots are left out in turn: with another on either side, some if many."""
    own = data.intervals
    inside = sorted(set(own.before.tolist()) & set(own.after.tolist()))
    if not inside:
        return []
    chosen = np.linspace(0, len(inside) - 1, min(FOLDS, len(inside))).round().astype(int)
    return [inside[i] for i in chosen]


def _left_out(data: TrainingSet, k: int, options: IJKOnetOptions, given: dict[str, Any]) -> float:
    """Return W₁ between snapshot k and what a fit without it predicts of it; ∞ where it fails."""
    less = data.without(k)
    try:
        if given["model"] == "features":
            asked = WeakFormOptions(given["learn"], options.diffusivity)
            energy = solve_weak_form(less.leading(SOLVED_WITH), asked).energy
        else:
            energy = fit_ijkonet(less, dataclasses.replace(options, **given), Workplace()).energy
    except (PopdynError, np.linalg.LinAlgError):
        return float("inf")
    x = _carried(energy, data, k)
    return w1(x, _some(data, k)) if np.isfinite(x).all() else float("inf")


@torch.no_grad()
def _carried(energy: FreeEnergy, data: TrainingSet, k: int) -> np.ndarray:
    x = data.fit[k - 1][:COMPARED].cpu()
    start, stop = (float(data.times[j]) for j in (k - 1, k))
    generator = torch.Generator().manual_seed(data.seed)
    moved = advance(energy, x, start, stop, substeps=SUBSTEPS, generator=generator)
    return moved.double().numpy()  # type: ignore[no-any-return]


def _references(data: TrainingSet, k: int) -> tuple[float, float]:
    """Return W₁ to snapshot k of McCann's interpolant of its neighbours, and of the one before."""
    before, after = _some(data, k - 1), _some(data, k + 1)
    count = min(len(before), len(after))
    share = (data.times[k] - data.times[k - 1]) / (data.times[k + 1] - data.times[k - 1])
    between, weights = displacement_interpolation(before[:count], after[:count], float(share))
    return w1(between, _some(data, k), weights), w1(before, _some(data, k))


def _some(data: TrainingSet, k: int) -> np.ndarray:
    cells: Tensor = data.fit[k][:COMPARED]
    return cells.double().cpu().numpy()  # type: ignore[no-any-return]
