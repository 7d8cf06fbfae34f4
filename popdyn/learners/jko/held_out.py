"""The held-out criterion that chooses the best state of a network."""

from __future__ import annotations

import torch
from torch import Tensor

from popdyn.dynamics import FreeEnergy
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.jko.inner import PARTNERS, Inner, Proximal, Simulate
from popdyn.simulation import advance

__all__ = ["HeldOut"]


class HeldOut:
    """The criterion that chooses the best state.

    The energy distance between the held-out part of each snapshot and the held-out part of every
    earlier one advanced to its time by the present energy, summed; the noise is the same at every
    evaluation. The farther apart two snapshots are, the more signal stands against their sampling
    noise: one interval alone misjudges weak potentials.

    References:
        Székely and Rizzo, J. Stat. Plan. Inference 143 (2013).
    """

    CAP = 1000

    def __init__(self, data: TrainingSet) -> None:
        size = min(self.CAP, min(len(x) for x in data.validation))
        self.held = torch.stack([x[:size] for x in data.validation])
        self.times = torch.tensor(data.times, dtype=torch.float32).to(self.held)
        self.starts = data.starts
        self.spread = [_mean_distance(x, x) for x in self.held]
        self.seed = data.seed

    def energy_distance(self, energy: FreeEnergy, inner: Inner) -> float:
        generator = torch.Generator(self.held.device).manual_seed(self.seed)
        moving, total = self.held[:0], 0.0
        for k in range(1, len(self.held)):
            if k in self.starts:  # nothing came here from another experiment
                moving = self.held[:0]
                continue
            moving = torch.cat([moving, self.held[k - 1 : k]])
            start, stop = (t.expand(len(moving)) for t in (self.times[k - 1], self.times[k]))
            # A JKO step with W or entropy costs far more than a run of the same energy.
            if isinstance(inner, Simulate) or energy.W is not None or energy.diffusivity > 0:
                moving = advance(
                    energy,
                    moving,
                    start,
                    stop,
                    substeps=getattr(inner, "substeps", 4),
                    generator=generator,
                    partners=PARTNERS,
                )
            else:
                tau = (stop - start)[:, None]
                moving = Proximal().solve(energy, moving, start[:, None], tau)
            for x in moving:
                across = _mean_distance(x, self.held[k])
                total += 2 * across - _mean_distance(x, x) - self.spread[k]
        return total


def _mean_distance(x: Tensor, y: Tensor) -> float:
    return float(torch.cdist(x, y).mean(dtype=torch.float64))
