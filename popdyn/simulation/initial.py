"""Where the particles start: a named law with its parameters, or the rows of an array."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from popdyn.base.errors import PopdynError, blaming
from popdyn.base.plain import LARGEST
from popdyn.base.registry import lookup
from popdyn.simulation.laws import INITIAL_LAWS
from popdyn.simulation.streams import generator as stream
from popdyn.snapshots.tree import GROUPS

if TYPE_CHECKING:
    from popdyn.simulation.config import SimulationConfig

__all__ = ["INITIAL_LAWS", "InitialLaw", "initial_law"]


class Pool(NamedTuple):
    """Rows that a group draws from, ``first`` and the next ones, and how often it draws."""

    first: int
    rows: int
    draws: int


@dataclass(frozen=True, eq=False)
class InitialLaw:
    """A named law with its parameters, or the empirical law of given rows.

    Attributes:
        name: Key of ``INITIAL_LAWS``, or ``"array"``.
        params: Parameters of a named law.
        rows: Starting points ``(m, d)`` float32 of an empirical law.
        origin: Name of the file that the rows come from.

    Example:
        >>> law = InitialLaw("gaussian", {"std": 0.1})
        >>> law.sample(5, 2, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 2])
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    rows: np.ndarray | None = None
    origin: str | None = None

    def sample(self, n: int, dim: int, generator: Generator) -> Tensor:
        """Draw ``(n, dim)`` float32 starting points.

        An empirical law is drawn without replacement: no row comes a second time before every
        row has come once, so nearest-neighbour distances stay positive as long as n ≤ m.
        """
        if self.rows is None:
            return INITIAL_LAWS[self.name].sample(n, dim, generator, **self.params)
        rows = torch.from_numpy(self.rows)
        rounds = max(1, -(-n // len(rows)))
        orders = [torch.randperm(len(rows), generator=generator) for _ in range(rounds)]
        return rows[torch.cat(orders)[:n]]

    def starts(
        self, config: SimulationConfig, group: str, block: int, generator: Generator
    ) -> list[Tensor]:
        """Draw the starting points of a block: ``(n_k, d)`` for each population it makes.

        Of a named law they are drawn from ``generator``. The rows of an array are dealt out
        instead: the two groups share none (see :meth:`deal`), and within a group none comes a
        second time before all of the group's have come once, whatever the snapshot and the block.
        """
        rows = config.rows(group, block)[: 1 if config.paired else None]
        if self.rows is None:
            return [self.sample(n, config.dim, generator) for n in rows]
        pool = self.deal(config)[group]
        order = torch.randperm(len(self.rows), generator=stream(config.seed, "initial"))
        mine = torch.from_numpy(self.rows)[order[pool.first : pool.first + pool.rows]]
        counts = config.counts(group)
        before = [sum(counts[:k]) + block * config.block for k in range(len(rows))]
        return [
            mine[torch.arange(start, start + n) % pool.rows]
            for start, n in zip(before, rows, strict=True)
        ]

    def deal(self, config: SimulationConfig) -> dict[str, Pool]:
        """Return which of the shuffled rows each group draws from, and how often it draws.

        The rows are divided in proportion to the draws, so that they last in both groups if
        there are enough; a single row serves both.
        """
        assert self.rows is not None
        draws = {g: config.counts(g)[0] if config.paired else sum(config.counts(g)) for g in GROUPS}
        m, total = len(self.rows), sum(draws.values())
        if m == 1 or not draws["test"]:
            return {g: Pool(0, m, n) for g, n in draws.items()}
        train = min(max(1, round(m * draws["train"] / total)), m - 1)
        return {
            "train": Pool(0, train, draws["train"]),
            "test": Pool(train, m - train, draws["test"]),
        }

    def shortage(self, config: SimulationConfig) -> str | None:
        """Return a sentence where an array has fewer rows than there are particles to start."""
        if self.rows is None:
            return None
        pools = self.deal(config)
        if all(pool.draws <= pool.rows for pool in pools.values()):
            return None
        each = ", ".join(
            f"{pool.draws} draws from {pool.rows} rows in {g}" for g, pool in pools.items()
        )
        shared = (
            "and its one row serves both groups"
            if len(self.rows) == 1
            else "though train and test share none"
        )
        return (
            f"the initial array's {len(self.rows)} rows do not last: rows start more than one "
            f"particle ({each}), {shared}; such particles are not independent"
        )

    def density(self, x: np.ndarray) -> np.ndarray:
        """Return the density at points ``(n, d)``, float64.

        Raises:
            PopdynError: For the empirical law of an array, which has none.
        """
        if self.rows is not None:
            raise PopdynError(
                f"the initial law is an array of {len(self.rows)} rows and has no density: a "
                f"reference solution expects one of {', '.join(INITIAL_LAWS)}"
            )
        return INITIAL_LAWS[self.name].density(np.asarray(x, np.float64), **self.params)

    def spec(self) -> dict[str, Any]:
        """Return what the store says about the law, as JSON."""
        if self.rows is None:
            params = {**INITIAL_LAWS[self.name].parameters, **self.params}
            return {"name": self.name, "params": params}
        digest = hashlib.sha256(np.ascontiguousarray(self.rows).tobytes()).hexdigest()
        params = {"rows": len(self.rows), "file": self.origin, "sha256": digest}
        return {"name": "array", "params": params}


def initial_law(
    initial: str | Path | np.ndarray | Tensor | InitialLaw,
    params: Mapping[str, Any] | None = None,
    dim: int | None = None,
) -> tuple[InitialLaw, int]:
    """Return the law that a user means, and the dimension.

    Args:
        initial: A name of ``INITIAL_LAWS``, a ``.npy`` file, or an array ``(m, d)``.
        params: Parameters of a named law.
        dim: The dimension; that of the array, or 2, if None.

    Raises:
        PopdynError: On an unknown name or parameter, or an array or file that is not a finite
            ``(m, dim)``.
    """
    if isinstance(initial, InitialLaw):
        return initial, dim or (2 if initial.rows is None else initial.rows.shape[1])
    params = dict(params or {})
    if isinstance(initial, str) and not initial.endswith(".npy"):
        return _named(initial, params, dim or 2), dim or 2
    if params:
        raise PopdynError(f"initial parameters {', '.join(params)} were given with an array")
    origin = None
    if isinstance(initial, (str, Path)):
        origin, initial = Path(initial).name, _load(Path(initial))
    rows = initial.detach().cpu().numpy() if isinstance(initial, Tensor) else np.asarray(initial)
    where = f"initial file '{origin}'" if origin else "the initial array"
    expected = f"(particles, {dim})" if dim else "(particles, d)"
    if rows.ndim != 2 or 0 in rows.shape or (dim and rows.shape[1] != dim):
        raise PopdynError(f"{where} has shape {rows.shape}: expected {expected}")
    if rows.dtype.kind not in "iuf" or not np.isfinite(rows).all():
        raise PopdynError(f"{where} holds values that are not finite numbers: expected positions")
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    return InitialLaw("array", {}, rows, origin), rows.shape[1]


def _named(name: str, params: dict[str, Any], dim: int) -> InitialLaw:
    known = lookup(INITIAL_LAWS, name, "initial law").parameters
    params = {key: _held(value) for key, value in params.items()}
    law = InitialLaw(name, params)
    with blaming("initial_params" if params else "initial"):
        for key in params:
            if key not in known:
                raise PopdynError(
                    f"initial '{name}' has no parameter '{key}': expected one of {', '.join(known)}"
                )
        law.sample(1, dim, torch.Generator())  # a bad parameter speaks up before the work begins
    return law


def _held(value: Any) -> Any:
    """Return a value with whole numbers beyond 64 bits as floats, in lists, too."""
    if isinstance(value, list | tuple):
        return [_held(part) for part in value]
    if isinstance(value, int) and abs(value) > LARGEST:
        return float(value) if abs(value) < sys.float_info.max else math.inf
    return value


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise PopdynError(f"initial file '{path}' is not there: expected a .npy file") from None
    except (OSError, ValueError) as error:
        raise PopdynError(f"initial file '{path}' is no .npy array: {error}") from None
