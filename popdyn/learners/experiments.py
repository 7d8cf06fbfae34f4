"""The data sets of a fit: one experiment, or several that share the dynamics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.snapshots import dimension, opened, standardization, times

__all__ = ["DataSet", "Experiment", "experiments_of", "held_out_of", "names_of"]

DataSet = xr.DataTree | str | os.PathLike[str]
"""A data set, or the path of a store."""


@dataclass(frozen=True)
class Experiment:
    """A data set of a fit.

    Attributes:
        name: What it is called: the stem of its path, or its place among several.
        path: Where its store is; None: nowhere.
        data: The snapshots.
    """

    name: str
    path: Path | None
    data: xr.DataTree


def experiments_of(
    data: DataSet | Sequence[DataSet],
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
) -> list[Experiment]:
    """Return what is to be fitted.

    Args:
        data: A data set or a path, or several of either.
        source: Paths of the stores, as many; where a path was given, that one if None.

    Raises:
        PopdynError: On no data set at all, another number of paths, or data sets that can't share
            dynamics: of different dimension, component names or standardisation.
    """
    given: list[DataSet]
    given = [data] if isinstance(data, (xr.DataTree, str, os.PathLike)) else _listed(data)
    if source is None:
        places = [x if isinstance(x, (str, os.PathLike)) else None for x in given]
    else:
        places = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if len(places) != len(given):
        raise PopdynError(f"source has {len(places)} path(s): expected {len(given)}, one for each")
    paths = [None if place is None else Path(os.path.realpath(place)) for place in places]
    out = [
        Experiment(name, path, opened(x))
        for name, path, x in zip(names_of(paths), paths, given, strict=True)
    ]
    first = out[0]
    for other in out[1:]:
        _check_alike(first, other)
    return out


def _listed(data: object) -> list[DataSet]:
    if not isinstance(data, Sequence):
        opened(data)  # type: ignore[arg-type]  # says what was expected
    listed = list(data)  # type: ignore[call-overload]
    if not listed:
        raise PopdynError("no data set was given: expected one or more")
    return listed  # type: ignore[no-any-return]


def names_of(paths: Sequence[Path | None]) -> list[str]:
    """Return a name for each store: its stem, told apart by its folder or its place in the list."""
    stems = [f"experiment {i + 1}" if p is None else p.stem for i, p in enumerate(paths)]
    out: list[str] = []
    for i, (path, stem) in enumerate(zip(paths, stems, strict=True)):
        name = stem
        if path is not None and stems.count(stem) > 1:
            name = f"{path.parent.name}/{stem}"
        out.append(name if name not in out else f"{name} ({i + 1})")
    return out


def _check_alike(first: Experiment, other: Experiment) -> None:
    """Raise a PopdynError unless positions mean the same in both."""
    here, there = (dimension(x.data) for x in (first, other))
    if here != there:
        raise PopdynError(
            f"'{first.name}' has {here} component(s) and '{other.name}' has {there}: expected the "
            "same, for they share one dynamics"
        )
    names = [(x.data.attrs.get("import") or {}).get("components") for x in (first, other)]
    if all(names) and names[0] != names[1]:
        own, others = (", ".join(map(str, x or ())) for x in names)
        raise PopdynError(
            f"'{first.name}' has the components {own} and '{other.name}' has {others}: expected "
            "the same in the same order, for they share one dynamics"
        )
    here_in, there_in = (np.concatenate(standardization(x.data)) for x in (first, other))
    if not np.allclose(here_in, there_in):
        raise PopdynError(
            f"'{first.name}' and '{other.name}' were standardised each in its own way, and their "
            "positions have different units: expected the same (--standardize none)"
        )


def held_out_of(experiments: Sequence[Experiment], hold_out: Sequence[int]) -> list[list[int]]:
    """Return which snapshots of each experiment are held out: those that it has.

    Raises:
        PopdynError: On an index that none has.
    """
    sizes = [len(times(x.data)) for x in experiments]
    for k in hold_out:
        if not 0 <= k < max(sizes):
            each = zip(experiments, sizes, strict=True)
            have = ", ".join(f"{x.name} has snapshots 0 to {n - 1}" for x, n in each)
            if len(sizes) == 1:
                t = times(experiments[0].data)
                have = f"the data has snapshots 0 to {len(t) - 1}, at times {t[0]:g} to {t[-1]:g}"
            raise PopdynError(f"hold-out index {k}: {have}")
    return [[k for k in hold_out if k < n] for n in sizes]
