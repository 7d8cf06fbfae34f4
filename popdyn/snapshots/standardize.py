"""Standardisation: the three ways, and the way back to the units of the source."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.snapshots.tree import dimension

__all__ = ["METHODS", "standardization"]

Moments = tuple[np.ndarray, np.ndarray]


def _none(x: np.ndarray) -> Moments:
    return np.zeros(x.shape[1]), np.ones(x.shape[1])


def _global(x: np.ndarray) -> Moments:
    mean = x.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.mean((x - mean) ** 2))
    if scale == 0:
        raise PopdynError("all cells are at the same place: expected some spread to standardise")
    return mean, np.full(x.shape[1], scale)


def _component(x: np.ndarray) -> Moments:
    mean = x.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.mean((x - mean) ** 2, axis=0))
    if (scale == 0).any():
        constant = int(np.argmin(scale))
        raise PopdynError(f"component {constant} is constant: expected some spread to standardise")
    return mean, scale


METHODS: dict[str, Callable[[np.ndarray], Moments]] = {
    "none": _none,
    "global": _global,
    "component": _component,
}


def standardization(data: xr.DataTree) -> Moments:
    """Return mean and scale ``(d)`` with original = x · scale + mean, in the source's units.

    Mean 0 and scale 1 where nothing was standardised.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50, snapshots=3)
        >>> standardization(data)
        (array([0., 0.]), array([1., 1.]))
    """
    recorded = data.attrs.get("standardize")
    if recorded is None:
        return np.zeros(dimension(data)), np.ones(dimension(data))
    return np.asarray(recorded["mean"], float), np.asarray(recorded["scale"], float)
