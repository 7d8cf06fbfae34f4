"""What is new is one new file: each of these is put into a copy of the package, and used."""

import json
import os
import shutil
from pathlib import Path

import pytest

import popdyn
from tests.forking import Nursery

FILES = {
    "dynamics/potentials/quartic.py": '''
from popdyn.dynamics.potentials import POTENTIALS
from popdyn.dynamics.fields import entry_of, squared_norm


@entry_of(POTENTIALS, "k |x|^4")
def quartic(x, k=0.1):
    """A bowl that is flat at its bottom."""
    return k * squared_norm(x).square()
''',
    "dynamics/interactions/plummer.py": '''
from popdyn.dynamics.interactions import INTERACTIONS
from popdyn.dynamics.fields import entry_of


def slope(s, strength, length):
    return 0.5 * strength * (s + length**2) ** -1.5


@entry_of(
    INTERACTIONS, "-strength/sqrt(|z|^2 + length^2)", gradient=slope, radial=True,
    positive=("length",),
)
def plummer(s, strength=1.0, length=0.5):
    """Gravity of a soft ball."""
    return -strength * (s + length**2) ** -0.5
''',
    "dynamics/growths/saturating.py": '''
from popdyn.dynamics.growths import GROWTHS
from popdyn.dynamics.fields import entry_of, squared_norm


@entry_of(GROWTHS, "rate/(1 + |x|^2)")
def saturating(x, rate=1.0):
    """Fast at the origin, slow far from it."""
    return rate / (1 + squared_norm(x))
''',
    "dynamics/circulations/strait.py": '''
from popdyn.dynamics.circulations import CIRCULATIONS
from popdyn.dynamics.fields import entry_of


@entry_of(CIRCULATIONS, "psi = rate x_2^3/3: a stream along the first axis", min_dim=2)
def strait(x, rate=1.0, plane=(1.0, 2.0)):
    """A stream that is strongest far from its axis."""
    return rate * x[..., int(plane[1]) - 1] ** 3 / 3
''',
    "dynamics/diffusions/warm.py": '''
from popdyn.dynamics.diffusions import DIFFUSIONS
from popdyn.dynamics.fields import entry_of, squared_norm


@entry_of(DIFFUSIONS, "low + |x|^2/10")
def warm(x, low=0.1):
    """Warmer outwards."""
    return low + squared_norm(x) / 10
''',
    "simulation/laws/laplace.py": '''
import numpy as np
import torch

from popdyn.simulation.laws import law


@law("prod exp(-|v|/scale)/(2 scale)", lambda x, scale=1.0: np.prod(
    np.exp(-np.abs(x) / scale) / (2 * scale), axis=1))
def laplace(n, dim, generator, scale=1.0):
    """Independent two-sided exponentials."""
    u = torch.rand(2, n, dim, generator=generator)
    return scale * (u[0].log() - u[1].log())
''',
    "simulation/schemes/midpoint.py": """
from popdyn.simulation.schemes import scheme


@scheme("midpoint", "x - h grad(x - h/2 grad + dB/2) + dB", "two gradients a step",
        strong_order=1.0, weak_order=1.0, many_steps=False)
def midpoint(x, t, h, drive, noise):
    half = x + h / 2 * drive.drift(x, t)
    if noise is not None:
        half += noise.increment / 2
    x += h * drive.drift(half, t + h / 2)
    if noise is not None:
        x += noise.increment
""",
    "scores/median_shift.py": """
import numpy as np

from popdyn.scores.catalogue import score_of


@score_of("distribution", formula="|med x - med y|", summary="distance of the medians",
          minimised_by="every law with these medians", perfect=0.0, bias="upwards",
          avoid="to see anything but the location")
def median_shift(x, y, a, b):
    return float(np.linalg.norm(np.median(x, 0) - np.median(y, 0)))
""",
    "snapshots/formats/dat.py": """
import numpy as np

from popdyn.snapshots.cells import Cells
from popdyn.snapshots.formats import FORMATS, Format


def read(path, keys):
    rows = np.loadtxt(path)
    return Cells(rows[:, 1:], rows[:, 0], "columns", "first column")


def write(cells, path):
    np.savetxt(path, np.column_stack([cells.labels, cells.x]))


FORMATS.enter(
    "dat", Format("dat", "Numbers, the label first.", (".dat",), read=read, write=write), __name__
)
""",
    "learners/drift.py": '''
from dataclasses import dataclass
from typing import Annotated

import torch

from popdyn.base.options import Bounds, Options
from popdyn.dynamics import FreeEnergy
from popdyn.families.models import LearnedTerm
from popdyn.learners.registry import learner
from popdyn.learners.run import Run


class Slope(LearnedTerm):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("velocity", torch.zeros(dim))

    def value(self, x, t=None):
        return -x @ self.velocity

    def config(self):
        return {"dim": len(self.velocity)}

    @classmethod
    def from_config(cls, config):
        return cls(config["dim"])


@dataclass(frozen=True)
class DriftOptions(Options):
    """Options of the drift.

    Attributes:
        share: What share of the velocity of the mean is taken.
    """

    share: Annotated[float, Bounds(gt=0, le=1)] = 1.0


@learner("drift", "One velocity for all.", DriftOptions)
def fit_drift(data, options, place):
    slope = Slope(data.fit[0].shape[1])
    moved = (data.fit[-1].mean(0) - data.fit[0].mean(0)) / float(data.times[-1] - data.times[0])
    slope.velocity.copy_(options.share * moved)
    return Run(FreeEnergy(slope), "drift", {}, steps=1)
''',
}
"""A file of each kind, by its place in the package."""


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Run ``popdyn`` of a copy with the new files; return what it prints."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(Path(popdyn.__file__).parent, folder / "site" / "popdyn")
    for place, text in FILES.items():
        file = folder / "site" / "popdyn" / place
        assert not file.exists()
        file.write_text(text)
    nursery = Nursery(PYTHONPATH=str(folder / "site"))

    def call(*words):
        done = nursery.start(words, folder, os.environ, tmp_path_factory.mktemp("streams"))
        out, err = done.communicate()
        assert done.returncode == 0, err
        return out

    yield call
    nursery.close()


def test_every_kind_is_listed(ask):
    found = {
        kind: {entry["name"] for entry in entries}
        for kind, entries in json.loads(ask("list", "--json")).items()
    }
    new = {"potentials": "quartic", "interactions": "plummer", "initial": "laplace"}
    new |= {"schemes": "midpoint", "scores": "median_shift", "learners": "drift", "formats": "dat"}
    new |= {"growths": "saturating", "circulations": "strait", "diffusions": "warm"}
    assert all(name in found[kind] for kind, name in new.items())


def test_they_are_used_together_and_the_truth_is_rebuilt(ask):
    made = (
        "simulate",
        "--potential",
        "quartic",
        "--interaction",
        "plummer",
        "--initial",
        "laplace",
    )
    noise = ("--diffusivity", "0.1", "--scheme", "midpoint", "--initial-param", "scale=0.5")
    ask(*made, *noise, "--potential-param", "k=0.2", "--particles", "200", "--out", "s.zarr")
    assert ask("validate", "s.zarr") is not None
    trained = json.loads(
        ask("train", "s.zarr", "--learner", "drift", "--share", "0.5", "--out", "run", "--json")
    )
    assert trained["learner"] == "drift"
    scores = json.loads(ask("score", "run", "--points", "60", "--json"))
    assert len(scores["distribution"]["median_shift"]) == 5
    assert scores["gradient"]["interaction"]["skill"] == 0  # no W learned, one there
    ask("train", "s.zarr", "--learner", "oracle", "--out", "truth")
    known = json.loads(ask("score", "truth", "--points", "60", "--json"))
    assert known["gradient"]["potential"]["skill"] == 1


def test_a_format_is_written_and_read(ask):
    few = ("--particles", "20", "--snapshots", "3")
    ask("simulate", "--potential", "flat", *few, "--out", "f.zarr")
    ask("export", "f.zarr", "--out", "f.dat")
    read = json.loads(ask("import", "f.dat", "--out", "g.zarr", "--test-fraction", "0.5", "--json"))
    assert (read["dimension"], read["train"], read["test"]) == (2, [20] * 3, [20] * 3)


def test_terms_beyond_an_energy_are_used_too(ask):
    few = ("--particles", "60", "--snapshots", "3", "--scheme", "euler_maruyama")
    terms = ("--circulation", "strait", "--growth", "saturating", "--diffusivity", "warm")
    ask("simulate", *terms, "--growth-param", "rate=2", *few, "--out", "t.zarr")
    assert ask("validate", "t.zarr") is not None
    ask("train", "t.zarr", "--learner", "oracle", "--out", "all")
    scores = json.loads(ask("score", "all", "--points", "30", "--json"))["gradient"]
    assert scores["force"]["skill"] == scores["growth"]["skill"] == 1
