"""``score``: an energy against the truth and the snapshots, with its reference rows."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from popdyn.base.plain import indices, plain_numbers
from popdyn.dynamics import Dynamics, FreeEnergy, dynamics_of
from popdyn.scores.catalogue import scores_of
from popdyn.scores.comparison import Prediction, Weighted, distribution_scores, number
from popdyn.scores.growth import growth_scores
from popdyn.scores.moments import Moments, gradient_table, part_moments
from popdyn.scores.prediction import Support, predict_targets
from popdyn.scores.protocol import Protocol, parse_points
from popdyn.scores.result import Scores
from popdyn.scores.transport import displacement_interpolation
from popdyn.scores.uncertainty import bootstrap_weights
from popdyn.snapshots import opened, positions
from popdyn.snapshots.tree import weights as particle_weights

__all__ = ["gradient_scores", "interpolation", "reference_rows", "score"]

MAX_PARTICLES = 20_000

NO_TRUTH = (
    "no gradient scores: the data carries no true energy (real cells, or an energy made from "
    "a callable); pass truth= if you have it"
)
NO_TEST_GROUP = "no gradient scores: the test group is empty"
NOT_FINITE = "the prediction left finite numbers: its distribution scores are null from there on"


class Learned(typing.Protocol):
    """What is read of a run."""

    dynamics: Dynamics
    learner: str
    config: dict[str, Any]

    @property
    def word(self) -> str | None: ...
    @property
    def how(self) -> str: ...
    def held_out(self, data: xr.DataTree) -> list[int]: ...


@plain_numbers(whole=("seed",))
def score(
    energy: Dynamics | Learned,
    data: xr.DataTree | str | os.PathLike[str],
    *,
    truth: Dynamics | None = None,
    hold_out: Sequence[int] | int | None = None,
    points: int | str = 2000,
    from_: str = "previous",
    seed: int = 0,
    units: str = "store",
    standard_errors: bool = False,
    references: Mapping[str, Any] | None = None,
) -> Scores:
    """Score an energy against the truth (gradients, diffusivity) and the snapshots (prediction).

    Args:
        energy: The energy, or other dynamics, to score, or a run of :func:`popdyn.fit`.
        data: The snapshots, or the path of a store. Gradient scores use at most 20 000 test
            particles of each.
        truth: The true energy; the one recorded in the data if None.
        hold_out: Indices of snapshots that the fit did not see: then they alone are predicted.
            None: those that the run did not see.
        points: Particles a side for the distribution scores, or ``"all"``.
        from_: ``"previous"``: each time is predicted from the observed snapshot before it;
            ``"first"``: from the first one.
        seed: Seeds the choice of points and the noise of the prediction.
        units: ``"original"`` undoes the standardisation of an imported store (distribution
            scores only).
        standard_errors: Whether distances get standard errors too, at about four times the cost.
        references: Rows that :func:`reference_rows` gave for the same data and options; computed
            here if None.

    Returns:
        A dictionary with the keys ``gradient``, ``diffusivity``, ``distribution``, ``references``
        and, where something is to be said, ``notes``; of a run ``learner`` and ``verdict``, too.
        None stands for what is not defined; a part without meaning is left out. It prints as a
        table, and has ``to_dict``, ``to_pandas`` and ``to_xarray``.

    Raises:
        PopdynError: On an unknown option, an empty test group without ``hold_out``, an energy
            that does not fit the data, or a transport problem that is not solved.

    Example:
        >>> from popdyn.snapshots import make_tree
        >>> x = np.random.default_rng(0).normal(size=(3, 50, 2))
        >>> data = make_tree(x, x, [0.0, 0.1, 0.2])
        >>> energy = FreeEnergy("quadratic")
        >>> score(energy, data, truth=energy)["gradient"]["potential"]["skill"]
        1.0
    """
    data, out, label = opened(data), dict[str, Any](), "estimate"
    if not isinstance(energy, Dynamics):
        run, energy = energy, dynamics_of(energy, "score")
        out = {"learner": run.learner, "verdict": run.word}
        label = run.how
        hold_out = run.held_out(data) if hold_out is None else hold_out
    held_out = () if hold_out is None else indices(hold_out, "hold_out")
    protocol = _protocol(data, held_out, points, from_, seed, units)
    truth = _truth(data, truth)
    support = Support(data, protocol.observed, seed)
    out |= _energy_row(energy, truth, protocol, support, standard_errors)
    if references is None:
        references = _reference_rows(truth, protocol, support, standard_errors)
    out["references"] = dict(references)
    notes = []
    if truth is None:
        notes.append(NO_TRUTH)
    elif not protocol.has_test_group():
        notes.append(NO_TEST_GROUP)
    if None in out["distribution"]["points"]:
        notes.append(NOT_FINITE)
    return Scores(out | ({"notes": notes} if notes else {}), label)


@plain_numbers(whole=("seed",))
def reference_rows(
    data: xr.DataTree | str | os.PathLike[str],
    *,
    truth: Dynamics | None = None,
    hold_out: Sequence[int] | int = (),
    points: int | str = 2000,
    from_: str = "previous",
    seed: int = 0,
    units: str = "store",
    standard_errors: bool = False,
) -> dict[str, Any]:
    """Return the rows that every result is read beside; arguments are those of :func:`score`.

    They do not depend on the energy that is scored: compute them once for each data set.

    Returns:
        ``zero``: the energy 0, which leaves every particle where it is. ``floor``: two halves of
        the same snapshot. ``copy_previous``: the nearest earlier observed snapshot. ``mccann``:
        the exact displacement interpolation between the neighbouring observed snapshots (without
        ``hold_out``: between the snapshots before and after), null where there is no later one.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=100, snapshots=3)
        >>> rows = reference_rows(data, points=50)
        >>> list(rows)
        ['zero', 'floor', 'copy_previous', 'mccann']
        >>> scores = popdyn.score(popdyn.FreeEnergy("quadratic"), data, points=50, references=rows)
    """
    data = opened(data)
    protocol = _protocol(data, indices(hold_out, "hold_out"), points, from_, seed, units)
    support = Support(data, protocol.observed, seed)
    return _reference_rows(_truth(data, truth), protocol, support, standard_errors)


def gradient_scores(
    energy: Dynamics, truth: Dynamics, protocol: Protocol
) -> dict[str, dict[str, Any]]:
    """Return the gradient scores of each part, over the test snapshots k = 1…K.

    A ``standard_error`` beside the scores holds bootstrap standard errors over test particles.
    """
    t = protocol.times
    tables, weights, variances = [], [], []
    for k in range(len(t)):
        x = positions(protocol.data, k, "test", 0, MAX_PARTICLES)
        w = bootstrap_weights(len(x), protocol.rng("bootstrap", k))
        mass = particle_weights(protocol.data, k, "test", 0, MAX_PARTICLES)
        # The sample itself first, then its replicates.
        w = np.concatenate([np.ones((1, len(x))), w])
        weights.append(w if mass is None else w * mass)
        weighted = mass is not None
        variances.append(_variance(x, weights[-1]))
        if k > 0:
            rng = protocol.rng("pairs", k)
            tables.append(gradient_table(energy, truth, x, float(t[k]), rng, mass))
    spread = np.stack(variances[:-1], -1)
    uvp = 100.0 * np.diff(t) ** 2 / np.where(spread > 0, spread, np.nan)
    here = part_moments(tables, uvp[0], [w[0] for w in weights[1:]] if weighted else None)
    replicates = part_moments(tables, uvp[1:], [w[1:] for w in weights[1:]])
    out: dict[str, dict[str, Any]] = {}
    for part, m in here.items():
        scores = [
            s
            for s in scores_of("gradient")
            if part in s.parts and (m.gauge_error is not None or not s.gauge)
        ]
        row: dict[str, Any] = {s.name: number(s.function(m)) for s in scores}
        if part == "potential":
            row["by_time"] = _by_time(m, t[1:])
        row["standard_error"] = {
            s.name: number(np.std(s.function(replicates[part]), ddof=1)) for s in scores
        }
        out[part] = row
    return out


def _variance(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the trace of the covariance under each row of weights, ``(replicates,)``."""
    x = x.astype(np.float64) - x.astype(np.float64).mean(0)
    w = weights / weights.sum(1, keepdims=True)
    return w @ (x**2).sum(1) - ((w @ x) ** 2).sum(1)


def _by_time(m: Moments, t: np.ndarray) -> list[dict[str, float | None]]:
    timed = [s for s in scores_of("gradient") if s.by_time]
    return [
        {"time": float(time), **{s.name: number(s.function(m.at(k))) for s in timed}}
        for k, time in enumerate(t)
    ]


def _energy_row(
    energy: Dynamics,
    truth: Dynamics | None,
    protocol: Protocol,
    support: Support,
    standard_errors: bool,
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if truth is not None and protocol.has_test_group():
        out["gradient"] = gradient_scores(energy, truth, protocol)
        if "growth" in {**energy.terms, **truth.terms}:
            out["gradient"]["growth"] = growth_scores(energy, truth, protocol)
    out["diffusivity"] = _diffusivity(energy, truth)
    weights: dict[int, np.ndarray] = {}
    predicted = predict_targets(energy, protocol, weights)

    def predict(k: int) -> Prediction:
        x = predicted[k]
        return None if x is None else (x, weights.get(k))

    def mass(k: int) -> float | None:
        """The mass of the start times what has grown since."""
        begun, start = protocol.mass(protocol.start_of(k)), protocol.start_of(k)
        if begun is None or predicted[k] is None or k not in weights:
            return None if predicted[k] is None else begun
        before = protocol.weights(start, "start")
        return begun * float(weights[k].mean() / (1.0 if before is None else before.mean()))

    out["distribution"] = distribution_scores(
        protocol, predict, support=support, standard_errors=standard_errors, mass=mass
    )
    return out


def _diffusivity(energy: Dynamics, truth: Dynamics | None) -> dict[str, float | None]:
    error = energy.energy.diffusivity_standard_error
    out: dict[str, float | None] = {
        "estimate": energy.beta,
        "standard_error": None if error is None else number(error),
    }
    if truth is None:
        return out
    if truth.beta is None or energy.beta is None:  # no one number
        return {"true": truth.beta, **out}
    differences: dict[str, float | None] = {
        s.name: number(s.function(truth.beta, energy.beta)) for s in scores_of("diffusivity")
    }
    return {"true": truth.beta, **out, **differences}


def _reference_rows(
    truth: Dynamics | None, protocol: Protocol, support: Support, standard_errors: bool
) -> dict[str, Any]:
    def sample(j: int) -> Prediction:
        return protocol.sample(j, "start"), protocol.weights(j, "start")

    def copy(k: int) -> Prediction:
        return sample(protocol.before(k))

    def stay(k: int) -> Prediction:
        return sample(protocol.start_of(k))

    def half(k: int) -> Prediction:
        first = protocol.halves(k)[0]
        return (first, protocol.half_weights(k)[0]) if len(first) else None

    def other_half(k: int) -> Weighted:
        return protocol.halves(k)[1], protocol.half_weights(k)[1]

    def interpolate(k: int) -> Prediction:
        return interpolation(protocol, k)

    def row(predict: Any, **options: Any) -> dict[str, Any]:
        return distribution_scores(protocol, predict, standard_errors=standard_errors, **options)

    copied = row(copy, support=support, mass=lambda k: protocol.mass(protocol.before(k)))
    zero: dict[str, Any] = {}
    if truth is not None and protocol.has_test_group():
        zero["gradient"] = gradient_scores(FreeEnergy(), truth, protocol)
        if "growth" in truth.terms:
            zero["gradient"]["growth"] = growth_scores(FreeEnergy(), truth, protocol)
    zero["diffusivity"] = _diffusivity(FreeEnergy(), truth)
    # From the snapshot before, staying where one is and copying it are the same thing.
    zero["distribution"] = (
        copied
        if protocol.from_ == "previous"
        else row(stay, support=support, mass=lambda k: protocol.mass(protocol.start_of(k)))
    )
    return {
        "zero": zero,
        "floor": {"distribution": row(half, observe=other_half)},
        "copy_previous": {"distribution": copied},
        "mccann": {"distribution": row(interpolate)},
    }


def interpolation(protocol: Protocol, k: int) -> Prediction:
    """Return the ``mccann`` row's prediction of snapshot k, None without a later observed one."""
    earlier = protocol.before(k)
    later = protocol.after(k)
    if later is None:
        return None
    t = protocol.times
    x, y = protocol.sample(earlier, "start"), protocol.sample(later, "start")
    a, b = protocol.weights(earlier, "start"), protocol.weights(later, "start")
    if protocol.points is not None:
        # As many on both sides: then the plan is a permutation, and atoms weigh the same.
        n = min(len(x), len(y))
        x, y = x[:n], y[:n]
        a, b = (w if w is None else w[:n] for w in (a, b))
    a, b = (w if w is None else w / w.sum() for w in (a, b))
    fraction = float((t[k] - t[earlier]) / (t[later] - t[earlier]))
    return displacement_interpolation(x.astype(np.float64), y.astype(np.float64), fraction, a, b)


def _protocol(
    data: xr.DataTree, hold_out: Sequence[int], points: int | str, from_: str, seed: int, units: str
) -> Protocol:
    return Protocol(data, tuple(hold_out), parse_points(points), from_, seed, units)


def _truth(data: xr.DataTree, truth: Dynamics | None) -> Dynamics | None:
    spec = data.attrs.get("dynamics")
    return Dynamics.from_spec(spec) if truth is None and spec is not None else truth
