"""The registry of initial laws: a module of this folder enters its own, to sample and a density."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.registry import Registry, summary_of

__all__ = ["INITIAL_LAWS", "InitialEntry", "law", "vector"]

Density = Callable[..., np.ndarray]


@dataclass(frozen=True)
class InitialEntry:
    """A named initial law.

    Attributes:
        name: Registry key.
        sample: ``f(n, dim, generator, **parameters) → (n, dim)`` float32.
        density: ``f(x, **parameters)`` with the same parameters, ``(n, dim) → (n)`` float64.
        formula: The law, in plain text.
        summary: One line on what it is.
    """

    name: str
    sample: Callable[..., Tensor]
    density: Density
    formula: str
    summary: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The law's parameters with their defaults."""
        signature = inspect.signature(self.sample).parameters.values()
        return {p.name: p.default for p in signature if p.default is not p.empty}


INITIAL_LAWS: Registry[InitialEntry] = Registry("popdyn.initial", "initial law", __name__)


def law(formula: str, density: Density) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Return a decorator that enters a sampler under its own name; see :class:`InitialEntry`."""

    def enter(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name, summary = function.__name__, summary_of(function)
        entry = InitialEntry(name, function, density, formula, summary)
        INITIAL_LAWS.enter(name, entry, function.__module__)
        return function

    return enter


def vector(value: Any, dim: int, name: str, *, positive: bool = False) -> Tensor:
    """Return a parameter as ``(dim)`` float32; a number stands for all components.

    Raises:
        PopdynError: If it is neither, or not finite, or not positive where it must be.
    """
    try:
        out = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError):
        raise PopdynError(f"initial {name} is {value!r}: expected a number or a list") from None
    if out.ndim > 1 or (out.ndim == 1 and len(out) != dim):
        raise PopdynError(
            f"initial {name} is {value}: expected a number, or a list of {dim} of them"
        )
    if not torch.isfinite(out).all() or (positive and not (out > 0).all()):
        raise PopdynError(
            f"initial {name} is {value}: expected {'positive' if positive else 'finite'} numbers"
        )
    return out.expand(dim)
