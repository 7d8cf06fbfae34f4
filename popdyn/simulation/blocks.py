"""One block of particles from the first time to the last: a pure function of its arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.host import usual_torch
from popdyn.dynamics import Dynamics
from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Brownian
from popdyn.simulation.config import SimulationConfig
from popdyn.simulation.schemes import SCHEMES
from popdyn.simulation.stability import PROBES, STABLE, curvature_seen, largest_stable_step
from popdyn.simulation.streams import generator

__all__ = ["ExplosionError", "Report", "simulate_block"]

Report = Callable[[int], None]
"""Told how many steps of single particles were taken since it was last called."""

# Floats in one chunk: its position, gradient and noise stay in a core's own cache. Measured on
# one core with 1 MB of it: flat from 2^16 to 2^18, half as fast without chunks. A step made by
# torch.compile is 4 to 15 % faster after 39 s of compiling, which no ordinary run earns back.
CHUNK = 1 << 17
CHUNK_ELSEWHERE = 1 << 26
# Steps between two looks at whether all is finite: a look costs half as much as a step.
CHECK_EVERY = 32
# Steps between two looks at the curvature where the last one allowed much longer steps.
LOOK_EVERY = 128
MUCH_LONGER = 8.0


class ExplosionError(PopdynError):
    """The particles left finite numbers, or the step is unstable, as in every rerun."""


def simulate_block(
    dynamics: Dynamics,
    config: SimulationConfig,
    group: str,
    block: int,
    report: Report | None = None,
) -> list[np.ndarray]:
    """Return a block's particles at each time, ``(n_k, d)`` float32.

    The same arguments give the same bits, wherever and in whatever order blocks are run.

    Raises:
        ExplosionError: If the particles leave finite numbers.
    """
    with usual_torch(config.threads_for(dynamics)), torch.no_grad():
        return _simulate(dynamics, config, group, block, report)


def _simulate(
    dynamics: Dynamics, config: SimulationConfig, group: str, block: int, report: Report | None
) -> list[np.ndarray]:
    rows = config.rows(group, block)
    starts = config.initial.starts(
        config, group, block, generator(config.seed, "initial", group, block)
    )
    marcher = _Marcher(dynamics, config, group, block, report)
    if config.paired:
        first = starts[0]
        out = [first] + [torch.empty_like(first) for _ in rows[1:]]
        size = len(first) if dynamics.interacting else max(1, marcher.chunk // config.dim)
        for part in _slices(len(first), size):
            x = first[part].to(config.device, copy=True)
            for k in marcher.march(x, [len(x)] * len(rows)):
                out[k][part] = x
    else:
        out = starts
        if not dynamics.interacting:
            _independent(out, marcher)
        else:
            _interacting(out, marcher)
    if config.noise > 0:
        observation = generator(config.seed, "observation", group, block)
        for x in out:
            x += config.noise * torch.empty_like(x).normal_(generator=observation)
    return [x.numpy() for x in out]


def _independent(out: list[Tensor], marcher: _Marcher) -> None:
    """Run particles that do not see each other, a part of every population at once.

    The populations lie one after the other, the latest first, so that those still under way
    are always the first rows.
    """
    dim = out[0].shape[1]
    size = max(1, marcher.chunk // (dim * max(1, len(out) - 1)))
    for part in _slices(max(len(x) for x in out), size):
        parts = [x[part] for x in out]
        x = torch.cat(parts[:0:-1]).to(marcher.config.device)
        # active[k]: rows that still move after snapshot k
        active = [sum(len(p) for p in parts[k + 1 :]) for k in range(len(parts))]
        for k in marcher.march(x, [active[0], *active]):
            out[k][part] = x[active[k] : active[k] + len(parts[k])]


def _interacting(out: list[Tensor], marcher: _Marcher) -> None:
    """Run a population for each time, those of the same size as one batched tensor."""
    for size in sorted({len(x) for x in out[1:]} - {0}):
        members = [k for k in range(1, len(out)) if len(out[k]) == size]
        x = torch.stack([out[k] for k in reversed(members)]).to(marcher.config.device)
        active = [sum(j >= k for j in members) for k in range(len(out))]
        for k in marcher.march(x, active):
            if k in members:
                out[k][:] = x[active[k] - 1]


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


class _Marcher:
    """Steps tensors of particles through the intervals of a configuration."""

    def __init__(
        self,
        dynamics: Dynamics,
        config: SimulationConfig,
        group: str,
        block: int,
        report: Report | None,
    ) -> None:
        noise, partners = (
            generator(config.seed, purpose, group, block, config.device)
            for purpose in ("noise", "partners")
        )
        self.chunk = CHUNK if config.device == "cpu" else CHUNK_ELSEWHERE
        self.dynamics, self.config, self.report = dynamics, config, report
        self.scheme = SCHEMES[config.scheme]
        self.drive = Drive(dynamics, partners=config.interaction_batch, generator=partners)
        self.brownian = Brownian(dynamics.beta, integral=self.scheme.integral, generator=noise)
        self.streams = (noise, partners)
        self.watching = True

    def march(self, x: Tensor, active: list[int]) -> Iterator[int]:
        """Move ``x`` in place; yield k when it stands at time k.

        ``active[k]`` is how many of the first entries of ``x`` move in the interval that ends
        at time k (``active[0]`` is not used).
        """
        first = (x if x.ndim == 2 else x[0])[:PROBES].clone()
        # All parts of a block are draws of one law, of which one is looked at.
        watch = _Watch(self, first) if self.watching else None
        self.watching = False
        for k, (start, h, steps) in enumerate(self.config.intervals, start=1):
            moving = x[: active[k]]
            if moving.numel() == 0:
                return
            for done in range(0, steps, CHECK_EVERY):
                if watch is not None:
                    watch.look(moving, start + done * h, h)
                self._run(moving, start, h, range(done, min(done + CHECK_EVERY, steps)), first)
            if watch is not None and active[k] and k == len(self.config.intervals):
                watch.look(moving, start + steps * h, h, at_end=True)
            yield k

    def _run(self, x: Tensor, start: float, h: float, steps: range, first: Tensor) -> None:
        before, states = x.clone(), [stream.get_state() for stream in self.streams]
        for j in steps:
            self._step(x, start + j * h, h)
        if not torch.isfinite(x).all():
            # The same steps once more, with a look after each.
            x.copy_(before)
            for stream, state in zip(self.streams, states, strict=True):
                stream.set_state(state)
            for j in steps:
                self._step(x, start + j * h, h)
                if not torch.isfinite(x).all():
                    self._explain(first, start, h, j)
        if self.report is not None:
            self.report(len(steps) * (x.numel() // x.shape[-1]))

    def _step(self, x: Tensor, t: float, h: float) -> None:
        self.drive.begin_step(x)
        self.scheme.step(x, t, h, self.drive, self.brownian.draw(x, h))

    def _explain(self, first: Tensor, start: float, h: float, j: int) -> None:
        drive = Drive(self.dynamics)
        stable = largest_stable_step(drive, first, self.config.times[0], start + (j + 1) * h)
        what = (
            f"the particles left finite numbers in step {j + 1} after time {start:g} "
            f"(scheme {self.scheme.name}, step {h:.4g})"
        )
        if stable < h:
            raise ExplosionError(
                f"{what}: expected a step below {stable:.2g}, the largest stable one"
            )
        raise ExplosionError(
            f"{what}: the curvature on their way allows {stable:.2g}, so the energy itself drives "
            "them to infinity; expected one that confines"
            if math.isfinite(stable)
            else f"{what}: the energy curves upwards nowhere on their way, so it drives them to "
            "infinity with any step; expected one that confines"
        )


class _Watch:
    """Looks now and then whether the step is stable where the particles are."""

    def __init__(self, marcher: _Marcher, first: Tensor) -> None:
        self.marcher, self.first = marcher, first
        self.drive = Drive(marcher.dynamics)
        # The steps of these are the data itself, and no error of it.
        self.asleep = marcher.scheme.whole_interval
        self.unseen, self.longest = math.inf, 0.0

    def look(self, x: Tensor, t: float, h: float, at_end: bool = False) -> None:
        """Refuse a step that is unstable at ``x``; a look is skipped where it would be early.

        Raises:
            ExplosionError: If h·λ is above 2.
        """
        self.unseen += CHECK_EVERY
        if self.asleep or not (at_end or self.unseen > LOOK_EVERY or h > self.longest):
            return
        curvature = curvature_seen(self.drive, x, t, h)
        self.unseen = 0
        self.longest = math.inf if curvature == 0 else 2.0 / curvature / MUCH_LONGER
        if curvature * h <= STABLE or not math.isfinite(curvature):
            return
        begin = self.marcher.config.times[0]
        stable = largest_stable_step(self.drive, self.first, begin, t)
        if stable >= h:  # what is steep lies on no path of smaller steps
            stable = 2.0 / curvature
        raise ExplosionError(
            f"the step {h:.4g} of scheme '{self.marcher.scheme.name}' is unstable at time {t:g}: "
            f"expected a step below {stable:.2g}, the largest stable one"
        )
