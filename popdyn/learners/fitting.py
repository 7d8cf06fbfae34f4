"""One call of ``fit``: learn, judge what was learned, and say what it lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from popdyn.base.errors import PopdynError
from popdyn.base.options import Options
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.estimation import LEAST, REFUTED, VERDICTS, Sample, Verdict, judge
from popdyn.estimation.difference import difference
from popdyn.estimation.identifiability import diagnose, gauge_trade
from popdyn.estimation.ladder import DECIDING, RUNGS, refuted, refuted_by_some
from popdyn.estimation.levels import FULL
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.solution import REJECTED
from popdyn.estimation.training_set import TrainingSet
from popdyn.estimation.weak_form import solve_weak_form
from popdyn.families.linear import LinearPotential, RadialInteraction
from popdyn.families.units import TermInUnits
from popdyn.learners.auto import chosen
from popdyn.learners.between import MEMBERS, NOT_PREDICTED, is_worse, words_of_choice
from popdyn.learners.beyond import beyond_energy
from popdyn.learners.ensemble import fit_ensemble
from popdyn.learners.experiments import Experiment
from popdyn.learners.in_units import fit_in_units, in_units, measured, options_in_units
from popdyn.learners.registry import Learner
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace

__all__ = ["Fitting"]

DIFFERENT = 0.01  # level at which experiments are said to have dynamics of their own
# What V(x, t) may stand for where nobody asked for it: any smooth curve of populations has one.
MOVING = "a potential that moves, growth or circulation"


@dataclass
class Fitting:
    """What a call of ``fit`` was asked for, and what it has found out on the way.

    Attributes:
        learner: The learner.
        options: Its options, as they were asked for.
        experiments: The data sets.
        held_out: Indices of the snapshots of each that are not looked at.
        ensemble: Members that were asked for; None leaves it to the data.
        workers: Processes that fit the members.
        seed: See ``fit``.
        device: See ``fit``.
        noise: Of the observation, ``(d,)``; None where there is none.
        training: Everything that is learned from; None of a learner that looks at the truth.
        settled: The options with what the particles themselves ask for, once they were looked at.
        members: Of the ensemble; 1 for a single fit.
    """

    learner: Learner
    options: Any
    experiments: list[Experiment]
    held_out: list[list[int]]
    ensemble: int | None
    workers: int
    seed: int
    device: str
    noise: np.ndarray | None = None
    training: TrainingSet | None = None
    settled: Any = None
    members: int = 1

    def __post_init__(self) -> None:
        self.settled, self.members = self.options, self.ensemble or 1
        self.fit_one = partial(fit_in_units, self.learner.fit)
        if not self.learner.sees_truth:
            self.training = self.training_set(self.seed, half=False)

    @property
    def fraction(self) -> float:
        """Share of the particles that validate, or judge."""
        return float(getattr(self.options, "validation_fraction", 0.0))

    def training_set(self, seed: int, half: bool = True) -> TrainingSet:
        """Return all particles, or a random half of them."""
        parts = zip(self.experiments, self.held_out, strict=True)
        return TrainingSet.of_all(
            {
                x.name: TrainingSet.from_data(
                    x.data,
                    held_out,
                    validation_fraction=self.fraction,
                    half=half,
                    seed=seed,
                    device=self.device,
                    noise=self.noise,
                )
                for x, held_out in parts
            }
        )

    def learned(self, place: Workplace) -> Run:
        """Return the run, not judged yet."""
        if self.training is None:
            return self.learner.fit(_of_one_truth(self.experiments), self.options, place)
        self.settled, choice = chosen(self.training, self.options, place)
        if self.ensemble is None and "between" in choice and self.settled.model == "network":
            self.members = MEMBERS
        if self.members > 1:
            run = fit_ensemble(
                self.fit_one,
                self.training_set,
                self.settled,
                self.members,
                self.seed,
                self.workers,
            )
        else:
            run = self.fit_one(self.training, self.settled, place)
        run.certificate |= choice
        _say_what_can_be_told(run, self.options, self.training)
        return run

    def judged(self, run: Run) -> Run:
        """Return a run with its verdict, and what it lacks; one with other parts if these do."""
        judging = self._verdict_on(run)
        for attempt in (self._finer, self._otherwise):
            if (other := attempt(run)) is not None:
                run, judging = other
        if len(self.experiments) > 1:
            self._compare(run, judging.of_each())
        if between := run.certificate.get("between"):
            run.notes = [*run.notes, words_of_choice(between)]
            if is_worse(between) and run.word in ("explained", "undetermined"):
                _refuse(run, NOT_PREDICTED)
        below = run.verdict is not None and run.verdict.note == VERDICTS["below_noise"]
        # Against noise V holds a population that stands still.
        if below and run.energy.W is None and run.dynamics.beta == 0:
            _still(run)
        if run.word != "explained":
            assert run.verdict is not None
            run.notes = [*run.notes, run.verdict.note, *self._more_than_energy(run)]
        return run

    def _verdict_on(self, run: Run) -> Judging:
        _to_cpu(run.energy)  # whoever evaluates it has NumPy arrays
        judging = Judging(self, run)
        run.verdict = judging.verdict()
        run.certificate |= run.verdict.certificate()
        return judging

    def _finer(self, run: Run) -> tuple[Run, Judging] | None:
        """Return a fit to the moments of many tests where few were met by what particles refuse.

        In more dimensions a structure is what is missing, and has been looked for.
        """
        before, met = self.training, run.certificate.get("misfit_p_value", 0.0) >= REJECTED
        if before is None or self.members > 1 or run.word != "unexplained" or not met:
            return None
        if before.dim > FULL or before.finer:
            return None
        self.training = dataclasses.replace(before, finer=True)
        # What could not be told apart with few tests is no clearer by itself.
        kept = ("learn", "ladder", "time_varying", "between", "undetermined")
        found = self._tried(run, {k: v for k, v in run.certificate.items() if k in kept})
        if found is None or found[0].word not in ("explained", "undetermined"):
            self.training, found = before, None
        return found

    def _tried(self, run: Run, choice: dict[str, Any]) -> tuple[Run, Judging] | None:
        """Return a fit as things are settled now, for a run, unless its own moments refute it.

        None, too, where it cannot be solved for.
        """
        assert self.training is not None
        try:
            other = self.fit_one(self.training, self.settled, Workplace())
        except PopdynError:
            return None
        if other.certificate.get("misfit_p_value", 1.0) < REFUTED:
            return None
        other.certificate |= choice
        _say_what_can_be_told(other, self.settled, self.training)
        other.config = run.config
        return other, self._verdict_on(other)

    def _otherwise(self, run: Run) -> tuple[Run, Judging] | None:
        """Return a fit with other parts that carries the snapshots where the ladder's does not.

        Moments ask for parts, and fresh particles judge them: V alone may meet its own moments
        where a W is missing, and what W's functions earned beside a coarse dictionary, narrow
        functions of V may do as well. So a W that trades with V, and that its own errors do not
        tell from 0, is not kept where none is needed, and where the choice is refused the other
        parts are tried; but not what the moments of the whole dictionary refute, nor a W in more
        dimensions, where it takes minutes.
        """
        before = self.settled
        for learn in self._other_parts(run):
            try:
                self.settled = dataclasses.replace(before, learn=learn, **_of_features(before))
            except PopdynError:  # other options do not go with it
                continue
            if self._refuted_by_some():
                continue
            choice = {"learn": list(learn), "ladder": run.certificate["ladder"]}
            found = self._tried(run, choice)
            if found is None:
                continue
            # Where the snapshots are explained, with fewer parts they have to be as well as with W.
            refused = run.word == "unexplained"
            met = found[0].certificate.get("misfit_p_value", 1.0) >= REJECTED
            explained = found[0].word == "explained" and (refused or met)
            if explained or (refused and found[0].word == "undetermined"):
                return found
            if (finer := self._finer(found[0])) is not None:
                return finer
        self.settled = before
        return None

    def _other_parts(self, run: Run) -> list[tuple[str, ...]]:
        """Return the parts that are worth trying instead of those that the ladder chose."""
        ladder = run.certificate.get("ladder")
        alone = self.training is not None and self.members == 1 and ladder
        moves = run.certificate.get("time_varying") or "between" in run.certificate
        if not alone or moves or getattr(self.settled, "model", None) == "network":
            return []
        assert self.training is not None
        assert ladder is not None
        chosen = tuple(run.certificate["learn"])
        if run.word == "undetermined":
            less = tuple(part for part in chosen if part != "interaction")
            others = [less] if less != chosen and not _is_certain(run.energy.W) else []
        elif run.word == "unexplained":
            without = {"interaction"} if self.training.dim > FULL else set()
            if getattr(self.options, "diffusivity", None) is not None:
                without.add("diffusion")
            others = [parts for parts in RUNGS if without.isdisjoint(parts)]
        else:
            return []
        whole = [r for r in ladder if r["dictionary"] == "whole" and not r.get("time_varying")]
        tried = {chosen, *(tuple(rung["learn"]) for rung in whole if refuted(rung))}
        return [parts for parts in others if parts not in tried]

    def _refuted_by_some(self) -> bool:
        """Whether few particles refute what is settled: it is not worth a fit to all of them."""
        assert self.training is not None
        own = self.training.own
        if own is None or own.units is None:
            return False
        asked = options_in_units(self.settled, own.units)
        asked = getattr(asked, "weak_form", asked)
        return isinstance(asked, WeakFormOptions) and refuted_by_some(own, asked, DECIDING // 2)

    def _compare(self, run: Run, each: Sequence[Verdict]) -> None:
        """Put into the certificate what each experiment says, and whether they differ."""
        names = [x.name for x in self.experiments]
        run.certificate["experiments"] = [
            {"data": name, "verdict": v.verdict} | v.certificate() | {"note": v.note}
            for name, v in zip(names, each, strict=True)
        ]
        if self.training is None or not run.learned:
            return
        try:
            differ = _whether_they_differ(run, self.options, self.training)
        except (np.linalg.LinAlgError, PopdynError) as error:
            reason = str(error).splitlines()[0]
            run.notes.append(f"whether the dynamics differ could not be tested ({reason})")
            return
        run.certificate["difference"] = {"p_value": differ, "alone": None}
        if differ >= DIFFERENT:
            note = f"no sign that their dynamics differ (p = {differ:.2g})"
            weak = "; where nothing explains them that says little"
            run.notes.append(note + weak * (run.word == "unexplained"))
            return
        alone = []
        for part in self.training.experiments():
            fitted = self.fit_one(part, chosen(part, self.options)[0], Workplace())
            _to_cpu(fitted.energy)
            alone.append(judge(fitted.dynamics, part.sample(), lambda: None, seed=self.seed))
        tests = [v.two_sample or {} for v in alone]
        run.certificate["difference"]["alone"] = [test.get("p_value") for test in tests]
        note = _of_difference(names, each, alone, differ)
        if differ < REFUTED and run.word != "unexplained":
            _refuse(run, f"{VERDICTS['unexplained']}: {note}")
        else:
            run.notes.append(note)

    def _more_than_energy(self, run: Run) -> list[str]:
        """Say what growth or circulation would explain where no energy does; see ``beyond``."""
        asked_to_move = getattr(self.options, "time_varying", False)
        moves = run.certificate.get("time_varying") and not asked_to_move
        if self.training is None or run.model != "features" or (self.ensemble or 1) > 1:
            return []
        if not (run.word == "unexplained" or moves):
            return []
        if self.training.sample().smallest < 5 * LEAST:
            return []
        less, left_out = self.training.split(self.fraction, LEAST)
        known = getattr(self.options, "diffusivity", None)
        note = beyond_energy(run, known, less, self.training.sample(left_out), self.seed)
        return [] if note is None else [note]


class Judging:
    """Who judges a run: see ``popdyn.estimation.verdict``."""

    def __init__(self, fitting: Fitting, run: Run) -> None:
        self.fitting, self.run = fitting, run
        # Of a learner without options nothing is learned, so nothing was seen.
        self.learns = fitting.learner.options is not Options
        training = fitting.training
        self.own = training.sample() if self.learns and training is not None else None
        self._unseen: list[tuple[Dynamics, Sample] | None] = []
        trades = tuple(run.certificate.get("undetermined", ()))
        if run.certificate.get("time_varying"):
            trades += (MOVING,)
        self.judge = partial(judge, run.dynamics, undetermined=trades, seed=fitting.seed)

    def verdict(self) -> Verdict:
        """Return the verdict of all particles."""
        moments = self.run.certificate.get("misfit_p_value")
        return self.judge(self.own, self.unseen, moments=moments)

    def of_each(self) -> list[Verdict]:
        """Return the verdict of the particles of each experiment."""
        count = len(self.fitting.experiments)
        parts = [None] * count if self.own is None else self.own.experiments()
        return [self.judge(part, partial(self._unseen_of, e)) for e, part in enumerate(parts)]

    def unseen(self) -> tuple[Dynamics, Sample] | None:
        """Return dynamics, and particles that they have not seen; None where they are too few."""
        if not self._unseen:
            self._unseen.append(self._make_unseen())
        return self._unseen[0]

    def _unseen_of(self, experiment: int) -> tuple[Dynamics, Sample] | None:
        left_out = self.unseen()
        return left_out and (left_out[0], left_out[1].experiments()[experiment])

    def _make_unseen(self) -> tuple[Dynamics, Sample] | None:
        run, fitting, training = self.run, self.fitting, self.fitting.training
        if not self.learns:
            everything = training or fitting.training_set(fitting.seed, half=False)
            return run.dynamics, everything.sample()
        assert training is not None
        assert self.own is not None
        if self.own.smallest < 5 * LEAST:
            return None
        if run.validated and min(len(x) for x in training.validation) >= LEAST:
            return run.dynamics, training.sample(training.validation)
        less, left_out = training.split(fitting.fraction, LEAST)
        sibling = fitting.fit_one(less, fitting.settled, Workplace())
        _to_cpu(sibling.energy)
        return sibling.dynamics, training.sample(left_out)


def _is_certain(W: Any) -> bool:
    """Whether W is far from 0 by its own errors: none of V's functions can stand for it."""
    kernel = getattr(W, "inner", W)
    return isinstance(kernel, RadialInteraction) and kernel.p_value() < REFUTED


def _of_features(options: Any) -> dict[str, str]:
    return {"model": "features"} if hasattr(options, "model") else {}


def _still(run: Run) -> None:
    """Set V to 0 where nothing moves above the noise: what evidence found there is luck."""
    V = run.energy.V
    while isinstance(V, TermInUnits) and isinstance(V.inner, TermInUnits):  # of directions
        V = V.inner
    found = V.inner if isinstance(V, TermInUnits) else None
    if isinstance(V, TermInUnits) and isinstance(found, LinearPotential) and found.weights.any():
        V.inner = found.stilled()
        run.notes.append("what was found of V is below sampling noise: V is 0 to its error")


def _refuse(run: Run, note: str) -> None:
    assert run.verdict is not None
    run.verdict = dataclasses.replace(run.verdict, verdict="unexplained", note=note)


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
    own = training.own or in_units(training, measured(training)[0])
    found = diagnose(own, learned, learns_diffusivity)
    run.certificate["identifiability"] = found.numbers()
    exchanged = run.certificate.get("undetermined", {})
    exchanged = exchanged | gauge_trade(run.energy, training, found)
    if exchanged:
        run.certificate["undetermined"] = exchanged
    if found.warnings:
        run.certificate["warnings"] = found.warnings
