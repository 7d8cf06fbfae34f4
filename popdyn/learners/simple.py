"""The two ends of every table: no energy at all, and the truth itself."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

from popdyn.energies import FreeEnergy
from popdyn.errors import PopdynError
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.learners.training_set import TrainingSet

__all__ = ["SimpleOptions", "fit_oracle", "fit_zero"]


@dataclass(frozen=True)
class SimpleOptions:
    """The zero predictor and the oracle have nothing to choose."""


def fit_zero(data: TrainingSet, options: SimpleOptions, place: Workplace) -> Run:
    """Return V = W = β = 0."""
    return Run(FreeEnergy(), "zero", {})


def fit_oracle(data: xr.DataTree, options: SimpleOptions, place: Workplace) -> Run:
    """Return the store's true energy.

    Raises:
        PopdynError: If the store has none.
    """
    spec = data.attrs.get("energy")
    if spec is None:
        raise PopdynError("the data carries no true energy: the oracle has nothing to return")
    return Run(FreeEnergy.from_spec(spec), "oracle", {})
