"""Variants: a learner with options of its own, ``ijkonet[model=network]``, is a row of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from popdyn.base.errors import PopdynError

__all__ = ["folder_name", "learner_of", "options_in_name", "row_label", "split_names"]

_NAME = re.compile(r"([^\[\],=]+)(?:\[(.*)\])?", re.DOTALL)


def split_names(text: str | Sequence[str]) -> tuple[str, ...]:
    """Return the learners of a line, or of a list; commas inside brackets part options.

    Example:
        >>> split_names("zero, ijkonet[model=network,steps=500]")
        ('zero', 'ijkonet[model=network,steps=500]')
    """
    parts = re.split(r",(?![^\[]*\])", text) if isinstance(text, str) else text
    return tuple(part.strip() for part in parts if part.strip())


def learner_of(name: str) -> str:
    """Return the learner of a row's name.

    Example:
        >>> learner_of("ijkonet[model=network]")
        'ijkonet'
    """
    return name.partition("[")[0]


def options_in_name(name: str) -> dict[str, Any]:
    """Return the options that stand in a row's name; values are JSON, or words.

    Commas part options, and go on with a value where no ``key=`` follows.

    Raises:
        PopdynError: On a bracket that does not close, or an option without a value.

    Example:
        >>> options_in_name("ijkonet[hidden=64,64,steps=500]")
        {'hidden': '64,64', 'steps': 500}
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise PopdynError(f"learner '{name}': expected a name, or name[option=value,…]")
    if found[2] is None:
        return {}
    out: dict[str, str] = {}
    for part in found[2].split(","):
        key, sign, value = part.partition("=")
        if sign and key.strip():
            out[key.strip().replace("-", "_")] = value.strip()
        elif out and part.strip():
            out[next(reversed(out))] += f",{part.strip()}"
        else:
            raise PopdynError(f"learner '{name}': '{part}' is no option=value")
    return {key: _read(value) for key, value in out.items()}


def folder_name(name: str) -> str:
    """Return a row's name as a part of a folder's.

    Example:
        >>> folder_name("ijkonet[model=network]")
        'ijkonet+model=network'
    """
    return quote(name.replace("[", "+").removesuffix("]"), safe="+=,")


def row_label(name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what a row is called in a table: nobody is to think that a network was trained.

    Args:
        name: Of the row.
        rows: Its results, each with the ``model`` that was fitted.

    Example:
        >>> row_label("ijkonet", [{"model": "features"}]), row_label("zero", [{"model": None}])
        ('ijkonet, model=features', 'zero')
    """
    models = sorted({row["model"] for row in rows if row.get("model")})
    if not models or "model" in options_in_name(name):
        return name
    return f"{name}, model={' or '.join(models)}"


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
