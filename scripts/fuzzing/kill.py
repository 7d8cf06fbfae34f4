"""Kills of every command: the old is intact or the new whole, and running again ends the same."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from fuzzing.children import Kill, Outcome, ask, popdyn
from fuzzing.content import content, files_below
from fuzzing.goods import TRAIN
from fuzzing.tries import Kind, Place, Verdict, hygiene, shown

__all__ = ["KILL"]

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
DRAWS = 4
"""Times that a kill is drawn anew, earlier, where the command was done before it."""
TIMEOUT = 240.0


@dataclass(frozen=True)
class Scenario:
    """A command that is killed.

    Attributes:
        words: The command.
        target: What it writes; empty where it only reads.
        copies: Goods that it reads or changes.
        old: What lies at the target before, of the goods; then ``--overwrite`` is given.
        again: What is added when it runs again.
        workers: Whether it has helpers.
    """

    words: tuple[object, ...]
    target: str
    copies: tuple[str, ...]
    old: str = ""
    again: tuple[str, ...] = ()
    workers: bool = False

    @property
    def line(self) -> tuple[object, ...]:
        return (*self.words, *(("--overwrite",) if self.old else ()))


def _over(scenario: Scenario, old: str) -> Scenario:
    return dataclasses.replace(scenario, old=old, again=())


SIMULATE = Scenario(
    (
        *("simulate", "--potential", "styblinski_tang", "--particles", 6000, "--snapshots", 4),
        *("--block", 1000, "--out", "new.zarr"),
    ),
    "new.zarr",
    (),
)
SUITE = Scenario(
    ("simulate", "--suite", "suite.toml", "--out", "stores"), "stores", ("suite.toml",)
)
IMPORT = Scenario(("import", "cells.npz", "--out", "new.zarr"), "new.zarr", ("cells.npz",))
PREDICT = Scenario(
    (
        *("predict", "run_features", "--data", "store.zarr", "--times", "0.005,0.01,0.02"),
        *("--out", "new.zarr"),
    ),
    "new.zarr",
    ("run_features", "store.zarr"),
)
PLOT = Scenario(
    (
        *("plot", "run_features", "--data", "store.zarr", "--only", "potential"),
        *("--only", "training", "--out", "new"),
    ),
    "new",
    ("run_features", "store.zarr"),
)
BENCH = Scenario(
    ("bench", "suite.toml", "--learners", "zero,weak_form", "--out", "new"),
    "new",
    ("suite.toml",),
    workers=True,
)
BENCH_2 = dataclasses.replace(BENCH, words=(*BENCH.words, "--workers", 2))


def _train(name: str) -> Scenario:
    words = ("train", "store.zarr", "--out", "new", *TRAIN[name])
    workers = name == "ensemble"
    return Scenario(words, "new", ("store.zarr",), again=("--resume",), workers=workers)


def _export(target: str) -> Scenario:
    return Scenario(("export", "store.zarr", "--out", target), target, ("store.zarr",))


INTO = Scenario(
    (
        *("export", "run_cells", "--data", "cells.zarr", "--into", "cells.h5ad"),
        *("--to-h5ad", "new.h5ad"),
    ),
    "new.h5ad",
    ("run_cells", "cells.zarr", "cells.h5ad"),
)

SCENARIOS = {
    "simulate": SIMULATE,
    "simulate --overwrite": _over(SIMULATE, "other.zarr"),
    "simulate --workers 2": dataclasses.replace(
        SIMULATE, words=(*SIMULATE.words, "--workers", 2), workers=True
    ),
    "simulate --suite": SUITE,
    "import": IMPORT,
    "import --overwrite": _over(IMPORT, "other.zarr"),
    "train": _train("features"),
    "train --overwrite": _over(_train("features"), "other_features"),
    "train, a network": _train("network"),
    "train --overwrite, a network": _over(_train("network"), "other_network"),
    "train --ensemble": _train("ensemble"),
    "train --ensemble --overwrite": _over(_train("ensemble"), "run_weak_form"),
    "predict": PREDICT,
    "predict --overwrite": _over(PREDICT, "other.zarr"),
    "export to .npz": _export("new.npz"),
    "export to .npz --overwrite": _over(_export("new.npz"), "exported.npz"),
    "export to .h5ad --overwrite": _over(_export("new.h5ad"), "exported.h5ad"),
    "export to a folder": _export("new"),
    "export to a folder --overwrite": _over(_export("new"), "exported"),
    "export of a run": INTO,
    "export of a run --overwrite": _over(INTO, "exported.h5ad"),
    "plot": dataclasses.replace(PLOT, again=("--overwrite",)),
    "plot --overwrite": _over(PLOT, "figures"),
    "bench": BENCH,
    "bench --workers 2": BENCH_2,
    "bench --workers 2 --overwrite": _over(BENCH_2, "other_bench"),
    "score": Scenario(
        ("score", "run_features", "--data", "store.zarr"), "", ("run_features", "store.zarr")
    ),
    "inspect": Scenario(("inspect", "store.zarr"), "", ("store.zarr",)),
    "validate": Scenario(("validate", "store.zarr"), "", ("store.zarr",)),
}


def attempt(row: str, index: int, place: Place) -> Verdict:
    """Kill a command at a random place, look at what is there, and run it again."""
    scenario, rng = SCENARIOS[row], place.rng
    known = _reference(row, next(iter(place.goods.values())).parent)
    share = 1.0
    number = rng.choice(SIGNALS)
    for draw in range(DRAWS):
        folder = place.folder / str(draw)
        folder.mkdir()
        _lay_out(scenario, place.goods, folder)
        before = files_below(folder)
        kill = _draw(known, number, share, rng)
        done = popdyn(*_line(scenario), cwd=folder, kill=kill, timeout=TIMEOUT, before=_often)
        if done.killed and done.code != 0:
            break
        share *= 0.6
    command = f"{shown(scenario.line)}  [{kill}]"
    if done.left:
        return Verdict("process left", True, "; ".join(done.left), command)
    if not (done.killed and done.code != 0):
        breach = hygiene(done)
        return Verdict("error", True, breach, command) if breach else Verdict("done before")
    if breach := hygiene(done, killed=True):
        return Verdict("error", True, breach, command)
    if number != signal.SIGKILL and (done.code or 0) < 0:
        return Verdict("no clean end", True, f"status {done.code}", command)
    return dataclasses.replace(_judge(scenario, known, before, folder), command=command)


def _judge(
    scenario: Scenario, known: dict[str, Any], before: dict[str, tuple[str, str]], folder: Path
) -> Verdict:
    """Look at what a kill has left, and run the command again."""
    after = files_below(folder)
    touched = [
        p for p, what in before.items() if not _below(p, scenario.target) and after.get(p) != what
    ]
    if touched:
        return Verdict("LOST", True, f"changed or gone: {', '.join(touched[:4])}")
    if not scenario.target:
        return Verdict("untouched")
    target = folder / scenario.target
    state = ask(content, str(target), cwd=folder) if target.exists() else None
    found = state.answer if state is not None and state.code == 0 else None
    if state is not None and state.code != 0 and "Traceback" in state.err and scenario.old:
        return Verdict("LOST", True, f"the old is half gone: {state.last_line[:160]}")
    if found == known["content"]:
        outcome = "new, whole"
    elif scenario.old and found == known["old"]:
        outcome = "old, intact"
    elif scenario.words[0] == "plot" and _each_whole(target, known):
        outcome = "some new, all whole"  # each figure is a file of its own
    elif scenario.old and scenario.words[0] != "bench":
        if state is not None:
            return Verdict("LOST", True, f"neither old nor new: {state.last_line[:160]}")
        outcome = "old, set aside"
    else:
        outcome = "unfinished"
    if outcome != "new, whole":
        again = popdyn(
            *_line(scenario), *scenario.again, cwd=folder, timeout=TIMEOUT, before=_often
        )
        if breach := hygiene(again):
            return Verdict("error", True, f"again: {breach}")
        if again.code != 0:
            return Verdict("blocked", True, f"{outcome}; again: {again.last_line[:200]}")
        read = ask(content, str(target), cwd=folder)
        if read.code != 0 or read.answer != known["content"]:
            return Verdict("OTHER", True, f"{outcome}; again: other content {read.last_line[:160]}")
    if outcome != "new, whole":
        started = {p.split("/")[0] for p in before} | {scenario.target}
        litter = sorted({p.split("/")[0] for p in files_below(folder)} - started)
        litter += [p for p in files_below(target) if p.endswith(".popdyn")]
        if litter:
            return Verdict("litter", True, f"{outcome}, again; left: {', '.join(litter)}")
    return Verdict(outcome)


def _each_whole(folder: Path, known: dict[str, Any]) -> bool:
    """Return whether every figure is an old one or a new one, bit for bit."""
    found = {name: list(what) for name, what in files_below(folder).items()}
    # What a workshop or a hidden name holds is no figure yet.
    found = {
        name: what
        for name, what in found.items()
        if Path(name).suffix == ".png" and not name.startswith(".") and what[0] == "file"
    }
    found = {name: what for name, what in found.items() if "/" not in name}
    if not found or not {n for n in known["old files"] if n.endswith(".png")} <= found.keys():
        return False
    whole = [known["old files"], known["new files"]]
    return all(any(files.get(name) == what for files in whole) for name, what in found.items())


def _below(path: str, target: str) -> bool:
    return bool(target) and (path == target or path.startswith(f"{target}/"))


def _line(scenario: Scenario) -> tuple[object, ...]:
    if "--ensemble" in scenario.words and _has_workers():
        return (*scenario.line, "--workers", 2)
    return scenario.line


@functools.cache
def _has_workers() -> bool:
    from popdyn.cli.train import command

    return any("--workers" in parameter.opts for parameter in command.params)


def _often() -> None:
    """Write a checkpoint after every step that a learner reports, and not each ten seconds."""
    from popdyn.learners.training import Workplace

    names = [f.name for f in dataclasses.fields(Workplace)]
    if "checkpoint_seconds" in names and (defaults := Workplace.__init__.__defaults__):
        at = names.index("checkpoint_seconds") - len(names)
        changed = list(defaults)
        changed[at] = 0.05
        Workplace.__init__.__defaults__ = tuple(changed)


def _draw(known: dict[str, Any], number: int, share: float, rng: random.Random) -> Kill:
    changes, removals = known["changes"]
    group = number in (signal.SIGINT, signal.SIGHUP) and rng.random() < 0.5
    way = rng.random()
    if way < 0.25 and removals:
        return Kill(number, event=int(share * rng.randrange(removals)), removing=True, group=group)
    if way < 0.5 and changes:
        return Kill(number, event=int(share * rng.randrange(changes)), group=group)
    after = 0.02 + share * rng.random() * float(known["seconds"])
    return Kill(number, after=after, group=group)


def _lay_out(scenario: Scenario, goods: Mapping[str, Path], folder: Path) -> None:
    for name in scenario.copies:
        _copy(goods[name], folder / name)
    if scenario.old:
        _copy(goods[scenario.old], folder / scenario.target)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)


@functools.cache
def _reference(row: str, root: Path) -> dict[str, Any]:
    """Run the command undisturbed, once for all workers; return content, seconds, changes.

    Raises:
        RuntimeError: If it fails, or leaves something behind.
    """
    scenario = SCENARIOS[row]
    name = "".join(c if c.isalnum() else "_" for c in row)
    folder = root.parent / "references"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.json"
    with FileLock(folder / f"{name}.lock"):
        if file.exists():
            return dict(json.loads(file.read_text()))
        place = folder / name
        place.mkdir()
        goods = {path.name: path for path in root.iterdir()}
        _lay_out(scenario, goods, place)
        old_files = files_below(place / scenario.target) if scenario.old else {}
        old = _content(place / scenario.target, place) if scenario.old else None
        done = popdyn(*_line(scenario), cwd=place, timeout=TIMEOUT, before=_often)
        if done.code != 0 or done.left:
            raise RuntimeError(f"'{shown(scenario.line)}': {done.err[-300:]} {done.left}")
        found = _content(place / scenario.target, place) if scenario.target else None
        known: dict[str, Any] = {
            "content": found,
            "old": old,
            "seconds": done.seconds,
            "changes": done.changes,
            "old files": old_files,
            "new files": files_below(place / scenario.target) if scenario.target else {},
        }
        file.write_text(json.dumps(known))
        return dict(json.loads(file.read_text()))


def _content(path: Path, cwd: Path) -> object:
    done: Outcome = ask(content, str(path), cwd=cwd)
    if done.code != 0:
        raise RuntimeError(f"'{path}' cannot be read: {done.err[-300:]}")
    return done.answer


KILL = Kind(
    "kill",
    "SIGKILL, SIGTERM, SIGINT and SIGHUP at random times, and before random changes of files",
    "something lost or half written, a rerun that ends in other bits or is blocked, a process or a "
    "file left behind",
    tuple(SCENARIOS),
    18,
    (
        *("store", "other", "cells", "suite", "run_features", "run_weak_form", "other_features"),
        *("other_network", "run_cells", "outputs", "other_bench"),
    ),
    attempt,
)
