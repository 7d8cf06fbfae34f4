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
from popdyn.base.progress import progress_bar
from popdyn.dynamics import FreeEnergy
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.training_set import TrainingSet
from popdyn.estimation.weak_form import solve_weak_form
from popdyn.families.units import Units
from popdyn.learners.ijkonet.fit import fit_ijkonet
from popdyn.learners.ijkonet.options import IJKOnetOptions
from popdyn.learners.training import Workplace
from popdyn.scores.transport import displacement_interpolation, w1
from popdyn.simulation import advance

__all__ = [
    "MEMBERS",
    "NOT_PREDICTED",
    "REFERENCES",
    "choose_between",
    "clearly_best",
    "folds_of",
    "in_units_of",
    "is_worse",
    "words_of_choice",
]

FOLDS = 2  # snapshots that are left out in turn, at most
CLEARLY = 0.98  # of a W₁, that another choice has to be below: two seeds differ by as much
COMPARED = 1000  # particles a side
MEMBERS = 3  # of an ensemble of networks, where nobody says how many
SUBSTEPS = 20  # from a snapshot to the one that was left out
UNLIKE = 2.0  # ratio of spreads from which on it matters how inputs are standardised
SOLVED_WITH = 5000  # particles of each snapshot that features are solved for with
NOT_PREDICTED = (
    "what lies between snapshots is not predicted: one that is left out is met no better than by "
    "McCann's interpolant of its neighbours, or by the one before"
)
REFERENCES = ("mccann", "copy_previous")
STEPS, BATCH, EVALUATIONS = 400, 400, 16  # of a network, where nobody says how many
# In units of the mean square spread of the cells over the mean interval.
NOISES = (0.0, 0.05, 0.1)


def choose_between(
    data: TrainingSet, options: IJKOnetOptions, parts: Sequence[str], progress: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose among static and moving V, several β and the nearest features.

    Args:
        data: The training set, in units of its own, with ``folds_of`` it.
        options: iJKOnet's; a β that is known is kept.
        parts: What features come nearest with; empty where they are far off.
        progress: Whether to show a bar on a terminal.

    Returns:
        The options that are chosen, and the certificate of the choice, with W₁ in these units.
    """
    folds = folds_of(data)
    candidates: list[dict[str, Any]] = []
    found: list[list[float]] = []

    steps = options.steps or STEPS
    known = options.diffusivity
    network = {
        "model": "network",
        "learn": ("potential",),
        "steps": steps,
        "batch": options.batch or BATCH,
        "every": min(options.every, max(1, steps // EVALUATIONS)),
        "time_varying": True,
        "diffusivity": NOISES[1] if known is None else known,
        "inputs": options.inputs,
        "hidden": options.hidden,
    }
    spread = torch.cat(data.fit).std(0)
    unlike = options.inputs != "common" and bool(spread.max() > UNLIKE * spread.min())
    # One thing after the other: all together would take three times as long.
    others: list[dict[str, Any]] = [{"inputs": "common"}] if unlike else []
    if len(data.intervals) > 2:  # of a single interval that is left, V moves no more than that
        others.append({"time_varying": False})
    if len(folds) > 1:  # a single snapshot prefers one β or one depth by luck
        others.append({"hidden": (*options.hidden, options.hidden[-1])})
        noises = (NOISES[0], NOISES[2]) if known is None else ()
        others += [{"diffusivity": value} for value in noises]
    features = [{"model": "features", "learn": tuple(parts)}] if parts else []
    work = len(folds) * (1 + len(others) + len(features))
    with progress_bar("leave snapshots out", work, visible=progress) as done:
        for change in ({}, *others, *features):
            same = (
                {} if "model" in change else candidates[clearly_best(found)] if found else network
            )
            candidates.append(same | change)
            values = []
            for k in folds:
                values.append(_left_out(data, k, options, candidates[-1]))
                done(1, f"W₁ {values[-1]:.3g}")
            found.append(values)
    chosen = clearly_best(found)
    references = np.array([_references(data, k) for k in folds])
    certificate = {
        "left_out": [data.indices[k] for k in folds],
        "chosen": chosen,
        "mccann": references[:, 0].tolist(),
        "copy_previous": references[:, 1].tolist(),
        "candidates": [c | {"w1": v} for c, v in zip(candidates, found, strict=True)],
    }
    return candidates[chosen], certificate


def clearly_best(found: Sequence[Sequence[float]]) -> int:
    """Return the place of the last W₁ that was clearly lower than the one chosen before it."""
    means, chosen = [float(np.mean(values)) for values in found], 0
    for i, mean in enumerate(means):
        chosen = i if mean < CLEARLY * means[chosen] else chosen
    return chosen


def in_units_of(units: Units, between: dict[str, Any]) -> dict[str, Any]:
    """Return the certificate of a choice in the user's units."""
    out = between | {row: [units.scale * x for x in between[row]] for row in REFERENCES}
    out["candidates"] = [
        c
        | {"w1": [units.scale * x for x in c["w1"]]}
        | {k: units.energy * c[k] for k in ("diffusivity",) if k in c}
        for c in between["candidates"]
    ]
    return out


def is_worse(between: dict[str, Any]) -> bool:
    """Return whether what was chosen predicts no better than a row that knows no dynamics."""
    own = np.mean(between["candidates"][between["chosen"]]["w1"])
    return bool(own >= min(np.mean(between[row]) for row in REFERENCES))


def words_of_choice(between: dict[str, Any]) -> str:
    """Return a line on what was chosen, and how well it predicts what was left out."""
    chosen = between["candidates"][between["chosen"]]
    moves = chosen.get("time_varying")
    what = "features" if chosen["model"] == "features" else f"a network V{'(x, t)' * bool(moves)}"
    noise = f" with β = {chosen['diffusivity']:.3g}" if "diffusivity" in chosen else ""
    left_out = ", ".join(map(str, between["left_out"]))
    rows = [("W₁", chosen["w1"]), *((row, between[row]) for row in REFERENCES)]
    told = ", ".join(f"{name} {np.mean(values):.3g}" for name, values in rows)
    return (
        f"no V that stands still meets the snapshots; of {len(between['candidates'])} ways to go "
        f"on, {what}{noise} predicts best what is left out (snapshot {left_out}): {told}"
    )


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
