"""Values of options as their dataclass types them: a wrong one is named before any work."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from popdyn.errors import PopdynError

__all__ = ["typed"]

_WORDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a word"}


def typed(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for fields of a dataclass, each of the type that the field has.

    A text for a list is split at its commas. What is typed otherwise than by numbers, words and
    lists of them is left as it is: the dataclass checks it.

    Raises:
        PopdynError: On a value of another type, or a number that is not finite.

    Example:
        >>> from popdyn.learners import LEARNERS
        >>> typed(LEARNERS["ijkonet"].options, {"hidden": "64,32", "learning_rate": 1})
        {'hidden': (64, 32), 'learning_rate': 1.0}
    """
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    return {k: _one(k, v, hints[k]) if k in known else v for k, v in given.items()}


def _one(name: str, value: Any, hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None or len(options) != 1:
            return value
        hint = options[0]
    if typing.get_origin(hint) is tuple:
        of = typing.get_args(hint)[0]
        parts = value.split(",") if isinstance(value, str) else value
        if of in _WORDS and isinstance(parts, (list, tuple)):
            found = tuple(_plain(_read(part, of), of) for part in parts)
            if None not in found:
                return found
        plural = {int: "whole numbers", float: "finite numbers", str: "words"}[of]
        raise PopdynError(f"{name} is {value!r}: expected {plural} with commas between them")
    if hint in _WORDS:
        found = _plain(value, hint)
        if found is None:
            raise PopdynError(f"{name} is {value!r}: expected {_WORDS[hint]}")
        return found
    return value


def _read(part: Any, kind: type[Any]) -> Any:
    """Return a number that stands in a text."""
    if not isinstance(part, str) or kind is str:
        return part.strip() if isinstance(part, str) else part
    try:
        return kind(part)
    except ValueError:
        return part


def _plain(value: Any, kind: type[Any]) -> Any:
    """Return the value as one of a type, or None where it is none."""
    if kind is float and isinstance(value, int):  # false is 0 here, as everywhere in Python
        value = float(value) if abs(value) < 2**1000 else math.inf
    if type(value) is not kind:
        return None
    return None if kind is float and not math.isfinite(value) else value
