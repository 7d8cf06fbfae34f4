"""The leaderboard of a finished benchmark as a Markdown table, from its ``results.json``."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from popdyn.benchmark.results import flatten


def cell(rows: list[dict[str, Any]], score: str) -> str:
    """Return mean ± standard deviation over seeds, and how many seeds failed."""
    values = [flatten(row["scores"]).get(score) for row in rows if row["status"] == "ok"]
    kept = [v for v in values if v is not None]
    failed = sum(row["status"] != "ok" for row in rows)
    note = f" ({failed} failed)" if failed else ""
    if not kept:
        return "–" + note
    spread = f" ± {statistics.stdev(kept):.3f}" if len(kept) > 1 else ""
    return f"{statistics.fmean(kept):.3f}{spread}{note}"


def main() -> None:
    """Print one line for each entry, one column for each learner, and seconds of a fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results.json of popdyn bench")
    parser.add_argument("--score", default="gradient.potential.skill")
    arguments = parser.parse_args()
    rows = json.loads(arguments.results.read_text())["rows"]
    entries = list(dict.fromkeys(row["entry"] for row in rows))
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    print(f"| {arguments.score} | " + " | ".join(learners) + " |")
    print("|---|" + "---|" * len(learners))
    for entry in entries:
        cells = [
            cell([r for r in rows if (r["entry"], r["learner"]) == (entry, name)], arguments.score)
            for name in learners
        ]
        print(f"| {entry} | " + " | ".join(cells) + " |")
    seconds = []
    for name in learners:
        known = [r["seconds"] for r in rows if r["learner"] == name and r["seconds"] is not None]
        seconds.append(f"{statistics.median(known):.1f} ({max(known):.0f})" if known else "–")
    print("| seconds of a fit: median (most) | " + " | ".join(seconds) + " |")


if __name__ == "__main__":
    main()
