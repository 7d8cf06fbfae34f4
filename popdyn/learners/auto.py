"""``learn=auto``: the parts that the snapshots ask for, whatever learner then learns them."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from popdyn.estimation.ladder import parts_asked_for
from popdyn.estimation.parts import AUTO
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.between import choose_between, folds_of, in_units_of
from popdyn.learners.ijkonet.fit import find_structure
from popdyn.learners.in_units import determined, in_units, measured, options_in_units
from popdyn.learners.training import Workplace

__all__ = ["chosen"]


def chosen(
    data: TrainingSet, options: Any, place: Workplace | None = None
) -> tuple[Any, dict[str, Any]]:
    """Return options with what the snapshots ask for, and the certificate of the choice.

    Args:
        data: The whole training set, in the user's units; it keeps what was solved on the way.
        options: The learner's options; returned as they are unless they leave it to the snapshots.
        place: Where checkpoints go.
    """
    if getattr(options, "learn", None) != AUTO:
        return options, {}
    units, notes = measured(data)
    data.own = own = in_units(data, units)
    with determined(notes):
        found, certificate = _chosen(own, options_in_units(options, units), place or Workplace())
    if found.get("diffusivity") is not None:
        found["diffusivity"] = units.energy * found["diffusivity"]
    if "between" in certificate:
        certificate["between"] = in_units_of(units, certificate["between"])
    if traded := certificate.get("undetermined"):
        certificate["undetermined"] = {k: units.energy * v for k, v in traded.items()}
    return dataclasses.replace(options, **found), certificate


def _chosen(
    data: TrainingSet, options: Any, place: Workplace
) -> tuple[dict[str, Any], dict[str, Any]]:
    if options.time_varying:  # it makes any marginals: none is left to ask for more
        return {"learn": ("potential",)}, {"learn": ["potential"]}
    without_noise = getattr(options, "inner", "") == "proximal"  # it has no entropy term
    known = 0.0 if without_noise else options.diffusivity
    restructure = None
    free = getattr(options, "model", None) == "auto" and options.linear
    if free:
        restructure = partial(find_structure, data, options, place)
    asked = parts_asked_for(data, known, restructure)
    certificate: dict[str, Any] = {"learn": list(asked.parts), "ladder": asked.rungs}
    if asked.noise is not None:
        certificate["undetermined"] = {"potential, diffusion": asked.noise}
    if free and not asked.met and folds_of(data):
        found, between = choose_between(
            data, options, () if asked.far else asked.parts, place.progress
        )
        certificate |= {"learn": list(found["learn"]), "between": between}
    else:
        found = {"learn": asked.parts, "time_varying": asked.moves}
    if found.get("time_varying"):
        certificate["time_varying"] = True
    return found, certificate
