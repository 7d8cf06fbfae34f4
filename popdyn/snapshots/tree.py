"""The snapshot tree in memory: how it is made, and the four questions everyone asks it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from popdyn.base.cluster import versions
from popdyn.base.errors import PopdynError

__all__ = [
    "FORMAT",
    "GROUPS",
    "counts",
    "dimension",
    "make_tree",
    "masses",
    "not_held_out",
    "positions",
    "root_attributes",
    "times",
    "weights",
]

FORMAT = 2
GROUPS = ("train", "test")
LATEST = 1e100  # time: its square is a number, too
Group = Literal["train", "test"]


def make_tree(
    train: Sequence[ArrayLike],
    test: Sequence[ArrayLike],
    times: ArrayLike,
    attrs: Mapping[str, Any] | None = None,
    *,
    weights: Mapping[str, Sequence[ArrayLike]] | None = None,
    masses: Mapping[str, ArrayLike] | None = None,
) -> xr.DataTree:
    """Lay populations out as a snapshot tree.

    Args:
        train: One array ``(n_k, d)`` for each time.
        test: Independent draws of the same laws, one ``(m_k, d)`` for each time; ``m_k`` may be 0.
        times: Physical times ``(K + 1)``, strictly increasing, dimensionless.
        attrs: Root attributes beside or instead of the defaults.
        weights: Where particles weigh differently: for both groups a list of ``(n_k,)``, ≥ 0; the
            mean over the first snapshot of ``train`` becomes 1.
        masses: Where the total mass was measured: for both groups ``(K + 1)`` of them, > 0, in
            any unit.

    Returns:
        A tree with groups ``train`` and ``test``, each with ``x`` (time, particle, component)
        float32, NaN past ``count``, ``count`` (time) int64 and ``time`` float64; and ``weight``
        (time, particle) float32 and ``mass`` (time) float64 where they are given.

    Raises:
        PopdynError: On times that do not increase, no snapshot at all, shapes that do
            not agree, positions that are not finite, or weights or masses out of range.

    Example:
        >>> tree = make_tree([np.zeros((3, 2)), np.ones((2, 2))], [np.zeros((0, 2))] * 2, [0, 0.1])
        >>> counts(tree).tolist(), dimension(tree)
        ([3, 2], 2)
    """
    t = check_times(times)
    populations = {"train": _populations(train, t, "train"), "test": _populations(test, t, "test")}
    dims = {x.shape[1] for group in populations.values() for x in group}
    if len(dims) > 1:
        raise PopdynError(f"positions have dimensions {sorted(dims)}: expected one and the same")
    nodes = {name: _dataset(group, t) for name, group in populations.items()}
    if weights is not None:
        unit = mean_weight(weights["train"][0], "train snapshot 0")
        for name, group in populations.items():
            nodes[name]["weight"] = _weights(weights[name], group, unit, name)
    if masses is not None:
        for name in nodes:
            nodes[name]["mass"] = ("time", check_masses(masses[name], t.size, name))
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs=root_attributes({**(attrs or {}), "complete": True})), **nodes}
    )


def root_attributes(attrs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the root attributes, the given ones in place of the defaults."""
    defaults: dict[str, Any] = {
        "popdyn_format": FORMAT,
        "title": "population snapshots",
        "history": f"{datetime.now(UTC).isoformat(timespec='seconds')} made by popdyn",
        "source": versions(),
        "observation": "unpaired",
        "dynamics": None,
        "initial": None,
        "scheme": None,
        "step": None,
        "seed": None,
        "complete": False,
    }
    return {**defaults, **(attrs or {})}


def times(data: xr.DataTree) -> np.ndarray:
    """Return the physical times, ``(K + 1)`` float64.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50, times=[0, 0.5, 2])
        >>> times(data)
        array([0. , 0.5, 2. ])
    """
    return np.asarray(_node(data, "train")["time"].values, dtype=np.float64)


def counts(data: xr.DataTree, group: str = "train") -> np.ndarray:
    """Return the particles in each snapshot, ``(K + 1)`` int64.

    Args:
        data: A tree.
        group: ``"train"`` or ``"test"``.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=[50, 60], snapshots=2)
        >>> counts(data)
        array([50, 60])
    """
    return np.asarray(_node(data, group)["count"].values, dtype=np.int64)


def not_held_out(data: xr.DataTree, hold_out: Iterable[int]) -> list[int]:
    """Return the indices of the snapshots that are not held out.

    Raises:
        PopdynError: On an index that there is not.
    """
    left_out, count = set(hold_out), len(times(data))
    for k in left_out:
        if not 0 <= k < count:
            raise PopdynError(f"hold-out index {k}: the data has snapshots 0 to {count - 1}")
    return [k for k in range(count) if k not in left_out]


def dimension(data: xr.DataTree) -> int:
    """Return the dimension d of a position.

    Example:
        >>> import popdyn
        >>> dimension(popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50, dim=3))
        3
    """
    return int(_node(data, "train")["x"].sizes["component"])


def positions(
    data: xr.DataTree, k: int, group: str = "train", start: int = 0, stop: int | None = None
) -> np.ndarray:
    """Return rows ``start`` to ``stop`` of snapshot ``k``, ``(n, d)`` float32.

    Args:
        data: A tree in memory, or a store opened lazily: then only these rows are read.
        k: Index of the snapshot, from 0; negative ones count from the end.
        group: ``"train"`` or ``"test"``.
        start: First row.
        stop: Past the last row; the particles in the snapshot if None or larger.

    Raises:
        PopdynError: If there is no such group or snapshot, the store is damaged there, or a
            position is not finite.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50, snapshots=3)
        >>> positions(data, -1, "test", stop=10).shape
        (10, 2)
    """
    n = counts(data, group)
    if not -len(n) <= k < len(n):
        raise PopdynError(f"snapshot {k} was asked for: expected 0 to {len(n) - 1}")
    rows = slice(start, n[k] if stop is None else min(stop, n[k]))
    x = _node(data, group).to_dataset()["x"]
    found = np.asarray(x[k, rows].values, dtype=np.float32)
    # Fill values in place of data would go unseen: what stands below the count is finite.
    check_finite(found, f"{group} snapshot {k}", rows.start)
    return found


def weights(
    data: xr.DataTree, k: int, group: str = "train", start: int = 0, stop: int | None = None
) -> np.ndarray | None:
    """Return the weights of rows ``start`` to ``stop`` of snapshot ``k``, ``(n)`` float32.

    None where all particles weigh the same. Arguments are those of :func:`positions`.

    Raises:
        PopdynError: If the store is damaged there, or a weight is negative or not finite.
    """
    node = _node(data, group).to_dataset()
    if "weight" not in node:
        return None
    n = counts(data, group)
    rows = slice(start, n[k] if stop is None else min(stop, n[k]))
    found = np.asarray(node["weight"][k, rows].values, dtype=np.float32)
    check_weights(found, len(found), f"{group} snapshot {k}", start)
    return found


def masses(data: xr.DataTree, group: str = "train") -> np.ndarray | None:
    """Return the total mass of each snapshot, ``(K + 1)`` float64; None where none was measured."""
    node = _node(data, group)
    return np.asarray(node["mass"].values, np.float64) if "mass" in node else None


def check_weights(found: np.ndarray, n: int, where: str, start: int = 0) -> None:
    """Raise a PopdynError unless there are n weights, finite and not negative."""
    if found.shape != (n,):
        raise PopdynError(f"{where} has weights of shape {found.shape}: expected {(n,)}")
    wrong = ~((found >= 0) & (found < np.inf))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise PopdynError(
            f"{where} has the weight {found[row]:g} at row {start + row}: expected finite "
            "weights ≥ 0"
        )


def check_masses(found: ArrayLike, n: int, where: str) -> np.ndarray:
    """Return masses as float64 ``(n)``.

    Raises:
        PopdynError: Unless there are n of them, finite and above 0.
    """
    out = np.asarray(found, np.float64)
    if out.shape != (n,) or not ((out > 0) & (out < np.inf)).all():
        raise PopdynError(
            f"{where} has the masses {np.array2string(out, precision=6, threshold=8)}: expected "
            f"one finite number > 0 for each of {n} times"
        )
    return out


def mean_weight(found: ArrayLike, where: str) -> float:
    """Return the mean of the first snapshot's weights, which is their unit.

    Raises:
        PopdynError: If nothing there weighs anything.
    """
    mean = float(np.asarray(found, np.float64).mean())
    if not 0 < mean < np.inf:
        raise PopdynError(f"{where} weighs {mean:g} on average: expected a finite number > 0")
    return mean


def check_finite(x: np.ndarray, where: str, start: int = 0) -> None:
    """Raise a PopdynError that names the first row of ``(n, d)`` that is not finite."""
    # One pass at the speed of memory: a finite sum has finite terms only.
    with np.errstate(all="ignore"):
        total = x.sum()
    if not np.isfinite(total) and not np.isfinite(x).all():
        row, component = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise PopdynError(
            f"{where} is {x[row, component]} at row {start + row}, component {component}: "
            "expected finite positions"
        )


def check_times(times: ArrayLike, least: int = 1) -> np.ndarray:
    """Return the times as float64 ``(K + 1)``.

    Raises:
        PopdynError: Unless there are ``least`` or more finite and strictly increasing ones.
    """
    t = np.asarray(times, dtype=np.float64)
    if t.ndim != 1 or t.size < least:
        number = {1: "one", 2: "two"}.get(least, str(least))
        raise PopdynError(f"times have shape {t.shape}: expected {number} or more snapshots")
    if not np.isfinite(t).all():
        raise PopdynError(f"time {int(np.argmin(np.isfinite(t)))} is not a finite number")
    if (np.abs(t) > LATEST).any():
        k = int(np.argmax(np.abs(t) > LATEST))
        raise PopdynError(f"time {k} is {t[k]:g}: expected times up to {LATEST:g}")
    if (np.diff(t) <= 0).any():
        k = int(np.argmax(np.diff(t) <= 0))
        raise PopdynError(
            f"time {k + 1} is {t[k + 1]:g} after {t[k]:g}: expected strictly increasing times"
        )
    return t


def _populations(group: Sequence[ArrayLike], t: np.ndarray, name: str) -> list[np.ndarray]:
    if len(group) != t.size:
        raise PopdynError(f"{name} has {len(group)} snapshots: expected {t.size}, as many as times")
    arrays = [np.asarray(x, dtype=np.float32) for x in group]
    for k, x in enumerate(arrays):
        if x.ndim != 2 or x.shape[1] == 0:
            raise PopdynError(f"{name} snapshot {k} has shape {x.shape}: expected (particles, d)")
        check_finite(x, f"{name} snapshot {k}")
        if name == "train" and len(x) == 0:
            raise PopdynError(f"train snapshot {k} is empty: expected at least one particle")
    return arrays


def _weights(
    given: Sequence[ArrayLike], group: Sequence[np.ndarray], unit: float, name: str
) -> xr.Variable:
    out = np.full((len(group), max(len(x) for x in group)), np.nan, np.float32)
    if len(given) != len(group):
        raise PopdynError(f"{name} has weights of {len(given)} snapshots: expected {len(group)}")
    for k, (x, each) in enumerate(zip(group, given, strict=True)):
        weight = np.asarray(each, np.float64)
        check_weights(weight, len(x), f"{name} snapshot {k}")
        out[k, : len(x)] = weight / unit
    return xr.Variable(("time", "particle"), out)


def _dataset(group: Sequence[np.ndarray], t: np.ndarray) -> xr.Dataset:
    n = np.array([len(x) for x in group], dtype=np.int64)
    x = np.full((t.size, int(n.max()), group[0].shape[1]), np.nan, dtype=np.float32)
    for k, population in enumerate(group):
        x[k, : n[k]] = population
    return xr.Dataset(
        {"x": (("time", "particle", "component"), x), "count": ("time", n)},
        coords={"time": ("time", t, {"units": "1"})},
    )


def _node(data: xr.DataTree, group: str) -> xr.DataTree:
    if group not in GROUPS:
        raise PopdynError(f"group '{group}' was asked for: expected train or test")
    if not isinstance(data, xr.DataTree):
        raise PopdynError(
            f"the data is {type(data).__name__}: expected a snapshot tree, as open_snapshots gives"
        )
    if group not in data.children:
        raise PopdynError(f"the tree has no group '{group}': expected train and test")
    return data.children[group]
