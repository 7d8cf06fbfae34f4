"""Plain dictionaries of named entries, and the one look-up that explains a wrong name."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from popdyn.errors import PopdynError

__all__ = ["lookup"]

T = TypeVar("T")


def lookup(registry: Mapping[str, T], name: str, kind: str) -> T:
    """Return ``registry[name]``.

    Args:
        registry: The named entries.
        name: The name asked for.
        kind: What an entry is called in the error, such as ``"potential"``.

    Raises:
        PopdynError: If there is no such entry; names the nearest ones, or all of them.

    Example:
        >>> lookup({"flat": 0}, "flat", "potential")
        0
    """
    if name in registry:
        return registry[name]
    near = difflib.get_close_matches(name, registry, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(registry)}"
    )
    raise PopdynError(f"unknown {kind} '{name}': {hint}")
