"""Every command that writes, among things of the user's: none of them may change."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fuzzing.children import Kill, popdyn
from fuzzing.content import files_below
from fuzzing.tries import Kind, Place, Verdict, hygiene, shown

__all__ = ["REMOVAL"]

# What users have, under names that popdyn may hold for its own. No litter of file systems.
POOL: dict[str, str] = {
    "config.json": '{"name": "site", "version": "1.0"}',
    "run.json": '{"script": "npm run build"}',
    "suite.json": '{"tests": ["a", "b"]}',
    "results.json": "[1, 2, 3]",
    "results.csv": "a,b\n1,2\n",
    "report.html": "<p>mine",
    "zarr.json": '{"zarr_format": 3, "node_type": "group", "attributes": {}}',
    ".zgroup": '{"zarr_format": 2}',
    "popdyn.json": '{"popdyn": "mine"}',
    "metrics.jsonl": '{"mine": 1}\n',
    "weights.safetensors": "the user's weights",
    "checkpoint.safetensors": "the user's checkpoint",
    "data.npy": "\x93NUMPY the user's",
    "sample_labels.npy": "\x93NUMPY the user's",
    "times.npy": "\x93NUMPY the user's",
    "force.png": "a photograph",
    "potential.png": "a photograph",
    "training.png": "a photograph",
    "animation.gif": "a photograph",
    "thesis.tex": "\\documentclass{article}",
    ".git/config": "[core]",
    ".lock": "mine",
    "lock": "mine",
    "a.lock": "mine",
    "new/work.txt": "mine",
    "old/work.txt": "mine",
    "cells/.hidden/note.txt": "mine",
    "cells/a/cell.json": '{"mine": 1}',
    "cells/bowl-zero-seed0/notes.md": "mine",
    "stores/a.zarr/zarr.json": '{"zarr_format": 3, "node_type": "group"}',
    "references/a.json": "{}",
    "train/x/c/0/0/0": "mine",
    "x.partial/a.txt": "mine",
    "x.popdyn/a.txt": "mine",
}
NEIGHBOURS = (
    *("{}.lock", "{}.partial/", "{}.replaced/", "{}.part", "{}.new", "{}.new/"),
    *("{}.old/", "{}.tmp", "{}~", ".{}.lock", ".{}.partial/", ".{}.popdyn/", ".{}.new", "{}.json"),
    *("popdyn.lock", "popdyn.json", "{}.popdyn-new/"),
)
# Something at the place of popdyn's own sibling: then nothing is written at all.
WORKSHOP = ("{}.popdyn/", "{}.popdyn", "{}.popdyn/new/", "{}.popdyn/old/")
NAMES = ("poetry", "res", "old", "out.zarr", "run", "figs", "a b", "ünï", "x[/b]y", "data")

# Words before the target, the suffixes a target needs, popdyn's own outputs of that kind, and
# flags that a try may add.
COMMANDS: dict[str, tuple[tuple[object, ...], str, tuple[str, ...], tuple[str, ...]]] = {
    "simulate": (
        ("simulate", "--potential", "flat", "--particles", 20, "--snapshots", 2, "--out"),
        "",
        ("store.zarr", "cells.zarr"),
        (),
    ),
    "simulate --suite": (("simulate", "--suite", "in/suite.toml", "--out"), "", (), ()),
    "import": (("import", "in/cells.npz", "--out"), "", ("store.zarr", "cells.zarr"), ()),
    "train": (
        ("train", "in/store.zarr", "--learner", "zero", "--out"),
        "",
        ("run_zero", "run_cells"),
        ("--resume",),
    ),
    "train weak_form": (
        ("train", "in/store.zarr", "--learner", "weak_form", "--out"),
        "",
        ("run_zero", "run_cells"),
        ("--resume",),
    ),
    "predict": (
        ("predict", "in/run_zero", "--data", "in/store.zarr", "--times", "0.01", "--out"),
        "",
        ("store.zarr", "cells.zarr"),
        (),
    ),
    "export to a folder": (("export", "in/store.zarr", "--out"), "", ("exported",), ()),
    "export to a file": (
        ("export", "in/store.zarr", "--out"),
        ".npz .h5ad",
        ("exported.npz", "exported.h5ad", "exported"),
        (),
    ),
    "export of a run": (
        ("export", "in/run_cells", "--data", "in/cells.zarr", "--into", "in/cells.h5ad", "--out"),
        ".h5ad",
        ("exported.h5ad", "exported"),
        (),
    ),
    "plot": (
        ("plot", "in/run_zero", "--data", "in/store.zarr", "--only", "potential", "--out"),
        "",
        ("figures",),
        (),
    ),
    "bench": (
        ("bench", "in/suite.toml", "--learners", "zero", "--entries", "bowl", "--out"),
        "",
        ("bench",),
        (),
    ),
}
OUTPUTS = ("store.zarr", "run_zero", "figures", "exported", "bench", "exported.npz")
INPUTS = (
    *("store.zarr", "cells.zarr", "run_zero", "run_cells", "cells.npz", "cells.h5ad"),
    "suite.toml",
)
TARGETS = {
    "absent": 4,
    "folder": 8,
    "file": 2,
    "empty folder": 1,
    "link to a folder": 2,
    "link to an output": 2,
    "dangling link": 1,
    ".": 1,
    "..": 1,
    "input": 3,
    "above an input": 1,
    "inside an input": 1,
    "output": 5,
    "output and a file": 5,
    "another output": 3,
    "holds the input": 2,
}


def attempt(row: str, index: int, place: Place) -> Verdict:
    """Lay out things of the user's, run the command among them, and look what is left."""
    rng, goods = place.rng, place.goods
    words, suffixes, own, flags = COMMANDS[row]
    work = place.folder / "home" / "work"
    (work / "in").mkdir(parents=True)
    for name in INPUTS:
        _copy(goods[name], work / "in" / name)
    _things(work, rng, 3)
    _things(place.folder / "home", rng, 2)
    kind = rng.choices(list(TARGETS), list(TARGETS.values()))[0]
    name = rng.choice(NAMES) + (rng.choice(suffixes.split()) if suffixes else "")
    words = list(words)
    target, expendable = _target(kind, name, work, own, goods, rng, words)
    for pattern in (*NEIGHBOURS, *WORKSHOP):
        likely = 0.03 if pattern in WORKSHOP else 0.25
        if rng.random() < likely and target not in (".", ".."):
            beside = (work / target).parent / pattern.format(Path(target).name)
            _neighbour(beside, pattern.endswith("/"), rng)
    arguments = [*words, target]
    arguments += ["--overwrite"] if rng.random() < 0.7 else []
    arguments += [flag for flag in flags if rng.random() < 0.3]
    # A bench goes on where one is: its own tables are written again in any case.
    expendable = expendable if "--overwrite" in arguments or row == "bench" else set()
    kill = None
    if rng.random() < 0.2:
        number = rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        kill = Kill(number, event=rng.randrange(30), removing=rng.random() < 0.3)
    before = files_below(place.folder)
    done = popdyn(*arguments, cwd=work, kill=kill)
    after = files_below(place.folder)
    lost = [
        path
        for path, what in before.items()
        if after.get(path) != what and not any(Path(path).is_relative_to(e) for e in expendable)
    ]
    command = shown(arguments) + (f"  [{kill}]" if kill and done.killed else "")
    if lost:
        names = ", ".join(p.removeprefix("home/") for p in lost[:4])
        detail = f"{kind}: {len(lost)} lost: {names}; status {done.code} {done.last_line[:120]}"
        return Verdict("LOST", True, detail, command)
    if breach := hygiene(done, killed=done.killed):
        return Verdict("error", True, f"{kind}: {breach}", command)
    if done.left:
        return Verdict("process left", True, f"{done.left}", command)
    if done.killed and done.code != 0:
        return Verdict("killed", command=command)
    return Verdict("refused" if done.code else "written", detail=f"{kind}", command=command)


def _target(
    kind: str,
    name: str,
    work: Path,
    own: Sequence[str],
    goods: dict[str, Path],
    rng: random.Random,
    words: list[object],
) -> tuple[str, set[Path]]:
    """Make the target; return its name, and what popdyn may replace with --overwrite."""
    home = work.parent
    path = work / name
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():  # a thing that was put there has the same name
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    shown_name = name
    expendable: set[Path] = set()
    output = goods[rng.choice(own)] if own else None
    if kind.startswith("output") and output is None:
        kind = "folder"
    if kind == "folder":
        _things(path, rng, rng.randrange(1, 9))
    elif kind == "file":
        path.write_text("the user's")
    elif kind == "empty folder":
        path.mkdir()
        expendable = {Path("home/work") / name}
    elif kind == "link to a folder":
        _things(home / "elsewhere", rng, 4)
        path.symlink_to(home / "elsewhere")
    elif kind == "link to an output":
        source = output or goods["store.zarr"]
        _copy(source, home / "elsewhere")
        path.symlink_to(home / "elsewhere")
        if output:
            # The link may be followed or replaced: a thing that popdyn made lies behind it.
            expendable = {Path("home/elsewhere"), Path("home/work") / name}
    elif kind == "dangling link":
        path.symlink_to(home / "nowhere")
    elif kind in (".", ".."):
        shown_name = kind
    elif kind == "input":
        read = [str(w) for w in words if str(w).startswith("in/")]
        first = rng.choice(read or ["in/store.zarr"])
        shown_name = rng.choice((first, f"in/../{first}", f"{first}/../{Path(first).name}"))
        if not read and output is not None:  # nothing that the command reads: popdyn's own
            expendable = {Path("home/work/in/store.zarr")}
    elif kind == "above an input":
        shown_name = "in"
    elif kind == "inside an input":
        read = [str(w) for w in words if str(w).startswith("in/") and (work / str(w)).is_dir()]
        shown_name = f"{rng.choice([*read, 'in/store.zarr'])}/x{Path(name).suffix}"
    elif kind in ("output", "output and a file") and output is not None:
        _copy(output, path)
        expendable = {Path("home/work") / name}
        if kind == "output and a file" and path.is_dir():
            before = [p for p in path.rglob("*") if not p.is_dir()]
            _things(path, rng, rng.randrange(1, 4), only_new=True)
            expendable = {p.relative_to(home.parent) for p in before}
    elif kind == "another output":
        others = [o for o in OUTPUTS if o not in own and goods[o].suffix != ".npz"]
        _copy(goods[rng.choice(others)], path)
    elif kind == "holds the input":
        path.mkdir()
        if output is not None and output.is_dir():
            shutil.rmtree(path)
            _copy(output, path)
        for i, word in enumerate(words):
            if str(word).startswith("in/"):
                inner = path / Path(str(word)).name
                if not inner.exists():
                    _copy(work / str(word), inner)
                words[i] = f"{name}/{inner.name}"
                break
        else:  # nothing is read: an output like any other
            expendable = {Path("home/work") / name}
    return shown_name, expendable


def _things(folder: Path, rng: random.Random, number: int, only_new: bool = False) -> None:
    """Put things of the user's into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in rng.sample(list(POOL), number):
        path = folder / name
        if os.path.lexists(path) or any(p.is_file() for p in path.parents):
            if not only_new:
                continue
            path = folder / f"my {path.name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = POOL[name]
        if name == "popdyn.json":
            text = rng.choice([text, "{}", "no JSON", '{"popdyn": "run", "files": {}}', "[]"])
        path.write_text(text)
        if name == "data.npy" and rng.random() < 0.5:
            np.save(path, np.arange(6.0).reshape(3, 2))
    if rng.random() < 0.3:
        (folder / "empty").mkdir(exist_ok=True)


def _neighbour(path: Path, folder: bool, rng: random.Random) -> None:
    if os.path.lexists(path) or any(p.is_file() for p in path.parents):
        return
    if folder:
        _things(path, rng, rng.randrange(0, 4))
        (path / "mine.txt").write_text("mine")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rng.choice(["mine", "", json.dumps({"popdyn": 1})]))


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)


REMOVAL = Kind(
    "removal",
    "Things of the user's beside, in, under and at the target of every command that writes",
    "a byte of any of them changed or gone",
    tuple(COMMANDS),
    60,
    ("store", "cells", "run_zero", "run_cells", "suite", "outputs", "bench"),
    attempt,
)
