"""``fit``: one door to every learner."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from popdyn.base.errors import PopdynError
from popdyn.base.files import Target
from popdyn.base.host import usual_torch
from popdyn.base.options import Options
from popdyn.base.plain import indices, plain_numbers
from popdyn.base.registry import lookup
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.estimation import LEAST, Sample, Verdict, judge
from popdyn.learners.auto import chosen_for_all, fit_chosen
from popdyn.learners.beyond import beyond_energy
from popdyn.learners.ensemble import fit_ensemble
from popdyn.learners.identifiability import diagnose, gauge_trade
from popdyn.learners.in_units import fit_in_units, in_units, measured
from popdyn.learners.module_potential import module_name
from popdyn.learners.registry import LEARNERS, options_of
from popdyn.learners.run import Run, run_target, write_run
from popdyn.learners.training import CHECKPOINT, Workplace, read_checkpoint
from popdyn.learners.training_set import TrainingSet
from popdyn.snapshots import opened

__all__ = ["fit"]

# What V(x, t) may stand for where nobody asked for it: any smooth curve of populations has one.
MOVING = "a potential that moves, growth or circulation"


@plain_numbers(whole=("ensemble", "seed"))
@usual_torch()
def fit(
    data: xr.DataTree | str | os.PathLike[str],
    learner: str = "ijkonet",
    *,
    hold_out: Sequence[int] | int = (),
    ensemble: int = 1,
    workers: int = 1,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
    source: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Run:
    """Learn a free energy from the train group of a data set.

    Args:
        data: A data set of :func:`popdyn.simulate`, ``from_arrays``, ``import_data`` or
            ``open_snapshots``, or the path of a store.
        learner: A name of ``LEARNERS``.
        hold_out: Index of a snapshot that is not looked at, from 0, or several.
        ensemble: Number of members; above 1 each is fitted to its own random half of the
            particles, and the energy is their mean with ``potential_gradient_std`` and
            ``interaction_gradient_std``.
        workers: Processes that fit the members; 1 is this one, and no other is started.
        seed: Seeds the validation split, the batches, the weights and the noise.
        device: A torch device, such as ``cpu`` or ``cuda``, where networks are trained; features
            are solved for on the CPU in any case.
        out: Run folder to write; checkpoints lie in ``<out>.popdyn`` until it is whole.
        overwrite: Replace an existing run at ``out``, once the new one is whole.
        resume: Go on from the last checkpoint of an interrupted fit to ``out``.
        progress: Show a progress bar on a terminal.
        source: Path of the store, recorded so that ``popdyn score`` finds it; ``data`` if that is
            one.
        **options: Options of the learner, see its options dataclass.

    Returns:
        The run; ``run.energy`` is a ``FreeEnergy`` whose potential has mean 0 over the training
        snapshots, on the CPU wherever it was trained.

    Raises:
        PopdynError: On bad options, too few snapshots, a device that there is not, an ``out``
            that may not be written (see :class:`popdyn.base.files.Target`), or a checkpoint of
            other options or other data.

    Example:
        >>> import numpy as np, popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=200, seed=0)
        >>> run = popdyn.fit(data, learner="zero")
        >>> run.energy.potential_gradient(np.ones((1, 2)))
        array([[0., 0.]])
    """
    entry = lookup(LEARNERS, learner, "learner")
    resolved = options_of(learner, options)
    if source is None and isinstance(data, (str, os.PathLike)):
        source = data
    data = opened(data)
    held_out = indices(hold_out, "hold_out")
    if ensemble < 1:
        raise PopdynError(f"ensemble is {ensemble}: expected 1 or more members")
    if workers < 1:
        raise PopdynError(f"workers is {workers}: expected 1 or more")
    more = [p for p in ("growth", "circulation") if p in getattr(resolved, "learn", ())]
    if more and ensemble > 1:
        raise PopdynError(
            f"ensemble is {ensemble} with learn {more[0]}, which knows its standard error from one "
            "fit: expected ensemble 1"
        )
    _check_device(device)
    config = {
        "learner": learner,
        "options": json.loads(json.dumps(dataclasses.asdict(resolved), default=module_name)),
        "hold_out": sorted(set(held_out)),
        "ensemble": ensemble,
        "seed": seed,
        "device": device,
        "data": None if source is None else str(Path(source).resolve()),
        "threads": torch.get_num_threads(),
        "versions": {
            name: version(name)
            for name in ("popdyn-jko", "torch", "numpy", "scipy", "xarray", "zarr")
        }
        | {"python": platform.python_version()},
    }
    target = None
    if out is not None:
        target = run_target(out, overwrite=overwrite, keep=True, source=source)
        target.check()
    training = None
    fraction = getattr(resolved, "validation_fraction", 0.0)
    fit_one = partial(fit_in_units, partial(fit_chosen, entry.fit))

    def training_of(member_seed: int, half: bool = True) -> TrainingSet:
        return TrainingSet.from_data(
            data,
            held_out,
            validation_fraction=fraction,
            half=half,
            seed=member_seed,
            device=device,
        )

    if not entry.sees_truth:
        training = training_of(seed, half=False)
        config["training_digest"] = _digest(training)
    begin = time.monotonic()

    def learn(place: Workplace) -> Run:
        if training is None:
            return entry.fit(data, resolved, place)
        if ensemble > 1:
            same, ladder = chosen_for_all(training, resolved)
            run = fit_ensemble(fit_one, training_of, same, ensemble, seed, workers)
            run.certificate |= ladder
        else:
            run = fit_one(training, resolved, place)
        _say_what_can_be_told(run, resolved, training)
        return run

    def verdict_on(run: Run) -> Verdict:
        """Judge the run; see ``popdyn.estimation.verdict`` for who judges what."""

        def unseen() -> tuple[Dynamics, Sample] | None:
            if entry.options is Options:  # nothing is learned, so nothing was seen
                return run.dynamics, _sample(training or training_of(seed, half=False))
            assert training is not None
            assert own is not None
            if own.smallest < 5 * LEAST:
                return None
            if run.validated and min(len(x) for x in training.validation) >= LEAST:
                return run.dynamics, _sample(training, training.validation)
            less, left_out = training.split(fraction, LEAST)
            options = resolved
            if "learn" in run.certificate:  # what all particles ask for
                asked: dict[str, Any] = {"learn": tuple(run.certificate["learn"])}
                if run.certificate.get("time_varying"):
                    asked["time_varying"] = True
                options = dataclasses.replace(resolved, **asked)
            sibling = fit_one(less, options, Workplace())
            _to_cpu(sibling.energy)
            return sibling.dynamics, _sample(training, left_out)

        own = None if entry.options is Options or training is None else _sample(training)
        trades = tuple(run.certificate.get("undetermined", ()))
        if run.certificate.get("time_varying"):
            trades += (MOVING,)
        moments = run.certificate.get("misfit_p_value")
        return judge(run.dynamics, own, unseen, undetermined=trades, moments=moments, seed=seed)

    def more_than_energy(run: Run) -> list[str]:
        """Say what growth or circulation would explain where no energy does; see ``beyond``."""
        moves = run.certificate.get("time_varying") and not getattr(resolved, "time_varying", False)
        if training is None or run.model != "features" or ensemble > 1:
            return []
        if not (run.word == "unexplained" or moves) or _sample(training).smallest < 5 * LEAST:
            return []
        less, left_out = training.split(fraction, LEAST)
        known = getattr(resolved, "diffusivity", None)
        note = beyond_energy(run, known, less, _sample(training, left_out), seed)
        return [] if note is None else [note]

    def finished(run: Run) -> Run:
        _to_cpu(run.energy)  # whoever evaluates it has NumPy arrays
        run.verdict = verdict_on(run)
        run.certificate |= run.verdict.certificate()
        if run.word != "explained":
            run.notes = [*run.notes, run.verdict.note, *more_than_energy(run)]
        run.config, run.seconds, run.data = config, time.monotonic() - begin, data
        return run

    if target is None:
        return finished(learn(Workplace(progress=progress)))
    with target:
        resumed = _take_up(target, config, resume)
        try:
            run = finished(learn(Workplace(target.place, resumed, progress, config)))
        except PopdynError:
            # What diverged would diverge again, and the name must be free for better options.
            target.keep = False
            raise
        write_run(run, target.place)
        (target.place / CHECKPOINT).unlink(missing_ok=True)
    return run


def _sample(training: TrainingSet, cells: Iterable[Tensor] | None = None) -> Sample:
    """Return some particles of a training set, all of them if None."""
    cells = training.cells if cells is None else cells
    return Sample([x.cpu().numpy() for x in cells], training.times, training.paired)


def _to_cpu(energy: FreeEnergy) -> None:
    for term in (energy.V, energy.W):
        if isinstance(term, nn.Module):
            term.cpu()


def _say_what_can_be_told(run: Run, options: Any, training: TrainingSet) -> None:
    """Put into the certificate how well the data tells the energies apart, and warnings."""
    learned = run.certificate.get("learn", getattr(options, "learn", ()))
    if len(learned) < 2:
        return
    learns_diffusivity = "diffusion" in learned and getattr(options, "diffusivity", None) is None
    found = diagnose(in_units(training, measured(training)[0]), learned, learns_diffusivity)
    run.certificate["identifiability"] = found.numbers()
    exchanged = run.certificate.get("undetermined", {})
    exchanged = exchanged | gauge_trade(run.energy, training, found)
    if exchanged:
        run.certificate["undetermined"] = exchanged
    if found.warnings:
        run.certificate["warnings"] = found.warnings


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PopdynError(f"device '{device}' cannot be used: {reason}") from None


def _take_up(target: Target, config: dict[str, Any], resume: bool) -> bool:
    """Return whether there is a checkpoint to go on from; drop one that is not asked for.

    Raises:
        PopdynError: If the checkpoint is damaged, or of other settings or other data.
    """
    if not (target.place / CHECKPOINT).exists():
        target.drop()
        return False
    if resume:
        record, _ = read_checkpoint(target.place)
        _check_same(target.path, record["config"], config)
        return True
    if not target.overwrite:
        raise PopdynError(f"'{target.path}' is unfinished: go on with --resume, or --overwrite")
    target.drop()
    return False


def _check_same(path: Path, before: dict[str, Any], config: dict[str, Any]) -> None:
    differences = []
    for key in (
        "learner",
        "options",
        "hold_out",
        "ensemble",
        "seed",
        "device",
        "data",
        "threads",
        "versions",
        "training_digest",
    ):
        old, new = before.get(key), config.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            differences += [
                f"{name}: {old.get(name)} → {new.get(name)}"
                for name in {**old, **new}
                if old.get(name) != new.get(name)
            ]
        elif old != new:
            differences.append(f"{key}: {old} → {new}")
    if differences:
        raise PopdynError(
            f"'{path}' was begun with other settings ({'; '.join(differences)}): "
            "resume with the same ones, or --overwrite"
        )


def _digest(training: TrainingSet) -> str:
    """Return a digest of what was learned from: two runs on the same particles share it."""
    digest = hashlib.sha256(training.times.tobytes())
    for x in (*training.fit, *training.validation):
        digest.update(x.cpu().numpy().tobytes())
    if training.masses is not None:
        digest.update(training.masses[0].tobytes())
    return digest.hexdigest()[:16]
