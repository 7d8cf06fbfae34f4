"""The tables of the report, as cells of text with the number to sort by."""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from popdyn.benchmark.results import higher_is_better, summarise
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
"""Columns of the tables, in order, before the scores of other packages; all are in the files."""


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


Row = Mapping[str, Any]
Head = tuple[str, str]
Count = Callable[[Sequence[Row]], TableCell]


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
    groups: dict[str, list[Row]] = {}
    for row in results["rows"]:
        groups.setdefault(suite.entry(row["entry"]).group, []).append(row)
    further = {("explained", "explained"): _explained, **COSTS, ("cells", "done"): _done}
    return [
        _table(rows, suite.headline, name or suite.name, further) for name, rows in groups.items()
    ]


def entry_table(rows: Sequence[Row], headline: str, title: str) -> Table:
    """Return one row for each learner and reference of an entry: means over seeds."""
    return _table(rows, headline, title, {("verdict", "verdict"): _verdicts, **COSTS})


def matrix(results: Mapping[str, Any], headline: str, title: str) -> Table:
    """Return the headline score by entry (rows) and learner (columns), means over seeds."""
    rows = results["rows"]
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    table = Table(title, [("entry", "name"), *((name, headline) for name in learners)])
    for entry in dict.fromkeys(row["entry"] for row in rows):
        summary = summarise([row for row in rows if row["entry"] == entry], {})
        cells = [_cell(summary.get(name), headline) for name in learners]
        table.rows.append(("learner", [TableCell(entry, link=f"#entry-{entry}"), *cells]))
    return table


def _table(rows: Sequence[Row], headline: str, title: str, further: Mapping[Head, Count]) -> Table:
    """Return one row for each learner, the best first, and reference: means over entries and seeds.

    Args:
        rows: Rows of results.
        headline: The score that comes first.
        title: Of the table.
        further: Columns beside the scores, from a learner's rows.
    """
    learned, references = summarise(rows, {}), _references(rows)
    names = _columns(headline, (*learned.values(), *references.values()))
    table = Table(title, [("", "name"), *((LABELS.get(n, n), n) for n in names), *further])
    for name, scores in learned.items():
        mine = [row for row in rows if row["learner"] == name]
        counted = [count(mine) for count in further.values()]
        cells = [TableCell(row_label(name, mine)), *(_cell(scores, n) for n in names), *counted]
        table.rows.append(("learner", cells))
    if headline in names:  # it comes first
        table.rows.sort(key=lambda row: rank(row[1][1], headline))
    for name, scores in references.items():
        cells = [_cell(scores, n) for n in names]
        if any(cell.value is not None for cell in cells):
            blank = [TableCell("–")] * len(further)
            table.rows.append(("reference", [TableCell(name), *cells, *blank]))
    return table


def _done(rows: Sequence[Row]) -> TableCell:
    good = sum(row["status"] == "ok" for row in rows)
    return TableCell(f"{good}/{len(rows)}", good)


def _explained(rows: Sequence[Row]) -> TableCell:
    explained = sum(row.get("verdict") == "explained" for row in rows)
    return TableCell(f"{explained}/{len(rows)}", explained)


def _verdicts(rows: Sequence[Row]) -> TableCell:
    words = collections.Counter(row["verdict"] for row in rows if row.get("verdict"))
    told = [f"{word} ({n})" if len(rows) > 1 else word for word, n in words.most_common()]
    return TableCell(", ".join(told).replace("_", " ") or "–")


def _mean_of(key: str) -> Count:
    def mean(rows: Sequence[Row]) -> TableCell:
        values = [row[key] for row in rows if row[key] is not None]
        if not values:
            return TableCell("–")
        value = statistics.fmean(values)
        digits = 0 if value >= 10 else 1 if value >= 0.1 else 2
        return TableCell(f"{value:.{digits}f}", value)

    return mean


COSTS: dict[Head, Count] = {
    ("seconds", "seconds"): _mean_of("seconds"),
    ("MB", "peak_memory_mb"): _mean_of("peak_memory_mb"),
}


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
    # Nothing is shown of a diffusivity where there is none, and none was found.
    there = {
        name
        for scores in found
        for name, spread in scores.items()
        if spread["mean"] or not name.startswith("diffusivity")
    }
    if not any(name.startswith("gradient.interaction") for name in there):
        there.discard("gradient.force.skill")  # the force is ∇V alone, and has its column
    # Who brings a score of his own wants to see it.
    own = sorted(n for n in there if SCORES.owner(n.rpartition(".")[2]) not in (None, "popdyn"))
    return list(dict.fromkeys(n for n in (headline, *LABELS, *own) if n in there))


def _references(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return the mean of each reference row over entries and seeds, each counted once."""
    found = {
        (name, row["entry"], row["seed"]): {
            "learner": name,
            "seed": 0,
            "scores": {**scores, "references": row["scores"]["references"]},
        }
        for row in rows
        for name, scores in row["scores"].get("references", {}).items()
    }
    summary = summarise(list(found.values()), {})
    return {name: summary[name] for name in REFERENCES if name in summary}


def _cell(scores: Mapping[str, Any] | None, name: str) -> TableCell:
    """Return the cell of a score, from the means and deviations of a row; none: it failed."""
    if not scores:
        return TableCell("–" if scores is None else "failed")
    if name not in scores:
        return TableCell("–")
    mean = scores[name]["mean"]
    shade = max(-1.0, min(1.0, mean)) if name.split(".")[-1].startswith("skill") else None
    return TableCell(number(mean, scores[name]["std"]), mean, shade)


def rank(cell: TableCell, headline: str) -> float:
    """Return what learners are ordered by, the best first, from the cell of the headline score."""
    sign = -1.0 if higher_is_better(headline) else 1.0
    return math.inf if cell.value is None else sign * cell.value
