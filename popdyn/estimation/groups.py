"""Groups of unknowns, which share the strength of their prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BETA", "CONSTANT", "Group"]


@dataclass(frozen=True)
class Group:
    """Unknowns of one part that are switched on and off together.

    Attributes:
        part: What they are unknowns of.
        functions: Which functions they are the weights of; empty of a lone number.
        degree: Of the polynomial in time that they are multiplied by.
    """

    part: Literal["V", "growth", "circulation", "W", "β"]
    functions: str = ""
    degree: int = 0

    def __str__(self) -> str:
        name = f"{self.part}: {self.functions}" if self.functions else self.part
        return f"{name}, degree {self.degree} in time" if self.degree else name


BETA = Group("β")
CONSTANT = Group("growth", "constant")
"""The rate at which all grow alike: only masses tell of it."""
