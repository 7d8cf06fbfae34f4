"""Rows and their summary: ``results.json`` and ``results.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from popdyn.base.plain import json_of
from popdyn.benchmark.suite import Suite
from popdyn.scores import SCORES
from popdyn.scores.tables import flatten

__all__ = ["csv_of", "flatten", "higher_is_better", "results_of", "summarise"]

Row = Mapping[str, Any]


def higher_is_better(name: str) -> bool:
    """Return the direction of a dotted score."""
    entry = SCORES.get(name.rsplit(".", 1)[-1])
    return entry is not None and entry.higher_is_better


def summarise(rows: Sequence[Row], groups: Mapping[str, str]) -> dict[str, Any]:
    """Return mean and standard deviation over the seeds, for each learner and score.

    For each seed the mean over entries is taken first. Entries in a group also have means of
    their own, under ``"group: score"``. Cells that failed, and scores that are null, as a skill
    where there is no force, are left out.

    Args:
        rows: Rows of results.
        groups: Group of each entry, by name; empty for none.
    """
    parts = [
        ((row["learner"], full), row["seed"], value)
        for row in rows
        for name, value in flatten(row["scores"]).items()
        for full in (name, f"{groups.get(row.get('entry', ''), '')}: {name}")
        if value is not None and not full.startswith(":")
    ]
    frame = pd.DataFrame(parts, columns=["row", "seed", "value"])
    means = frame.groupby(["row", "seed"], sort=False)["value"].mean()
    spread = means.groupby("row", sort=False).agg(["mean", "std"])
    summary: dict[str, Any] = {row["learner"]: {} for row in rows}
    for (learner, name), *numbers in spread.itertuples():
        summary[learner][name] = json_of(dict(zip(("mean", "std"), numbers, strict=True)))
    return summary


def results_of(suite: Suite, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what ``results.json`` holds."""
    groups = {entry.name: entry.group for entry in suite.entries}
    return {"suite": suite.name, "rows": list(rows), "summary": summarise(rows, groups)}


def csv_of(results: Mapping[str, Any]) -> str:
    """Return what ``results.csv`` holds."""
    names = list(dict.fromkeys(n for row in results["rows"] for n in flatten(row["scores"])))
    head = [*("entry", "learner", "model", "seed", "status", "verdict", "seconds")]
    head += ["peak_memory_mb", "reason"]
    rows = [{**row, **flatten(row["scores"])} for row in results["rows"]]
    return pd.DataFrame(rows, columns=[*head, *names]).to_csv(index=False, lineterminator="\n")
