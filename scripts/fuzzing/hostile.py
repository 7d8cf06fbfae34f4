"""What people hand to a program: drawn from lists of mistakes, oddities and extremes."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "SUITE",
    "annotated",
    "arrays",
    "call",
    "command_line",
    "import_options",
    "initial_law",
    "name",
    "of_runs",
    "population",
    "simulate_options",
    "suite",
    "surroundings",
    "table",
    "titled_store",
    "train_options",
    "wrong_thing",
]

Words = tuple[object, ...]
Rng = random.Random

ODD_NUMBERS = (
    *("0", "-1", "1", "2", "3", "0.5", "1e-300", "1e300", "1e400", "nan", "inf", "-inf", "1_000"),
    *("", " ", "abc", "1,2", "1,,2", "0x10", "٣", "1e18", "100000000000000000000", "-0.0", "True"),
    *("null", "[1]", "{}", '"a"', "1e-9", "0.1", "5", "[]", "[1, 2, 3]", "-1e-20", "1e9"),
)
ODD_LABELS: tuple[Callable[[int], object], ...] = (
    lambda k: f"day {k}",
    lambda k: f"E{k + 6}.5",
    lambda k: f"{24 * k}h",
    lambda k: f"2020-01-{k + 1:02d}",
    lambda k: ("control", "early", "late")[k],
    lambda k: k * 1e6 + 2.4e6,
    lambda k: -k,
    lambda k: k * 1e-12,
    lambda k: (0, 1e-4, 1e4)[k],
    lambda k: "",
    lambda k: (0, 1, "x")[k],
    lambda k: float("nan") if k == 1 else k,
    lambda k: float("inf") if k == 2 else k,
    lambda k: 0,
    lambda k: bool(k % 2),
    lambda k: f"[red]{k}[/red]",
    lambda k: f"\x1b[31m{k}",
    lambda k: "ünï" * (k + 1),
    lambda k: k,
)
ODD_CELLS = (
    *(
        "",
        "NA",
        "nan",
        "x",
        "-",
        "1,5",
        "1e400",
        "inf",
        "-inf",
        "None",
        "#DIV/0!",
        "1e38",
        "é",
        "∞",
    ),
    *("1e-320", " 1 ", "0x1", "\x1b[31m", "[red]", '"'),
)


def _columns(rng: Rng, n: int, d: int) -> np.ndarray:
    generator = np.random.default_rng(rng.randrange(1 << 30))
    return generator.normal(size=(n, d))


def table(folder: Path, rng: Rng) -> tuple[str, Words]:
    """Write a table and return its name, and the options of import for it."""
    n = rng.choice((0, 1, 2, 3, 30, *[90] * 20))
    d = rng.choice((0, 1, 1, *[2] * 10, 3, 60))
    label = rng.choice(ODD_LABELS) if rng.random() < 0.35 else (lambda k: k)
    x = _columns(rng, n, d)
    head = [f"x{j}" for j in range(d)]
    rows = [[f"{v:.6g}" for v in row] for row in x]
    times = [str(label(i * 3 // max(1, n))) for i in range(n)]
    extra = rng.randrange(12)
    if extra == 0 and d:
        head[0] = rng.choice(("", "time", "x1", "Unnamed: 0", "[red]", "\x1b[2J", "a" * 400, "é"))
    elif extra == 1:
        head.append("batch")
        rows = [[*row, str(i % 2)] for i, row in enumerate(rows)]
    elif extra == 2:
        head.append("cell type")
        rows = [[*row, "T cell"] for row in rows]
    elif extra == 3:
        head.append("index")
        rows = [[*row, str(i)] for i, row in enumerate(rows)]
    name_of_label = rng.choice((*["time"] * 8, "label", "sample_labels", "day", "Time"))
    lines = [[*head, name_of_label], *([*row, t] for row, t in zip(rows, times, strict=True))]
    for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 2, 20))):
        row = rng.randrange(len(lines))
        if lines[row]:
            lines[row][rng.randrange(len(lines[row]))] = rng.choice(ODD_CELLS)
    sign = rng.choice((*[","] * 15, ";", "\t", " "))
    text = rng.choice(("\n", "\n", "\r\n")).join(sign.join(row) for row in lines) + "\n"
    way = rng.randrange(40)
    data = text.encode(rng.choice((*["utf-8"] * 12, "utf-8-sig", "utf-16", "latin-1")), "replace")
    if way == 0:
        data = data[: rng.randrange(len(data) + 1)]
    elif way == 1:
        data = os.urandom(200)
    elif way == 2:
        data = data.replace(b"1", b"\0", 1)
    elif way == 3:
        data = b""
    elif way == 4:
        data += b"1,2\n" + b"1," * 50 + b"\n"
    name_ = rng.choice((*["a.csv"] * 6, "a.tsv", "a.csv.gz", "a.txt", "a.parquet", "a.parquet"))
    if name_ == "a.parquet":
        _parquet(folder / name_, lines, rng)
    else:
        (folder / name_).write_bytes(gzip.compress(data) if name_.endswith(".gz") else data)
    keys: Words = ()
    if rng.random() < 0.15:
        keys = ("--time-key", rng.choice((name_of_label, "nothing", "", "x0")))
    if rng.random() < 0.2:
        keys = (
            *keys,
            "--data-key",
            rng.choice(("x0,x1", "x0", "time", "nothing", "", ",", "x0,x0")),
        )
    if rng.random() < 0.2:
        shown = ",".join(f"{label(k)}={k}" for k in range(3))
        keys = (*keys, "--time-map", shown)
    return name_, keys


def _parquet(path: Path, lines: list[list[str]], rng: Rng) -> None:
    import pandas as pd

    head = [f"{h}{i}" if lines[0].count(h) > 1 else h for i, h in enumerate(lines[0])]
    width = len(head)
    frame = pd.DataFrame([row[:width] for row in lines[1:]], columns=pd.Index(head))
    for column in head:
        if rng.random() < 0.9:
            found = pd.to_numeric(frame[column], errors="coerce")
            kept = found.notna().all() and len(found)
            frame[column] = found if kept else frame[column].astype(str)
    if rng.random() < 0.3 and len(frame):
        frame["time"] = pd.date_range("2020-01-01", periods=3).repeat(len(frame))[: len(frame)]
    if rng.random() < 0.2:
        frame[head[-1]] = frame[head[-1]].astype("category")
    frame.to_parquet(path)
    if rng.random() < 0.1:
        path.write_bytes(path.read_bytes()[:-20])


TYPES = (
    *(
        "float32",
        "float64",
        "float16",
        "int8",
        "uint64",
        "bool",
        "complex128",
        "U5",
        "S5",
        "object",
    ),
    *(">f4", "longdouble", "datetime64[s]", "timedelta64[s]", "int64"),
)


def arrays(folder: Path, rng: Rng) -> tuple[str, Words]:
    """Write arrays and return the name of the source, and options."""
    n = rng.choice((0, 1, 3, 60, *[90] * 10))
    odd = ((n, 1), (n, 0), (n,), (), (n, 2, 2), (2, n), (n, 40))
    shape = rng.choice((*[(n, 2)] * 20, *odd))
    x: Any = np.random.default_rng(rng.randrange(1 << 30)).normal(size=shape)
    x = x * rng.choice((*[1] * 12, 1e-30, 1e30, 1e38, 1e39, 1e300, 0))
    kind = rng.choice((*["float64"] * 15, *TYPES))
    with np.errstate(all="ignore"):
        if kind in ("datetime64[s]", "timedelta64[s]"):
            x = np.nan_to_num(np.clip(x, -1e6, 1e6)).astype("int64").astype(kind)
        else:
            x = np.asarray(np.nan_to_num(x).astype(kind))
    if x.dtype.kind == "f" and x.size and rng.random() < 0.1:
        flat = x.reshape(-1)
        flat[rng.randrange(x.size)] = rng.choice((np.nan, np.inf, -np.inf))
        x = flat.reshape(x.shape)
    rows = shape[0] if shape else 1
    label = rng.choice(ODD_LABELS) if rng.random() < 0.3 else (lambda k: k)
    labels: Any = np.array([label(min(2, i * 3 // max(1, rows))) for i in range(rows)])
    way = rng.randrange(30)
    if way == 0:
        labels = labels[:-1]
    elif way == 1:
        labels = labels.reshape(-1, 1)
    elif way == 2:
        labels = np.arange(rows)
    elif way == 3:
        if labels.dtype.kind == "U":
            labels = np.char.encode(labels, "utf-8")
        else:
            labels = labels.astype("S9" if labels.dtype.kind == "S" else "complex64")
    elif way == 4:
        labels = np.array(["2020-01-01", "2020-01-03", "2020-01-05"], "datetime64[D]")[
            np.minimum(2, np.arange(rows) * 3 // max(1, rows))
        ]
    names: dict[str, Any] = {"pcs": x, "sample_labels": labels}
    if rng.random() < 0.2:
        names["times"] = np.array(rng.choice(([0, 1, 2], [0, 1], [2, 1, 0], [0.0, np.nan, 1], [])))
    if rng.random() < 0.1:
        names = {"foo" if k == "pcs" else k: v for k, v in names.items()}
    source = rng.choice(("a.npz", "a.npz", "a.npz", "folder", "a.npy"))
    if source == "a.npz":
        np.savez(folder / source, **names)
        _cut(folder / source, rng)
    else:
        where = folder / "mine" if source == "folder" else folder
        where.mkdir(exist_ok=True)
        np.save(where / ("data.npy" if source == "folder" else source), x)
        np.save(where / "sample_labels.npy", labels)
        if rng.random() < 0.1:
            (where / "sample_labels.npy").unlink()
        source = "mine" if source == "folder" else source
    keys: Words = ()
    if rng.random() < 0.15:
        keys = ("--data-key", rng.choice(("pcs", "sample_labels", "none", "")))
    return source, keys


def _cut(path: Path, rng: Rng) -> None:
    data = path.read_bytes()
    if rng.random() < 0.1:
        path.write_bytes(data[: rng.randrange(len(data))])
    elif rng.random() < 0.05:
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])


def annotated(folder: Path, rng: Rng) -> tuple[str, Words]:
    """Write an AnnData file or store; return its name and options."""
    import anndata
    import pandas as pd
    import scipy.sparse

    n = rng.choice((3, *[60] * 8))
    label = rng.choice(ODD_LABELS) if rng.random() < 0.3 else (lambda k: k)
    values = [label(i * 3 // n) for i in range(n)]
    mixed = len({type(v) for v in values}) > 1
    obs = pd.DataFrame({"time": [str(v) for v in values] if mixed else values})
    obs.index = pd.Index([f"c{i}" for i in range(n)])
    if rng.random() < 0.3:
        obs["time"] = obs["time"].astype("category")
    counts = np.abs(_columns(rng, n, rng.choice((1, 3, 20)))).round()
    x: Any = rng.choice((counts, counts.astype("float32"), scipy.sparse.csr_matrix(counts), None))
    adata = anndata.AnnData(X=x, obs=obs)
    which = rng.randrange(8)
    pca = _columns(rng, n, rng.choice((1, 2, 50)))
    if which == 0:
        adata.obsm["X_pca"] = scipy.sparse.csr_matrix(pca)
    elif which == 1:
        pca[rng.randrange(n), 0] = np.nan
        adata.obsm["X_pca"] = pca
    elif which == 2:
        adata.obsm["X_umap"] = pca
    elif which == 3:
        adata.obsm["X_pca"] = pd.DataFrame(pca, index=obs.index).rename(columns=str)
    elif which in (4, 5):
        adata.obsm["X_pca"] = pca
    if rng.random() < 0.1:
        adata.obs.loc[adata.obs.index[0], "time"] = np.nan
    name_ = rng.choice(("a.h5ad", "a.h5ad", "a.h5ad", "b.zarr"))
    if name_ == "a.h5ad":
        adata.write_h5ad(folder / name_)
        _cut(folder / name_, rng)
    else:
        adata.write_zarr(folder / name_)
    keys: Words = ("--obs-key", rng.choice(("time", "time", "time", "nothing", "")))
    if rng.random() < 0.3:
        keys = (*keys, "--obsm-key", rng.choice(("X_pca", "X_umap", "none", "")))
    if rng.random() < 0.3:
        keys = (*keys, "--components", rng.choice((1, 2, 50, 10**9)))
    return name_, keys


def import_options(rng: Rng) -> Words:
    """Return options of import, some out of range."""
    choices: tuple[Words, ...] = (
        ("--test-fraction", rng.choice(("0", "1", "0.999", "1e-300", "nan", "-0.1", "0.5"))),
        ("--components", rng.choice(ODD_NUMBERS)),
        ("--standardize", rng.choice(("none", "component", "components", "global", ""))),
        (
            "--time-map",
            rng.choice(("0=0,1=1,2=2", "0=0", "0=0,1=0,2=0", "0=nan,1=1,2=2", "=", "a")),
        ),
        ("--time-map", rng.choice(("0=2,1=1,2=0", "0=0,1=1,2=inf", "0=0,0=1,1=1,2=2", "x=1,0=0"))),
        ("--time-map", rng.choice(("0=1e308,1=-1e308,2=0", "0=1,1=1e-300,2=2", "0=0,1=1,2=2,3=3"))),
        ("--data-key", rng.choice(("pcs", "sample_labels", "none", ""))),
        ("--seed", rng.choice(ODD_NUMBERS)),
        ("--time-key", rng.choice(("pcs", "sample_labels", "none", ""))),
        ("--obs-key", "time"),
    )
    return tuple(word for pair in rng.sample(choices, rng.randrange(1, 4)) for word in pair)


def population(rng: Rng) -> tuple[str, np.ndarray, np.ndarray]:
    """Return what is odd about a population, its cells and their times."""
    generator = np.random.default_rng(rng.randrange(1 << 30))
    d = rng.choice((1, 2, 2, 3))
    counts = [100, 100, 100]
    at = [0.0, 1.0, 2.0]
    said = []
    for _ in range(rng.choice((1, 1, 2))):
        which = rng.randrange(24)
        if which == 0:
            counts = [rng.choice((1, 2, 3, 5)), 100, 100]
        elif which == 1:
            counts = [4, 400, 30]
        elif which == 2:
            counts = [100, 100]
            at = [0.0, 1.0]
        elif which == 3:
            at = [2.4e6, 2.4e6 + 1, 2.4e6 + 2]
        elif which == 4:
            at = [0.0, 1e-4, 1.0]
        elif which == 5:
            at = [v * rng.choice((1e-9, 1e9)) for v in at]
        elif which == 6:
            at = [-5.0, -2.0, 7.0]
        elif which == 7:
            counts, at = [40] * 12, [0.1 * k for k in range(12)]
        elif which == 8:
            counts = [5, 5, 5]
        elif which == 9:
            counts = [1, 1, 1]
        elif which == 10:
            d = rng.choice((12, 30))
        else:
            said.append(f"cells {which}")
            continue
        both = min(len(counts), len(at))  # two draws may each have a number of their own
        counts, at = counts[:both], at[:both]
        said.append(f"counts {counts}, times {at}, d {d}")
    blocks = [
        generator.normal(0.5 * k, 1 / (1 + 0.2 * k), size=(n, d)) for k, n in enumerate(counts)
    ]
    x = np.concatenate(blocks)
    labels = np.repeat(at, counts)
    for text in said:
        if text.startswith("cells"):
            x = _degenerate(int(text.split()[1]), x, labels, generator)
    return "; ".join(said), x, labels


def _degenerate(
    which: int, x: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return cells with one thing wrong."""
    if which == 11:
        x[:, 0] = 3.0  # a constant component
    elif which == 12:
        x[:, -1] = x[:, 0]  # a copy
    elif which == 13:
        x = x * 1e-9
    elif which == 14:
        x = x * 1e9
    elif which == 15:
        x = x + 1e6
    elif which == 16:
        x[0] = 1e4  # one cell far away
    elif which == 17:
        x = np.repeat(x[: max(1, len(x) // 50)], 50, axis=0)[: len(x)]
        x = np.resize(x, (len(labels), x.shape[1]))
    elif which == 18:
        x = np.zeros_like(x)
    elif which == 19:
        x = np.round(x)  # whole numbers
    elif which == 20:
        x = generator.standard_cauchy(size=x.shape)
    elif which == 21:
        x[:, 0] *= 1e5  # other units
    elif which == 22:
        first = labels == labels[0]
        x = x[first][np.arange(len(x)) % first.sum()]  # nothing moves
    elif which == 23:
        x = np.where(labels[:, None] == labels[0], 0.0, x)  # it starts at one point
    return x


def simulate_options(rng: Rng) -> Words:
    """Return options of simulate, small ones and some out of every range."""
    words: dict[str, object] = {
        "--potential": rng.choice((*["styblinski_tang", "quadratic", "flat"] * 4, "none")),
        "--particles": 30,
        "--snapshots": 3,
    }
    odd: dict[str, tuple[str, ...]] = {
        "--particles": (
            "1000000000000000000",
            "1",
            "0",
            "10,20",
            "1,1,1",
            "5,6,7",
            "1e5",
            "-3",
            "",
        ),
        "--test-particles": ("1000000000000000000", "0", "1", "2,3", "1,1,1"),
        "--snapshots": ("2", "1", "100000000", "0", "1e3"),
        "--step": ("1e-300", "1e-12", "1e300", "nan", "inf", "0", "-1", "0.01"),
        "--block": ("100000000000000000000", "1", "3", "0"),
        "--dt": ("1e-300", "1e300", "nan", "inf", "1e-17", "1e3", "0", "-1"),
        "--times": (
            "0,0",
            "0,1e-300,1",
            "1,0",
            "0,nan",
            "0",
            "",
            "0,1,1e300",
            "-1,0,1",
            "5,6",
            "0,,1",
        ),
        "--dim": ("1", "3", "40", "100000", "1000000000000", "0"),
        "--diffusivity": ("1e300", "nan", "inf", "-1", "1e-300", "5", "0"),
        "--noise": ("1e300", "nan", "inf", "1e38", "0.1"),
        "--seed": ("100000000000000000000000", "-1", "1.5"),
        "--scheme": ("euler", "heun", "nothing", ""),
        "--interaction": ("gaussian_repulsion", "quadratic", "nothing"),
        "--interaction-batch": ("1", "100", "1000000000000"),
        "--potential-param": (
            "scale=nan",
            "scale=0",
            "scale=x",
            "=1",
            "a",
            "scale=1e300",
            "scale=[1]",
        ),
        "--interaction-param": ("scale=nan", "width=0", "width=-1", "strength=1e300"),
        "--initial": ("ring", "two_moons", "nothing", "", "gaussian_mixture"),
        "--initial-param": ("low=5", "low=nan", "x=1", "scale=0", "high=inf"),
        "--reference-cells": ("2", "3", "100000", "1000000000000"),
        "--device": ("cuda", "nothing", "cpu:7", ""),
        "--workers": ("0", "1000000000"),
        "--scheduler": ("tcp://127.0.0.1:9", "nothing", ""),
        "--suite": ("nothing", ""),
    }
    for flag in rng.sample(list(odd), rng.choice((1, 1, 1, 2))):
        if flag == "--workers" and rng.random() < 0.5:
            continue
        words[flag] = rng.choice(odd[flag])
    flags = [f for f in ("--paired", "--check-step", "--reference") if rng.random() < 0.15]
    return (*(w for pair in words.items() for w in pair), *flags)


def initial_law(folder: Path, rng: Rng) -> Words:
    """Write a file of initial positions, or name a law, and return the options."""
    if rng.random() < 0.3:
        law = rng.choice(("uniform", "gaussian", "gaussian_mixture", "ring", "two_moons"))
        key = rng.choice(
            ("low", "high", "mean", "std", "scale", "radius", "modes", "noise", "width")
        )
        return ("--initial", law, "--initial-param", f"{key}={rng.choice(ODD_NUMBERS)}")
    n = rng.choice((0, 1, 5, *[400] * 6))
    shape = rng.choice((*[(n, 2)] * 10, (n, 1), (n,), (), (n, 2, 1), (n, 0), (2, n)))
    x: Any = np.random.default_rng(0).normal(size=shape)
    x = x * rng.choice((*[1] * 8, 0, 1e30, 1e300, 1e-30))
    kind = rng.choice((*["float64"] * 10, *TYPES))
    with np.errstate(all="ignore"):
        if "64[s]" in kind:
            x = np.zeros(shape, "int64").astype(kind)
        else:
            x = np.asarray(np.nan_to_num(np.asarray(x)).astype(kind))
    if x.dtype.kind == "f" and x.size and rng.random() < 0.15:
        x = x.copy()
        x.reshape(-1)[0] = rng.choice((np.nan, np.inf))
    np.save(folder / "start.npy", x)
    _cut(folder / "start.npy", rng)
    dim: Words = ("--dim", rng.choice((1, 2, 3))) if rng.random() < 0.3 else ()
    return ("--initial", rng.choice((*["start.npy"] * 12, "none.npy")), *dim)


OPTIONS = (
    *("inner", "model", "learn", "diffusivity", "time_varying", "hold_ends", "steps", "batch"),
    *("learning_rate", "weight_decay", "hidden", "interaction", "seeded", "entropy_gradient"),
    *(
        "substeps",
        "inner_steps",
        "multimap",
        "first_order",
        "every",
        "validation_fraction",
        "degree",
    ),
    *("coarse", "fine", "tests", "correct", "potential", "nothing", "seed", "x"),
)


def train_options(folder: Path, rng: Rng) -> Words:
    """Return options of train, on the line or in a file, some out of range."""
    base = rng.choice(
        (
            ("--learner", "weak_form"),
            ("--learner", "weak_form"),
            ("--model", "features"),
            ("--model", "network", "--steps", "6", "--every", "3"),
            ("--inner", "network", "--steps", "4"),
            ("--inner", "proximal", "--steps", "4"),
            ("--learner", "zero"),
            ("--learner", "jkonet_star"),
        )
    )
    extra: list[object] = []
    for _ in range(rng.choice((1, 1, 2))):
        which = rng.randrange(7)
        if which < 3:
            value = rng.choice((*ODD_NUMBERS, "64,64", "[64, 64]", "true", "potential", "simulate"))
            extra += [f"--{rng.choice(OPTIONS).replace('_', '-')}", str(value)]
        elif which == 3:
            held = rng.choice(("0", "1", "2", "0,1,2", "-1", "7", "1,1", "", "0,1", "1.5", "1e9"))
            extra += ["--hold-out", held]
        elif which == 4:
            energies = (
                "",
                "potential",
                "diffusion",
                "interaction",
                "potential,potential",
                "growth",
            )
            extra += ["--learn", rng.choice((*energies, "potential,interaction,diffusion", ","))]
        elif which == 5:
            flag = rng.choice(
                (
                    *("--steps", "--batch", "--learning-rate", "--diffusivity"),
                    "--ensemble",
                    "--threads",
                )
            )
            values = [v for v in ODD_NUMBERS if v not in ("1e9", "1e18", "100000000000000000000")]
            few = ("0", "1", "2", "-1", "x")
            extra += [flag, rng.choice(few if flag in ("--ensemble", "--threads") else values)]
        else:
            text = rng.choice(
                (
                    *("", "steps = 5", "steps = -1", "steps = 'x'", "nothing = 1", "steps = [1]"),
                    *("learner = 'nothing'", "learner = 3", "hold_out = [1]", "hold_out = 1"),
                    *("hold_out = 'x'", "seed = 1.5", "ensemble = 0", "not toml", "[a]\nb = 1"),
                    *("learn = 'potential'", "learn = ['potential']", "learn = 3"),
                    *("diffusivity = nan", "hidden = [0]", "hidden = [-1]", "hidden = 64", "\x00"),
                    *(
                        "learning_rate = inf",
                        "validation_fraction = 1.0",
                        "out = 'x'",
                        "device = 1",
                    ),
                    *(
                        "batch = 1000000000000",
                        "every = 0",
                        "substeps = 0",
                        "degree = 50",
                        "tests = 0",
                    ),
                )
            )
            (folder / "options.toml").write_text(text)
            extra += ["--config", "options.toml"]
    return (*base, *extra)


SUITE = """\
name = "small"
summary = "Small."

[score]
points = 40

[defaults]
particles = 40
snapshots = 3
fit = { learn = ["potential"] }

[[entry]]
name = "bowl"
summary = "a bowl"
potential = "oakley_ohagan"

[[entry]]
name = "noisy"
summary = "with noise"
potential = "quadratic"
diffusivity = 0.1
"""


def suite(folder: Path, rng: Rng) -> None:
    """Write a suite with a mistake."""
    values = (
        *("-1", "0", "1", "nan", "inf", "1e300", "'x'", "[]", "{}", "[1, 2]", "true", "1e18", "''"),
        *("['potential']", "10000000000", "'\\u001b[31m'", "'[red]'", "{ a = 1 }", "1979-05-27"),
    )
    keys = (
        *("particles", "test_particles", "snapshots", "dt", "times", "step", "scheme", "dim"),
        *("initial", "initial_params", "paired", "noise", "interaction_batch", "block", "hold_out"),
        *("potential", "potential_params", "interaction", "diffusivity", "fit", "file", "nothing"),
        *("group", "summary", "name", "environment", "time_map", "train", "seed"),
    )
    text = SUITE
    for _ in range(rng.choice((1, 1, 2))):
        lines = text.splitlines()
        which = rng.randrange(6)
        if which < 3:
            at = rng.choice([i for i, line in enumerate(lines) if line.startswith(("[", "pot"))])
            lines.insert(at + 1, f"{rng.choice(keys)} = {rng.choice(values)}")
        elif which == 3:
            del lines[rng.randrange(len(lines))]
        elif which == 4:
            at = rng.choice([i for i, line in enumerate(lines) if "=" in line])
            lines[at] = f"{lines[at].split('=')[0]}= {rng.choice(values)}"
        else:
            lines.append(
                rng.choice(("[[entry]]", "[entry]", "name = 3", "\x00", "[score]\npoints = 0"))
            )
        text = "\n".join(lines)
    (folder / "suite.toml").write_text(text)


NAMES = (
    *("[red]x", "x[/b]y", "[bold]x[/bold]", "[/]", "[link=file:x]y", "[[x]]", "a\\[b]", "[1, 2]"),
    *("\x1b[31mred", "\x1b]0;owned\x07", "a\x08b", "a\rb", "a\nb", "a\tb", "\x9b31m", "\x7f"),
    *(
        "\u202egnp.exe",
        "\u200b",
        "e\u0301",
        "日本語",
        "🙂",
        "ünïcode",
        "a b",
        "  ",
        "-x",
        "--out",
        "%s",
    ),
    *(
        "{x}",
        "$HOME",
        "`id`",
        "a;b",
        "a'b",
        'a"b',
        "x" * 200,
        ":smile:",
        "<script>alert(1)</script>",
    ),
    *("&amp;", "\u2028", "CON", "~", "a\\b", "*", "?", "#", "\udcff", "NaN", "null", "0", "\u0085"),
)


def name(rng: Rng) -> str:
    """Return a name that somebody may give a folder."""
    return rng.choice(NAMES)


def titled_store(folder: Path, title: str) -> None:
    """Write a store whose texts are hostile."""
    from fuzzing.children import ask

    text = title.encode("utf-8", "replace").decode()

    def make() -> None:
        from popdyn.snapshots import make_tree, write

        x = [np.random.default_rng(k).normal(size=(30, 2)) for k in range(3)]
        attrs = {"dynamics": None, "title": text, "history": text, "source": text}
        write(make_tree(x, x, [0, 0.5, 2], attrs), "titled.zarr")

    done = ask(make, cwd=folder)
    if done.code != 0:
        raise RuntimeError(done.err[-400:])


def of_runs(rng: Rng) -> Words:
    """Return a command on a run with odd options."""
    run: Words = ("run_small", "--data", "small.zarr")
    which = rng.randrange(4)
    if which == 0:
        times = (
            *(
                "0",
                "-1",
                "1e9",
                "1e300",
                "nan",
                "inf",
                "0.01,0.01",
                "0.02,0.01",
                "",
                ",",
                "x",
                "1e6",
            ),
            *("0.001", "0.01,0.5", "1e-300", "0.0100000000000001", "0,0.01"),
        )
        start = ("--from", rng.choice(("previous", "first", "last")))
        return ("predict", *run, "--times", rng.choice(times), *start, "--out", "p.zarr", "--json")
    if which == 1:
        points = rng.choice(("all", "2", "1", "0", "1000000000000", "x", "-5", "3"))
        units = ("--units", rng.choice(("store", "original", "x")))
        more: Words = ("--standard-errors",) if rng.random() < 0.3 else ()
        return ("score", *run, "--points", points, *units, *more, "--json")
    if which == 2:
        plane = rng.choice(("1,2", "0,1", "1,1", "9,10", "pca", "", "x", "1", "1,2,3", "-1,1"))
        only = ("--only", rng.choice(("potential", "force", "training", "cells", "nothing")))
        kind = ("--format", rng.choice(("png", "pdf", "svg", "x")))
        return ("plot", *run, "--plane", plane, *only, *kind, "--out", "figs")
    out = rng.choice(("a.npz", "a.h5ad", "a", "a.csv", "a.zarr", "", "a/b.npz", "/nothing/a.npz"))
    source: Words = run if rng.random() < 0.6 else ("small.zarr",)
    into = ("--into", rng.choice(("small.zarr", "nothing.h5ad"))) if rng.random() < 0.3 else ()
    return ("export", *source, "--out", out, *into, "--json")


def wrong_thing(folder: Path, goods: Mapping[str, Path], rng: Rng) -> Words:
    """Return a command on what is no such thing."""
    shutil.copytree(goods["run_small"], folder / "run")
    shutil.copytree(goods["small.zarr"], folder / "a.zarr")
    (folder / "empty").mkdir()
    (folder / "empty.zarr").mkdir()
    (folder / "empty.csv").write_text("")
    (folder / "picture.png").write_bytes(os.urandom(500))
    (folder / "text.npz").write_text("no archive")
    (folder / "text.h5ad").write_text("no archive")
    (folder / "config.json").write_text("{}")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "mine").mkdir()
    (folder / "mine" / "config.json").write_text(rng.choice(("{}", "[]", "x", '{"a": NaN}', "")))
    (folder / "mine" / "run.json").write_text(rng.choice(("{}", "[]", "x", '{"popdyn_run": 2}')))
    (folder / "mine" / "zarr.json").write_text(rng.choice(("{}", "[]", "x", "null")))
    (folder / "mine" / "suite.json").write_text(rng.choice(("{}", "[]", "x", "null")))
    (folder / "mine" / "popdyn.json").write_text(rng.choice(("{}", "[]", "x", '{"popdyn": []}')))
    thing = rng.choice(
        (
            *("run", "a.zarr", "empty", "empty.zarr", "empty.csv", "picture.png", "text.npz", "."),
            *("text.h5ad", "dangling", "loop", "mine", "/dev/null", "..", "", "a.zarr/train", "/"),
            *("a.zarr/zarr.json", "run/run.json", "s3://bucket/a.zarr", "https://x.org/a.npz"),
        )
    )
    other = rng.choice(("a.zarr", "run", "empty", "nothing", "picture.png"))
    out = rng.choice(
        (
            *(
                "out",
                "out",
                "out",
                "dangling",
                "/dev/null",
                "run",
                "s3://bucket/a",
                "gs://b/c.zarr",
            ),
            "",
        )
    )
    small = ("--particles", "20", "--snapshots", "2")
    return rng.choice(
        (
            ("train", thing, "--learner", "zero", "--out", out),
            ("train", thing, "--learner", "zero", "--out", out, "--overwrite"),
            ("train", "a.zarr", "--learner", "zero", "--out", thing, "--resume"),
            ("score", thing),
            ("score", "run", "--data", thing),
            ("score", "run", thing),
            ("inspect", thing),
            ("validate", thing, "--json"),
            ("import", thing, "--out", out),
            ("export", thing, "--out", "x.npz"),
            ("export", "a.zarr", "--out", thing),
            ("export", "run", "--data", other, "--to-h5ad", "x.h5ad", "--into", thing),
            ("plot", thing, "--data", other, "--out", out),
            ("plot", "run", "--data", "a.zarr", "--out", thing, "--only", "potential"),
            ("predict", thing, "--data", other, "--times", "0.01", "--out", out),
            ("predict", "run", "--data", thing, "--times", "0.01", "--out", out),
            ("bench", thing, "--out", out),
            ("bench", "jko15", "--entries", "nothing", "--out", thing),
            ("simulate", "--potential", "flat", *small, "--out", thing),
            ("simulate", "--potential", "flat", *small, "--out", thing, "--overwrite"),
            ("simulate", "--potential", "flat", *small, "--initial", thing, "--out", out),
            ("simulate", "--suite", thing, "--out", out),
            ("train", "a.zarr", "--config", thing, "--out", out),
        )
    )


WORDS = (
    *("simulate", "train", "score", "predict", "import", "export", "plot", "bench", "list"),
    *("validate", "inspect", "--json", "--overwrite", "--help", "-h", "--version", "--debug"),
    *("--out", "x", "--seed", "0", "-1", "--", "-", "", "--potential", "flat", "--workers", "2"),
    *("--nothing", "-x", "potentials", "learners", "suites", "scores", "schemes", "initial"),
    *(
        "interactions",
        "quadratic",
        "--out=",
        "--out=x",
        "--seed=1",
        "--learners",
        ",",
        "jko15",
        "—out",
    ),
)


def command_line(rng: Rng) -> Words:
    """Return words in any order; nothing that takes long."""
    words = [rng.choice(WORDS) for _ in range(rng.randrange(0, 5))]
    if rng.random() < 0.4:
        words = ["list", *words[:2]]
    # A whole suite is no mistake, and takes half an hour.
    return ("list",) if words[:1] == ["bench"] and "jko15" in words else tuple(words)


def call(rng: Rng) -> tuple[str, Callable[[], object]]:
    """Return a call from Python in words, and as a function."""
    scalars: tuple[Any, ...] = (
        *(np.int64(1), np.int8(1), np.uint32(1), np.float32(0.1), np.float64(0.1), np.bool_(True)),
        *(np.array(1), np.array([1]), 1, 0.1, True, "1", None, 10**30, -1, float("nan")),
    )
    one, two = rng.choice(scalars), rng.choice(scalars)
    where = rng.choice(
        ("seed", "hold_out", "diffusivity", "particles", "times", "points", "ensemble")
    )
    state = rng.choice(("", "", "float64", "no_grad", "inference_mode", "threads", "seterr"))
    learner = rng.choice(("weak_form", "ijkonet", "network", "zero", "jkonet_star"))
    said = f"{where} = {one!r}, {two!r}; torch {state or 'as it is'}; {learner}"

    def run() -> None:
        import torch

        if state == "float64":
            torch.set_default_dtype(torch.float64)
        elif state == "threads":
            torch.set_num_threads(2)
        elif state == "seterr":
            np.seterr(all="raise")
        with (
            torch.no_grad()
            if state == "no_grad"
            else torch.inference_mode()
            if state == "inference_mode"
            else torch.enable_grad()
        ):
            work()
        kept = torch.get_default_dtype()
        expected = torch.float64 if state == "float64" else torch.float32
        if kept != expected or torch.get_num_threads() != (2 if state == "threads" else 1):
            raise RuntimeError(f"the host's state was changed: {kept}, {torch.get_num_threads()}")

    def work() -> None:
        import popdyn

        given = {where: one}
        # What two words cannot mean is a TypeError of Python's own.
        times = {"times": [0, one, 2]} if where == "times" else {}
        energy = popdyn.FreeEnergy(
            "quadratic", diffusivity=given.get("diffusivity", 0.1) if one is not None else 0.1
        )
        data = popdyn.simulate(
            energy,
            **{"particles": given.get("particles", 60), "snapshots": 3, "dt": 0.1} | times,
            seed=given.get("seed", 0) if one is not None else 0,
        )
        options: dict[str, Any] = {"learner": "ijkonet" if learner == "network" else learner}
        if learner == "network":
            options |= {"model": "network", "steps": 5, "every": 5}
        if where in ("hold_out", "ensemble", "seed"):
            options[where] = one
        if where == "diffusivity" and learner != "zero":
            options["diffusivity"] = two
        run = popdyn.fit(data, **options)
        extra = {"points": one} if where == "points" else {"points": 30}
        popdyn.score(run.energy, data, **extra)
        popdyn.predict(run.energy, data, [np.float32(0.05), 0.15])

    return said, run


def surroundings(rng: Rng) -> tuple[Words, str, dict[str, str]]:
    """Return a command, where its streams go, and its environment."""
    words: Words = rng.choice(
        (
            ("list",),
            ("list", "potentials", "--json"),
            ("inspect", "small.zarr"),
            ("score", "run_small", "--data", "small.zarr", "--points", "40"),
            ("validate", "small.zarr"),
            ("train", "small.zarr", "--learner", "weak_form", "--out", "ünï"),
            ("simulate", "--potential", "flat", "--particles", "20", "--out", "é.zarr"),
            ("plot", "run_small", "--data", "small.zarr", "--only", "potential", "--out", "ü"),
            ("train", "nothing", "--out", "ünï"),
            ("--help",),
        )
    )
    redirection = rng.choice(("", "", ">&-", "2>&-", "<&-", ">&- 2>&-", "| head -1", "> /dev/full"))
    environment = rng.choice(
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"PYTHONIOENCODING": "ascii"},
            {"COLUMNS": "1"},
            {"COLUMNS": "20", "LINES": "2"},
            {"TERM": "dumb", "NO_COLOR": "1"},
            {"HOME": "/nowhere", "XDG_CACHE_HOME": "/nowhere"},
            {"MPLBACKEND": "TkAgg"},
            {"OMP_NUM_THREADS": "x"},
            {"FORCE_COLOR": "1"},
            {"TZ": "Nowhere/None"},
            {},
        )
    )
    if not redirection and environment.keys() & {"LC_ALL", "PYTHONIOENCODING", "OMP_NUM_THREADS"}:
        redirection = "| cat"  # what is read at the start of an interpreter needs one
    if "FORCE_COLOR" in environment:
        environment = {}
    return words, redirection, environment
