"""The intervals between neighbouring snapshots, of one experiment or of several in one list."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from popdyn.base.quadrature import quadrature

__all__ = ["Intervals"]


@dataclass(frozen=True)
class Intervals:
    """Which snapshots follow each other: none follows one of another experiment.

    Attributes:
        times: Time of each of S snapshots, increasing within an experiment, ``(S,)``.
        starts: Index of the first snapshot of each of E experiments, the first of them 0.

    Example:
        >>> two = Intervals(np.array([0.0, 0.1, 0.3, 0.0, 0.2]), (0, 3))
        >>> two.before.tolist(), two.after.tolist(), two.tau.round(1).tolist()
        ([0, 1, 3], [1, 2, 4], [0.1, 0.2, 0.2])
    """

    times: np.ndarray
    starts: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.times) - len(self.starts)

    @cached_property
    def experiments(self) -> list[slice]:
        """Where each experiment's snapshots are."""
        ends = (*self.starts[1:], len(self.times))
        return [slice(a, b) for a, b in zip(self.starts, ends, strict=True)]

    @cached_property
    def own(self) -> list[slice]:
        """Where each experiment's intervals are."""
        return [slice(s.start - e, s.stop - e - 1) for e, s in enumerate(self.experiments)]

    @cached_property
    def before(self) -> np.ndarray:
        """The snapshot that each of K intervals begins with, ``(K,)``."""
        last = [own.stop - 1 for own in self.experiments]
        return np.delete(np.arange(len(self.times)), last)

    @property
    def after(self) -> np.ndarray:
        """The snapshot that each interval ends with, ``(K,)``."""
        return self.before + 1

    @property
    def start(self) -> np.ndarray:
        """The time at which each interval begins, ``(K,)``."""
        return self.times[self.before]  # type: ignore[no-any-return]

    @property
    def tau(self) -> np.ndarray:
        """The length of each interval, ``(K,)``."""
        return self.times[self.after] - self.start  # type: ignore[no-any-return]

    @property
    def span(self) -> tuple[float, float]:
        """The first and the last time of all."""
        return float(self.times.min()), float(self.times.max())

    @property
    def duration(self) -> float:
        """How long the longest experiment lasts."""
        return max(float(np.ptp(self.times[own])) for own in self.experiments)

    @property
    def distinct(self) -> int:
        """The number of different times."""
        return len(np.unique(self.times))

    @cached_property
    def touching(self) -> list[list[int]]:
        """Of each snapshot the intervals that it bounds: one that ends there, one that begins."""
        out: list[list[int]] = [[] for _ in self.times]
        for i, k in enumerate(self.before):
            out[k].append(i)
            out[k + 1].append(i)
        return out

    def quadrature(self) -> np.ndarray:
        """Return weights of integrals over the intervals on the values at all times, ``(K, S)``."""
        out = np.zeros((len(self), len(self.times)))
        for rows, columns in zip(self.own, self.experiments, strict=True):
            out[rows, columns] = quadrature(self.times[columns])
        return out
