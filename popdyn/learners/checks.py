"""Checks of options that several learners share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from popdyn.errors import PopdynError

__all__ = ["PARTS", "check_diffusivity", "check_least", "check_network", "check_parts"]

PARTS = ("potential", "interaction", "diffusion")


def check_parts(learn: Sequence[str]) -> None:
    """Raise PopdynError unless these are some of ``PARTS``."""
    unknown = [name for name in learn if name not in PARTS]
    if unknown or not learn:
        raise PopdynError(f"learn '{','.join(learn)}': expected some of {', '.join(PARTS)}")


def check_diffusivity(beta: float | None) -> None:
    """Raise PopdynError unless β is unknown, or finite and not negative."""
    if beta is not None and not (math.isfinite(beta) and beta >= 0):
        raise PopdynError(f"diffusivity is {beta}: expected a finite number ≥ 0")


def check_least(options: Any, **least: int) -> None:
    """Raise PopdynError where an option that is given is below its least value."""
    for name, bound in least.items():
        number = getattr(options, name)
        if number is not None and number < bound:
            raise PopdynError(f"{name} is {number}: expected {bound} or more")


def check_network(options: Any, *rates: str) -> None:
    """Raise PopdynError where a network of these options cannot be built or trained."""
    for name in ("learning_rate", *rates):
        if not 0 < getattr(options, name) < math.inf:
            raise PopdynError(f"{name} is {getattr(options, name)}: expected a number > 0")
    if not options.hidden or min(options.hidden) < 1:
        raise PopdynError(f"hidden is {options.hidden}: expected widths of 1 or more")
    fraction = options.validation_fraction
    if not 0 < fraction < 1:
        raise PopdynError(f"validation_fraction is {fraction}: expected between 0 and 1")
