"""Rows and their summary: ``results.json`` and ``results.csv``."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from popdyn.benchmark.suite import Suite
from popdyn.scores import SCORES
from popdyn.scores.tables import flatten

__all__ = ["csv_of", "flatten", "higher_is_better", "results_of", "summarise"]

Row = Mapping[str, Any]


def higher_is_better(name: str) -> bool:
    """Return the direction of a dotted score."""
    entry = SCORES.get(name.rsplit(".", 1)[-1])
    return entry is not None and entry.higher_is_better


def summarise(rows: Iterable[Row], groups: Mapping[str, str]) -> dict[str, Any]:
    """Return mean and standard deviation over the seeds, for each learner and score.

    For each seed the mean over entries is taken first. Entries in a group also have means of
    their own, under ``"group: score"``. Cells that failed, and scores that are null, as a skill
    where there is no force, are left out.

    Args:
        rows: Rows of results.
        groups: Group of each entry, by name; empty for none.
    """
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for row in rows:
        learner = found.setdefault(row["learner"], {})
        group = groups.get(row["entry"], "")
        for name, value in flatten(row["scores"]).items():
            if value is None:
                continue
            for full in (name, f"{group}: {name}") if group else (name,):
                learner.setdefault(full, {}).setdefault(row["seed"], []).append(value)
    return {
        learner: {name: _spread(by_seed) for name, by_seed in scores.items()}
        for learner, scores in found.items()
    }


def results_of(suite: Suite, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what ``results.json`` holds."""
    groups = {entry.name: entry.group for entry in suite.entries}
    return {"suite": suite.name, "rows": list(rows), "summary": summarise(rows, groups)}


def csv_of(results: Mapping[str, Any]) -> str:
    """Return what ``results.csv`` holds."""
    names = list(dict.fromkeys(n for row in results["rows"] for n in flatten(row["scores"])))
    head = ["entry", "learner", "seed", "status", "verdict", "seconds", "peak_memory_mb", "reason"]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [*head, *names], restval="", lineterminator="\n")
    table.writeheader()
    for row in results["rows"]:
        own = {k: row[k] for k in head if row.get(k) is not None}
        table.writerow(own | {k: v for k, v in flatten(row["scores"]).items() if v is not None})
    return text.getvalue()


def _spread(by_seed: Mapping[int, Sequence[float]]) -> dict[str, float | None]:
    means = [statistics.fmean(values) for values in by_seed.values()]
    std = statistics.stdev(means) if len(means) > 1 else None
    return {"mean": statistics.fmean(means), "std": std}
