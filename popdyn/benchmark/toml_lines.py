"""Where a field stands in a TOML file, which the parser itself does not say."""

from __future__ import annotations

import re

__all__ = ["line_of"]

_HEADER = re.compile(r"^\s*\[(\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"^\s*[\"']?([A-Za-z0-9_\-]+)[\"']?\s*[.=]")


def line_of(text: str, table: str = "", field: str | None = None, index: int = 0) -> int:
    """Return the line of a field; of an inline table that has it; of the table's header; or 1.

    Args:
        text: The whole file.
        table: Name of the table, ``""`` for the top of the file.
        field: Key in the table, or the last part of a table below it.
        index: Which of the tables of that name, from 0, where it is an array of tables.

    Example:
        >>> line_of('a = 1\\n[[entry]]\\nx = 1\\n[[entry]]\\nx = 2', "entry", "x", 1)
        5
    """
    current, seen, header, inline = "", -1, 1, 0
    inside = re.compile(rf"[{{,]\s*[\"']?{re.escape(field or '')}[\"']?\s*=")
    for number, line in enumerate(text.splitlines(), 1):
        found = _HEADER.match(line)
        if found:
            current = re.sub(r"\s*\.\s*", ".", found[2])
            if current == table:
                seen += 1
                if seen == index:
                    header = number
            elif current == f"{table}.{field}".lstrip(".") and max(seen, 0) == index:
                return number
            continue
        if field is None or current != table or max(seen, 0) != index:
            continue
        key = _KEY.match(line)
        if key and key[1] == field:
            return number
        if inside.search(line):
            inline = inline or number
    return inline or header
