"""``fit``: one door to every learner."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from popdyn.base.errors import PopdynError
from popdyn.base.files import Target
from popdyn.base.host import usual_torch
from popdyn.base.options import Options
from popdyn.base.plain import indices, plain_numbers
from popdyn.base.registry import lookup
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.estimation import LEAST, REFUTED, VERDICTS, Sample, Verdict, judge
from popdyn.learners.auto import chosen
from popdyn.learners.between import MEMBERS, NOT_PREDICTED, is_worse, words_of_choice
from popdyn.learners.beyond import beyond_energy
from popdyn.learners.ensemble import fit_ensemble
from popdyn.learners.experiments import DataSet, Experiment, experiments_of, held_out_of
from popdyn.learners.identifiability import diagnose, gauge_trade
from popdyn.learners.in_units import fit_in_units, in_units, measured, options_in_units
from popdyn.learners.module_potential import module_name
from popdyn.learners.registry import LEARNERS, options_of
from popdyn.learners.run import Run, run_target, write_run
from popdyn.learners.training import CHECKPOINT, Workplace, read_checkpoint
from popdyn.learners.training_set import TrainingSet
from popdyn.learners.weak_form.difference import difference
from popdyn.learners.weak_form.options import WeakFormOptions
from popdyn.learners.weak_form.solve import solve_weak_form

__all__ = ["fit"]

DIFFERENT = 0.01  # level at which experiments are said to have dynamics of their own
# What V(x, t) may stand for where nobody asked for it: any smooth curve of populations has one.
MOVING = "a potential that moves, growth or circulation"


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
    if ensemble is not None and ensemble < 1:
        raise PopdynError(f"ensemble is {ensemble}: expected 1 or more members")
    if workers < 1:
        raise PopdynError(f"workers is {workers}: expected 1 or more")
    more = [p for p in ("growth", "circulation") if p in getattr(resolved, "learn", ())]
    if more and (ensemble or 1) > 1:
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
        "data": [
            {"name": x.name, "path": None if x.path is None else str(x.path), "digest": None}
            for x in experiments
        ],
        "threads": torch.get_num_threads(),
        "versions": {
            name: version(name)
            for name in ("popdyn-jko", "torch", "numpy", "scipy", "xarray", "zarr")
        }
        | {"python": platform.python_version()},
    }
    target = None
    if out is not None:
        sources = [x.path for x in experiments]
        target = run_target(out, overwrite=overwrite, keep=True, sources=sources)
        target.check()
    training = None
    fraction = getattr(resolved, "validation_fraction", 0.0)
    fit_one = partial(fit_in_units, entry.fit)
    # With what all particles ask for, once they have been looked at.
    asked, members = resolved, ensemble or 1

    def training_of(member_seed: int, half: bool = True) -> TrainingSet:
        return TrainingSet.of_all(
            {
                x.name: TrainingSet.from_data(
                    x.data,
                    held_out,
                    validation_fraction=fraction,
                    half=half,
                    seed=member_seed,
                    device=device,
                )
                for x, held_out in zip(experiments, held_out_each, strict=True)
            }
        )

    if not entry.sees_truth:
        training = training_of(seed, half=False)
        for record, part in zip(config["data"], training.experiments(), strict=True):
            record["digest"] = _digest(part)
    begin = time.monotonic()

    def learn(place: Workplace) -> Run:
        nonlocal asked, members
        if training is None:
            return entry.fit(_of_one_truth(experiments), resolved, place)
        asked, choice = chosen(training, resolved, place)
        if ensemble is None and "between" in choice and asked.model == "network":
            members = MEMBERS
        if members > 1:
            run = fit_ensemble(fit_one, training_of, asked, members, seed, workers)
        else:
            run = fit_one(training, asked, place)
        run.certificate |= choice
        _say_what_can_be_told(run, resolved, training)
        return run

    def verdict_on(run: Run) -> tuple[Verdict, list[Verdict]]:
        """Judge the run on all and on each; see ``popdyn.estimation.verdict`` for who judges."""

        @cache
        def unseen() -> tuple[Dynamics, Sample] | None:
            if entry.options is Options:  # nothing is learned, so nothing was seen
                return run.dynamics, (training or training_of(seed, half=False)).sample()
            assert training is not None
            assert own is not None
            if own.smallest < 5 * LEAST:
                return None
            if run.validated and min(len(x) for x in training.validation) >= LEAST:
                return run.dynamics, training.sample(training.validation)
            less, left_out = training.split(fraction, LEAST)
            sibling = fit_one(less, asked, Workplace())
            _to_cpu(sibling.energy)
            return sibling.dynamics, training.sample(left_out)

        own = None if entry.options is Options or training is None else training.sample()
        trades = tuple(run.certificate.get("undetermined", ()))
        if run.certificate.get("time_varying"):
            trades += (MOVING,)
        moments = run.certificate.get("misfit_p_value")
        given: dict[str, Any] = {"undetermined": trades, "seed": seed}
        found = judge(run.dynamics, own, unseen, moments=moments, **given)
        if len(experiments) == 1:
            return found, []

        def of_one(e: int) -> tuple[Dynamics, Sample] | None:
            left_out = unseen()
            return left_out and (left_out[0], left_out[1].experiments()[e])

        parts = [None] * len(experiments) if own is None else own.experiments()
        each = enumerate(parts)
        return found, [judge(run.dynamics, x, partial(of_one, e), **given) for e, x in each]

    def compared(run: Run, each: Sequence[Verdict]) -> None:
        """Put into the certificate what each experiment says, and whether they differ."""
        names = [x.name for x in experiments]
        records = [
            {"data": name, "verdict": v.verdict} | v.certificate() | {"note": v.note}
            for name, v in zip(names, each, strict=True)
        ]
        run.certificate["experiments"] = records
        if training is None or not run.learned:
            return
        try:
            differ = _whether_they_differ(run, resolved, training)
        except (np.linalg.LinAlgError, PopdynError) as error:
            reason = str(error).splitlines()[0]
            run.notes.append(f"whether the dynamics differ could not be tested ({reason})")
            return
        run.certificate["difference"] = {"p_value": differ, "alone": None}
        if differ >= DIFFERENT:
            return
        alone = []
        for part in training.experiments():
            fitted = fit_one(part, chosen(part, resolved)[0], Workplace())
            _to_cpu(fitted.energy)
            alone.append(judge(fitted.dynamics, part.sample(), lambda: None, seed=seed))
        tests = [v.two_sample or {} for v in alone]
        run.certificate["difference"]["alone"] = [test.get("p_value") for test in tests]
        note = _of_difference(names, each, alone, differ)
        assert run.verdict is not None
        if differ < REFUTED and run.word != "unexplained":
            changed = f"{VERDICTS['unexplained']}: {note}"
            run.verdict = dataclasses.replace(run.verdict, verdict="unexplained", note=changed)
        else:
            run.notes.append(note)

    def more_than_energy(run: Run) -> list[str]:
        """Say what growth or circulation would explain where no energy does; see ``beyond``."""
        moves = run.certificate.get("time_varying") and not getattr(resolved, "time_varying", False)
        if training is None or run.model != "features" or (ensemble or 1) > 1:
            return []
        if not (run.word == "unexplained" or moves) or training.sample().smallest < 5 * LEAST:
            return []
        less, left_out = training.split(fraction, LEAST)
        known = getattr(resolved, "diffusivity", None)
        note = beyond_energy(run, known, less, training.sample(left_out), seed)
        return [] if note is None else [note]

    def finished(run: Run) -> Run:
        _to_cpu(run.energy)  # whoever evaluates it has NumPy arrays
        run.verdict, each = verdict_on(run)
        run.certificate |= run.verdict.certificate()
        run.config = config | {"ensemble": members}
        if each:
            compared(run, each)
        if between := run.certificate.get("between"):
            run.notes = [*run.notes, words_of_choice(between)]
            if is_worse(between) and run.word in ("explained", "undetermined"):
                run.verdict = dataclasses.replace(
                    run.verdict, verdict="unexplained", note=NOT_PREDICTED
                )
        if run.word != "explained":
            run.notes = [*run.notes, run.verdict.note, *more_than_energy(run)]
        run.seconds = time.monotonic() - begin
        run.data = [x.data for x in experiments]
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


def _whether_they_differ(run: Run, options: Any, training: TrainingSet) -> float:
    """Return the p-value of the hypothesis that all experiments have one dynamics.

    It is a test of the data, by the weak form's solution for what the run has learned.
    """
    units, solved, structure = training.found or (measured(training)[0], {}, None)
    own = in_units(training, units)
    own.solved, own.structure = solved, structure
    known = getattr(options_in_units(options, units), "diffusivity", None)
    learn = tuple(run.certificate.get("learn", getattr(options, "learn", ("potential",))))
    moves = bool(run.certificate.get("time_varying", getattr(options, "time_varying", False)))
    asked = WeakFormOptions(learn, known, moves)
    if isinstance(options, WeakFormOptions):
        asked = dataclasses.replace(options, learn=learn, diffusivity=known, time_varying=moves)
    return difference(own, solve_weak_form(own, asked)).p_value


def _of_difference(
    names: Sequence[str], each: Sequence[Verdict], alone: Sequence[Verdict], p_value: float
) -> str:
    """Return a line on experiments whose dynamics differ, or that no dynamics explains alone."""
    p = f"p = {p_value:.1g}" if p_value > 1e-300 else "p < 1e-300"
    lacking, left = (
        [name for name, v in zip(names, found, strict=True) if v.verdict == "unexplained"]
        for found in (alone, each)
    )
    if lacking:
        return (
            f"no one dynamics of this kind fits all data sets ({p}), and {', '.join(lacking)} "
            "not even alone: what is learned lacks something"
        )
    met = [name for name in names if name not in left]
    begin = f"explained in {', '.join(met)}, not in {', '.join(left)}: " if met and left else ""
    return f"{begin}their dynamics differ ({p}); each is explained alone"


def _of_one_truth(experiments: Sequence[Experiment]) -> xr.DataTree:
    """Return the first of experiments whose true dynamics are the same."""
    first = experiments[0]
    for other in experiments[1:]:
        if other.data.attrs.get("dynamics") != first.data.attrs.get("dynamics"):
            raise PopdynError(
                f"the true dynamics of '{first.name}' and '{other.name}' differ: expected the same"
            )
    return first.data


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
    ):
        old, new = before.get(key), config.get(key)
        if key == "data":
            old, new = (
                {f"{what} of {x['name']}": x[what] for x in part for what in ("path", "digest")}
                for part in (old or (), new or ())
            )
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
