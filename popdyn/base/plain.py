"""Numbers of any library at the public door: inside there are Python's own."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from popdyn.base.errors import PopdynError

__all__ = ["LARGEST", "indices", "json_of", "plain", "plain_numbers"]

LARGEST = 2**63 - 1  # whole number that fits 64 bits

P = ParamSpec("P")
R = TypeVar("R")


def plain(value: Any) -> Any:
    """Return scalars of NumPy, torch or xarray as Python's own, in lists and dicts, too.

    Example:
        >>> import numpy as np
        >>> plain({"width": np.float64(0.5), "hidden": [np.int64(3)]})
        {'width': 0.5, 'hidden': [3]}
    """
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {key: plain(entry) for key, entry in value.items()}
    scalar = hasattr(value, "item") and getattr(value, "ndim", None) == 0
    return value.item() if scalar and not getattr(value, "requires_grad", False) else value


def json_of(value: Any) -> Any:
    """Return what JSON can hold: arrays as lists, numbers that are not finite as null."""
    value = _listed(plain(value))
    if isinstance(value, Mapping):
        return {str(key): json_of(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_of(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain_numbers(whole: Sequence[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take numbers of any library, and see Python's own.

    Args:
        whole: Arguments that are whole numbers, or None where that is the default.

    Raises:
        PopdynError: By the function, where one of these is something else.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        may_lack = [n for n in whole if signature.parameters[n].default is None]
        further = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments
            for name in given:
                given[name] = plain(given[name])
            for name in further:
                # Options of a learner are written down as JSON: arrays become lists.
                given[name] = {k: _listed(v) for k, v in given.get(name, {}).items()}
            for name in (n for n in whole if n in given):
                if given[name] is not None or name not in may_lack:
                    given[name] = _whole(given[name], name)
            return function(*bound.args, **bound.kwargs)

        return called

    return decorate


def indices(value: int | Iterable[int], name: str) -> tuple[int, ...]:
    """Return one index, or several, as a tuple.

    Raises:
        PopdynError: If they are no whole numbers.

    Example:
        >>> indices(2, "hold_out")
        (2,)
    """
    several: Any = _listed(plain(value))
    if isinstance(several, (int, float)):
        several = (several,)
    if isinstance(several, str) or not isinstance(several, Iterable):
        raise PopdynError(f"{name} is {several!r}: expected whole numbers")
    return tuple(_whole(plain(n), name) for n in several)


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def _whole(value: Any, name: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise PopdynError(f"{name} is {value!r}: expected a whole number")
    if abs(value) > LARGEST:
        raise PopdynError(f"{name} is {value}: expected a whole number up to {LARGEST}")
    return value
