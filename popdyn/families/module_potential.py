"""A potential that is the user's own ``torch.nn.Module``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from popdyn.base.errors import PopdynError
from popdyn.dynamics.fields import Time
from popdyn.families.models import LearnedTerm, Scaling, empty_scaling
from popdyn.families.units import Units

__all__ = ["ModulePotential", "check_module", "module_name", "rebuilding_with"]

_OWN: ContextVar[nn.Module | None] = ContextVar("own", default=None)


class ModulePotential(LearnedTerm):
    """A module ``(..., d) → (...)``, or ``(x, t)`` if it says ``time_dependent = True``.

    It is trained from the weights that it comes with, on positions, times and values in the units
    of the user's data, whatever those are that the learner works in, and the confining tail outside
    the box of the data is added.

    Args:
        module: The module; a copy of it is trained.
        scaling: Standardisation and tail, in the learner's units.
        units: The learner's units; None: the user's.
    """

    offset: Tensor

    def __init__(self, module: nn.Module, scaling: Scaling, units: Units | None = None) -> None:
        super().__init__()
        self.module, self.scaling, self.units = copy.deepcopy(module), scaling, units
        self.time_dependent = bool(getattr(module, "time_dependent", False))
        self.register_buffer("offset", torch.zeros(()))

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        tail = self.scaling.tail(self.scaling.standardise(x))
        if self.units is not None:
            x, t = self.units.to_positions(x), self.units.to_times(t)
        own = self.module(x, self.time(t)) if self.time_dependent else self.module(x)
        if self.units is not None:
            own = own / self.units.energy
        return own + tail - self.offset

    def label(self) -> str:
        return module_name(self.module)

    def config(self) -> dict[str, Any]:
        return {
            "module": module_name(self.module),
            "dim": self.scaling.mean.shape[0],
            "units": None if self.units is None else self.units.config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ModulePotential:
        module = _OWN.get()
        if module is None:
            raise PopdynError(
                f"the potential is the user's own {config['module']}, of which a run holds the "
                "weights alone: expected popdyn.load_run(path, potential=…) with such a module"
            )
        units = config["units"] and Units.from_config(config["units"])
        return cls(module, empty_scaling(config["dim"]), units)


@contextmanager
def rebuilding_with(module: nn.Module | None) -> Iterator[None]:
    """Give the module that runs read inside are to be filled with."""
    token = _OWN.set(module)
    try:
        yield
    finally:
        _OWN.reset(token)


def module_name(module: Any) -> str:
    """Return the dotted name of a module's class."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def check_module(module: nn.Module, x: Tensor, t: float) -> None:
    """Raise unless the module is a potential on particles ``(n, d)``.

    Raises:
        PopdynError: If it fails on them, its output has the wrong shape or is not finite, or it
            has no weights to train.
    """
    name = module_name(module)
    timed = bool(getattr(module, "time_dependent", False))
    try:
        with torch.no_grad():
            out = module(x, t) if timed else module(x)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PopdynError(
            f"potential {name} fails on particles of shape {tuple(x.shape)}: {reason}"
        ) from error
    shape = tuple(getattr(out, "shape", ()))
    if shape != x.shape[:-1]:
        raise PopdynError(
            f"potential {name} maps {tuple(x.shape)} to {shape}: expected {tuple(x.shape[:-1])}"
        )
    if not bool(torch.isfinite(out).all()):
        raise PopdynError(f"potential {name} is not finite on the data: expected finite values")
    if not any(p.requires_grad for p in module.parameters()):
        raise PopdynError(f"potential {name} has no weights to train: expected some")
