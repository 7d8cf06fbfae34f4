"""What one simulation is made of, checked once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from popdyn.errors import PopdynError
from popdyn.registry import lookup
from popdyn.simulation.initial import InitialLaw
from popdyn.simulation.schemes import DEFAULT_SCHEME, SCHEMES

__all__ = ["SimulationConfig", "snapshot_times"]

STEPS_PER_INTERVAL = 20


@dataclass(frozen=True, eq=False)
class SimulationConfig:
    """A checked simulation, less its energy.

    Attributes:
        times: Snapshot times, strictly increasing.
        train: Particles in each snapshot of the train group.
        test: Particles in each snapshot of the test group.
        dim: Dimension d.
        initial: Law of the particles at the first time.
        scheme: A name of ``SCHEMES``.
        step: Longest integration step; a twentieth of each interval if None.
        paired: The same particles at every time instead of a population for each.
        seed: Seed of everything random.
        block: Particles of a snapshot that are made at once; an interacting population that is
            larger is made of independent systems of this size.
    """

    times: tuple[float, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    dim: int
    initial: InitialLaw
    scheme: str = DEFAULT_SCHEME
    step: float | None = None
    paired: bool = False
    seed: int = 0
    block: int = 1 << 20

    def __post_init__(self) -> None:
        lookup(SCHEMES, self.scheme, "scheme")
        times = np.asarray(self.times)
        if times.ndim != 1 or len(times) < 2 or not np.isfinite(times).all():
            raise PopdynError(f"times are {self.times}: expected two or more finite numbers")
        if not (np.diff(times) > 0).all():
            k = int(np.argmin(np.diff(times) > 0))
            raise PopdynError(
                f"times do not increase: {times[k]:g} is followed by {times[k + 1]:g}"
            )
        for name, counts, least in (("particles", self.train, 1), ("test_particles", self.test, 0)):
            if len(counts) != len(times):
                raise PopdynError(
                    f"{name} has {len(counts)} numbers: expected one, or {len(times)} as snapshots"
                )
            if min(counts) < least:
                raise PopdynError(f"{name} is {min(counts)}: expected {least} or more")
            if self.paired and len(set(counts)) > 1:
                raise PopdynError(
                    f"{name} differ between snapshots: paired observation needs one number"
                )
        if self.dim < 1:
            raise PopdynError(f"dim is {self.dim}: expected 1 or more")
        if self.step is not None and not (math.isfinite(self.step) and self.step > 0):
            raise PopdynError(f"step is {self.step}: expected a positive number")
        if self.seed < 0:
            raise PopdynError(f"seed is {self.seed}: expected 0 or more")
        if self.block < 1:
            raise PopdynError(f"block is {self.block}: expected 1 or more")

    @property
    def intervals(self) -> list[tuple[float, float, int]]:
        """Start, step and number of steps of each interval between snapshots."""
        out = []
        for start, stop in zip(self.times[:-1], self.times[1:], strict=True):
            n = STEPS_PER_INTERVAL
            if self.step is not None:
                # a step that divides the interval up to rounding must not cost one more
                n = max(1, math.ceil((stop - start) / self.step * (1 - 1e-9)))
            out.append((start, (stop - start) / n, n))
        return out

    @property
    def longest_step(self) -> float:
        """The longest step that is taken anywhere."""
        return max(h for _, h, _ in self.intervals)

    def counts(self, group: str) -> tuple[int, ...]:
        """Particles in each snapshot of a group."""
        return self.train if group == "train" else self.test

    def blocks(self, group: str) -> int:
        """How many blocks make a group."""
        return -(-max(self.counts(group)) // self.block)

    def rows(self, group: str, block: int) -> list[int]:
        """Particles of each snapshot that a block holds."""
        return [min(max(n - block * self.block, 0), self.block) for n in self.counts(group)]

    def particle_steps(self, group: str) -> int:
        """Steps of single particles that the group takes."""
        steps = np.cumsum([0] + [n for _, _, n in self.intervals])
        counts = self.counts(group)
        return counts[0] * int(steps[-1]) if self.paired else int(np.dot(counts, steps))


def snapshot_times(
    times: Sequence[float] | np.ndarray | None, snapshots: int, dt: float
) -> tuple[float, ...]:
    """Return the times asked for: the list, or ``snapshots`` of them ``dt`` apart from 0.

    Raises:
        PopdynError: On fewer than two snapshots or a spacing that is not positive.
    """
    if times is not None:
        return tuple(float(t) for t in times)
    if snapshots < 2:
        raise PopdynError(f"snapshots is {snapshots}: expected 2 or more")
    if not (math.isfinite(dt) and dt > 0):
        raise PopdynError(f"dt is {dt}: expected a positive number")
    return tuple(k * dt for k in range(snapshots))
