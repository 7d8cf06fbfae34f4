"""Three ways to the inner minimum ρ̂_k of iJKOnet: snapshot k advanced by the present energy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.drive import Drive
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.jko.inner_network import Network
from popdyn.learners.jko.residuals import relative, stationarity
from popdyn.simulation import advance

__all__ = ["INNERS", "PARTNERS", "Inner", "Proximal", "Simulate"]

PARTNERS = 16  # others that a particle meets in a step, instead of all


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

    Args:
        generator: Draws the noise, and the partners.
        partners: Others that act on a particle in a substep, drawn anew each time; all if None.
        substeps: Substeps of every interval; if None as many as the energy's stiffness asks for.

    Attributes:
        largest: Substeps that stiffness may ask for.
    """

    second_order = False
    SMALLEST, LARGEST = 2, 32

    def __init__(
        self,
        generator: torch.Generator,
        partners: int | None = None,
        substeps: int | None = None,
    ) -> None:
        self.generator, self.partners = generator, partners
        self.substeps, self.calls = substeps or 4, 0
        self.fixed, self.largest = substeps is not None, self.LARGEST

    def solve(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> Tensor:
        if self.calls % 50 == 0 and not self.fixed:
            self.substeps = self._fitting(energy, x, start, tau)
        self.calls += 1
        return advance(
            energy,
            x,
            start[:, 0],
            (start + tau)[:, 0],
            substeps=self.substeps,
            generator=self.generator,
            partners=self.partners,
        )

    @torch.no_grad()
    def _fitting(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> int:
        stiff = 0.0
        if energy.V is not None:
            stiff = Drive(energy).stiffness(x[:, :200], start, tau[..., None])
        wanted = math.ceil(float(tau.max()) * stiff / 0.3)
        return min(self.largest, max(self.SMALLEST, wanted))

    def residual(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> float:
        n, stop = self.substeps, (start + tau)[:, 0]
        fine = torch.randn(2 * n, *x.shape, generator=self.generator, device=x.device)
        coarse = (fine[0::2] + fine[1::2]) / math.sqrt(2.0)
        one = advance(energy, x, start[:, 0], stop, substeps=n, noise=coarse)
        two = advance(energy, x, start[:, 0], stop, substeps=2 * n, noise=fine)
        return relative(two - one, two - x)

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
            # Rounding of the objective, below which a fall cannot be seen.
            haze = 8 * torch.finfo(y.dtype).eps * (1.0 + value.abs())
            good = new_value <= value - 0.25 * length[..., 0] * size + haze
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
            if relative(slope, (y - x) / h) < self.TOLERANCE:
                break
        return y

    def _objective(
        self, energy: FreeEnergy, y: Tensor, x: Tensor, t: Tensor, h: Tensor
    ) -> tuple[Tensor, Tensor]:
        value = (y - x).square().sum(-1) / (2 * h[..., 0])
        if energy.V is not None:
            value = value + energy.V.value(y, t)
        if energy.W is not None:
            # The total over the population, whose gradient in y_i is the mean force.
            value = value.sum(-1, keepdim=True) + Drive(energy).pair_energy(y)[..., None]
        return value, (y - x) / h + Drive(energy).gradient(y, t)

    @torch.no_grad()
    def residual(self, energy: FreeEnergy, x: Tensor, start: Tensor, tau: Tensor) -> float:
        y = self.solve(energy, x, start, tau)
        return stationarity(energy, x, y, start + tau, tau)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        return None


Build = Callable[[TrainingSet, Any, Generator, Generator], Inner]
"""``(training set, iJKOnet's options, generator of weights, generator of noise) → Inner``."""


def _network(data: TrainingSet, options: Any, maps: Generator, noise: Generator) -> Inner:
    intervals = len(data.intervals)
    return Network(data.scaling(), intervals, options.inner_steps, options.multimap, 1e-3, maps)


def _proximal(data: TrainingSet, options: Any, maps: Generator, noise: Generator) -> Inner:
    return Proximal()


def _simulate(data: TrainingSet, options: Any, maps: Generator, noise: Generator) -> Inner:
    return Simulate(noise, PARTNERS, options.substeps)


INNERS: dict[str, Build] = {"network": _network, "proximal": _proximal, "simulate": _simulate}
"""What ``inner`` names; whatever is added here can be asked for."""
