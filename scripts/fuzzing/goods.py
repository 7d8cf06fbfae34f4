"""Sound things that tries copy, damage and kill: made once, by popdyn itself."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fuzzing.children import Kill, Outcome, ask, popdyn

__all__ = ["GOODS", "TRAIN", "make_goods"]

SUITE = """\
name = "small"
summary = "Two small populations."

[score]
points = 40

[defaults]
particles = 80
snapshots = 3
fit = { learn = ["potential"] }

[options.weak_form]

[[entry]]
name = "bowl"
summary = "a bowl"
potential = "oakley_ohagan"

[[entry]]
name = "wells"
summary = "wells"
potential = "styblinski_tang"
"""

TRAIN: dict[str, tuple[object, ...]] = {
    "features": ("--steps", 20),
    "weak_form": ("--learner", "weak_form"),
    "network": ("--model", "network", "--steps", 120, "--every", "10"),
    "ensemble": ("--learner", "weak_form", "--ensemble", 2),
    "noisy": ("--learner", "weak_form", "--learn", "potential,diffusion"),
}
"""Options of the runs, by name."""


def _store(name: str, *options: object) -> Callable[[Path], Outcome]:
    def make(root: Path) -> Outcome:
        words = ("simulate", "--potential", "styblinski_tang", "--snapshots", 3, *options)
        return popdyn(*words, "--out", f"{name}.zarr", cwd=root)

    return make


def _run(name: str, *options: object, store: str = "store", out: str = "") -> Callable:
    def make(root: Path) -> Outcome:
        words = ("train", f"{store}.zarr", "--out", out or f"run_{name}", *TRAIN[name], *options)
        return popdyn(*words, cwd=root)

    return make


def _sharded(root: Path) -> Outcome:
    def make() -> None:
        from popdyn.snapshots import make_tree, write

        generator = np.random.default_rng(0)
        train = [generator.normal(size=(n, 2)) for n in (120, 50, 80)]
        test = [generator.normal(size=(n, 2)) for n in (20, 20, 5)]
        tree = make_tree(train, test, [0, 0.5, 2], {"dynamics": None, "title": "ünïcode"})
        write(tree, "sharded.zarr", chunk_rows=20, shard_rows=40)

    return ask(make, cwd=root)


def _unfinished(root: Path) -> Outcome:
    """A run that was stopped in the middle, with a checkpoint."""
    words = ("train", "store.zarr", "--out", "unfinished", *TRAIN["network"])
    after = 1.0
    for _ in range(20):
        done = popdyn(*words, cwd=root, kill=Kill(signal.SIGTERM, after=after))
        if list(root.glob("unfinished*/**/*checkpoint*")):
            return dataclasses.replace(done, code=0)
        for left in root.glob("unfinished*"):
            shutil.rmtree(left)
        after *= 0.7 if done.code == 0 else 1.2
    return dataclasses.replace(done, code=1)


def _cells(root: Path) -> Outcome:
    def make() -> None:
        import anndata
        import pandas as pd

        generator = np.random.default_rng(1)
        x = np.concatenate([generator.normal(k, 1, size=(60, 2)) for k in range(3)])
        labels = np.repeat([0.0, 1.0, 2.0], 60)
        np.savez("cells.npz", pcs=x, sample_labels=labels)
        obs = pd.DataFrame({"time": labels}, index=[f"cell{i}" for i in range(len(x))])
        adata = anndata.AnnData(X=np.abs(x).astype("float32"), obs=obs)
        adata.obsm["X_pca"] = x
        adata.write_h5ad("cells.h5ad")

    return ask(make, cwd=root)


def _h5ad_run(root: Path) -> Outcome:
    words = ("import", "cells.h5ad", "--obs-key", "time", "--out", "cells.zarr")
    done = popdyn(*words, cwd=root)
    if done.code == 0:
        done = popdyn("train", "cells.zarr", "--learner", "zero", "--out", "run_cells", cwd=root)
    return done


def _suite(root: Path) -> Outcome:
    (root / "suite.toml").write_text(SUITE)
    return Outcome(0, "", "", 0.0)


def _bench(name: str, *options: object) -> Callable[[Path], Outcome]:
    def make(root: Path) -> Outcome:
        words = ("bench", "suite.toml", "--learners", "zero,weak_form", "--out", name, *options)
        return popdyn(*words, cwd=root)

    return make


def _outputs(root: Path) -> Outcome:
    """Whatever else popdyn writes: exports and figures."""
    words = ("export", "store.zarr", "--out")
    done = popdyn(*words, "exported.npz", cwd=root)
    for other in ((*words, "exported.h5ad"), (*words, "exported")):
        done = popdyn(*other, cwd=root) if done.code == 0 else done
    if done.code == 0:
        done = popdyn("plot", "run_zero", "--only", "potential", "--out", "figures", cwd=root)
    return done


def _small(root: Path) -> Outcome:
    words = ("train", "small.zarr", "--learner", "weak_form", "--out", "run_small")
    return popdyn(*words, cwd=root)


def _zero(root: Path) -> Outcome:
    words = ("train", "store.zarr", "--learner", "zero", "--out", "run_zero")
    return popdyn(*words, cwd=root)


GOODS: dict[str, tuple[Callable[[Path], Outcome], tuple[str, ...]]] = {
    "store": (_store("store", "--particles", 150), ()),
    "other": (_store("other", "--particles", 150, "--seed", 1), ()),
    "small": (_store("small", "--particles", 60), ()),
    "run_small": (_small, ("small",)),
    "sharded": (_sharded, ()),
    "cells": (_cells, ()),
    "suite": (_suite, ()),
    "run_zero": (_zero, ("store",)),
    "run_features": (_run("features"), ("store",)),
    "run_weak_form": (_run("weak_form"), ("store",)),
    "run_network": (_run("network"), ("store",)),
    "run_ensemble": (_run("ensemble"), ("store",)),
    "run_noisy": (_run("noisy"), ("store",)),
    "other_features": (_run("features", store="other", out="other_features"), ("other",)),
    "other_network": (_run("network", store="other", out="other_network"), ("other",)),
    "unfinished": (_unfinished, ("store",)),
    "run_cells": (_h5ad_run, ("cells",)),
    "outputs": (_outputs, ("store", "run_zero")),
    "bench": (_bench("bench"), ("suite",)),
    "other_bench": (_bench("other_bench", "--seeds", 2, "--entries", "bowl"), ("suite",)),
}
"""How each is made, and what it needs. The names of files are those of the keys."""


def make_goods(names: tuple[str, ...], root: Path) -> dict[str, Path]:
    """Make what is asked for, and what that needs; return everything in the folder by name.

    Raises:
        SystemExit: If popdyn cannot make one: then there is nothing to try.
    """
    made: set[str] = set()

    def make(name: str) -> None:
        if name in made:
            return
        made.add(name)
        function, needs = GOODS[name]
        for need in needs:
            make(need)
        done = function(root)
        if done.code != 0:
            sys.exit(f"fuzz: '{name}' could not be made: {done.err or done.out}")

    for name in names:
        make(name)
    return {path.name: path for path in root.iterdir()}
