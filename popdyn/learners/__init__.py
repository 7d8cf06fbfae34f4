"""Learners: snapshots in, a FreeEnergy out."""

from popdyn.learners.fit import fit
from popdyn.learners.registry import LEARNERS
from popdyn.learners.run import Run, load_run, save_run

__all__ = ["LEARNERS", "Run", "fit", "load_run", "save_run"]
