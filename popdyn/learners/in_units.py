"""The door between data and learners: training sets and runs in units of the data's own."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from popdyn.base.errors import PopdynError
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.dynamics.fields import CallableField, RadialKernel
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.models import set_mean_zero
from popdyn.families.module_potential import ModulePotential
from popdyn.families.units import (
    KernelInUnits,
    RateInUnits,
    StreamInUnits,
    TermInUnits,
    Units,
)
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace

__all__ = ["determined", "fit_in_units", "in_units", "measured", "options_in_units"]

EPS = float(np.finfo(np.float32).eps)  # of the positions as they are stored
# A cell this many times as far out as nine in ten is no part of the law that the others follow, as
# long as there are hardly any: of a Cauchy law one in 1500 would be, of one with a variance none.
FAR, NEAR_SHARE = 100.0, 0.9
FEW, FEW_SHARE = 3, 1e-3
ALIKE = 2000  # cells by which copies of a component are looked for; all of them decide
UNLIKE = 30.0  # ratio of spreads, above which one diffusivity or one network serves them badly


def fit_in_units(
    fit_one: Callable[..., Run], data: TrainingSet, options: Any, place: Workplace
) -> Run:
    """Fit in the data's own units, and return the run in those of the user.

    Args:
        fit_one: A learner's ``(training set, options, workplace) → Run``.
        data: The training set as it was read.
        options: The learner's options.
        place: Where checkpoints go.

    Raises:
        PopdynError: Where no cell moves or differs, the learner's equations are singular, or it
            returns no run of an energy on the training set's positions.
    """
    units, notes = measured(data) if data.found is None else (data.found[0], [])
    own = in_units(data, units) if data.own is None else data.own
    if data.found is not None:
        own.near, own.structure = data.found[1:]
    known = getattr(options, "diffusivity", None)
    with determined(notes):
        run = fit_one(own, options_in_units(options, units), place)
    _check(run, own, getattr(fit_one, "whose", "the learner"))
    data.found = (units, own.solved, own.structure)
    inner = run.energy
    beta = units.energy * inner.diffusivity if known is None else known
    V = _with_tail(inner.V, own)
    energy = FreeEnergy(_outside(V, units), _outside(inner.W, units, True), beta)
    error = inner.diffusivity_standard_error
    energy.diffusivity_standard_error = None if error is None else units.energy * error
    rate, stream = (_field(run.dynamics.terms.get(part)) for part in ("growth", "circulation"))
    dynamics: Dynamics = energy
    if rate is not None or stream is not None:
        dynamics = Dynamics(
            energy,
            growth=None if rate is None else RateInUnits(rate, units),
            circulation=None if stream is None else StreamInUnits(stream, units),
        )
    certificate = dict(run.certificate)
    if traded := certificate.get("undetermined"):
        certificate["undetermined"] = {
            k: v / units.interval if k.endswith("growth") else units.energy * v
            for k, v in traded.items()
        }
    notes = [note for note in notes if rate is None or note not in data.unexplained_growth]
    notes += run.notes
    return dataclasses.replace(run, dynamics=dynamics, certificate=certificate, notes=notes)


def _check(run: Any, data: TrainingSet, whose: str) -> None:
    """Refuse what is no run, or whose energy does not map particles to numbers."""
    if not (isinstance(run, Run) and isinstance(run.dynamics, Dynamics)):
        found = f"a Run of {type(run.dynamics)}" if isinstance(run, Run) else f"{type(run)}"
        raise PopdynError(
            f"{whose}: the fit returned {found}: expected a Run of a FreeEnergy or other Dynamics"
        )
    x = data.fit[0][:8]
    for name, term in (("potential", run.energy.V), ("interaction", run.energy.W)):
        if term is None:
            continue
        try:
            t = float(data.times[0]) if term.time_dependent else None
            with torch.no_grad():
                out = term.value(x, t)
            term.gradient(x, t)
        except PopdynError as error:
            raise PopdynError(f"{whose}: the learned {name}: {error}") from error
        if tuple(out.shape) != (len(x),):
            raise PopdynError(
                f"{whose}: the learned {name} '{term.label()}' maps {tuple(x.shape)} to "
                f"{tuple(out.shape)}: expected {(len(x),)}"
            )


def _with_tail(V: Any, data: TrainingSet) -> Any:
    """Return a bare module as a learned potential: saved, loaded, and confining outside the box."""
    if not (isinstance(V, CallableField) and isinstance(V.function, torch.nn.Module)):
        return V
    learned = ModulePotential(V.function, data.scaling())
    learned.requires_grad_(False)
    set_mean_zero(learned, data.fit, [float(t) for t in data.times])
    return learned


def _field(term: Any) -> Any:
    return None if term is None else term.field


def options_in_units(options: Any, units: Units) -> Any:
    """Return a learner's options with a β that is known in these units."""
    known = getattr(options, "diffusivity", None)
    if known is None:
        return options
    return dataclasses.replace(options, diffusivity=known / units.energy)


@contextlib.contextmanager
def determined(notes: Sequence[str]) -> Iterator[None]:
    """Say in one line that equations are singular, with what is to be known of the cells."""
    try:
        yield
    except np.linalg.LinAlgError as singular:
        raise PopdynError(
            "these snapshots do not determine what is to be learned, their equations are singular "
            f"({singular}): expected fewer energies, or more cells that differ"
            + "".join(f"; {note}" for note in notes)
        ) from singular


def in_units(data: TrainingSet, units: Units) -> TrainingSet:
    """Return a training set in these units; the cells that are far off are left out."""
    far = _far_cells(data)
    fit, validation = [], []
    for k in range(len(data.fit)):
        near = torch.from_numpy(~far[k]).to(data.device)
        cut = len(data.fit[k])
        fit.append(units.of_positions(data.fit[k][near[:cut]]).float())
        validation.append(units.of_positions(data.validation[k][near[cut:]]).float())
    times = units.of_times(data.times)
    return TrainingSet(
        times,
        data.indices,
        fit,
        validation,
        data.seed,
        units=units,
        paired=(False,) * len(data.starts),  # no row stays where it was
        starts=data.starts,
        masses=data.masses,
        finer=data.finer,
    )


def measured(data: TrainingSet) -> tuple[Units, list[str]]:
    """Return the units of a training set, and what has to be said about it.

    Raises:
        PopdynError: If all cells of all snapshots are at one place.
    """
    far, notes = _far_cells(data), list(data.notes)
    near = []
    for k, (rows, cells) in enumerate(zip(far, _all_cells(data), strict=True)):
        near.append(cells[~rows])
        if rows.any():
            x = cells[rows]
            place = np.array2string(x[np.abs(x).max(1).argmax()], precision=4, threshold=6)
            notes.append(
                f"snapshot {data.indices[k]} has {len(x)} cell(s) more than {FAR:g} times as far "
                f"out as nine in ten of the others, at {place}: left out"
            )
    count = sum(len(x) for x in near)
    mean = sum(x.sum(0, dtype=np.float64) for x in near) / count
    spread = np.sqrt(sum(np.square(x - mean).sum(0) for x in near) / count)
    largest = np.max([np.abs(x).max(0) for x in near], axis=0)
    # What float32 rounds away is no spread.
    constant = spread <= 2.0 * EPS * largest
    if constant.all():
        raise PopdynError(
            "all cells of all snapshots are at one place: expected positions with some spread"
        )
    copies = _copies(near, mean, spread, largest, np.flatnonzero(~constant))
    kept = tuple(c for c in range(len(mean)) if not constant[c] and c not in copies)
    notes += [
        f"component {c} is constant, {mean[c]:.6g} in every cell: left out, its gradient is 0"
        for c in np.flatnonzero(constant)
    ]
    notes += [
        f"component {c} says the same as component {of}: left out, its gradient is 0"
        for c, (of, _) in copies.items()
    ]
    wide, narrow = (max(kept, key=lambda c: sign * spread[c]) for sign in (1.0, -1.0))
    if spread[wide] > UNLIKE * spread[narrow]:
        notes.append(
            f"the spreads of the components differ by a factor of "
            f"{spread[wide] / spread[narrow]:.3g} (component {narrow}: {spread[narrow]:.3g}, "
            f"component {wide}: {spread[wide]:.3g}): one diffusivity, an interaction or a network "
            "has one scale for all; import with --standardize component makes them alike"
        )
    scale = float(np.sqrt(np.square(spread[list(kept)]).mean()))
    first, interval = data.intervals.span[0], float(data.intervals.tau.mean())
    followed = tuple((c, of, slope) for c, (of, slope) in copies.items())
    return Units(mean, scale, first, interval, kept, followed), notes


def _all_cells(data: TrainingSet) -> Iterator[np.ndarray]:
    return (x.cpu().numpy() for x in data.cells)


def _far_cells(data: TrainingSet) -> list[np.ndarray]:
    """Return which cells of each snapshot are far from all others, ``(n_k)``.

    They are far from their own snapshot as well as by the size of all, and they are few: a second
    population is none of them.
    """
    away = []
    for cells in _all_cells(data):
        x = cells.astype(np.float64)
        away.append(np.sqrt(np.square(x - np.median(x, 0)).sum(1)))
    size = np.quantile(np.concatenate(away), NEAR_SHARE)
    out = []
    for r in away:
        far = r > FAR * max(size, np.quantile(r, NEAR_SHARE))
        out.append(far if far.sum() <= max(FEW, FEW_SHARE * len(r)) else np.zeros_like(far))
    return out


def _copies(
    snapshots: Sequence[np.ndarray],
    mean: np.ndarray,
    spread: np.ndarray,
    largest: np.ndarray,
    moving: np.ndarray,
) -> dict[int, tuple[int, float]]:
    """Return the components that are another one up to slope and place, which one, and the slope.

    The first of those that say the same is kept.
    """
    rows = np.concatenate([x[: 1 + ALIKE // len(snapshots)] for x in snapshots])
    u = (rows - mean)[:, moving] / spread[moving]
    gram = u.T @ u / np.sqrt(np.outer(np.square(u).sum(0), np.square(u).sum(0)) + 1e-300)
    out: dict[int, tuple[int, float]] = {}
    for b, a in np.argwhere(np.tril(np.abs(gram) > 1.0 - 1e-6, -1)):
        one, other = int(moving[a]), int(moving[b])
        if one in out or other in out:
            continue
        sign = np.sign(gram[a, b])
        # Each of the two is rounded where it is stored.
        haze = 2.0 * EPS * (largest[one] / spread[one] + largest[other] / spread[other])
        off = max(
            np.abs(
                (x[:, one] - mean[one]) / spread[one]
                - sign * (x[:, other] - mean[other]) / spread[other]
            ).max()
            for x in snapshots
        )
        if off <= haze:
            out[other] = one, float(sign * spread[other] / spread[one])
    return out


def _outside(term: Any, units: Units, pairs: bool = False) -> TermInUnits | None:
    """Return a term that was learned in units of the data's own in those of the user."""
    if term is None:
        return None
    # Of a component that was left out a kernel knows nothing: it is not radial in all of them.
    radial = isinstance(term, RadialKernel) and len(units.kept) == len(units.mean)
    if pairs:
        units = dataclasses.replace(units, mean=np.zeros_like(units.mean))
    return KernelInUnits(term, units) if pairs and radial else TermInUnits(term, units)
