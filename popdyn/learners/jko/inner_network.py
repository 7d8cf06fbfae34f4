"""iJKOnet's adversary: a network that transports each snapshot to the minimiser of its JKO step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.drive import Drive
from popdyn.families.models import Scaling
from popdyn.learners.jko.log_determinant import log_determinant
from popdyn.learners.jko.residuals import stationarity
from popdyn.learners.training import optimizer_state, restore_optimizer

__all__ = ["Network", "TransportMap"]

DETERMINANTS = 250  # particles of each snapshot whose log-determinants a step of ascent takes
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class Network:
    """The paper's adversary: a map told the time, or one map for each interval, trained by ascent.

    It makes J(T♯ρ_k) + E|x − T(x)|²/(2τ) small, with the entropy of T♯ρ_k as that of ρ_k plus
    E log|det ∇T|.

    Args:
        scaling: Standardises the inputs.
        intervals: K, the number of intervals.
        steps: Ascent steps for each step of the energy.
        multimap: One map for each interval in place of one that is told the time.
        rate: Learning rate.
        generator: Draws the initial weights, the probes of log-determinants and the partners.
        partners: Others that act on a particle in a step of ascent, drawn anew each time.

    References:
        Persiianov et al., arXiv 2506.01502 (2026).
    """

    second_order = True

    def __init__(
        self,
        scaling: Scaling,
        intervals: int,
        steps: int,
        multimap: bool,
        rate: float,
        generator: torch.Generator,
        partners: int = 8,
    ) -> None:
        self.steps, self.generator, self.partners = steps, generator, partners
        copies = intervals if multimap else 1
        self.map = TransportMap(scaling, copies, intervals, generator).to(scaling.mean.device)
        self.optimizer = torch.optim.Adam(self.map.parameters(), lr=rate)
        # log|det ∇T| of the last solution, (K): what the entropy gains on the way.
        self.gain: Tensor | None = None

    def solve(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> Tensor:
        beta = energy.diffusivity
        drive = Drive(energy, partners=self.partners, generator=self.generator)
        for _ in range(self.steps):
            y = self.map(x)
            # Danskin needs no gradient through the energy's weights, only through y; the mean force
            # is therefore taken as a constant co-vector.
            drive.begin_step(y)
            pull = drive.gradient(y.detach(), start + tau)
            objective = ((y - x).square().sum(-1) / (2 * tau) + (pull * y).sum(-1)).mean()
            if beta > 0:
                part = self._some(x)
                _, apply = self.map.linearised(part)
                objective = objective - beta * log_determinant(apply, part, self.generator).mean()
            objective = objective / self.map.scaling.unit
            self.optimizer.zero_grad(set_to_none=True)
            objective.backward()
            nn.utils.clip_grad_norm_(self.map.parameters(), 10.0)
            self.optimizer.step()
        with torch.no_grad():
            if beta == 0:
                return self.map(x)  # type: ignore[no-any-return]
            y, apply = self.map.linearised(x)
            self.gain = log_determinant(apply, x, self.generator).mean(1)
            return y

    def _some(self, x: Tensor) -> Tensor:
        """Return some particles of a batch, others each time: determinants cost most of a step."""
        n = x.shape[1]
        first = int(torch.randint(max(1, n - DETERMINANTS + 1), (), generator=self.generator))
        return x[:, first : first + DETERMINANTS]

    @torch.no_grad()
    def residual(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> float:
        return stationarity(energy, x, self.map(x), start + tau, tau)

    def state(self) -> dict[str, Tensor]:
        weights = {f"inner.map.{k}": v for k, v in self.map.state_dict().items()}
        weights |= optimizer_state("inner.optimizer", self.optimizer)
        return weights | {"inner.generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        prefix = "inner.map."
        weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        self.map.load_state_dict(weights)
        restore_optimizer("inner.optimizer", self.optimizer, state)
        self.generator.set_state(state["inner.generator"])


class TransportMap(nn.Module):
    """T_k(x) = x + a SELU network of the standardised x and of the time."""

    def __init__(
        self, scaling: Scaling, copies: int, intervals: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.scaling = scaling
        d, hidden = scaling.mean.shape[0], 64
        shapes = [(d + 1, hidden), (hidden, hidden), (hidden, d)]
        self.weights = nn.ParameterList(
            torch.randn(copies, *shape, generator=generator) / math.sqrt(shape[0])
            for shape in shapes
        )
        self.biases = nn.ParameterList(torch.zeros(copies, 1, b) for _, b in shapes)
        with torch.no_grad():
            self.weights[-1].mul_(0.01)
        self.register_buffer("clock", torch.linspace(-1.0, 1.0, intervals)[:, None, None])

    def _inputs(self, x: Tensor) -> Tensor:
        clock: Tensor = self.clock  # type: ignore[assignment]
        return torch.cat([self.scaling.standardise(x), clock.expand(-1, x.shape[1], 1)], -1)

    def forward(self, x: Tensor) -> Tensor:
        h = self._inputs(x)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = h @ weight + bias
            if i < last:
                h = nn.functional.selu(h)
        return x + self.scaling.scale * h

    def linearised(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return T(x), ``(K, n, d)``, and v ↦ (∇T(x) − 1) v, both with a graph."""
        h = self._inputs(x)
        slopes: list[Tensor] = []
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = h @ weight + bias
            if i < last:
                low = SELU_SCALE * SELU_ALPHA * h.clamp_max(0.0).exp()
                slopes.append(torch.where(h > 0, SELU_SCALE, low))
                h = nn.functional.selu(h)

        def apply(v: Tensor) -> Tensor:
            # The time's row of the first layer sees no change.
            out = (v / self.scaling.scale) @ self.weights[0][:, :-1]
            for slope, weight in zip(slopes, list(self.weights)[1:], strict=True):
                out = (out * slope) @ weight
            return self.scaling.scale * out

        return x + self.scaling.scale * h, apply
