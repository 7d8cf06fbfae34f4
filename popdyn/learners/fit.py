"""``fit``: one door to every learner."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from popdyn.base.errors import PopdynError
from popdyn.base.host import usual_torch
from popdyn.base.plain import indices, plain_numbers
from popdyn.base.registry import lookup
from popdyn.estimation.deconvolution import noise_of
from popdyn.families.module_potential import module_name
from popdyn.learners.experiments import DataSet, experiments_of, held_out_of
from popdyn.learners.fitting import Fitting
from popdyn.learners.registry import LEARNERS, options_of
from popdyn.learners.resume import digest_of, take_up
from popdyn.learners.run import Run, run_target, write_run
from popdyn.learners.training import CHECKPOINT, Workplace
from popdyn.snapshots import dimension

__all__ = ["fit"]

MOST_MEMBERS = 1000


@plain_numbers(whole=("ensemble", "seed"))
@usual_torch()
def fit(
    data: DataSet | Sequence[DataSet],
    learner: str = "ijkonet",
    *,
    hold_out: Sequence[int] | int = (),
    ensemble: int | None = None,
    workers: int = 1,
    seed: int = 0,
    device: str = "cpu",
    observation_noise: float | Sequence[float] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    **options: Any,
) -> Run:
    """Learn a free energy from the train group of a data set.

    Args:
        data: A data set of :func:`popdyn.simulate`, ``from_arrays``, ``import_data`` or
            ``open_snapshots``, or the path of a store; or a list of either: several experiments
            that share the dynamics, each with times, sizes and a start of its own.
        learner: A name of ``LEARNERS``.
        hold_out: Index of a snapshot that is not looked at, from 0, or several; of several
            experiments those are held out that have such a snapshot.
        ensemble: Number of members; above 1 each is fitted to its own random half of the
            particles, and the energy is their mean with ``potential_gradient_std`` and
            ``interaction_gradient_std``. None: 3 where ``learn=auto`` chose networks, because
            nothing that stands still meets the snapshots, and else 1.
        workers: Processes that fit the members; 1 is this one, and no other is started.
        seed: Seeds the validation split, the batches, the weights and the noise.
        device: A torch device, such as ``cpu`` or ``cuda``, where networks are trained; features
            are solved for on the CPU in any case.
        observation_noise: Standard deviation of the noise that positions were observed with, in
            the units of the store: one number, or one for each component. What is learned is the
            dynamics of the particles without it.
        out: Run folder to write; checkpoints lie in ``<out>.popdyn`` until it is whole.
        overwrite: Replace an existing run at ``out``, once the new one is whole.
        resume: Go on from the last checkpoint of an interrupted fit to ``out``.
        progress: Show a progress bar on a terminal.
        source: Path of the store, recorded so that ``popdyn score`` finds it, or one for each
            experiment; ``data`` if that is one.
        **options: Options of the learner, see its options dataclass.

    Returns:
        The run; ``run.energy`` is a ``FreeEnergy`` whose potential has mean 0 over the training
        snapshots, on the CPU wherever it was trained.

    Raises:
        PopdynError: On bad options, too few snapshots, experiments of different dimension or
            components, a device that there is not, an ``out``
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
    experiments = experiments_of(data, source)
    held_out = indices(hold_out, "hold_out")
    held_out_each = held_out_of(experiments, held_out)
    _check_members(ensemble, workers, getattr(resolved, "learn", ()))
    _check_device(device)
    target = None
    if out is not None:
        sources = [x.path for x in experiments]
        target = run_target(out, overwrite=overwrite, keep=True, sources=sources)
        target.check()
    noise = noise_of(observation_noise, dimension(experiments[0].data))
    fitting = Fitting(
        entry, resolved, experiments, held_out_each, ensemble, workers, seed, device, noise
    )
    config = _config_of(fitting) | {"hold_out": sorted(set(held_out))}
    begin = time.monotonic()

    def fitted(place: Workplace) -> Run:
        run = fitting.learned(place)
        run.config = config | {"ensemble": fitting.members}
        run = fitting.judged(run)
        run.seconds = time.monotonic() - begin
        run.data = [x.data for x in experiments]
        return run

    if target is None:
        return fitted(Workplace(progress=progress))
    with target:
        resumed = take_up(target, config, resume)
        try:
            run = fitted(Workplace(target.place, resumed, progress, config))
        except PopdynError:
            # What diverged would diverge again, and the name must be free for better options.
            target.keep = False
            raise
        write_run(run, target.place)
        (target.place / CHECKPOINT).unlink(missing_ok=True)
    return run


def _check_members(ensemble: int | None, workers: int, learn: Sequence[str]) -> None:
    if ensemble is not None and not 1 <= ensemble <= MOST_MEMBERS:
        raise PopdynError(f"ensemble is {ensemble}: expected 1 to {MOST_MEMBERS} members")
    if workers < 1:
        raise PopdynError(f"workers is {workers}: expected 1 or more")
    more = [p for p in ("growth", "circulation") if p in learn]
    if more and (ensemble or 1) > 1:
        raise PopdynError(
            f"ensemble is {ensemble} with learn {more[0]}, which knows its standard error from one "
            "fit: expected ensemble 1"
        )


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PopdynError(f"device '{device}' cannot be used: {reason}") from None


def _config_of(fitting: Fitting) -> dict[str, Any]:
    """Return what a run records of how it was made."""
    options = dataclasses.asdict(fitting.options)
    return {
        "learner": fitting.learner.name,
        "options": json.loads(json.dumps(options, default=module_name)),
        "ensemble": fitting.ensemble,
        "seed": fitting.seed,
        "device": fitting.device,
        "observation_noise": None if fitting.noise is None else fitting.noise.tolist(),
        "data": _data_of(fitting),
        "threads": torch.get_num_threads(),
        "versions": _versions(),
    }


def _data_of(fitting: Fitting) -> list[dict[str, Any]]:
    """Return name and path of each data set, and the digest of one that is learned from."""
    training = fitting.training
    parts = [None] * len(fitting.experiments) if training is None else training.experiments()
    return [
        {
            "name": x.name,
            "path": None if x.path is None else str(x.path),
            "digest": None if part is None else digest_of(part),
        }
        for x, part in zip(fitting.experiments, parts, strict=True)
    ]


def _versions() -> dict[str, str]:
    named = ("popdyn-jko", "torch", "numpy", "scipy", "xarray", "zarr")
    return {name: version(name) for name in named} | {"python": platform.python_version()}
