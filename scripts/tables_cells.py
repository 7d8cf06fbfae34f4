"""The table of the suite eb5: distances between predicted and held-out cells, with reference rows.

Every entry of the suite is imported and fitted with the seed, as `popdyn bench eb5` does it, and
scored by the distance of its protocol alone, W₁ or W₂, exact: on all cells, and on 2000 a side.
A line for each fit is appended to `--out`; what stands there already is not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import popdyn
from popdyn.benchmark import load_suite
from popdyn.benchmark.cells import cell_options
from popdyn.benchmark.suite import Entry
from popdyn.scores.prediction import predict_targets
from popdyn.scores.protocol import Protocol
from popdyn.scores.scoring import interpolation
from popdyn.scores.transport import w1, w2

ROWS = ("floor", "copy_previous", "mccann")
SIDES = {"all": None, "2000": 2000}
SCORES = {"leave two out": "w2", "leave one out": "w1", "all": "w1"}


def main() -> None:
    """Fill the file of results, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="eb5")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--entries", help="names with commas; all by default")
    parser.add_argument("--learners", default="ijkonet")
    parser.add_argument("--rows", default=",".join(ROWS), help="reference rows")
    parser.add_argument("--out", default="tables_cells.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    suite, out = load_suite(arguments.suite), Path(arguments.out)
    wanted = arguments.entries.split(",") if arguments.entries else [e.name for e in suite.entries]
    entries = [suite.entry(name) for name in wanted]
    # What is learned first: the reference rows can be filled in later.
    names = (*arguments.learners.split(","), *filter(None, arguments.rows.split(",")))
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for entry in entries:
            for name in names:
                run_one(entry, name, seed, out, suite.options.get(name, {}))
    print_table(entries, names, out)


def run_one(entry: Entry, name: str, seed: int, out: Path, options: Mapping[str, Any]) -> None:
    """Score one row on one entry, unless its line is there."""
    # With all cells on both sides nothing is drawn but the halves of the floor.
    fixed = name in ("copy_previous", "mccann") and not entry_split(entry)
    if any(
        (r["entry"], r["row"]) == (entry.name, name) and (fixed or r["seed"] == seed)
        for r in read(out)
    ):
        return
    data = popdyn.import_data(entry.file, seed=seed, **entry.reading)
    begin, seconds = time.monotonic(), 0.0
    energy = None
    if name not in ROWS:
        given = cell_options(entry, name, options)
        run = popdyn.fit(data, name, hold_out=entry.hold_out, seed=seed, **given)
        energy, seconds = run.energy, time.monotonic() - begin
    record: dict[str, Any] = {"entry": entry.name, "group": entry.group, "row": name, "seed": seed}
    record["seconds"] = round(seconds, 1)
    record["score"] = SCORES[entry.group]
    distance = {"w1": w1, "w2": w2}[record["score"]]
    for side, points in SIDES.items():
        protocol = Protocol(data, entry.hold_out, points, seed=seed)
        predict, observe = sides(name, energy, protocol)
        values: list[float] = []
        for k in protocol.targets:
            found = predict(k)
            if found is None:  # nothing later was observed
                values.append(float("nan"))
                continue
            x, weights = found
            values.append(round(distance(x, observe(k), weights), 5))
        record[side] = values
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(record, flush=True)


def sides(name: str, energy: Any, protocol: Protocol) -> tuple[Callable[[int], Any], Any]:
    """Return what gives the prediction of a snapshot, and what it is compared with."""

    def target(k: int) -> np.ndarray:
        return protocol.sample(k, "target")

    if name == "floor":
        return lambda k: (protocol.halves(k)[0], None), lambda k: protocol.halves(k)[1]
    if name == "copy_previous":
        return lambda k: (protocol.sample(protocol.before(k), "start"), None), target
    if name == "mccann":
        return lambda k: interpolation(protocol, k), target
    predicted = predict_targets(energy, protocol)
    return lambda k: (predicted[k], None), target


def entry_split(entry: Entry) -> bool:
    """Whether an entry's cells are split at random."""
    return bool((entry.source or {}).get("test_fraction", 0.2))


def read(out: Path) -> list[dict[str, Any]]:
    """Return the lines that are there."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def print_table(entries: list[Entry], names: tuple[str, ...], out: Path) -> None:
    """Print mean ± standard deviation over seeds: each entry, then the mean of its group."""
    rows = read(out)
    columns: list[tuple[str, list[str], str]] = []
    for group in dict.fromkeys(e.group for e in entries):
        mine = [e.name for e in entries if e.group == group]
        score = SCORES[group]
        columns += [(f"{name} {score}", [name], "all") for name in mine if len(mine) > 1]
        columns += [(f"{group}: mean {score}, {side}", mine, side) for side in SIDES]
    print("| row | " + " | ".join(c[0] for c in columns) + " | seconds |")
    print("|---|" + "---|" * (len(columns) + 1))
    for name in names:
        cells = [summary(rows, name, mine, side) for _, mine, side in columns]
        seconds = [r["seconds"] for r in rows if r["row"] == name and r["seconds"]]
        took = f"{np.mean(seconds):.0f}" if seconds else "–"
        print(f"| {name} | " + " | ".join(cells) + f" | {took} |")


def summary(rows: list[dict[str, Any]], name: str, entries: list[str], side: str) -> str:
    """Return mean ± standard deviation over seeds of a row's mean over entries and times."""
    by_entry = [
        {r["seed"]: float(np.mean(r[side])) for r in rows if (r["entry"], r["row"]) == (e, name)}
        for e in entries
    ]
    shared = sorted(set.intersection(*(set(v) for v in by_entry)))
    if not shared or any(np.isnan(v[seed]) for v in by_entry for seed in shared):
        return "–"
    values = [np.mean([v[seed] for v in by_entry]) for seed in shared]
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
