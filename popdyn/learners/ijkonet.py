"""iJKOnet: learn the energy whose JKO steps the snapshots are, by inverse optimization."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.energies import FreeEnergy
from popdyn.errors import PopdynError
from popdyn.learners.certificate import debiased_gap
from popdyn.learners.inner import INNERS, Inner, Network, Proximal, Simulate
from popdyn.learners.models import MLPPotential, SecondOrder, set_mean_zero
from popdyn.learners.run import Run
from popdyn.learners.training import (
    Workplace,
    cosine_rate,
    optimizer_state,
    restore_optimizer,
    train,
)
from popdyn.learners.training_set import TrainingSet
from popdyn.registry import lookup
from popdyn.simulation import advance

__all__ = ["IJKOnetOptions", "fit_ijkonet", "interval_weights"]

SOLVED = 0.1  # an inner residual above this is not called solved


@dataclass(frozen=True)
class IJKOnetOptions:
    """Options of iJKOnet; all quantities are dimensionless.

    Attributes:
        inner: Inner solver: ``network``, ``proximal`` or ``simulate``.
        energies: What is learned; the rest is 0 or fixed.
        diffusivity: β if it is known, else None for 0.
        time_varying: Whether V depends on time.
        steps: Training steps.
        batch: Particles of each snapshot in a step.
        learning_rate: Peak rate of AdamW; warm-up and cosine.
        weight_decay: AdamW's weight decay.
        hidden: Widths of the potential's layers.
        inner_steps: Ascent steps of the inner network for each step of the energy.
        multimap: With ``network``: one map for each interval.
        first_order: Leave out the second-order recovery after a JKO-based fit.
        every: Steps between two evaluations of the held-out criterion.
        validation_fraction: Part of each snapshot kept for that criterion.
    """

    inner: str = "simulate"
    energies: tuple[str, ...] = ("potential",)
    diffusivity: float | None = None
    time_varying: bool = False
    steps: int = 2000
    batch: int = 1000
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    hidden: tuple[int, ...] = (64, 64)
    inner_steps: int = 5
    multimap: bool = False
    first_order: bool = False
    every: int = 100
    validation_fraction: float = 0.2

    def __post_init__(self) -> None:
        lookup(INNERS, self.inner, "inner solver")
        if self.energies != ("potential",):
            raise PopdynError(
                f"energies {','.join(self.energies)}: iJKOnet learns 'potential' in this version"
            )
        beta = self.diffusivity
        if beta is not None and not (math.isfinite(beta) and beta >= 0):
            raise PopdynError(f"diffusivity is {beta}: expected a finite number ≥ 0")
        if self.inner != "simulate" and beta:
            raise PopdynError(
                f"--inner {self.inner} has no entropy term here, found diffusivity {beta}: "
                "use --inner simulate"
            )
        for name in ("steps", "batch", "inner_steps", "every"):
            if getattr(self, name) < 1:
                raise PopdynError(f"{name} is {getattr(self, name)}: expected 1 or more")


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

    def _inner(self, scaling: Any, maps: torch.Generator, noise: torch.Generator) -> Inner:
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


def fit_ijkonet(data: TrainingSet, options: IJKOnetOptions, place: Workplace) -> Run:
    """Fit a free energy to the training set; see :func:`popdyn.fit`."""
    begin = time.monotonic()
    problem = IJKOnetProblem(data, options)
    history = train(problem, options.steps, options.every, place)
    certificate = _certificate(problem)
    problem.V.load_state_dict(history.best)
    certificate["best_step"] = history.best_step
    V: Any = problem.V.requires_grad_(False)
    notes = []
    tau = data.intervals
    if problem.inner.second_order and not options.first_order and not options.time_varying:
        if np.ptp(tau) < 1e-6 * tau.mean():
            V = SecondOrder(V, float(tau.mean()))
        else:
            notes.append("intervals differ: no second-order recovery (see --inner simulate)")
    set_mean_zero(V, data.fit, [float(t) for t in data.times])
    solved = certificate["inner_residual"] < SOLVED
    gap, error = certificate.get("gap", 0.0), certificate.get("gap_standard_error", 0.0)
    if problem.inner.second_order and gap < -3 * error:
        notes.append(
            f"the gap is {gap:.3g} ± {error:.2g}, below 0 by more than 3 standard errors: the "
            "inner minimum was not found, or the data is not of JKO steps"
        )
    if not solved:
        notes.append("inner problem not solved: more inner steps, or --inner simulate")
    return Run(
        FreeEnergy(V, None, options.diffusivity or 0.0),
        "ijkonet",
        {},
        history.metrics,
        certificate,
        solved,
        history.steps,
        time.monotonic() - begin,
        notes,
    )


def _certificate(problem: IJKOnetProblem) -> dict[str, Any]:
    batch = problem.data.batches(problem.options.steps, problem.size)
    residual = problem.inner.residual(problem.energy, batch[:-1], problem.start, problem.tau)
    gap = debiased_gap(problem.data, problem.energy, problem.inner, problem.start, problem.tau)
    return {"inner_residual": residual} | gap
