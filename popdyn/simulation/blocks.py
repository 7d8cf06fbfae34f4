"""One block of particles from the first time to the last: a pure function of its arguments."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from popdyn.energies import FreeEnergy
from popdyn.errors import PopdynError
from popdyn.simulation.config import SimulationConfig
from popdyn.simulation.forces import population_gradient
from popdyn.simulation.schemes import SCHEMES
from popdyn.simulation.streams import generator

__all__ = ["simulate_block"]

# Floats in one chunk: position, gradient and noise of a chunk stay in a core's own cache.
CHUNK = 1 << 16


@torch.no_grad()
def simulate_block(
    energy: FreeEnergy, config: SimulationConfig, group: str, block: int
) -> list[np.ndarray]:
    """Return a block's particles at each time, ``(n_k, d)`` float32.

    The same arguments give the same bits, wherever and in whatever order blocks are run.

    Raises:
        PopdynError: If the particles leave finite numbers.
    """
    starts = generator(config.seed, "initial", group, block)
    noise = generator(config.seed, "noise", group, block)
    rows = config.rows(group, block)
    marcher = _Marcher(energy, config, noise)
    if config.paired:
        first = config.initial.sample(rows[0], config.dim, starts)
        out = [first] + [torch.empty_like(first) for _ in rows[1:]]
        size = len(first) if energy.W is not None else max(1, CHUNK // config.dim)
        for part in _slices(len(first), size):
            x = first[part].clone()
            for k in marcher.march(x, [len(x)] * len(rows)):
                out[k][part] = x
    else:
        out = [config.initial.sample(n, config.dim, starts) for n in rows]
        if energy.W is None:
            _independent(out, marcher)
        else:
            _interacting(out, marcher)
    return [x.numpy() for x in out]


def _independent(out: list[Tensor], marcher: _Marcher) -> None:
    """Run particles that do not see each other, a part of every population at once.

    The populations lie one after the other, the latest first, so that those still under way
    are always the first rows.
    """
    dim = out[0].shape[1]
    size = max(1, CHUNK // (dim * max(1, len(out) - 1)))
    for part in _slices(max(len(x) for x in out), size):
        parts = [x[part] for x in out]
        x = torch.cat(parts[:0:-1])
        # active[k]: rows that still move after snapshot k
        active = [sum(len(p) for p in parts[k + 1 :]) for k in range(len(parts))]
        for k in marcher.march(x, [active[0], *active]):
            out[k][part] = x[active[k] : active[k] + len(parts[k])]


def _interacting(out: list[Tensor], marcher: _Marcher) -> None:
    """Run a population for each time, those of the same size as one batched tensor."""
    for size in sorted({len(x) for x in out[1:]} - {0}):
        members = [k for k in range(1, len(out)) if len(out[k]) == size]
        x = torch.stack([out[k] for k in reversed(members)])
        active = [sum(j >= k for j in members) for k in range(len(out))]
        for k in marcher.march(x, active):
            if k in members:
                out[k][:] = x[active[k] - 1]


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


class _Marcher:
    """Steps a tensor of particles through the intervals of a configuration."""

    def __init__(self, energy: FreeEnergy, config: SimulationConfig, noise: Generator) -> None:
        self.config = config
        self.scheme = SCHEMES[config.scheme]
        self.gradient = population_gradient(energy)
        self.beta = energy.diffusivity
        self.noise = noise

    def march(self, x: Tensor, active: list[int]) -> Iterator[int]:
        """Move ``x`` in place; yield k when it stands at time k.

        ``active[k]`` is how many of the first entries of ``x`` move in the interval that ends
        at time k (``active[0]`` is not used).
        """
        buffer = torch.empty_like(x) if self.beta > 0 else None
        for k, (start, h, steps) in enumerate(self.config.intervals, start=1):
            moving = x[: active[k]]
            noise = None if buffer is None else buffer[: active[k]]
            if moving.numel() == 0:
                return
            for j in range(steps):
                if noise is not None:
                    noise.normal_(0.0, (2.0 * self.beta * h) ** 0.5, generator=self.noise)
                self.scheme.step(moving, start + j * h, h, self.gradient, noise)
                if not torch.isfinite(moving).all():
                    raise PopdynError(
                        f"the particles left finite numbers in step {j + 1} of {steps} after "
                        f"time {start:g} (scheme {self.scheme.name}, step {h:g})"
                    )
            yield k
