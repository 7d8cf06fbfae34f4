"""What a person reads: texts are shown as they are, without markup and control characters."""

import re
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

__all__ = ["Screen", "escaped", "printable"]

# Control characters of both blocks but tabulator and newline, what turns the direction of
# writing, and halves of surrogate pairs, which no encoding can write.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return text without what would reach a terminal as a command.

    Example:
        >>> printable("a \x1b[31mred\x1b[0m title [/b]")
        'a [31mred[0m title [/b]'
    """
    return _UNPRINTABLE.sub("", text)


def escaped(document: str) -> str:
    """Return a JSON document with the same characters written as escapes: equal when read."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


class Screen(Console):
    """A console that knows no markup and no emoji, and drops control characters.

    In tables and their titles, too: whatever is a text goes through :meth:`render_str`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def status(self, status: Any, **options: Any) -> Status:
        # A text would be read as markup here whatever the console says.
        shown = self.render_str(status) if isinstance(status, str) else status
        return super().status(shown, **options)
