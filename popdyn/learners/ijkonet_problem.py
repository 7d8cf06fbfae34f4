"""iJKOnet's min–max problem for a network potential, and the held-out criterion of its states."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from popdyn.energies import FreeEnergy
from popdyn.learners.ijkonet_options import IJKOnetOptions
from popdyn.learners.inner import Inner, Network, Proximal, Simulate
from popdyn.learners.models import MLPPotential, Scaling
from popdyn.learners.training import cosine_rate, optimizer_state, restore_optimizer
from popdyn.learners.training_set import TrainingSet
from popdyn.simulation import advance

__all__ = ["HeldOut", "IJKOnetProblem", "interval_weights"]


def interval_weights(times: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Return the weight of each interval's loss, ``(K,)``, mean 1.

    For a static V the losses of the intervals are estimates of one quantity per unit of time from
    snapshot means m_k with variances 1/n_k. Generalised least squares weighs their differences by
    C⁻¹τ, C the tridiagonal covariance of the differences: for equal intervals and sizes the weight
    is ∝ (k+1)(K−k), and the error is that of a straight line through all K+1 means rather than
    that of the two end points alone.
    """
    tau = np.diff(times)
    noise = 1.0 / np.asarray(sizes, dtype=np.float64)
    covariance = np.diag(noise[:-1] + noise[1:])
    covariance -= np.diag(noise[1:-1], 1) + np.diag(noise[1:-1], -1)
    weights: np.ndarray = np.linalg.solve(covariance, tau)
    return weights / weights.mean()


class IJKOnetProblem:
    """The min–max problem in the form that the training loop drives."""

    def __init__(self, data: TrainingSet, options: IJKOnetOptions) -> None:
        self.data, self.options = data, options
        device = data.device
        seeds = np.random.SeedSequence([data.seed, 2]).generate_state(3, np.uint64)
        generators = [torch.Generator().manual_seed(int(s) >> 1) for s in seeds]
        scaling = data.scaling()
        span = (float(data.times[0]), float(data.times[-1])) if options.time_varying else None
        self.V = MLPPotential(scaling, options.hidden, span, generators[0]).to(device)
        self.energy = FreeEnergy(self.V, None, options.diffusivity or 0.0)
        self.unit = float(scaling.unit)
        self.optimizer = torch.optim.AdamW(
            self.V.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.inner = self._inner(scaling, generators[1], generators[2])
        self.start = torch.tensor(data.times[:-1, None], dtype=torch.float32, device=device)
        self.tau = torch.tensor(data.intervals[:, None], dtype=torch.float32, device=device)
        # V is compared at the middle of the interval for `simulate`, whose force acts throughout,
        # and at its end for the JKO step, whose force acts there.
        self.when = self.start + (0.5 if options.inner == "simulate" else 1.0) * self.tau
        static = not options.time_varying
        weights = interval_weights(data.times, [len(x) for x in data.fit])
        self.weights = torch.tensor(weights if static else np.ones(len(weights))).to(self.tau)
        self.size = data.batch_size(options.batch)
        self.held = HeldOut(data)

    def _inner(self, scaling: Scaling, maps: torch.Generator, noise: torch.Generator) -> Inner:
        options = self.options
        if options.inner == "network":
            intervals = len(self.data.intervals)
            return Network(scaling, intervals, options.inner_steps, options.multimap, 1e-3, maps)
        return Proximal() if options.inner == "proximal" else Simulate(noise)

    def step(self, step: int) -> float:
        rate = self.options.learning_rate * cosine_rate(step, self.options.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.data.batches(step, self.size)
        ahead = self.inner.solve(self.energy, batch[:-1], self.start, self.tau)
        values = self.V.value(torch.cat([batch[1:], ahead], 1), self.when)
        gaps = values[:, : self.size].mean(1) - values[:, self.size :].mean(1)
        loss = (self.weights * gaps).sum() / self.unit
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.V.parameters(), 10.0)
        self.optimizer.step()
        return float(loss.detach())

    def criterion(self) -> float:
        return self.held.energy_distance(self.energy, self.inner)

    def solution(self) -> dict[str, Tensor]:
        return self.V.state_dict()

    def state(self) -> dict[str, Tensor]:
        weights = {f"V.{k}": v for k, v in self.V.state_dict().items()}
        return weights | optimizer_state("optimizer", self.optimizer) | self.inner.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        weights = {k.removeprefix("V."): v for k, v in state.items() if k.startswith("V.")}
        self.V.load_state_dict(weights)
        restore_optimizer("optimizer", self.optimizer, state)
        self.inner.load_state(state)


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
        self.spread = [_mean_distance(x, x) for x in self.held]
        self.seed = data.seed

    def energy_distance(self, energy: FreeEnergy, inner: Inner) -> float:
        generator = torch.Generator().manual_seed(self.seed)
        moving, total = self.held[:0], 0.0
        for k in range(1, len(self.held)):
            moving = torch.cat([moving, self.held[k - 1 : k]])
            start, stop = (t.expand(k) for t in (self.times[k - 1], self.times[k]))
            if isinstance(inner, Simulate):
                moving = advance(
                    energy, moving, start, stop, substeps=inner.substeps, generator=generator
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
