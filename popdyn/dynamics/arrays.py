"""Arrays of either library at the public door: NumPy in, NumPy out; torch in, torch out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from popdyn.dynamics.fields import Time

__all__ = ["Array", "apply_to", "as_time", "tensor", "time_for"]

Array = np.ndarray | Tensor


class Timed(Protocol):
    """What may depend on time, and refuses to guess one."""

    @property
    def time_dependent(self) -> bool: ...
    def time(self, t: Time) -> float | Tensor: ...


def tensor(x: Any) -> Tensor:
    """Return an array as a tensor of floats that shares its memory where that can be."""
    if not isinstance(x, Tensor):
        array = np.ascontiguousarray(x)
        x = torch.from_numpy(array if array.flags.writeable else array.copy())
    return x if x.is_floating_point() else x.double()


def time_for(term: Timed, t: Any, x: Tensor) -> Time:
    """Return the time at which a term is evaluated.

    Raises:
        PopdynError: If it depends on time, and there is none.
    """
    if term.time_dependent:
        t = term.time(t)
    return as_time(t, x)


def as_time(t: Any, x: Tensor) -> Time:
    """Return a time as a number, a tensor where ``x`` is, or None."""
    # In float64: what depends on time rounds its difference to a time of its own.
    return torch.as_tensor(t).to(x.device, torch.float64) if isinstance(t, np.ndarray) else t


def apply_to(x: Array, function: Callable[[Tensor], Tensor]) -> Any:
    """Return ``function(x)`` as an array of the library that ``x`` is of."""
    out = function(tensor(x))
    return out if isinstance(x, Tensor) else out.detach().numpy()
