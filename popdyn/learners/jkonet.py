"""JKOnet: V by bilevel optimisation, through the transport maps that solve its JKO steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

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
from popdyn.learners.jko.inner import Proximal
from popdyn.learners.jkonet_map import ConvexMaps
from popdyn.learners.registry import learner
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

__all__ = ["JKOnetOptions", "fit_jkonet", "sinkhorn_pull"]

SOLVED = 0.2  # an inner residual above this is not called solved
FIRST = 500  # inner steps before the first outer one, from weights that know nothing
LEAST_CURVATURE = 0.1  # of the inner objective in a particle's position


@dataclass(frozen=True)
class JKOnetOptions(Options):
    """Options of JKOnet; all quantities are dimensionless.

    Attributes:
        learn: V alone is learned.
        steps: Outer steps, of V.
        inner_steps: Inner steps, of the maps, for each outer one; they go on where they were.
        batch: Particles of each snapshot in a step.
        learning_rate: Peak rate of Adam for V; warm-up and cosine.
        inner_learning_rate: Rate of Adam for the maps.
        epsilon: Blur of the Sinkhorn divergence, in mean squared standard deviations.
        hidden: Widths of V's layers.
        map_hidden: Widths of the maps' two layers.
        every: Steps between two evaluations of the held-out criterion.
        validation_fraction: Part of each snapshot kept for that criterion.
    """

    learn: tuple[Part, ...] = ("potential",)
    steps: Annotated[int, Bounds(ge=1)] = 200
    inner_steps: Annotated[int, Bounds(ge=1)] = 10
    batch: Annotated[int, Bounds(ge=2)] = 250
    learning_rate: Annotated[float, Bounds(gt=0)] = 5e-3
    inner_learning_rate: Annotated[float, Bounds(gt=0)] = 3e-2
    epsilon: Annotated[float, Bounds(gt=0)] = 0.2
    hidden: Annotated[tuple[int, ...], Bounds(ge=1, what="widths")] = (64, 64)
    map_hidden: Annotated[tuple[int, ...], Bounds(ge=1, what="widths", length=2)] = (64, 64)
    every: Annotated[int, Bounds(ge=1)] = 25
    validation_fraction: Annotated[float, Bounds(gt=0, lt=1)] = 0.2

    def check(self) -> None:
        if self.learn != ("potential",):
            raise PopdynError(f"learn '{','.join(self.learn)}': jkonet learns 'potential' alone")


@learner(
    "jkonet",
    "Bilevel, through convex transport maps (Bunne et al. 2022): V alone; minutes.",
    JKOnetOptions,
)
def fit_jkonet(data: TrainingSet, options: JKOnetOptions, place: Workplace) -> Run:
    """Fit a potential to the training set; see :func:`popdyn.fit`.

    References:
        Bunne, Meng-Papaxanthos, Krause and Cuturi, arXiv:2106.06345.
    """
    with interrupts_held():
        problem = JKOnetProblem(data, options)
    history = train(problem, options.steps, options.every, place)
    residual = problem.residual()
    problem.V.load_state_dict(history.best)
    V = problem.V.requires_grad_(False)
    set_mean_zero(V, data.fit, [float(t) for t in data.times])
    solved = residual < SOLVED
    notes = [] if solved else ["inner problem not solved: more inner_steps"]
    return Run(
        FreeEnergy(V),
        "jkonet",
        {},
        history.metrics,
        {"inner_residual": residual, "best_step": history.best_step},
        solved,
        history.steps,
        notes=notes,
        validated=True,
    )


class JKOnetProblem(Problem):
    """The bilevel problem in the form that the training loop drives.

    The inner problem is min over maps T = ∇ψ of E[τV(T(x)) + ½|T(x) − x|²], the outer one
    min over V of the Sinkhorn divergence between T♯ρ_k and ρ_{k+1}. The maps go on from where
    they were. The derivative of the inner optimum is the implicit one: from τ∇V(y) + y − x = 0
    follows dy = −M⁻¹ d(τ∇V)(y) with M = I + τ∇²V(y), of each particle on its own.
    """

    def __init__(self, data: TrainingSet, options: JKOnetOptions) -> None:
        self.data, self.options = data, options
        seeds = np.random.SeedSequence([data.seed, 2]).generate_state(2, np.uint64)
        generators = [torch.Generator().manual_seed(int(s) >> 1) for s in seeds]
        scaling = data.scaling()
        self.V = MLPPotential(scaling.cpu(), options.hidden, None, generators[0]).to(data.device)
        scaling = scaling.to(data.device)
        self.maps = ConvexMaps(scaling, len(data.intervals), options.map_hidden, generators[1])
        self.tau = torch.tensor(data.intervals.tau[:, None, None]).to(data.fit[0])
        self.epsilon = options.epsilon * float(scaling.scale.square().mean())
        self.size = data.batch_size(options.batch)
        for weight in self.maps.weights.values():
            weight.requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.V.parameters(), lr=options.learning_rate)
        self.inner = torch.optim.Adam(self.maps.weights.values(), lr=options.inner_learning_rate)
        self.held = HeldOut(data)
        self.begun = False

    def _slope(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the inner objective's derivative in the positions y."""
        return self.tau * self.V.gradient(y) + y - x

    def _solve(self, x: Tensor, steps: int) -> None:
        """Do inner steps on the particles of a batch."""
        for _ in range(steps):
            y = self.maps(self.maps.weights, x)
            with torch.no_grad():
                slope = self._slope(x, y)
            self.inner.zero_grad(set_to_none=True)
            y.backward(slope / (self.maps.scale**2 * y.shape[1]))  # type: ignore[no-untyped-call]
            self.inner.step()

    def step(self, step: int) -> float:
        rate = self.options.learning_rate * cosine_rate(step, self.options.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x, target = self.data.pairs(step, self.size)
        self._solve(x, self.options.inner_steps if step else FIRST)
        with torch.no_grad():
            y = self.maps(self.maps.weights, x)
            pull, loss = sinkhorn_pull(y, target, self.epsilon)
        through = self._implicit(y, pull)
        self.optimizer.zero_grad(set_to_none=True)
        force = self.tau * self.V.gradient(y)
        surrogate = -(through * force).sum(2).mean(1).sum() / self.epsilon
        surrogate.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.V.parameters(), 10.0)
        self.optimizer.step()
        return loss

    def _implicit(self, y: Tensor, pull: Tensor) -> Tensor:
        """Return M⁻¹ times the outer derivative in y, the eigenvalues of M kept from 0."""
        columns = []
        for i in range(y.shape[-1]):
            along = torch.zeros_like(y)
            along[..., i] = 1.0
            columns.append(torch.func.jvp(self.V.gradient, (y,), (along,))[1])
        bend = self.tau[..., None] * torch.stack(columns, -1).detach()
        values, vectors = torch.linalg.eigh(0.5 * (bend + bend.mT))
        values = (1.0 + values).clamp_min(LEAST_CURVATURE)
        return (vectors @ ((vectors.mT @ pull[..., None]) / values[..., None]))[..., 0]

    @torch.no_grad()
    def residual(self) -> float:
        """Return rms |T − x + τ∇V(T)| over rms |T − x| on a fresh batch."""
        x, _ = self.data.pairs(self.options.steps, self.size)
        y = self.maps(self.maps.weights, x)
        return float(self._slope(x, y).square().mean().sqrt() / (y - x).square().mean().sqrt())

    def criterion(self) -> float:
        return self.held.energy_distance(FreeEnergy(self.V), Proximal())

    def solution(self) -> dict[str, Tensor]:
        return self.V.state_dict()

    def state(self) -> dict[str, Tensor]:
        weights = {f"V.{k}": v for k, v in self.V.state_dict().items()}
        maps = {f"maps.{k}": v for k, v in self.maps.weights.items()}
        outer = optimizer_state("outer", self.optimizer)
        return weights | maps | outer | optimizer_state("inner", self.inner)

    def load_state(self, state: dict[str, Tensor]) -> None:
        own = {k.removeprefix("V."): v for k, v in state.items() if k.startswith("V.")}
        self.V.load_state_dict(own)
        with torch.no_grad():
            for name, weight in self.maps.weights.items():
                weight.copy_(state[f"maps.{name}"])
        restore_optimizer("outer", self.optimizer, state)
        restore_optimizer("inner", self.inner, state)


@torch.no_grad()
def sinkhorn_pull(
    x: Tensor, y: Tensor, epsilon: float, iterations: int = 20
) -> tuple[Tensor, float]:
    """Return n times the derivative of ½ the Sinkhorn divergence in x, and its part in x.

    The blur's bias, which would draw x together, is taken off by the plan of x with itself.

    Args:
        x, y: Populations of equal size, ``(K, n, d)``.
        epsilon: Blur.
        iterations: Of Sinkhorn's algorithm.

    References:
        Feydy et al., AISTATS 2019.
    """
    across, cost = _barycentre(x, y, epsilon, iterations)
    own, own_cost = _barycentre(x, x, epsilon, iterations)
    return own - across, float((cost - 0.5 * own_cost).sum())


def _barycentre(x: Tensor, y: Tensor, epsilon: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Return where the entropic plan takes each x on average, and the plan's dual cost."""
    # Near neighbours outweigh what the smallest number of float64 stands for.
    kernel = torch.cdist(x, y).double().square().div_(-epsilon).clamp_(min=-700.0).exp_()
    n = x.shape[1]
    u = v = kernel.new_ones(x.shape[0], n, 1)
    for _ in range(iterations):
        u = n / (kernel @ v)
        v = n / (kernel.mT @ u)
    plan = kernel * v.mT
    plan /= plan.sum(2, keepdim=True)
    cost = epsilon * (u.log().mean(1) + v.log().mean(1))[:, 0]
    return plan.to(y) @ y, cost
