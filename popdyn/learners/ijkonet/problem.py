"""iJKOnet's min–max problem for networks, and the held-out criterion of their states."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from popdyn.base.intervals import Intervals
from popdyn.dynamics import FreeEnergy
from popdyn.estimation.entropy import entropy
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.interaction_models import (
    EvenNetwork,
    RadialNetwork,
    pair_average,
    shifted_pairs,
)
from popdyn.families.models import LearnedTerm, MLPPotential, Scaling
from popdyn.families.module_potential import ModulePotential, check_module
from popdyn.learners.ijkonet.options import IJKOnetOptions
from popdyn.learners.ijkonet.seed import follow, seed_solution
from popdyn.learners.jko.held_out import HeldOut
from popdyn.learners.jko.inner import INNERS, PARTNERS, Inner
from popdyn.learners.jko.inner_network import Network
from popdyn.learners.training import Problem, cosine_rate, optimizer_state, restore_optimizer

__all__ = ["IJKOnetProblem", "fitted_times", "interval_weights"]

WARM_UP = 100  # batches that the adversary sees first where the energy begins seeded
SEEDED_RATE = 0.3  # of the learning rate, then
SLOWER = 0.3  # of the learning rate, where steps have gone astray
COUPLED = 128  # particles of a batch that is one proximal problem
ENTROPY_POINTS, PAIRED = 10_000, 2000


def interval_weights(intervals: Intervals, sizes: list[int]) -> np.ndarray:
    """Return the weight of each interval's loss, ``(K,)``, mean 1.

    For a static V the losses of the intervals are estimates of one quantity per unit of time from
    snapshot means m_k with variances 1/n_k. Generalised least squares weighs their differences by
    C⁻¹τ, C the tridiagonal covariance of the differences: for equal intervals and sizes the weight
    is ∝ (k+1)(K−k), and the error is that of a straight line through all K+1 means rather than
    that of the two end points alone.
    """
    noise = 1.0 / np.asarray(sizes, dtype=np.float64)
    change = np.zeros((len(intervals), len(sizes)))
    rows = np.arange(len(intervals))
    change[rows, intervals.before], change[rows, intervals.after] = -1.0, 1.0
    weights: np.ndarray = np.linalg.solve((change * noise) @ change.T, intervals.tau)
    return weights / weights.mean()


def fitted_times(intervals: Intervals, options: IJKOnetOptions, inner: Inner) -> np.ndarray:
    """Return the time at which each interval's V is compared, ``(K,)``.

    The middle of the interval for ``simulate``, whose force acts throughout, and its end for the
    JKO step, whose force acts there. Where V is held, that of a first interval holds from its
    beginning to its end, as nothing earlier says where it comes from.
    """
    out: np.ndarray = intervals.start + (1.0 if inner.second_order else 0.5) * intervals.tau
    if options.hold_ends and options.time_varying:
        first = intervals.start == intervals.start.min()
        out[first] = (intervals.start + intervals.tau)[first]
    return out


class IJKOnetProblem(Problem):
    """The min–max problem in the form that the training loop drives.

    Attributes:
        terms: The networks, by the names ``potential`` and ``interaction``.
        seed_error: Standard error of the weak form's β, None where β is not learned.
    """

    def __init__(self, data: TrainingSet, options: IJKOnetOptions) -> None:
        self.data, self.options = data, options
        device = data.device
        seeds = np.random.SeedSequence([data.seed, 2]).generate_state(5, np.uint64)
        # Noise is drawn where the particles are, everything else is small.
        cpu = torch.device("cpu")
        places = (cpu, cpu, device, cpu, cpu)
        own, maps, noise, kernel, pairs = (
            torch.Generator(place).manual_seed(int(s) >> 1)
            for place, s in zip(places, seeds, strict=True)
        )
        scaling = data.scaling(common=options.inputs == "common")
        self.unit = float(scaling.unit)
        self.inner = INNERS[options.inner](data, options, maps, noise)
        self.pair_generator = pairs
        fitted = fitted_times(data.intervals, options, self.inner)
        V: LearnedTerm | None = None
        W = None
        if "potential" in options.learn:
            V = _potential(data, options, scaling, fitted, own)
        if "interaction" in options.learn:
            W = _interaction(data, options.interaction, self.unit, kernel)
        self.terms = nn.ModuleDict()
        for name, term in (("potential", V), ("interaction", W)):
            if term is not None:
                self.terms[name] = term.to(device)
        solution = seed_solution(data, options)
        if solution is not None and options.begins_seeded:
            follow(V, W, solution, data)
        beta, self.seed_error = options.diffusivity or 0.0, None
        if solution is not None and options.learns_diffusivity:
            beta, self.seed_error = solution.diffusivity, solution.diffusivity_standard_error
        self.energy = FreeEnergy(V, W, beta)
        # β as the exponential of a weight: positive however it is trained.
        least = max(0.5 * (self.seed_error or 0.0), 1e-4 * self.unit)
        self.log_beta = torch.tensor(max(beta, least)).log()
        self.entropies: Tensor | None = None
        self._take_beta()
        if self.drifting:
            size = min(ENTROPY_POINTS, *(len(x) for x in data.fit))
            self.entropies = torch.tensor([entropy(x[:size]) for x in data.fit]).to(device)
        self.optimizer = self._adam()
        self.start, self.tau, self.when = (
            torch.tensor(t[:, None], dtype=torch.float32, device=device)
            for t in (data.intervals.start, data.intervals.tau, fitted)
        )
        static = not options.time_varying
        weights = interval_weights(data.intervals, [len(x) for x in data.fit])
        self.weights = torch.tensor(weights if static else np.ones(len(weights))).to(self.tau)
        # With W the particles of a batch are one problem, of the square of its size.
        coupled = options.inner == "proximal" and W is not None
        self.steps, batch = options.training
        self.size = data.batch_size(min(batch, COUPLED) if coupled else batch)
        self.held, self.pace = HeldOut(data), 1.0

    def _adam(self) -> torch.optim.Optimizer:
        options = self.options
        groups: list[dict[str, Any]] = [{"params": list(self.terms.parameters())}]
        if self.drifting:
            self.log_beta.requires_grad_(True)
            groups.append({"params": [self.log_beta], "weight_decay": 0.0})
        return torch.optim.AdamW(groups, lr=options.peak_rate, weight_decay=options.weight_decay)

    @property
    def drifting(self) -> bool:
        """Whether β follows the entropies."""
        return self.options.learns_diffusivity and self.options.entropy_gradient

    def step(self, step: int) -> float:
        rate = self.pace * self.options.peak_rate * cosine_rate(step, self.steps)
        if self.options.begins_seeded:
            rate *= SEEDED_RATE
            if step == 0 and isinstance(self.inner, Network):
                self._warm_up(self.inner)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        before, after = self.data.pairs(step, self.size)
        ahead = self.inner.solve(self.energy, before, self.start, self.tau)
        loss = self._gap(after, ahead) / self.unit
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.terms.parameters(), 10.0)
        self.optimizer.step()
        self._take_beta()
        return float(loss.detach())

    def _warm_up(self, inner: Network) -> None:
        """Bring the adversary up to an energy that is good already, or it would spoil it."""
        for i in range(WARM_UP):
            before, _ = self.data.pairs(i, self.size)
            inner.solve(self.energy, before, self.start, self.tau)

    def _gap(self, after: Tensor, ahead: Tensor) -> Tensor:
        """Return Σ_k w_k [J(ρ_{k+1}) − J(ρ̂_k)], with a graph in the energy's weights."""
        V, W = self.energy.V, self.energy.W
        gap = torch.zeros((), device=after.device)
        if V is not None:
            values = V.value(torch.cat([after, ahead], 1), self.when)
            gaps = values[:, : self.size].mean(1) - values[:, self.size :].mean(1)
            gap = gap + (self.weights * gaps).sum()
        if isinstance(W, RadialNetwork | EvenNetwork):
            # ½∬W over pairs of different particles of either side.
            count = PARTNERS if isinstance(W, RadialNetwork) else PARTNERS // 4
            drawn = torch.randint(1, self.size, (count,), generator=self.pair_generator)
            shifts = [int(s) for s in drawn]
            pairs = pair_average(W, after, shifts, self.weights)
            gap = gap + 0.5 * (pairs - pair_average(W, ahead, shifts, self.weights))
        if self.entropies is not None:
            gap = gap - self.log_beta.exp() * (self.weights * self._entropy_gap(after, ahead)).sum()
        return gap

    def _entropy_gap(self, after: Tensor, ahead: Tensor) -> Tensor:
        """Return H(ρ_{k+1}) − H(ρ̂_k), ``(K,)``: the same estimator and size on both sides."""
        assert self.entropies is not None
        gain = getattr(self.inner, "gain", None)
        if gain is not None:
            own = self.data.intervals
            return self.entropies[own.after] - self.entropies[own.before] - gain  # type: ignore[no-any-return]
        both = [entropy(a) - entropy(b) for a, b in zip(after, ahead, strict=True)]
        return torch.tensor(both).to(after)

    def _take_beta(self) -> None:
        if self.drifting:
            self.energy.diffusivity = float(self.log_beta.detach().exp())

    def criterion(self) -> float:
        return self.held.energy_distance(self.energy, self.inner)

    def solution(self) -> dict[str, Tensor]:
        return self.terms.state_dict() | {"log_beta": self.log_beta.detach()}

    def load_solution(self, state: dict[str, Tensor]) -> None:
        """Go back to what ``solution`` returned."""
        self.terms.load_state_dict({k: v for k, v in state.items() if k != "log_beta"})
        with torch.no_grad():
            self.log_beta.copy_(state["log_beta"])
        self._take_beta()

    def retreat(self, best: dict[str, Tensor]) -> None:
        self.load_solution(best)
        self.optimizer.state.clear()  # its momentum led here
        self.pace *= SLOWER

    def state(self) -> dict[str, Tensor]:
        weights = {f"energy.{k}": v for k, v in self.solution().items()}
        weights |= {
            "pairs": self.pair_generator.get_state(),
            "pace": torch.tensor(self.pace, dtype=torch.float64),
        }
        return weights | optimizer_state("optimizer", self.optimizer) | self.inner.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        prefix = "energy."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        self.load_solution(own)
        self.pair_generator.set_state(state["pairs"])
        self.pace = float(state["pace"])
        restore_optimizer("optimizer", self.optimizer, state)
        self.inner.load_state(state)


def _potential(
    data: TrainingSet,
    options: IJKOnetOptions,
    scaling: Scaling,
    fitted: np.ndarray,
    generator: torch.Generator,
) -> LearnedTerm:
    """Return an untrained V, or the user's own module as it comes."""
    if options.potential is not None:
        x, t = data.fit[0][:8].cpu(), float(data.times[0])
        if data.units is not None:
            x = data.units.to_positions(x)
            t = data.units.first + t * data.units.interval
        check_module(options.potential, x, t)
        return ModulePotential(options.potential, scaling, data.units)
    span = data.intervals.span if options.time_varying else None
    holds = options.time_varying and options.hold_ends
    held = (float(fitted.min()), float(fitted.max())) if holds else None
    return MLPPotential(scaling, options.hidden, span, generator, held)


def _interaction(
    data: TrainingSet, kind: str, unit: float, generator: torch.Generator
) -> RadialNetwork | EvenNetwork:
    """Return an untrained W that fits the data's distances."""
    x = torch.stack([x[: min(PAIRED, *(len(y) for y in data.fit))] for x in data.fit])
    z = shifted_pairs(x, [1, x.shape[1] // 2 or 1]).flatten(0, 1)
    if kind == "radial":
        return RadialNetwork(float(z.norm(dim=1).median()), unit, generator=generator)
    reach = z.abs().amax(0)
    first, last = data.intervals.span
    return EvenNetwork(
        Scaling(0 * reach, z.std(0).clamp_min(1e-6), -reach, reach, last - first),
        generator=generator,
    )
