"""The command lines that make a bench, or one cell of it, again."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from popdyn.base.options import Options, options_in
from popdyn.benchmark.cells import Cell
from popdyn.benchmark.stores import experiments
from popdyn.benchmark.suite import Entry, Suite
from popdyn.benchmark.variants import learner_of
from popdyn.learners import LEARNERS
from popdyn.simulation import SimulationOptions
from popdyn.snapshots.cells import ImportOptions

__all__ = ["bench_command", "reproduce"]


def reproduce(cell: Cell) -> list[str]:
    """Return the lines that make a cell's store, run and scores again, on one thread as it was.

    Example:
        >>> from popdyn.benchmark.suite import Entry
        >>> entry = Entry("flat", energy={"potential": "flat"}, simulation={"particles": 50})
        >>> for line in reproduce(Cell(entry, "zero", 0, {}, {"points": 20})):
        ...     print(line)
        export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
        popdyn simulate --potential flat --particles 50 --seed 0 --out flat-seed0.zarr
        popdyn train flat-seed0.zarr --learner zero --seed 0 --threads 1 --out flat-zero-seed0
        popdyn score flat-zero-seed0 --points 20 --seed 0
    """
    run, seed = cell.name, ["--seed", str(cell.seed)]
    own = experiments(cell.entry, cell.data, cell.seed)
    stores = [store for _, store, _ in own]
    score: list[str] = []
    for name, value in cell.score.items():
        if (name, value) != ("from_", "previous"):
            score += [f"--{name.rstrip('_')}", str(value)]
    held = ",".join(map(str, cell.entry.hold_out))
    learner = learner_of(cell.learner)
    lines = [
        *([*_data(entry), "--seed", str(s), "--out", store] for entry, store, s in own),
        [
            *("popdyn", "train", *stores, "--learner", learner, *seed, "--threads", "1"),
            *(["--hold-out", held] if held else []),
            *_flags(cell.options, LEARNERS[learner].options),
            *("--out", run),
        ],
        ["popdyn", "score", run, *score, *seed],
    ]
    return ["export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1", *map(shlex.join, lines)]


def bench_command(
    suite: Suite,
    out: str | os.PathLike[str],
    learners: Sequence[str],
    *,
    seeds: int,
    entries: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    points: int | str | None = None,
) -> str:
    """Return the command line of a whole bench; arguments are those of ``bench``."""
    line = ["popdyn", "bench", suite.name if suite.packaged else str(suite.path)]
    line += ["--learners", ",".join(learners), "--seeds", str(seeds)]
    line += ["--entries", ",".join(entries)] if entries else []
    for learner, given in (options or {}).items():
        for name, value in given.items():
            line += ["--option", f"{learner}.{name}={json.dumps(value)}"]
    line += [] if points is None else ["--points", str(points)]
    return shlex.join([*line, "--out", os.fspath(out)])


def _data(entry: Entry) -> list[str]:
    if entry.source is not None:
        out = ["popdyn", "import", str(entry.source["file"])]
        return out + _flags(entry.reading, ImportOptions)
    return ["popdyn", "simulate", *_flags({**entry.energy, **entry.simulation}, SimulationOptions)]


def _flags(values: Mapping[str, Any], kind: type[Options] = Options) -> list[str]:
    off = {option.name: option.off for option in options_in(kind).values()}
    out = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if name.endswith("_params"):
            for key, part in value.items():
                out += [flag.removesuffix("s"), f"{key}={json.dumps(part)}"]
        elif name == "time_map":
            out += [flag, ",".join(f"{k}={v}" for k, v in value.items())]
        elif value is None:
            continue
        elif isinstance(value, bool):
            out += [flag] if value else [f"--{off[name]}"] if name in off else []
        elif isinstance(value, Sequence) and not isinstance(value, str):
            out += [flag, ",".join(map(str, value))]
        else:
            out += [flag, str(value)]
    return out
