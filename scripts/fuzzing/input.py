"""Degenerate inputs of every kind: a result, or one line that says what was found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fuzzing import hostile
from fuzzing.children import TIMEOUT, Outcome, ask, popdyn
from fuzzing.tries import Kind, Place, Verdict, hygiene, shown

__all__ = ["INPUT"]

SMALL = ("--particles", 40, "--snapshots", 3)
SIMULATE = ("simulate", "--potential", "styblinski_tang", *SMALL)
LEARN: tuple[tuple[object, ...], ...] = (
    ("--learner", "weak_form"),
    ("--learner", "weak_form", "--learn", "potential,diffusion"),
    ("--learner", "weak_form", "--learn", "potential,interaction,diffusion"),
    ("--learner", "weak_form", "--time-varying"),
    ("--model", "features"),
    ("--model", "features", "--learn", "potential,diffusion"),
    ("--model", "network", "--steps", 8, "--every", "4"),
    ("--inner", "proximal", "--steps", 5),
    ("--inner", "network", "--steps", 5),
    ("--learner", "jkonet_star"),
    ("--learner", "weak_form", "--ensemble", 2),
)
Row = Callable[[Place], Verdict]


class StepError(Exception):
    """A step of a try that was refused, or that failed: nothing follows it."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.outcome)
        self.verdict = verdict


def _step(place: Place, *words: object, show: str = "", environment: Any = None) -> Outcome:
    """Run one command and hold it to what every command must do.

    Raises:
        StepError: If it was refused, or did what none may do.
    """
    as_json = "--json" in words
    done = popdyn(*words, cwd=place.folder, environment=environment)
    return _judge(done, shown(words), as_json, place.folder, show)


def _judge(done: Outcome, command: str, as_json: bool, folder: Path, show: str = "") -> Outcome:
    breach = hygiene(done, as_json=as_json)
    if not breach and done.left:
        breach = f"left: {done.left}"
    if not breach:
        breach = _written(folder)
    said = "".join((done.out + done.err).split())
    if not breach and show and "".join(show.split()) not in said:
        breach = f"'{show}' is not printed as it is: {(done.err + done.out)[:200]!r}"
    if breach:
        raise StepError(Verdict(_word(breach), True, breach, command))
    if done.code:
        raise StepError(Verdict("refused", detail=done.last_line[:300], command=command))
    return done


def _word(breach: str) -> str:
    for part, word in (
        ("no end", "hangs"),
        ("traceback", "traceback"),
        ("unexpected", "unexpected"),
        ("in JSON", "NaN in JSON"),
        ("control", "control characters"),
        ("not printed", "swallowed"),
    ):
        if part in breach:
            return word
    return "error"


def _written(folder: Path) -> str:
    """Return what is no JSON among the files that popdyn wrote."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} in JSON")

    for name in ("run.json", "config.json", "results.json", "cell.json", "popdyn.json"):
        for file in folder.rglob(name):
            if "mine" in file.parts:
                continue
            try:
                json.loads(file.read_text(), parse_constant=refuse)
            except ValueError as error:
                return f"{error} of {file.relative_to(folder)}"
    return ""


def _after(place: Place, store: str, learn: Sequence[object] | None = None) -> Verdict:
    """Go the whole way with a store that was taken: inspect, train, score, predict or plot."""
    rng = place.rng
    learn = learn or rng.choice(LEARN)
    _step(place, "inspect", store, "--json")
    _step(place, "train", store, "--out", "run", *learn, "--json")
    _step(place, "score", "run", "--points", 50, "--json")
    last = rng.choice(
        (
            ("predict", "run", "--times", _late(place, store), "--out", "p.zarr", "--json"),
            ("plot", "run", "--only", rng.choice(("potential", "force", "training")), "--out", "f"),
            ("export", "run", "--to-h5ad", "run.h5ad", "--json"),
            ("score", "run", "--points", 50),
        )
    )
    _step(place, *last)
    return Verdict("done", command=shown(("train", store, *learn)))


def _late(place: Place, store: str) -> str:
    from popdyn.snapshots import open_snapshots, times

    def last() -> list[float]:
        return [float(t) for t in times(open_snapshots(store))]

    done = ask(last, cwd=place.folder)
    t = done.answer
    return repr(t[-2] + 0.5 * (t[-1] - t[-2]))


def tables(place: Place) -> Verdict:
    """A .csv or .parquet that somebody made by hand."""
    name, keys = hostile.table(place.folder, place.rng)
    _step(place, "import", name, "--out", "a.zarr", *keys, "--json")
    return _after(place, "a.zarr", ("--learner", "weak_form"))


def arrays(place: Place) -> Verdict:
    """An .npz, a .npy or a folder of arrays of any type and shape."""
    name, keys = hostile.arrays(place.folder, place.rng)
    _step(place, "import", name, "--out", "a.zarr", *keys, "--json")
    return _after(place, "a.zarr", ("--learner", "weak_form"))


def annotated(place: Place) -> Verdict:
    """An AnnData file or store with something odd in it."""
    name, keys = hostile.annotated(place.folder, place.rng)
    _step(place, "import", name, "--out", "a.zarr", *keys)
    return _after(place, "a.zarr", ("--learner", "weak_form"))


def import_options(place: Place) -> Verdict:
    """Options of ``import`` out of every range."""
    shutil.copyfile(place.goods["cells.npz"], place.folder / "cells.npz")
    keys = hostile.import_options(place.rng)
    _step(place, "import", "cells.npz", "--out", "a.zarr", *keys, "--json")
    return _after(place, "a.zarr", ("--learner", "weak_form"))


def populations(place: Place) -> Verdict:
    """Cells that are numbers as they should be, of a population that is none."""
    import numpy as np

    said, x, labels = hostile.population(place.rng)
    np.savez(place.folder / "cells.npz", pcs=x, sample_labels=labels)
    scale = place.rng.choice(("none", "none", "component", "global"))
    keys = ("--standardize", scale) if scale == "component" else ()
    _step(place, "import", "cells.npz", "--out", "a.zarr", *keys, "--json")
    verdict = _after(place, "a.zarr")
    verdict.detail = said
    return verdict


def simulate_options(place: Place) -> Verdict:
    """Sizes, times, steps and parameters out of every range."""
    words = hostile.simulate_options(place.rng)
    _step(place, "simulate", *words, "--out", "a.zarr", "--json")
    _step(place, "validate", "a.zarr", "--json")
    return Verdict("done", command=shown(("simulate", *words)))


def initial_laws(place: Place) -> Verdict:
    """Initial laws: files of any kind, and parameters out of range."""
    words = hostile.initial_law(place.folder, place.rng)
    _step(place, "simulate", "--potential", "quadratic", *SMALL, *words, "--out", "a.zarr")
    _step(place, "validate", "a.zarr", "--json")
    return Verdict("done", command=shown(("simulate", *words)))


def train_options(place: Place) -> Verdict:
    """Options of learners with values of any kind, and TOML files of them."""
    shutil.copytree(place.goods["small.zarr"], place.folder / "a.zarr")
    words = hostile.train_options(place.folder, place.rng)
    _step(place, "train", "a.zarr", "--out", "run", *words, "--json")
    _step(place, "score", "run", "--points", 50, "--json")
    return Verdict("done", command=shown(("train", *words)))


def suites(place: Place) -> Verdict:
    """Suites of a user's own, with mistakes."""
    hostile.suite(place.folder, place.rng)
    if place.rng.random() < 0.6:
        _step(place, "simulate", "--suite", "suite.toml", "--out", "stores", "--json")
    else:
        words = ("bench", "suite.toml", "--learners", "zero", "--out", "out", "--json")
        _step(place, *words)
    return Verdict("done")


def names(place: Place) -> Verdict:
    """Paths, names and titles with markup, control characters and letters of every script."""
    rng = place.rng
    name = hostile.name(rng)
    folder = place.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    store = f"{name}/a.zarr"
    clean = "" if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name) else name
    if not name.isprintable():
        clean = ""
    which = rng.randrange(5)
    if which == 0:
        _step(place, *SIMULATE, "--out", store, show=clean)
        _step(place, "inspect", store)
        _step(place, "validate", store, show=clean)
        _step(place, "train", store, "--out", f"{name}/run", "--learner", "zero", show=clean)
        _step(place, "score", f"{name}/run")
        only = ("--only", "potential")
        _step(place, "plot", f"{name}/run", *only, "--out", f"{name}/figs", show=clean)
    elif which == 1:
        words = rng.choice((("inspect",), ("train",), ("score",), ("validate",), ("import",)))
        out = ("--out", f"{name}/x") if words[0] in ("train", "import") else ()
        _step(place, *words, f"{name}/nothing", *out, show=clean)
    elif which == 2:
        words = rng.choice(
            (
                ("train", "x", "--out", "y", "--learner", name),
                ("simulate", "--potential", name, "--out", "y"),
                ("list", name),
                (name,),
                ("simulate", "--potential", "flat", f"--{name}", "--out", "y"),
                ("simulate", "--potential", "flat", "--potential-param", f"{name}=1", "--out", "y"),
                ("train", "x", "--out", "y", f"--{name}", name),
                ("bench", name, "--out", "y"),
            )
        )
        _step(place, *words)
    elif which == 3:
        hostile.titled_store(place.folder, name)
        _step(place, "inspect", "titled.zarr")
        _step(place, "train", "titled.zarr", "--out", "run", "--learner", "zero")
        _step(place, "score", "run")
    else:
        text = hostile.SUITE.replace("a bowl", json.dumps(name)[1:-1], 1)
        (place.folder / "suite.toml").write_text(text)
        words = ("bench", "suite.toml", "--learners", "zero", "--entries", "bowl", "--out", "out")
        _step(place, *words)
        report = (place.folder / "out" / "report.html").read_text()
        if "<script>alert" in report:
            raise StepError(Verdict("swallowed", True, "markup of a suite is run by its report"))
    return Verdict("done", detail=repr(name))


def of_runs(place: Place) -> Verdict:
    """Options of ``predict``, ``score``, ``plot`` and ``export`` out of every range."""
    for name in ("run_small", "small.zarr"):
        shutil.copytree(place.goods[name], place.folder / name)
    words = hostile.of_runs(place.rng)
    _step(place, *words)
    return Verdict("done", command=shown(words))


def wrong_things(place: Place) -> Verdict:
    """A run where a store is meant, a folder, a picture, a device, nothing at all."""
    words = hostile.wrong_thing(place.folder, place.goods, place.rng)
    _step(place, *words)
    return Verdict("done", command=shown(words))


def command_lines(place: Place) -> Verdict:
    """Words of the command line in any order and number."""
    words = hostile.command_line(place.rng)
    _step(place, *words)
    return Verdict("done", command=shown(words))


def python(place: Place) -> Verdict:
    """Calls from Python with NumPy's scalars, and hosts that changed the state of torch."""
    said, function = hostile.call(place.rng)
    done = ask(function, cwd=place.folder, timeout=TIMEOUT)
    _judge(done, said, False, place.folder)
    return Verdict("done", command=said)


def surroundings(place: Place) -> Verdict:
    """Closed streams, locales, widths and folders of every host."""
    rng = place.rng
    for name in ("run_small", "small.zarr"):
        shutil.copytree(place.goods[name], place.folder / name)
    words, redirection, environment = hostile.surroundings(rng)
    if not redirection:
        _step(place, *words, environment=environment)
        return Verdict("done", command=f"{environment} {shown(words)}")
    line = f'"{sys.executable}" -m {shown(words)} {redirection}'
    begun = subprocess.run(
        ["bash", "-c", line],
        cwd=place.folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    done = Outcome(begun.returncode, begun.stdout, begun.stderr, 0.0)
    if "2>&-" in redirection and done.code in (1, 2):
        return Verdict("refused", command=line)
    _judge(done, line, False, place.folder)
    return Verdict("done", command=line)


ROWS: dict[str, Row] = {
    "tables": tables,
    "arrays": arrays,
    "AnnData": annotated,
    "import's options": import_options,
    "populations": populations,
    "populations, again": populations,
    "simulate's options": simulate_options,
    "initial laws": initial_laws,
    "train's options": train_options,
    "suites": suites,
    "names and titles": names,
    "options of runs": of_runs,
    "wrong things": wrong_things,
    "command lines": command_lines,
    "calls from Python": python,
    "surroundings": surroundings,
}


def attempt(row: str, index: int, place: Place) -> Verdict:
    """Draw an input of the row's kind and go as far with it as popdyn goes."""
    try:
        return ROWS[row](place)
    except StepError as stop:
        return stop.verdict


INPUT = Kind(
    "input",
    "Degenerate files, sizes, times, types, names, options, calls and surroundings",
    '"unexpected …", a traceback, a status other than 0, 1, 2, more than 60 s, text swallowed, '
    "control characters on the terminal, NaN in JSON",
    tuple(ROWS),
    28,
    ("cells", "small", "run_small"),
    attempt,
)
