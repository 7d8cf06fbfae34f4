"""Three ways to the inner minimum ρ̂_k of iJKOnet: snapshot k advanced by the present energy."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from popdyn.energies import FreeEnergy
from popdyn.learners.models import Scaling
from popdyn.learners.training import optimizer_state, restore_optimizer
from popdyn.simulation import advance
from popdyn.simulation.forces import Drive

__all__ = ["INNERS", "Inner", "Network", "Proximal", "Simulate"]


class Inner(Protocol):
    """An inner solver: advances populations, and says how well it did."""

    second_order: bool  # whether the fit is of implicit Euler steps, to be corrected afterwards

    def solve(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> Tensor:
        """Return ρ̂, ``(K, n, d)`` without gradients."""

    def residual(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> float:
        """Return the relative inner residual; small means solved."""

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go back to what ``state`` returned."""


class Simulate:
    """ρ̂ is ρ_k run for a time τ_k under the present energy, in substeps that fit its stiffness.

    Its fixed point is the continuous-time truth; it needs no map, no determinant and no transport.
    """

    second_order = False
    SMALLEST, LARGEST = 2, 32

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.substeps, self.calls = generator, 4, 0

    def solve(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> Tensor:
        if self.calls % 50 == 0:
            self.substeps = self._fitting(energy, x, start, tau)
        self.calls += 1
        return advance(
            energy,
            x,
            start[:, 0],
            (start + tau)[:, 0],
            substeps=self.substeps,
            generator=self.generator,
        )

    @torch.no_grad()
    def _fitting(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> int:
        # The largest curvature that the particles meet, along their own direction of travel.
        x = x[:, :200]
        slope = Drive(energy).gradient(x, start)
        ahead = x - 0.1 * tau[..., None] * slope
        moved = (ahead - x).norm(dim=-1)
        change = (Drive(energy).gradient(ahead, start) - slope).norm(dim=-1)
        curvature = (change / moved.clamp_min(1e-12)).flatten()
        stiff = float(curvature.quantile(0.98)) if energy.V is not None else 0.0
        wanted = math.ceil(float(tau.max()) * stiff / 0.3)
        return min(self.LARGEST, max(self.SMALLEST, wanted))

    def residual(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> float:
        n, stop = self.substeps, (start + tau)[:, 0]
        fine = torch.randn(2 * n, *x.shape, generator=self.generator, device=x.device)
        coarse = (fine[0::2] + fine[1::2]) / math.sqrt(2.0)
        one = advance(energy, x, start[:, 0], stop, substeps=n, noise=coarse)
        two = advance(energy, x, start[:, 0], stop, substeps=2 * n, noise=fine)
        return _relative(two - one, two - x)

    def state(self) -> dict[str, Tensor]:
        numbers = torch.tensor([self.substeps, self.calls])
        return {"inner.generator": self.generator.get_state(), "inner.numbers": numbers}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.generator.set_state(state["inner.generator"])
        self.substeps, self.calls = (int(v) for v in state["inner.numbers"])


class Proximal:
    """The JKO step itself for β = 0: descent on J + |x − y|²/(2τ) with backtracking.

    With V alone each particle has its own problem and its own step length; with W the particles of
    a population are one problem, and one step length is shared.
    """

    second_order = True
    ITERATIONS, TOLERANCE = 60, 1e-3

    @torch.no_grad()
    def solve(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> Tensor:
        end = start + tau
        h = tau[..., None]
        y = x.clone()
        value, slope = self._objective(energy, y, x, end, h)
        length = torch.ones_like(value)[..., None] * h
        for _ in range(self.ITERATIONS):
            size = slope.square().sum(-1)
            if energy.W is not None:
                size = size.sum(-1, keepdim=True)
            ahead = y - length * slope
            new_value, new_slope = self._objective(energy, ahead, x, end, h)
            good = new_value <= value - 0.25 * length[..., 0] * size
            moved, turned = ahead - y, new_slope - slope
            y = torch.where(good[..., None], ahead, y)
            # Barzilai–Borwein: the curvature along the last step proposes the next length.
            along, bend = (moved * turned).sum(-1), turned.square().sum(-1)
            if energy.W is not None:
                along, bend = along.sum(-1, keepdim=True), bend.sum(-1, keepdim=True)
            proposed = (along / bend.clamp_min(1e-30))[..., None]
            proposed = torch.where(proposed > 0, proposed, h).minimum(4 * h)
            length = torch.where(good[..., None], proposed, 0.3 * length)
            value = torch.where(good, new_value, value)
            slope = torch.where(good[..., None], new_slope, slope)
            if _relative(slope, (y - x) / h) < self.TOLERANCE:
                break
        return y

    def _objective(
        self, energy: FreeEnergy, y: Tensor, x: Tensor, t: Tensor, h: Tensor
    ) -> tuple[Tensor, Tensor]:
        value = (y - x).square().sum(-1) / (2 * h[..., 0])
        if energy.V is not None:
            value = value + energy.V.value(y, t)
        if energy.W is not None:
            # The total over the population: ½ Σ_i mean_{j≠i} W, whose gradient is the mean force.
            n = y.shape[-2]
            z = y[..., :, None, :] - y[..., None, :, :]
            pairs = energy.W.value(z) - energy.W.value(torch.zeros_like(z[..., :1, :1, :]))
            value = value.sum(-1, keepdim=True) + 0.5 * pairs.sum((-1, -2))[..., None] / (n - 1)
        return value, (y - x) / h + Drive(energy).gradient(y, t)

    def residual(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> float:
        y = self.solve(energy, x, start, tau)
        return _stationarity(energy, x, y, start + tau, tau)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        return None


class Network:
    """The paper's adversary: a map told the time, or one map for each interval, trained by ascent.

    Args:
        scaling: Standardises the inputs.
        intervals: K, the number of intervals.
        steps: Ascent steps for each step of the energy.
        multimap: One map for each interval in place of one that is told the time.
        rate: Learning rate.
        generator: Draws the initial weights.

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
    ) -> None:
        self.steps = steps
        copies = intervals if multimap else 1
        self.map = TransportMap(scaling, copies, intervals, generator).to(scaling.mean.device)
        self.optimizer = torch.optim.Adam(self.map.parameters(), lr=rate)

    def solve(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> Tensor:
        for _ in range(self.steps):
            y = self.map(x)
            # Danskin needs no gradient through the energy's weights, only through y; the mean force
            # is therefore taken as a constant co-vector.
            pull = Drive(energy).gradient(y.detach(), start + tau)
            cost = (y - x).square().sum(-1) / (2 * tau)
            objective = (cost + (pull * y).sum(-1)).mean() / self.map.scaling.unit
            self.optimizer.zero_grad(set_to_none=True)
            objective.backward()
            nn.utils.clip_grad_norm_(self.map.parameters(), 10.0)
            self.optimizer.step()
        with torch.no_grad():
            return self.map(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def residual(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> float:
        return _stationarity(energy, x, self.map(x), start + tau, tau)

    def state(self) -> dict[str, Tensor]:
        weights = {f"inner.map.{k}": v for k, v in self.map.state_dict().items()}
        return weights | optimizer_state("inner.optimizer", self.optimizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        prefix = "inner.map."
        weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        self.map.load_state_dict(weights)
        restore_optimizer("inner.optimizer", self.optimizer, state)


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

    def forward(self, x: Tensor) -> Tensor:
        clock: Tensor = self.clock  # type: ignore[assignment]
        h = torch.cat([self.scaling.standardise(x), clock.expand(-1, x.shape[1], 1)], -1)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = h @ weight + bias
            if i < last:
                h = nn.functional.selu(h)
        return x + self.scaling.scale * h


def _relative(part: Tensor, whole: Tensor) -> float:
    ratio = part.square().mean().sqrt() / whole.square().mean().sqrt().clamp_min(1e-20)
    return float(ratio.detach())


def _stationarity(energy: FreeEnergy, x: Tensor, y: Tensor, end: Tensor, tau: Tensor) -> float:
    speed = (y - x) / tau[..., None]
    return _relative(speed + Drive(energy).gradient(y, end), speed)


INNERS = {"network": Network, "proximal": Proximal, "simulate": Simulate}
