"""The distribution part of a result: predictions against observations, one value for each time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from popdyn.scores.catalogue import scores_of
from popdyn.scores.prediction import Support
from popdyn.scores.protocol import Protocol
from popdyn.scores.uncertainty import half_sample_errors

__all__ = ["Prediction", "distribution_scores", "number"]

# Cost matrices of larger samples take gigabytes: one at a time.
MAX_POINTS_IN_PARALLEL = 5000

Prediction = tuple[np.ndarray, np.ndarray | None] | None
"""Particles ``(n, d)`` and their weights (None: uniform), or None where there is no prediction."""


class Column(NamedTuple):
    """What is reported for one time."""

    scores: dict[str, float | None]
    errors: dict[str, float | None]
    predicted: int | None
    observed: int | None
    outside: float | None


def number(value: Any) -> float | None:
    """Return a JSON number: null for what is not defined."""
    value = float(value)
    return value if math.isfinite(value) else None


def distribution_scores(
    protocol: Protocol,
    predict: Callable[[int], Prediction],
    *,
    observe: Callable[[int], np.ndarray] | None = None,
    support: Support | None = None,
    standard_errors: bool = False,
) -> dict[str, Any]:
    """Return every distribution score at every target time.

    Times are worked on in parallel, on as many threads as torch has been given: the transport
    solver releases the interpreter.

    Args:
        protocol: The times, and the observed particles.
        predict: Gives the prediction for a snapshot.
        observe: Gives the particles to compare with; the protocol's sample if None.
        support: Where given, the fraction of predicted particles outside is reported.
        standard_errors: Whether to add standard errors from ten half-samples.

    Returns:
        ``times``, one list for each score, ``points`` (observed) and ``points_predicted`` on
        the two sides, and ``outside`` and ``standard_error`` where asked for. null where there
        is nothing to compare.
    """
    names = [score.name for score in scores_of("distribution")]

    def column(k: int) -> Column:
        found = predict(k)
        if found is None:
            return Column(dict.fromkeys(names), dict.fromkeys(names), None, None, None)
        x, weights = found
        y = protocol.sample(k, "target") if observe is None else observe(k)
        outside = None if support is None else support.fraction_outside(x)
        x, y = protocol.to_units(x), protocol.to_units(y)
        scores = compare(x, y, weights)
        errors: dict[str, float | None] = dict.fromkeys(names)
        if standard_errors and weights is None:
            found_errors = half_sample_errors(compare, x, y, protocol.rng("subsample", k))
            errors = {name: number(value) for name, value in found_errors.items()}
        values = {name: number(value) for name, value in scores.items()}
        return Column(values, errors, len(x), len(y), outside)

    large = max(len(protocol.sample(k, "target")) for k in protocol.targets)
    threads = 1 if large > MAX_POINTS_IN_PARALLEL else torch.get_num_threads()
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        # POT's warning says what our error says again.
        warnings.filterwarnings("ignore", category=UserWarning, module="ot")
        columns = list(pool.map(column, protocol.targets))
    out: dict[str, Any] = {"times": [float(protocol.times[k]) for k in protocol.targets]}
    out |= {name: [c.scores[name] for c in columns] for name in names}
    out["points"] = [c.observed for c in columns]
    out["points_predicted"] = [c.predicted for c in columns]
    if support is not None:
        out["outside"] = [c.outside for c in columns]
    if standard_errors:
        out["standard_error"] = {name: [c.errors[name] for c in columns] for name in names}
    return out


def compare(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """Return every distribution score of the predicted sample x against the observed y."""
    return {s.name: s.function(x, y, weights, None) for s in scores_of("distribution")}
