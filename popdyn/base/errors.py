"""The one exception that a user's mistake raises."""

__all__ = ["PopdynError"]


class PopdynError(ValueError):
    """Bad input, said in one line: what was found, what was expected.

    Attributes:
        field: The option or field that is to blame, where it is one alone.
    """

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
