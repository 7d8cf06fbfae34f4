"""The two ends of every table: no energy at all, and the truth itself."""

from __future__ import annotations

import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.options import Options
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.registry import learner
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace

__all__ = ["fit_oracle", "fit_zero"]


@learner("zero", "No energy at all: what every score is measured against.")
def fit_zero(data: TrainingSet, options: Options, place: Workplace) -> Run:
    """Return V = W = β = 0."""
    return Run(FreeEnergy(), "zero", {})


@learner("oracle", "The true energy of the store: the upper row.", sees_truth=True)
def fit_oracle(data: xr.DataTree, options: Options, place: Workplace) -> Run:
    """Return the store's true dynamics.

    Raises:
        PopdynError: If the store has none.
    """
    spec = data.attrs.get("dynamics")
    if spec is None:
        raise PopdynError("the data carries no true energy: the oracle has nothing to return")
    return Run(Dynamics.from_spec(spec), "oracle", {})
