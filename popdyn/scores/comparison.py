"""The distribution part of a result: predictions against observations, one value for each time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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

    def column(k: int) -> dict[str, Any]:
        found = predict(k)
        if found is None:
            return {}
        x, weights = found
        y = protocol.sample(k, "target") if observe is None else observe(k)
        out: dict[str, Any] = {"points": len(y), "points_predicted": len(x)}
        if support is not None:
            out["outside"] = support.fraction_outside(x)
        x, y = protocol.to_units(x), protocol.to_units(y)
        out |= {name: number(value) for name, value in compare(x, y, weights).items()}
        if standard_errors and weights is None:
            errors = half_sample_errors(compare, x, y, protocol.rng("subsample", k))
            out["errors"] = {name: number(value) for name, value in errors.items()}
        return out

    large = max(len(protocol.sample(k, "target")) for k in protocol.targets)
    threads = 1 if large > MAX_POINTS_IN_PARALLEL else torch.get_num_threads()
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        # POT's warning says what our error says again.
        warnings.filterwarnings("ignore", category=UserWarning, module="ot")
        columns = list(pool.map(column, protocol.targets))
    out: dict[str, Any] = {"times": [float(protocol.times[k]) for k in protocol.targets]}
    listed = [*names, "points", "points_predicted", *(["outside"] if support else [])]
    out |= {name: [c.get(name) for c in columns] for name in listed}
    if standard_errors:
        errors = [c.get("errors", {}) for c in columns]
        out["standard_error"] = {name: [e.get(name) for e in errors] for name in names}
    return out


def compare(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """Return every distribution score of the predicted sample x against the observed y."""
    return {s.name: s.function(x, y, weights, None) for s in scores_of("distribution")}
