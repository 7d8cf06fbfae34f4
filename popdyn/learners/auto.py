"""``learn=auto``: the parts that the snapshots ask for, whatever learner then learns them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from popdyn.learners.ijkonet import find_structure
from popdyn.learners.in_units import determined, in_units, measured, options_in_units
from popdyn.learners.registry import AUTO
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.learners.training_set import TrainingSet
from popdyn.learners.weak_form.ladder import parts_asked_for

__all__ = ["chosen_for_all", "fit_chosen"]


def fit_chosen(
    fit_one: Callable[..., Run], data: TrainingSet, options: Any, place: Workplace
) -> Run:
    """Fit what the snapshots ask for, if the options leave it to them.

    Args:
        fit_one: A learner's ``(training set, options, workplace) → Run``.
        data: The training set, in units of its own.
        options: The learner's options.
        place: Where checkpoints go.
    """
    if getattr(options, "learn", None) != AUTO:
        return fit_one(data, options, place)
    options, ladder = _chosen(data, options, place)
    run = fit_one(data, options, place)
    run.certificate |= ladder
    return run


def chosen_for_all(data: TrainingSet, options: Any) -> tuple[Any, dict[str, Any]]:
    """Return options for all members of an ensemble, and the certificate of the choice.

    Args:
        data: The whole training set, in the user's units.
        options: The learner's options.
    """
    if getattr(options, "learn", None) != AUTO:
        return options, {}
    units, notes = measured(data)
    with determined(notes):
        found, ladder = _chosen(
            in_units(data, units), options_in_units(options, units), Workplace()
        )
    chosen = {"learn": found.learn, "time_varying": found.time_varying}
    return dataclasses.replace(options, **chosen), ladder


def _chosen(data: TrainingSet, options: Any, place: Workplace) -> tuple[Any, dict[str, Any]]:
    if options.time_varying:  # it makes any marginals: none is left to ask for more
        return dataclasses.replace(options, learn=("potential",)), {"learn": ["potential"]}
    without_noise = getattr(options, "inner", "") == "proximal"  # it has no entropy term
    known = 0.0 if without_noise else options.diffusivity
    restructure = None
    if getattr(options, "model", None) == "auto" and options.linear:
        restructure = partial(find_structure, data, options, place)
    asked = parts_asked_for(data, known, restructure)
    found: dict[str, Any] = {"learn": list(asked.parts), "ladder": asked.rungs}
    if asked.noise is not None:
        found["undetermined"] = {"potential, diffusion": asked.noise}
    if asked.moves:
        found["time_varying"] = True
    return dataclasses.replace(options, learn=asked.parts, time_varying=asked.moves), found
