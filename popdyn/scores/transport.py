"""Exact optimal transport between samples: W₁, W₂, the plan, its interpolation, and sliced W₂."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.spatial.distance import cdist

from popdyn.base.errors import PopdynError
from popdyn.scores.catalogue import score_of

__all__ = ["displacement_interpolation", "sliced_w2", "transport_plan", "w1", "w2"]

MAX_ITERATIONS = 10_000_000
MAX_PAIRS = 400_000_000
PROJECTIONS = 200

Metric = Literal["euclidean", "sqeuclidean"]
Weights = np.ndarray | None


@score_of(
    "distribution",
    formula="min over plans of E|x − y|",
    summary="exact Wasserstein-1 distance of prediction and observation",
    minimised_by="every energy that predicts the observed law",
    perfect=0.0,
    bias="upwards, by about N^(−1/d): compare at equal points, beside the floor",
    avoid="to tell energies apart over short times: the floor hides the difference",
)
def w1(x: np.ndarray, y: np.ndarray, a: Weights = None, b: Weights = None) -> float:
    """Return W₁, exact, between the samples x ``(n, d)`` and y ``(m, d)``.

    Args:
        x: First sample.
        y: Second sample.
        a: Weights of x, ``(n,)``, of sum 1; uniform if None.
        b: Weights of y, ``(m,)``, of sum 1; uniform if None.

    Raises:
        PopdynError: If the solver does not converge, or the samples are too large for it.

    Example:
        >>> w1(np.zeros((1, 2)), np.array([[3.0, 4.0]]))
        5.0
    """
    return _cost(x, y, a, b, "euclidean")


@score_of(
    "distribution",
    formula="√(min over plans of E|x − y|²)",
    summary="exact Wasserstein-2 distance of prediction and observation",
    minimised_by="every energy that predicts the observed law",
    perfect=0.0,
    bias="upwards, by about N^(−1/d): compare at equal points, beside the floor",
    avoid="to tell energies apart over short times: the floor hides the difference",
)
def w2(x: np.ndarray, y: np.ndarray, a: Weights = None, b: Weights = None) -> float:
    """Return W₂, exact, between the samples x ``(n, d)`` and y ``(m, d)``.

    Arguments and errors are those of :func:`w1`.
    """
    return float(np.sqrt(_cost(x, y, a, b, "sqeuclidean")))


def transport_plan(
    x: np.ndarray,
    y: np.ndarray,
    metric: Metric = "sqeuclidean",
    a: Weights = None,
    b: Weights = None,
) -> np.ndarray:
    """Return an exact optimal plan ``(n, m)`` between two samples; weights as in :func:`w1`.

    Raises:
        PopdynError: If the solver does not converge, or the samples are too large for it.
    """
    import ot  # it takes a second to load, and most commands never come here

    cost = _cost_matrix(x, y, metric)
    p: Any = [] if a is None else a
    q: Any = [] if b is None else b
    plan, log = ot.emd(p, q, cost, numItermax=MAX_ITERATIONS, log=True)
    _check(log, cost.shape)
    return plan


def displacement_interpolation(
    x: np.ndarray, y: np.ndarray, fraction: float, a: Weights = None, b: Weights = None
) -> tuple[np.ndarray, Weights]:
    """Return the point at ``fraction`` of the W₂ geodesic from x to y (McCann's interpolation).

    Args:
        x: Sample at fraction 0, ``(n, d)``.
        y: Sample at fraction 1, ``(m, d)``.
        fraction: Between 0 and 1.
        a: Weights of x, of sum 1; uniform if None.
        b: Weights of y, likewise.

    Returns:
        Atoms and their weights; None for the weights where they are uniform (n = m). Up to
        n + m − 1 atoms otherwise.

    References:
        McCann, A convexity principle for interacting gases, Adv. Math. 128 (1997).
    """
    plan = transport_plan(x, y, a=a, b=b)
    i, j = np.nonzero(plan)
    atoms = (1.0 - fraction) * x[i] + fraction * y[j]
    if len(x) == len(y) == len(atoms) and a is None and b is None:
        return atoms, None
    mass = plan[i, j]
    return atoms, mass / mass.sum()


@score_of(
    "distribution",
    formula="√(mean over 200 directions of W₂² of the projections)",
    summary="Wasserstein-2 distance along lines: hardly a curse of dimension",
    minimised_by="every energy that predicts the observed law",
    perfect=0.0,
    bias="upwards, by about N^(−1/2) in any dimension",
    avoid="in high dimension, where a random line sees little of a local difference",
)
def sliced_w2(x: np.ndarray, y: np.ndarray, a: Weights = None, b: Weights = None) -> float:
    """Return sliced W₂: the root mean square of W₂ over 200 fixed random directions.

    Arguments are those of :func:`w1`. No solver: each direction is a sort.
    """
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((PROJECTIONS, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    total = 0.0
    for direction in directions:
        total += _squared_w2_on_line(x @ direction, y @ direction, a, b)
    return float(np.sqrt(total / PROJECTIONS))


def _squared_w2_on_line(u: np.ndarray, v: np.ndarray, a: Weights, b: Weights) -> float:
    if len(u) == len(v) and a is None and b is None:
        return float(np.mean((np.sort(u) - np.sort(v)) ** 2))
    i, j = np.argsort(u), np.argsort(v)
    p = np.cumsum(np.full(len(u), 1.0 / len(u)) if a is None else a[i])
    q = np.cumsum(np.full(len(v), 1.0 / len(v)) if b is None else b[j])
    # Between two neighbouring levels both quantile functions are constant.
    levels = np.sort(np.concatenate([p, q]))
    levels = levels[levels < 1.0 - 1e-12]
    middle = 0.5 * (np.concatenate([[0.0], levels]) + np.concatenate([levels, [1.0]]))
    mass = np.diff(np.concatenate([[0.0], levels, [1.0]]))
    left = u[i][np.minimum(np.searchsorted(p, middle), len(u) - 1)]
    right = v[j][np.minimum(np.searchsorted(q, middle), len(v) - 1)]
    return float(np.sum(mass * (left - right) ** 2))


def _cost(x: np.ndarray, y: np.ndarray, a: Weights, b: Weights, metric: Metric) -> float:
    import ot

    cost = _cost_matrix(x, y, metric)
    p: Any = [] if a is None else a
    q: Any = [] if b is None else b
    value, log = ot.emd2(p, q, cost, numItermax=MAX_ITERATIONS, log=True)
    _check(log, cost.shape)
    return max(float(value), 0.0)


def _cost_matrix(x: np.ndarray, y: np.ndarray, metric: Metric) -> np.ndarray:
    if len(x) * len(y) > MAX_PAIRS:
        raise PopdynError(
            f"exact transport between {len(x)} and {len(y)} points needs "
            f"{len(x) * len(y) * 8 / 1e9:.0f} GB: expected at most {MAX_PAIRS:.0e} pairs, "
            "so ask for fewer points"
        )
    return cdist(np.asarray(x, np.float64), np.asarray(y, np.float64), metric)


def _check(log: dict[str, object], shape: tuple[int, ...]) -> None:
    # POT itself only warns where its solver stops early.
    if log["warning"] is not None:
        raise PopdynError(
            f"exact transport between {shape[0]} and {shape[1]} points did not converge: "
            f"{str(log['warning']).rstrip('.')}"
        )
