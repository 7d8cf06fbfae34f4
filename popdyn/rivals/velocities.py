"""What rivals share: a velocity −∇V(x, t) by a network, trained on batches of all snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.options import Bounds, Options
from popdyn.dynamics import FreeEnergy
from popdyn.estimation.parts import Part
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.models import MLPPotential, set_mean_zero
from popdyn.learners.jko.held_out import HeldOut
from popdyn.learners.jko.inner import Simulate
from popdyn.learners.run import Run
from popdyn.learners.training import (
    Problem,
    Workplace,
    cosine_rate,
    interrupts_held,
    optimizer_state,
    restore_optimizer,
    train,
)

__all__ = ["VelocityOptions", "VelocityProblem", "fit_velocity"]


@dataclass(frozen=True)
class VelocityOptions(Options):
    """Options of a rival; all quantities are dimensionless.

    Attributes:
        learn: A potential alone, whose −∇ is the velocity.
        diffusivity: β that is known; 0 where it is not given.
        time_varying: Whether the velocity may depend on time.
        steps: Steps of Adam.
        batch: Particles of each snapshot in a step.
        learning_rate: Peak rate of Adam; warm-up and cosine.
        hidden: Widths of the network's layers.
        every: Steps between two evaluations of the held-out criterion.
        validation_fraction: Part of each snapshot kept for that criterion.
    """

    learn: tuple[Part, ...] = ("potential",)
    diffusivity: Annotated[float | None, Bounds(ge=0)] = None
    time_varying: bool = True
    steps: Annotated[int, Bounds(ge=1)] = 1000
    batch: Annotated[int, Bounds(ge=2)] = 256
    learning_rate: Annotated[float, Bounds(gt=0)] = 3e-3
    hidden: Annotated[tuple[int, ...], Bounds(ge=1, what="widths")] = (64, 64)
    every: Annotated[int, Bounds(ge=1)] = 100
    validation_fraction: Annotated[float, Bounds(gt=0, lt=1)] = 0.1

    def check(self) -> None:
        if self.learn != ("potential",):
            raise PopdynError(
                f"learn '{','.join(self.learn)}': it learns 'potential' alone, with β given"
            )


class VelocityProblem(Problem):
    """A network's training in the form that the loop drives; a subclass says what the loss is."""

    def __init__(self, data: TrainingSet, options: VelocityOptions) -> None:
        self.data, self.options = data, options
        (seed,) = np.random.SeedSequence([data.seed, 4]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(seed) >> 1)
        span = data.intervals.span if options.time_varying else None
        V = MLPPotential(data.scaling().cpu(), options.hidden, span, generator)
        self.V = V.to(data.device)
        self.beta = options.diffusivity or 0.0
        self.start, self.tau = (
            torch.tensor(t[:, None]).to(data.fit[0])
            for t in (data.intervals.start, data.intervals.tau)
        )
        self.size = data.batch_size(options.batch)
        self.optimizer = torch.optim.Adam(self.V.parameters(), lr=options.learning_rate)
        self.held = HeldOut(data)

    def loss(self, x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the loss on what each interval begins and ends with, ``(K, n, d)`` each."""
        raise NotImplementedError

    def step(self, step: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * cosine_rate(step, self.options.steps)
        rng = np.random.default_rng([self.data.seed, 5, step])
        loss = self.loss(*self.data.pairs(step, self.size), rng)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.V.parameters(), 10.0)
        self.optimizer.step()
        return float(loss.detach())

    @property
    def energy(self) -> FreeEnergy:
        return FreeEnergy(self.V, diffusivity=self.beta)

    def criterion(self) -> float:
        generator = torch.Generator(self.data.device).manual_seed(self.data.seed)
        return self.held.energy_distance(self.energy, Simulate(generator))

    def solution(self) -> dict[str, Tensor]:
        return self.V.state_dict()

    def state(self) -> dict[str, Tensor]:
        weights = {f"V.{k}": v for k, v in self.V.state_dict().items()}
        return weights | optimizer_state("adam", self.optimizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        own = {k.removeprefix("V."): v for k, v in state.items() if k.startswith("V.")}
        self.V.load_state_dict(own)
        restore_optimizer("adam", self.optimizer, state)


def fit_velocity(
    name: str, problem: type[VelocityProblem], data: TrainingSet, options: Any, place: Workplace
) -> Run:
    """Train a velocity and return its run."""
    with interrupts_held():
        built = problem(data, options)
    history = train(built, options.steps, options.every, place)
    built.V.load_state_dict(history.best)
    V = built.V.requires_grad_(False)
    set_mean_zero(V, data.fit, [float(t) for t in data.times])
    certificate: dict[str, Any] = {"learn": ["potential"], "best_step": history.best_step}
    if options.time_varying:
        certificate["time_varying"] = True
    return Run(
        built.energy,
        name,
        {},
        history.metrics,
        certificate,
        steps=history.steps,
        validated=True,
    )
