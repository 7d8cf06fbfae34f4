"""Population dynamics from snapshots: simulate a known energy, learn it back, score honestly."""

from popdyn.energies import FreeEnergy
from popdyn.errors import PopdynError
from popdyn.learners import Run, fit, load_run, save_run
from popdyn.simulation import simulate
from popdyn.snapshots import open_snapshots, write

__all__ = [
    "FreeEnergy",
    "PopdynError",
    "Run",
    "fit",
    "load_run",
    "open_snapshots",
    "save_run",
    "simulate",
    "write",
]
