"""The parts of dynamics by name, as ``learn`` has them."""

from __future__ import annotations

from typing import Literal

from popdyn.base.errors import PopdynError

__all__ = ["AUTO", "Choice", "Part", "check_choice"]

Part = Literal["potential", "interaction", "diffusion"]
"""What can be learned of an energy."""

Choice = Literal["auto", "potential", "interaction", "diffusion", "growth", "circulation"]
"""A part, or ``auto`` alone: what the snapshots ask for."""

AUTO: tuple[Choice, ...] = ("auto",)
"""What is learned where the snapshots are to say it."""


def check_choice(learn: tuple[Choice, ...]) -> None:
    """Raise PopdynError where ``auto`` is not alone."""
    if "auto" in learn and learn != AUTO:
        raise PopdynError(f"learn '{','.join(learn)}': expected auto alone, or parts without it")
