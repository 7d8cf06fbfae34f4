"""The one exception that a user's mistake raises."""

__all__ = ["PopdynError"]


class PopdynError(ValueError):
    """Bad input, said in one line: what was found, what was expected."""
