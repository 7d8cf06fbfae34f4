"""What must stay as it is while files move: arrays, energies, and the shapes of JSON answers.

``scripts/golden`` writes ``golden.json`` anew; ``test_golden.py`` compares with it.
"""

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import popdyn
from popdyn.benchmark import SUITES
from tests.forking import Nursery

FILE = Path(__file__).with_name("golden.json")
PARTICLES = 150
POINTS = np.array([[0.0, 0.0], [0.5, -1.0], [-1.5, 0.7], [2.0, 2.0]])

V, ALL = {"learn": ("potential",)}, {"learn": ("potential", "interaction", "diffusion")}
SHORT = {"steps": 6, "every": 3, "batch": 60, "hidden": (8,)}
FITS = {
    "ijkonet": ("ijkonet", V),
    "ijkonet-simulate": ("ijkonet", V | SHORT | {"model": "network"}),
    "ijkonet-proximal": ("ijkonet", V | SHORT | {"inner": "proximal", "first_order": True}),
    "ijkonet-network": ("ijkonet", ALL | SHORT | {"inner": "network", "seeded": False}),
    "jkonet": ("jkonet", {"steps": 3, "every": 3, "batch": 60, "hidden": (8,)}),
    "jkonet_star": ("jkonet_star", ALL | {"folds": 2}),
    "jkonet_star-network": ("jkonet_star", ALL | {"model": "network", "epochs": 2, "hidden": (8,)}),
    "weak_form": ("weak_form", ALL),
    "weak_form-ensemble": ("weak_form", V | {"ensemble": 2}),
    "zero": ("zero", {}),
    "oracle": ("oracle", {}),
}
"""Learner and options of every fit."""

BENCH = """\
name = "golden"
summary = "one population"
score = { points = 40 }

[[entry]]
name = "bowl"
potential = "quadratic"
particles = 60
snapshots = 3
"""


def machine() -> str:
    """Return what bit-equal arrays hold for: versions of torch and NumPy, and the processor."""
    isa = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, numpy {np.__version__}, {platform.machine()} {isa}"


def suites() -> list[str]:
    """Return the suites that have an entry that is simulated."""
    return [s.name for s in SUITES.values() if any(e.source is None for e in s.entries)]


def arrays(suite: str) -> dict:
    """Simulate a small form of a suite's first entry: digest, and moments for other machines."""
    entry = next(e for e in SUITES[suite].entries if e.source is None)
    options = dict(entry.simulation) | {"particles": PARTICLES, "test_particles": PARTICLES}
    data = popdyn.simulate(entry.dynamics, seed=0, **options)
    x = [np.ascontiguousarray(data[group]["x"].values) for group in ("train", "test")]
    assert all(part.dtype == np.float32 for part in x)
    return {
        "sha256": hashlib.sha256(b"".join(part.tobytes() for part in x)).hexdigest(),
        "mean": [round(float(v), 6) for v in x[0].mean((1, 2), dtype=float)],
        "std": [round(float(v), 6) for v in x[0].std((1, 2), dtype=float)],
    }


def small():
    """Return the data that every learner is fitted to."""
    energy = popdyn.FreeEnergy("quadratic", "gaussian_repulsion", 0.2)
    times = [0.0, 0.2, 0.4, 0.6, 0.8]
    return popdyn.simulate(energy, particles=300, times=times, step=0.02, seed=0)


def energies(fit: str, data) -> dict:
    """Fit and return the energy's gradients at a few points, and β."""
    learner, options = FITS[fit]
    with one_thread():
        run = popdyn.fit(data, learner, seed=0, **options)
    t = float(data["train"]["time"].values[-1])
    return {
        "potential_gradient": run.energy.potential_gradient(POINTS, t).tolist(),
        "interaction_gradient": run.energy.interaction_gradient(POINTS).tolist(),
        "diffusivity": run.energy.diffusivity,
    }


@contextlib.contextmanager
def one_thread():
    """One thread inside, of torch and of BLAS: sums in parallel are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def shape(value):
    """Return keys and types of a JSON answer; of a list what its items have in common."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in sorted(value.items())}
    if isinstance(value, list):
        shapes = [shape(part) for part in value]
        return [part for i, part in enumerate(shapes) if part not in shapes[:i]]
    if value is None or isinstance(value, bool):
        return {None: "null"}.get(value, "boolean")
    return "text" if isinstance(value, str) else "number"


def answers() -> dict:
    """Run train, score, inspect and bench on a small store; return the shapes of their answers."""
    nursery = Nursery()
    with tempfile.TemporaryDirectory() as folder:

        def ask(*words: str):
            streams = tempfile.mkdtemp(dir=folder)
            done = nursery.start((*words, "--json"), folder, os.environ, streams)
            out, err = done.communicate()
            assert done.returncode == 0, err
            return json.loads(out)

        popdyn.write(small(), Path(folder, "small.zarr"))
        Path(folder, "suite.toml").write_text(BENCH)
        learn = ("--learner", "weak_form", "--learn", "potential,interaction,diffusion")
        found = {
            "train": ask("train", "small.zarr", "--out", "run", *learn),
            "score": ask("score", "run", "--points", "40"),
            "inspect": ask("inspect", "small.zarr"),
            "bench": ask("bench", "suite.toml", "--out", "bench", "--learners", "zero,weak_form"),
        }
    nursery.close()
    return {command: shape(answer) for command, answer in found.items()}


def main() -> None:
    """Write the file anew."""
    data = small()
    found = {
        "machine": machine(),
        "arrays": {suite: arrays(suite) for suite in suites()},
        "energies": {fit: energies(fit, data) for fit in FITS},
        "answers": answers(),
    }
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"{FILE}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
