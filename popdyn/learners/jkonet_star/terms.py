"""The networks of JKOnet*: the published potential, and a radial interaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from popdyn.dynamics.fields import RadialKernel, Time, squared_norm
from popdyn.families.models import LearnedTerm, MLPPotential, Scaling, dense_layers
from popdyn.families.units import Units

__all__ = ["RadialMLP", "SoftplusPotential"]


class SoftplusPotential(MLPPotential):
    """The published potential: a softplus network of the positions as the user's data has them.

    Positions are not standardised, so what it learns depends on their units.

    Args:
        scaling: Gives the box beyond which V confines, in the learner's units.
        hidden: Widths of the hidden layers.
        time_range: First and last time of the data if V depends on time, else None.
        generator: Draws the initial weights.
        held: Earliest and latest time at which V moves; None if it moves all the time.
        units: The learner's units; None: the user's.
    """

    def __init__(
        self,
        scaling: Scaling,
        hidden: Sequence[int] = (64, 64),
        time_range: tuple[float, float] | None = None,
        generator: torch.Generator | None = None,
        held: tuple[float, float] | None = None,
        units: Units | None = None,
    ) -> None:
        low, high = (z * scaling.scale + scaling.mean for z in (scaling.low, scaling.high))
        mean, scale, unit = torch.zeros_like(low), torch.ones_like(low), 1.0
        if units is not None:
            scale, unit = scale / units.scale, 1.0 / units.energy
            mean = -torch.from_numpy(units.mean[list(units.kept)]).to(low) * scale
        raw = Scaling(mean, scale, low, high, 1.0)
        raw.unit.fill_(unit)
        super().__init__(raw, hidden, time_range, generator, held)
        with torch.no_grad():
            self.weights[-1].mul_(10.0)  # all layers begin with variance 1/width, biases with 0
            for bias in self.biases:
                bias.zero_()

    @staticmethod
    def activation(h: Tensor) -> Tensor:
        return nn.functional.softplus(h)

    @staticmethod
    def sloping(h: Tensor) -> tuple[Tensor, Tensor]:
        return nn.functional.softplus(h), torch.sigmoid(h)


class RadialMLP(LearnedTerm, RadialKernel):
    """W(z) = φ(|z|²) whose slope dφ/ds is a SiLU network of r = |z|, read from a table in r.

    The network is evaluated at the table's nodes only, so that a force is linear in the table and
    a pair costs the same whatever the network. Beyond the reach the force falls off as 1/r.

    Args:
        reach: The largest distance that the data covers.
        unit: Size of the slope, 1/time.
        hidden: Widths of the hidden layers.
        generator: Draws the initial weights.
    """

    reach: Tensor
    unit: Tensor
    NODES = 128
    PAIRS = 1 << 22

    def __init__(
        self,
        reach: float,
        unit: float,
        hidden: Sequence[int] = (64, 64),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.hidden = tuple(hidden)
        self.register_buffer("reach", torch.tensor(float(reach)))
        self.register_buffer("unit", torch.tensor(float(unit)))
        widths = [3, *self.hidden, 1]
        self.weights, self.biases = dense_layers(widths, generator)
        with torch.no_grad():
            for bias in self.biases:
                bias.uniform_(-1.0, 1.0, generator=generator)

    @property
    def length(self) -> float:  # type: ignore[override]
        """A few nodes of the table."""
        return float(self.reach) / 32.0

    def table(self) -> Tensor:
        """Return the slope at equal steps of r from 0 to the reach, ``(NODES + 1)``."""
        u = torch.linspace(0.0, 1.0, self.NODES + 1).to(self.reach)
        # Near and far are told apart at several scales.
        inputs = [2.0 * u - 1.0, torch.exp(-(4.0 * u).square()), torch.exp(-(12.0 * u).square())]
        h = torch.stack(inputs, -1)
        for weight, bias in zip(self.weights, self.biases, strict=False):
            h = nn.functional.silu(nn.functional.linear(h, weight, bias))
        return self.unit * nn.functional.linear(h, self.weights[-1])[:, 0]

    def _place(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return the node before a distance, and how far it is to the next."""
        place = (r * (self.NODES / float(self.reach))).clamp(max=self.NODES)
        left = place.clamp(max=self.NODES - 1).long()
        return left, place - left

    def slope(self, s: Tensor) -> Tensor:
        with torch.no_grad():
            table, reach = self.table().to(s), float(self.reach)
            left, rest = self._place(s.clamp_min(0.0).sqrt())
            return torch.lerp(table[left], table[left + 1], rest) * (
                reach**2 / s.clamp_min(reach**2)
            )

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        table, reach = self.table().to(x), float(self.reach)
        h = reach / self.NODES
        r = torch.arange(self.NODES + 1).to(x) * h
        # The slope is linear between nodes: with v = r − r₀ the integral of 2r·(a + b·v).
        a, b = table[:-1], (table[1:] - table[:-1]) / h

        def within(left: Tensor, v: Tensor) -> Tensor:
            start, rise = a[left], b[left]
            return (
                2.0
                * v
                * (start * r[left] + v * (0.5 * start + 0.5 * rise * r[left] + v * rise / 3.0))
            )

        nodes = torch.arange(self.NODES, device=x.device)
        steps = within(nodes, torch.full_like(r[1:], h))
        values = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        distance = squared_norm(x).clamp_min(1e-30).sqrt()
        left, rest = self._place(distance)
        tail = 2.0 * reach**2 * table[-1] * (distance / reach).clamp_min(1.0).log()
        return values[left] + within(left, rest * h) + tail

    @torch.no_grad()
    def responses(self, x: Tensor, population: Tensor) -> Tensor:
        """Return what each node of the table contributes to the mean field, ``(n, d, NODES + 1)``.

        The field mean over y of ∇W(x − y) is this times the table.
        """
        n, d = x.shape
        width, reach = self.NODES + 1, float(self.reach)
        out = x.new_zeros(d, n * width)
        rows = max(1, self.PAIRS // len(population))
        for start in range(0, n, rows):
            part = x[start : start + rows]
            z = part[:, None, :] - population
            r = squared_norm(z).sqrt()
            left, rest = self._place(r)
            far = (reach / r.clamp_min(reach)).square() * (2.0 / len(population))
            own = torch.arange(start, start + len(part), device=x.device)[:, None]
            index = (own * width + left).flatten()
            for c in range(d):
                pull = far * z[..., c]
                out[c].index_add_(0, index, (pull * (1.0 - rest)).flatten())
                out[c].index_add_(0, index + 1, (pull * rest).flatten())
        return out.view(d, n, width).transpose(0, 1)

    def config(self) -> dict[str, Any]:
        return {"hidden": list(self.hidden)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RadialMLP:
        return cls(1.0, 1.0, config["hidden"])
