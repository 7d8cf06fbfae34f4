"""One block of particles from the first time to the last: a pure function of its arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

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
from popdyn.simulation.stepping import take_step
from popdyn.simulation.streams import generator

__all__ = ["ExplosionError", "Made", "Report", "simulate_block"]

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


# Largest log-weight: beyond e⁸⁰ a weight leaves float32.
LARGEST = 80.0
# How many times as many cells as at first a population may have.
CROWD = 1000
# Standard deviations within which an outlier is recorded.
REACH = 5.0


class ExplosionError(PopdynError):
    """The particles left finite numbers, or the step is unstable, as in every rerun."""


class Made(NamedTuple):
    """A block's particles at each time.

    Attributes:
        x: Positions, ``(n_k, d)`` float32.
        weights: Their weights, ``(n_k)`` float32, 1 at first; None where nothing grows, or where
            cells divide and die.
    """

    x: list[np.ndarray]
    weights: list[np.ndarray] | None = None


def simulate_block(
    dynamics: Dynamics,
    config: SimulationConfig,
    group: str,
    block: int,
    report: Report | None = None,
) -> Made:
    """Return a block's particles at each time.

    The same arguments give the same bits, wherever and in whatever order blocks are run.

    Raises:
        ExplosionError: If the particles or their weights leave finite numbers.
    """
    with usual_torch(config.threads_for(dynamics)), torch.no_grad():
        return _simulate(dynamics, config, group, block, report)


def _simulate(
    dynamics: Dynamics, config: SimulationConfig, group: str, block: int, report: Report | None
) -> Made:
    rows = config.rows(group, block)
    starts = config.initial.starts(
        config, group, block, generator(config.seed, "initial", group, block)
    )
    marcher = _Marcher(dynamics, config, group, block, report)
    grown: list[Tensor] | None = None
    if "growth" in dynamics.terms and config.growth_as == "weights":
        sizes = [len(starts[0])] * len(rows) if config.paired else [len(x) for x in starts]
        grown = [torch.zeros(n, dtype=torch.float64) for n in sizes]
    if "growth" in dynamics.terms and grown is None:
        out = _branching(starts, marcher, generator(config.seed, "births", group, block))
    elif config.paired:
        first = starts[0]
        out = [first] + [torch.empty_like(first) for _ in rows[1:]]
        size = len(first) if dynamics.interacting else max(1, marcher.chunk // config.dim)
        for part in _slices(len(first), size):
            x = first[part].to(config.device, copy=True)
            log_weight = marcher.log_weight(x)
            for k in marcher.march(x, [len(x)] * len(rows), log_weight):
                out[k][part] = x
                if grown is not None and log_weight is not None:
                    grown[k][part] = log_weight.cpu()
    else:
        out = starts
        if not dynamics.interacting:
            _independent(out, marcher, grown)
        else:
            _interacting(out, marcher, grown)
    if config.noise > 0:
        observation = generator(config.seed, "observation", group, block)
        for x in out:
            x += config.noise * torch.empty_like(x).normal_(generator=observation)
    if config.outliers > 0 and group == "train":  # the test group stands for the truth
        anywhere = generator(config.seed, "outliers", group, block)
        for x in out:
            _scatter(x, config.outliers, anywhere)
    weights = None if grown is None else [w.exp().float().numpy() for w in grown]
    return Made([x.numpy() for x in out], weights)


def _scatter(x: Tensor, share: float, luck: torch.Generator) -> None:
    """Put a share of the particles anywhere up to ``REACH`` standard deviations from the mean."""
    wild = torch.rand(len(x), generator=luck) < share
    places = 2.0 * torch.rand((len(x), x.shape[1]), generator=luck) - 1.0
    if wild.any() and len(x) > 1:
        x[wild] = x.mean(0) + REACH * x.std(0) * places[wild]


def _branching(starts: list[Tensor], marcher: _Marcher, births: torch.Generator) -> list[Tensor]:
    """Return populations of cells that divide and die on their way, each from its own start."""
    out = [starts[0]]
    for k, start in enumerate(starts[1:], 1):
        alone = max(1, marcher.chunk // start.shape[1])
        size = max(1, len(start)) if marcher.dynamics.interacting else alone
        parts = [
            marcher.branch(start[part].to(marcher.config.device, copy=True), k, births).cpu()
            for part in _slices(len(start), size)
        ]
        out.append(torch.cat(parts) if parts else start)
    return out


def _independent(out: list[Tensor], marcher: _Marcher, grown: list[Tensor] | None) -> None:
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
        log_weight = marcher.log_weight(x)
        for k in marcher.march(x, [active[0], *active], log_weight):
            mine = slice(active[k], active[k] + len(parts[k]))
            out[k][part] = x[mine]
            if grown is not None and log_weight is not None:
                grown[k][part] = log_weight[mine].cpu()


def _interacting(out: list[Tensor], marcher: _Marcher, grown: list[Tensor] | None) -> None:
    """Run a population for each time, those of the same size as one batched tensor."""
    for size in sorted({len(x) for x in out[1:]} - {0}):
        members = [k for k in range(1, len(out)) if len(out[k]) == size]
        x = torch.stack([out[k] for k in reversed(members)]).to(marcher.config.device)
        active = [sum(j >= k for j in members) for k in range(len(out))]
        log_weight = marcher.log_weight(x)
        for k in marcher.march(x, active, log_weight):
            if k in members:
                out[k][:] = x[active[k] - 1]
                if grown is not None and log_weight is not None:
                    grown[k][:] = log_weight[active[k] - 1].cpu()


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
        self.solve = self.scheme.solve if dynamics.beta is None else None
        self.watching = True

    def log_weight(self, x: Tensor) -> Tensor | None:
        """Return the log-weights 0 of particles at the start, or None where nothing grows."""
        if "growth" not in self.dynamics.terms:
            return None
        return torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)

    def march(
        self, x: Tensor, active: list[int], log_weight: Tensor | None = None
    ) -> Iterator[int]:
        """Move ``x`` in place; yield k when it stands at time k.

        ``active[k]`` is how many of the first entries of ``x`` move in the interval that ends
        at time k (``active[0]`` is not used). Log-weights grow along the way.
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
                part = range(done, min(done + CHECK_EVERY, steps))
                grown = None if log_weight is None else log_weight[: active[k]]
                self._run(moving, start, h, part, first, grown)
            if watch is not None and active[k] and k == len(self.config.intervals):
                watch.look(moving, start + steps * h, h, at_end=True)
            yield k

    def branch(self, x: Tensor, k: int, births: torch.Generator) -> Tensor:
        """Return the cells at time k that descend from ``x`` at the first time.

        After each step a cell is replaced by as many as the mass that it has become, rounded up
        or down at random so that the mean is exact: e^∫g of them.
        """
        first, n = x[:PROBES].clone(), len(x)
        watch = _Watch(self, first) if self.watching else None
        self.watching = False
        for start, h, steps in self.config.intervals[:k]:
            for j in range(steps):
                if not len(x):
                    return x
                t = start + j * h
                if watch is not None and j % CHECK_EVERY == 0:
                    watch.look(x, t, h)
                if self.dynamics.interacting:
                    # As many as they are, not as they were.
                    share = (len(x) - 1) / max(1, n - 1)
                    self.drive.weights = torch.full_like(x[..., 0], share)
                log_weight = torch.zeros(len(x), dtype=torch.float64, device=x.device)
                self._step(x, t, h, log_weight)
                self._check_growth(log_weight, t + h)
                if not torch.isfinite(x).all():
                    self._explain(first, start, h, j)
                mean = log_weight.exp()
                luck = torch.rand(len(x), dtype=torch.float64, generator=births).to(x.device)
                copies = (mean + luck).floor().long()
                if int(copies.sum()) > CROWD * max(n, 1):
                    raise ExplosionError(
                        f"{n} cells have become {int(copies.sum()):.3g} at time {t + h:g}: "
                        f"expected {CROWD} times as many at most, so slower growth or fewer times"
                    )
                x = x.repeat_interleave(copies, 0)
            if self.report is not None:
                self.report(steps * n)
        self.drive.weights = None
        return x

    def _run(
        self,
        x: Tensor,
        start: float,
        h: float,
        steps: range,
        first: Tensor,
        log_weight: Tensor | None,
    ) -> None:
        if self.solve is not None:
            self.solve(x, start + steps[0] * h, h, len(steps), self.drive, self.streams[0])
            if not torch.isfinite(x).all():
                self._explain(first, start, h, steps[-1])
            if self.report is not None:
                self.report(len(steps) * (x.numel() // x.shape[-1]))
            return
        before, states = x.clone(), [stream.get_state() for stream in self.streams]
        for j in steps:
            self._step(x, start + j * h, h, log_weight)
        if not torch.isfinite(x).all():
            # The same steps once more, with a look after each.
            x.copy_(before)
            for stream, state in zip(self.streams, states, strict=True):
                stream.set_state(state)
            for j in steps:
                self._step(x, start + j * h, h, None)
                if not torch.isfinite(x).all():
                    self._explain(first, start, h, j)
        if log_weight is not None:
            self._check_growth(log_weight, start + (steps[-1] + 1) * h)
        if self.report is not None:
            self.report(len(steps) * (x.numel() // x.shape[-1]))

    def _step(self, x: Tensor, t: float, h: float, log_weight: Tensor | None) -> None:
        self.drive.begin_step(x)
        noise = self.brownian.draw(x, h)
        weigh = self.dynamics.interacting and self.config.growth_as == "weights"
        take_step(self.scheme, x, t, h, self.drive, noise, log_weight, weigh=weigh)

    def _check_growth(self, log_weight: Tensor, t: float) -> None:
        if bool((log_weight <= LARGEST).all()):  # not a number is not ≤ either
            return
        growth = self.dynamics.terms["growth"].label()
        raise ExplosionError(
            f"the growth '{growth}' overflows by time {t:g}: a weight has passed e^{LARGEST:g}; "
            "expected a finite rate, slower or over a shorter time"
        )

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
