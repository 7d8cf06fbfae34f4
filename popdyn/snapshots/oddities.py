"""Cells and components that no dynamics explains: repeated, far away, constant."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

__all__ = ["oddities"]

FAR = 100.0
"""Robust standard deviations: one cell this far among 10⁴ others doubles their variance."""
APART = 30.0
"""Ratio of the spreads of two components above which the smaller one hardly counts."""
COARSE = 1e-3
"""Rounding in units of the spread that begins to show: estimates are read to three digits."""
NORMAL_IQR = 1.349
"""Interquartile range of a normal law of standard deviation 1."""


def oddities(
    populations: Iterable[np.ndarray],
    times: Sequence[float],
    components: Sequence[str],
    where: Callable[[int, int], str] = lambda k, row: f"particle {row}",
) -> list[str]:
    """Return what is odd about snapshots, a sentence each.

    Args:
        populations: Positions ``(n_k, d)`` of each snapshot; looked at one after the other.
        times: The time of each.
        components: What each component is called ``(d)``.
        where: Says where row ``row`` of snapshot ``k`` stands.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(2, 50, 1))
        >>> x[1, 7] = 1e4
        >>> oddities(x, [0, 1], ["a"])[0]
        'time 1: particle 7 lies far from the other 49 (a = 10000; half lie within -0.66 … 0.68)'
    """
    repeated, far = [], []
    low, high, spreads, middles = [], [], [], []
    for k, (x, t) in enumerate(zip(populations, times, strict=True)):
        copies = len(x) - len(np.unique(_as_rows(x)))
        if copies:
            repeated.append((t, copies, len(x)))
        quartiles = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
        # Robust: one cell far away makes no spread, unless half of the cells share one value.
        spread = (quartiles[2] - quartiles[0]) / NORMAL_IQR
        far += _far(x, t, components, quartiles, spread, partial(where, k))
        middles.append(np.abs(quartiles[1]))
        low.append(x.min(axis=0))
        high.append(x.max(axis=0))
        spreads.append(np.where(spread > 0, spread, x.std(axis=0, dtype=np.float64)))
    constant = np.min(low, axis=0) == np.max(high, axis=0)
    notes = _repeats(repeated, len(low)) + far
    for i in np.flatnonzero(constant).tolist():
        notes.append(
            f"component {components[i]} is {low[0][i]:g} in all cells: nothing can be learned in it"
        )
    spread = np.mean(spreads, axis=0)
    moving = np.flatnonzero(~constant & (spread > 0)).tolist()
    middle = np.max(middles, axis=0)
    for i in moving:
        kept = float(middle[i]) * np.finfo(np.float32).eps
        if kept > COARSE * spread[i]:
            notes.append(
                f"component {components[i]} lies around {middle[i]:.3g} with a spread of "
                f"{spread[i]:.3g}: float32 holds it to {kept:.2g} only, --standardize component "
                "takes the mean away first"
            )
    if len(moving) > 1:
        widest, narrowest = (f(moving, key=lambda i: spread[i]) for f in (max, min))
        if spread[widest] > APART * spread[narrowest]:
            notes.append(
                f"the spreads of the components differ {spread[widest] / spread[narrowest]:.2g} "
                f"times ({components[widest]}: {spread[widest]:.3g}, {components[narrowest]}: "
                f"{spread[narrowest]:.3g}): --standardize component brings them to one"
            )
    return notes


def _as_rows(x: np.ndarray) -> np.ndarray:
    """Return each row as one opaque value; 0 and −0 are the same place."""
    x = np.ascontiguousarray(x + np.float32(0.0), dtype=np.float32)
    return x.view(np.dtype((np.void, x.shape[1] * x.itemsize)))[:, 0]


def _repeats(repeated: list[tuple[float, int, int]], snapshots: int) -> list[str]:
    if not repeated:
        return []
    copies, cells = (sum(column) for column in list(zip(*repeated, strict=True))[1:])
    worst = max(repeated, key=lambda row: row[1] / row[2])
    return [
        f"{copies} of {cells} cells in {len(repeated)} of {snapshots} snapshots stand exactly "
        f"where another of the same snapshot stands (time {worst[0]:g}: {worst[1]} of "
        f"{worst[2]}): copies are no independent cells"
    ]


def _far(
    x: np.ndarray,
    t: float,
    components: Sequence[str],
    quartiles: np.ndarray,
    spread: np.ndarray,
    where: Callable[[int], str],
) -> list[str]:
    """Return a sentence on the cells of one snapshot that lie far from all others."""
    distance = np.abs(x - quartiles[1]) / np.where(spread > 0, spread, np.inf)
    far = np.flatnonzero((distance > FAR).any(axis=1))
    if not len(far):
        return []
    row, i = divmod(int(np.argmax(distance)), len(components))
    who = f"{where(row)} lies" if len(far) == 1 else f"{len(far)} cells lie"
    first = "" if len(far) == 1 else f"the farthest is {where(row)}, "
    return [
        f"time {t:g}: {who} far from the other {len(x) - len(far)} ({first}{components[i]} = "
        f"{x[row, i]:.5g}; half lie within {quartiles[0][i]:.2g} … {quartiles[2][i]:.2g})"
    ]
