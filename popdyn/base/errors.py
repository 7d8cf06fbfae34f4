"""The one exception that a user's mistake raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["PopdynError", "blaming"]


class PopdynError(ValueError):
    """Bad input, said in one line: what was found, what was expected.

    Attributes:
        field: The option or field that is to blame, where it is one alone.

    Example:
        >>> import popdyn
        >>> try:
        ...     popdyn.FreeEnergy("quadratic", potential_params={"stiff": 2.0})
        ... except popdyn.PopdynError as error:
        ...     print(error)
        'quadratic' has no parameter 'stiff': expected one of scale, stiffness, matrix, center
    """

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


@contextlib.contextmanager
def blaming(field: str) -> Iterator[None]:
    """Lay a mistake that is raised inside to a field, unless it says itself which one it is.

    Example:
        >>> try:
        ...     with blaming("step"):
        ...         raise PopdynError("too long")
        ... except PopdynError as error:
        ...     error.field
        'step'
    """
    try:
        yield
    except PopdynError as error:
        error.field = error.field or field
        raise
