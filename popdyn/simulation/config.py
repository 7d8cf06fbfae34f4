"""What one simulation is made of, checked once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from popdyn.base.errors import PopdynError, blaming
from popdyn.dynamics import Dynamics
from popdyn.dynamics.fields import check_gradient
from popdyn.dynamics.interactions import check_even
from popdyn.simulation.initial import InitialLaw
from popdyn.simulation.schemes import DEFAULT_SCHEME, SCHEMES
from popdyn.snapshots.tree import check_times

__all__ = ["MAX_STEPS", "SimulationConfig", "snapshot_times"]

STEPS_PER_INTERVAL = 20
# Limits beyond which a run ends in nobody's lifetime; what this machine's memory and disk hold is
# checked apart. Every step costs 10 µs at least: 10⁹ take three hours.
MAX_STEPS = 10**9
MAX_NUMBERS = 10**14
MAX_BLOCK = 10**13
# Pairs of a population from which more than one thread pays.
PARALLEL_PAIRS = 1 << 22


@dataclass(frozen=True, eq=False)
class SimulationConfig:
    """A checked simulation, less its dynamics.

    Attributes:
        times: Snapshot times, strictly increasing.
        train: Particles in each snapshot of the train group.
        test: Particles in each snapshot of the test group.
        dim: Dimension d.
        initial: Law of the particles at the first time.
        block: Particles of a snapshot that are made at once; an interacting population that is
            larger is made of independent systems of this size.
        scheme: A name of ``SCHEMES``.
        step: Longest integration step; a twentieth of each interval if None.
        paired: The same particles at every time instead of a population for each.
        noise: Standard deviation of the observation noise on each component.
        outliers: Share of the particles that are recorded where they are not.
        growth_as: ``weights``, or ``births`` of cells of equal weight; where anything grows.
        proportions: Whether the total mass is left out of the data.
        interaction_batch: Partners of the random batch method; all pairs if None.
        seed: Seed of everything random.
        device: Where torch steps the particles.
        threads: Threads of torch for large interacting populations, on which the last bits may
            depend; see :meth:`threads_for`.

    Example:
        >>> from popdyn.simulation import configure
        >>> config = configure(particles=100, snapshots=3, dt=0.5)
        >>> config.times, config.train, config.scheme
        ((0.0, 0.5, 1.0), (100, 100, 100), 'heun')
    """

    times: tuple[float, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    dim: int
    initial: InitialLaw
    block: int
    scheme: str = DEFAULT_SCHEME
    step: float | None = None
    paired: bool = False
    noise: float = 0.0
    outliers: float = 0.0
    growth_as: str = "weights"
    proportions: bool = False
    interaction_batch: int | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        snapshots = len(check_times(self.times, 2))
        for name, counts in (("particles", self.train), ("test_particles", self.test)):
            if len(counts) != snapshots:
                raise PopdynError(
                    f"{name} has {len(counts)} numbers: expected one, or {snapshots} as snapshots",
                    field=name,
                )
            if self.paired and len(set(counts)) > 1:
                raise PopdynError(
                    f"{name} differ between snapshots: paired observation needs one number",
                    field="paired",
                )
        _check_device(self.device)
        self._check_size()

    def _check_size(self) -> None:
        """Refuse what would not end, by numbers alone.

        Raises:
            PopdynError: On more snapshots, rows or steps than ``MAX_NUMBERS``, ``MAX_STEPS`` or
                the memory of this machine allow.
        """
        numbers = self.dim * (sum(self.train) + sum(self.test))
        if numbers > MAX_NUMBERS:
            raise PopdynError(
                f"particles: {numbers:.3g} coordinates in all: expected {MAX_NUMBERS:.0e} or fewer",
                field="particles",
            )
        if self.dim * self.block > MAX_BLOCK:
            raise PopdynError(
                f"block is {self.block}: expected {MAX_BLOCK // self.dim} or fewer particles in "
                f"dimension {self.dim}",
                field="block",
            )
        if self.step is not None:
            steps = sum(n for _, _, n in self.intervals)
            if steps > MAX_STEPS:
                raise PopdynError(
                    f"step is {self.step:g}: {steps:.3g} steps from time {self.times[0]:g} to "
                    f"{self.times[-1]:g}: expected {MAX_STEPS:.0e} or fewer",
                    field="step",
                )

    def check(self, dynamics: Dynamics) -> None:
        """Refuse an energy that the configuration cannot run.

        Raises:
            PopdynError: On an impossible pair of scheme and system, random batches without an
                interaction, or an interaction that is not even.
        """
        scheme, batch = SCHEMES[self.scheme], self.interaction_batch
        with blaming("scheme"):
            scheme.check(dynamics, step=self.step, interaction_batch=batch, dim=self.dim)
        grows = "growth" in dynamics.terms
        if not grows and (self.growth_as != "weights" or self.proportions):
            name = "proportions" if self.proportions else "growth_as"
            raise PopdynError(
                f"{name} is {getattr(self, name)} and nothing grows: expected a growth", field=name
            )
        if grows and self.growth_as == "births" and self.paired:
            raise PopdynError(
                "cells that divide and die are not the same at every time: expected unpaired "
                "observation, or growth as weights",
                field="paired",
            )
        if self.interaction_batch is not None and not dynamics.interacting:
            raise PopdynError(
                f"interaction_batch is {self.interaction_batch} and there is no interaction: "
                "expected one, or no interaction_batch",
                field="interaction_batch",
            )
        if dynamics.energy.V is not None:
            with blaming("potential"):
                check_gradient(dynamics.energy.V, self.dim, self.times[0])
        if dynamics.energy.W is not None:
            with blaming("interaction"):
                check_even(dynamics.energy.W, self.dim)

    @property
    def intervals(self) -> list[tuple[float, float, int]]:
        """Start, step and number of steps of each interval between snapshots."""
        out = []
        for start, stop in zip(self.times[:-1], self.times[1:], strict=True):
            n = STEPS_PER_INTERVAL
            if SCHEMES[self.scheme].whole_interval:
                n = 1
            elif self.step is not None:
                # a step that divides the interval up to rounding must not cost one more
                n = max(1, _steps(stop - start, self.step))
            out.append((start, (stop - start) / n, n))
        return out

    @property
    def steps(self) -> float | list[float]:
        """The step that is taken, or one for each interval where they differ."""
        steps = [h for _, h, _ in self.intervals]
        same = max(steps) - min(steps) <= 1e-9 * max(steps)
        return steps[0] if same else steps

    def threads_for(self, dynamics: Dynamics) -> int:
        """Threads of torch that a block takes.

        One, unless there are many pairs: normals are drawn by one anyway, and two that wait for
        each other every few microseconds gain a fifth on an idle machine and lose a factor of
        50 on a busy one. More blocks at a time is what workers are for.
        """
        n = min(self.block, max(self.train + self.test))
        pairs = n * (n if self.interaction_batch is None else self.interaction_batch)
        return self.threads if dynamics.interacting and pairs >= PARALLEL_PAIRS else 1

    def counts(self, group: str) -> tuple[int, ...]:
        """Particles in each snapshot of a group."""
        return self.train if group == "train" else self.test

    def blocks(self, group: str) -> int:
        """How many blocks make a group."""
        return -(-max(self.counts(group)) // self.block)

    def rows(self, group: str, block: int) -> list[int]:
        """Particles of each snapshot that a block holds."""
        return [min(max(n - block * self.block, 0), self.block) for n in self.counts(group)]

    def particle_steps(self, group: str, block: int | None = None) -> int:
        """Steps of single particles that a group takes, or one block of it."""
        steps = np.cumsum([0] + [n for _, _, n in self.intervals])
        rows = self.counts(group) if block is None else self.rows(group, block)
        return rows[0] * int(steps[-1]) if self.paired else int(np.dot(rows, steps))


def _steps(span: float, step: float) -> int:
    ratio = span / step * (1 - 1e-9)
    if not ratio <= MAX_STEPS:
        raise PopdynError(
            f"step is {step:g}: {ratio:.3g} steps for an interval of {span:g}: expected "
            f"{MAX_STEPS:.0e} or fewer",
            field="step",
        )
    return math.ceil(ratio)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PopdynError(
            f"device is '{device}': expected cpu, or one that is there ({reason})"
        ) from None


def snapshot_times(
    times: Sequence[float] | np.ndarray | None, snapshots: int, dt: float
) -> tuple[float, ...]:
    """Return the times asked for: the list, or ``snapshots`` of them ``dt`` apart from 0.

    Raises:
        PopdynError: On times that do not increase.
    """
    if times is not None:
        return tuple(float(t) for t in check_times(times, 2))
    return tuple(k * dt for k in range(snapshots))
