"""The tables of the report, as cells of text with the number to sort by."""

from __future__ import annotations

import collections
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from popdyn.benchmark.results import flatten, higher_is_better, summarise
from popdyn.benchmark.suite import Suite
from popdyn.benchmark.variants import row_label
from popdyn.scores import SCORES

__all__ = ["LABELS", "Table", "TableCell", "column_notes", "entry_table", "leaderboards", "matrix"]

REFERENCES = ("floor", "copy_previous", "mccann")
"""Reference rows of a table; the fourth, ``zero``, is a learner as well."""

LABELS = {
    "gradient.potential.skill": "skill ∇V",
    "gradient.potential.skill_modulo_gauge": "skill ∇V mod gauge",
    "gradient.interaction.skill": "skill ∇W",
    "gradient.interaction.skill_modulo_gauge": "skill ∇W mod gauge",
    "gradient.force.skill": "skill force",
    "gradient.potential.cosine": "cosine ∇V",
    "gradient.potential.l2_uvp": "L²-UVP, %",
    "diffusivity.estimate": "β̂",
    "diffusivity.diffusivity_error": "β̂ − β",
    "distribution.w1": "W₁",
    "distribution.w2": "W₂",
    "distribution.bw2_uvp": "BW²-UVP, %",
    "distribution.mmd": "MMD²",
}
"""Columns of the tables, in order; every score of ``SCORES`` is in the files beside the page."""


@dataclass(frozen=True)
class TableCell:
    """A cell: its text, the number to sort by, and a shade from −1 (bad) to 1 (good)."""

    text: str
    value: float | None = None
    shade: float | None = None
    link: str = ""


@dataclass
class Table:
    """A table that sorts: its head is the name of each column and the score it holds.

    A row has a kind, ``learner`` or ``reference``.
    """

    caption: str
    head: list[tuple[str, str]]
    rows: list[tuple[str, list[TableCell]]] = field(default_factory=list)


def number(value: float | None, std: float | None = None) -> str:
    """Return a number as a reader wants it, with its spread.

    Example:
        >>> number(0.98765), number(0.5, 0.012), number(None), number(-12345.6)
        ('0.988', '0.500 ± 0.012', '–', '−1.2e+04')
    """
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1e4 or 0 < size < 1e-3:
        form = ".1e"
    else:
        form = ".0f" if size >= 100 else ".3f" if size >= 0.1 or size == 0 else ".4f"
    text = f"{value:{form}}".replace("-", "−")
    if not std:
        return text
    spread = f"{std:{form}}"
    return f"{text} ± {spread if float(spread) else number(std)}"


def leaderboards(results: Mapping[str, Any], suite: Suite) -> list[Table]:
    """Return a leaderboard for each group of entries; one where there are no groups."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in results["rows"]:
        groups.setdefault(suite.entry(row["entry"]).group, []).append(row)
    return [_leaderboard(rows, suite.headline, name or suite.name) for name, rows in groups.items()]


def _leaderboard(rows: Sequence[Mapping[str, Any]], headline: str, title: str) -> Table:
    """Return one row for each learner and reference: means over entries and seeds."""
    summary = summarise(rows, {})
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    for name in REFERENCES:
        summary[name] = _reference(rows, name)
    names = _columns(headline, (s for s in summary.values()))
    table = Table(title, [("", "name"), *((LABELS.get(n, n), n) for n in names)])
    table.head += [("explained", "explained")]
    table.head += [("seconds", "seconds"), ("MB", "peak_memory_mb"), ("cells", "done")]
    for name in sorted(learners, key=lambda n: _rank(summary.get(n, {}), headline)):
        mine = [row for row in rows if row["learner"] == name]
        good = [row for row in mine if row["status"] == "ok"]
        cells = [TableCell(row_label(name, mine))]
        cells += [_spread_cell(summary.get(name, {}).get(n), n) for n in names]
        explained = sum(row.get("verdict") == "explained" for row in good)
        cells.append(TableCell(f"{explained}/{len(mine)}", explained))
        for key in ("seconds", "peak_memory_mb"):
            mean = statistics.fmean(row[key] for row in good) if good else None
            cells.append(TableCell(_brief(mean), mean))
        cells.append(TableCell(f"{len(good)}/{len(mine)}", len(good)))
        table.rows.append(("learner", cells))
    for name in REFERENCES:
        cells = [TableCell(name), *(_spread_cell(summary[name].get(n), n) for n in names)]
        if any(cell.value is not None for cell in cells):
            blank = [TableCell("–")] * 4
            table.rows.append(("reference", cells + blank))
    return table


def matrix(results: Mapping[str, Any], headline: str, title: str) -> Table:
    """Return the headline score by entry (rows) and learner (columns), means over seeds."""
    rows = results["rows"]
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    table = Table(title, [("entry", "name"), *((name, headline) for name in learners)])
    for entry in dict.fromkeys(row["entry"] for row in rows):
        cells = [TableCell(entry, link=f"#entry-{entry}")]
        for learner in learners:
            mine = [r for r in rows if (r["entry"], r["learner"]) == (entry, learner)]
            cells.append(_cell(mine, headline))
        table.rows.append(("learner", cells))
    return table


def entry_table(rows: Sequence[Mapping[str, Any]], headline: str, title: str) -> Table:
    """Return one row for each learner and reference of an entry: means over seeds."""
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    found = [flatten(row["scores"]) for row in rows]
    names = _columns(headline, found)
    table = Table(title, [("", "name"), *((LABELS.get(n, n), n) for n in names)])
    table.head += [("verdict", "verdict"), ("seconds", "seconds"), ("MB", "peak_memory_mb")]
    for learner in learners:
        mine = [row for row in rows if row["learner"] == learner]
        cells = [TableCell(row_label(learner, mine)), *(_cell(mine, n) for n in names)]
        words = collections.Counter(row["verdict"] for row in mine if row.get("verdict"))
        told = [f"{word} ({n})" if len(mine) > 1 else word for word, n in words.most_common()]
        cells.append(TableCell(", ".join(told).replace("_", " ") or "–"))
        for key in ("seconds", "peak_memory_mb"):
            values = [row[key] for row in mine if row[key] is not None]
            mean = statistics.fmean(values) if values else None
            cells.append(TableCell(_brief(mean), mean))
        table.rows.append(("learner", cells))
    for name in REFERENCES:
        summary = _reference(rows, name)
        cells = [TableCell(name), *(_spread_cell(summary.get(n), n) for n in names)]
        if any(cell.value is not None for cell in cells):
            table.rows.append(("reference", [*cells, *([TableCell("–")] * 3)]))
    return table


def column_notes(tables: Iterable[Table]) -> list[tuple[str, str]]:
    """Return what each score column of some tables means, from the registry of scores."""
    names = dict.fromkeys(name for table in tables for _, name in table.head if "." in name)
    out = []
    for name in names:
        score = SCORES.get(name.rsplit(".", 1)[-1])
        if score is not None:
            way = "higher is better" if score.higher_is_better else "lower is better"
            if name == "diffusivity.diffusivity_error":
                way = "0 is best"
            out.append((LABELS.get(name, name), f"{score.summary}: {score.formula} ({way})"))
    return out


def _columns(headline: str, found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the scores to show: those that some row has, the headline first."""
    there = set()
    for scores in found:
        for name, value in scores.items():
            # Nothing is shown of a diffusivity where there is none, and none was found.
            number = value["mean"] if isinstance(value, Mapping) else value
            if number is not None and (number or not name.startswith("diffusivity")):
                there.add(name)
    if not any(name.startswith("gradient.interaction") for name in there):
        there.discard("gradient.force.skill")  # the force is ∇V alone, and has its column
    return list(dict.fromkeys(n for n in (headline, *LABELS) if n in there))


def _reference(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    """Return the mean of a reference row over entries and seeds, each counted once."""
    once = {(r["entry"], r["seed"]): r["scores"].get("references", {}) for r in rows}
    values: dict[str, list[float]] = {}
    for references in once.values():
        for key, value in flatten(references.get(name, {}), references).items():
            if value is not None:
                values.setdefault(key, []).append(value)
    return {key: {"mean": statistics.fmean(v), "std": None} for key, v in values.items()}


def _cell(rows: Sequence[Mapping[str, Any]], name: str) -> TableCell:
    values = [flatten(row["scores"]).get(name) for row in rows]
    good = [v for v in values if v is not None]
    if not good:
        failed = any(row["status"] != "ok" for row in rows)
        return TableCell("failed" if failed else "–")
    std = statistics.stdev(good) if len(good) > 1 else None
    return _spread_cell({"mean": statistics.fmean(good), "std": std}, name)


def _spread_cell(spread: Mapping[str, Any] | None, name: str) -> TableCell:
    if spread is None:
        return TableCell("–")
    mean = spread["mean"]
    shade = max(-1.0, min(1.0, mean)) if name.split(".")[-1].startswith("skill") else None
    return TableCell(number(mean, spread["std"]), mean, shade)


def _rank(scores: Mapping[str, Any], headline: str) -> float:
    found = scores.get(headline)
    if found is None:
        return float("inf")
    return -found["mean"] if higher_is_better(headline) else found["mean"]


def _brief(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"
