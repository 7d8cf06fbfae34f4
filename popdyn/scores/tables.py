"""Scores as tables: rows of texts for a person, flat numbers for a program."""

from __future__ import annotations

import html
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from popdyn.scores.catalogue import SCORES

__all__ = ["TextTable", "flatten", "tables_of"]

Row = tuple[str, Mapping[str, Any]]
"""What a row is called, and its scores."""

SYMBOLS = {"potential": "∇V", "interaction": "∇W", "force": "force"}
# Of the lists in ``distribution``, what is no score.
_NOT_SCORES = ("times", "points", "points_predicted")
_GIVEN = ("true", "standard_error")
_BOOKKEEPING = ("by_time", "standard_error")


class TextTable(NamedTuple):
    """A table of texts, the name of each row first."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def rich(self) -> Table:
        """Return it for a terminal."""
        table = Table(title=self.title, title_justify="left", box=None, pad_edge=False)
        table.add_column("", no_wrap=True)
        for column in self.columns:
            table.add_column(column, justify="right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def html(self) -> str:
        """Return it for a notebook."""

        def line(cells: Iterable[str], tag: str) -> str:
            style = ("left", "right")
            return "".join(
                f"<{tag} style='text-align:{style[i > 0]}'>{html.escape(cell)}</{tag}>"
                for i, cell in enumerate(cells)
            )

        body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in self.rows)
        head = line(["", *self.columns], "th")
        title = html.escape(self.title)
        return (
            f"<table><caption style='text-align:left'>{title}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def tables_of(rows: Sequence[Row], truth: str = "the truth") -> list[TextTable]:
    """Return the tables of results on one data set, the reference rows among them.

    Args:
        rows: Results of :func:`popdyn.score`, and reference rows, by name.
        truth: What the truth is called.
    """
    out = []
    if any("gradient" in row for _, row in rows):
        out.append(_energy_table(rows, f"energy, against {truth}"))
    common = common_times(row for _, row in rows)
    times = rows[0][1]["distribution"]["times"]
    shown = ", ".join(f"{times[i]:g}" for i in common)
    out.append(_distribution_table(rows, common, f"distribution, mean over the times {shown}"))
    if len(times) > 1:
        w2 = [[label, *map(_text, row["distribution"]["w2"])] for label, row in rows]
        out.append(TextTable("w2 at each time", [f"{t:g}" for t in times], w2))
    return out


def flatten(
    scores: Mapping[str, Any], references: Mapping[str, Any] | None = None
) -> dict[str, float | None]:
    """Return a row's scores under dotted names; a list over times becomes its mean.

    Means over different times do not compare. So the mean is taken over the times at which every
    reference row has a value, if there are such times (the last one has no later snapshot to
    interpolate from); it is null where one of these is.

    Example:
        >>> flatten({"distribution": {"times": [1, 2], "w2": [0.1, 0.3]}})
        {'distribution.w2': 0.2}
    """
    out: dict[str, float | None] = {}
    for part, row in scores.get("gradient", {}).items():
        numbers = {k: v for k, v in row.items() if k not in _BOOKKEEPING}
        out |= {f"gradient.{part}.{k}": v for k, v in numbers.items() if _numeric(v)}
    beta = {k: v for k, v in scores.get("diffusivity", {}).items() if k not in _GIVEN}
    out |= {f"diffusivity.{k}": v for k, v in beta.items() if _numeric(v)}
    found = scores.get("distribution", {})
    rows = scores.get("references") if references is None else references
    common = common_times((rows or {}).values())
    for name, values in found.items():
        if isinstance(values, list) and name not in _NOT_SCORES and all(map(_numeric, values)):
            chosen = [values[k] for k in common] if common else values
            missing = not chosen or any(v is None for v in chosen)
            out[f"distribution.{name}"] = None if missing else statistics.fmean(chosen)
    return out


def common_times(rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return the indices of the times that every row with values has: only they compare."""
    lists = [row["distribution"]["points"] for row in rows]
    full = [points for points in lists if any(n is not None for n in points)]
    if not full:
        return []
    return [k for k in range(len(full[0])) if all(points[k] is not None for points in full)]


def _numeric(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _energy_table(rows: Sequence[Row], title: str) -> TextTable:
    columns: list[tuple[str, str]] = []
    for part in SYMBOLS:
        found = {name for _, row in rows for name in row.get("gradient", {}).get(part, {})}
        columns += [(part, name) for name in SCORES if name in found]
    lines = []
    for label, row in rows:
        if "gradient" not in row:
            continue
        values = [_text(row["gradient"].get(part, {}).get(name)) for part, name in columns]
        beta = row["diffusivity"]
        error = beta["standard_error"]
        spread = "" if error is None else f" ± {error:.2g}"
        lines.append([label, *values, f"{beta['estimate']:.4g}{spread} ({beta['true']:.4g})"])
    names = [f"{SYMBOLS[part]} {name}".replace("_", " ") for part, name in columns]
    return TextTable(title, [*names, "β (true)"], lines)


def _distribution_table(rows: Sequence[Row], common: list[int], title: str) -> TextTable:
    names = [s.name for s in SCORES.values() if s.kind == "distribution"]
    lines = []
    for label, row in rows:
        found = row["distribution"]
        means = [_text(_mean(found[name], common)) for name in names]
        lines.append([label, *means, _text(_mean(found.get("outside"), common)), _points(found)])
    return TextTable(title, [*(n.replace("_", " ") for n in names), "outside", "points"], lines)


def _mean(values: Sequence[float | None] | None, common: Sequence[int]) -> float | None:
    chosen = [] if values is None else [values[i] for i in common]
    numbers = [v for v in chosen if v is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(chosen) else None


def _points(found: Mapping[str, Any]) -> str:
    pairs = zip(found["points_predicted"], found["points"], strict=True)
    sides = sorted({f"{a}×{b}" for a, b in pairs if a is not None})
    return ", ".join(sides) or "–"


def _text(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) >= 1e4:
        return f"{value:.1e}"
    # More decimals for what is small, such as an MMD.
    decimals = 3 if abs(value) >= 0.1 or value == 0 else 6 if abs(value) < 0.001 else 4
    return f"{value:.{decimals}f}"
