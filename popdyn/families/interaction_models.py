"""Small even networks for the interaction W: a smooth function of |z|, or any even function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from popdyn.dynamics.fields import RadialKernel, Time, squared_norm
from popdyn.families.models import (
    LearnedTerm,
    MLPPotential,
    Scaling,
    dense_layers,
    empty_scaling,
)

__all__ = ["EvenNetwork", "RadialNetwork", "pair_average", "shifted_pairs"]


class RadialNetwork(LearnedTerm, RadialKernel):
    """W(z) = g(q), q = |z|²/(|z|² + R²), g a SiLU network: a smooth function of z.

    q maps all distances to [0, 1], half of it below R; beyond the data the force falls off. Forces
    come from a fine table in q, so that a pair costs the same whatever the network.

    Args:
        length: R, about the median distance of two particles.
        unit: What the network's output is multiplied by, |x|²/time.
        hidden: Widths of the hidden layers.
        generator: Draws the initial weights.
    """

    NODES = 2048
    STRETCH = 3.0
    radius: Tensor
    unit: Tensor

    def __init__(
        self,
        length: float,
        unit: float,
        hidden: Sequence[int] = (32, 32),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.hidden = tuple(hidden)
        self.register_buffer("radius", torch.tensor(float(length)))
        self.register_buffer("unit", torch.tensor(float(unit)))
        widths = [1, *hidden, 1]
        self.weights, self.biases = dense_layers(widths, generator)
        with torch.no_grad():
            self.biases[0].uniform_(-self.STRETCH, self.STRETCH, generator=generator)
        self._table: tuple[object, Tensor] | None = None

    @property
    def length(self) -> float:  # type: ignore[override]
        """About the smallest length in W."""
        return 0.1 * float(self.radius)

    def _place(self, s: Tensor) -> Tensor:
        """Return q at squared distances s."""
        return s / (s + self.radius.to(s) ** 2)

    def network(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return g and dg/dq at places ``(m)``, with a graph."""
        h = (self.STRETCH * (2.0 * q - 1.0))[:, None].to(self.weights[0].dtype)
        slope = torch.full_like(h, 2.0 * self.STRETCH)
        for weight, bias in zip(self.weights, self.biases, strict=False):
            h = nn.functional.linear(h, weight, bias)
            gate = torch.sigmoid(h)
            slope = nn.functional.linear(slope, weight) * (gate + h * gate * (1 - gate))
            h = h * gate
        out, last = (nn.functional.linear(v, self.weights[-1])[:, 0] for v in (h, slope))
        return self.unit * out, self.unit * last

    @torch.no_grad()
    def table(self, like: Tensor) -> Tensor:
        """Return g and dg/dq at equal steps of q from 0 to 1, ``(NODES + 1, 2)``."""
        version = (*(w._version for w in self.parameters()), like.dtype, like.device)
        if self._table is None or self._table[0] != version:
            q = torch.linspace(0.0, 1.0, self.NODES + 1).to(self.weights[0])
            self._table = (version, torch.stack(self.network(q), -1).to(like))
        return self._table[1]

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self._table = None
        return super().load_state_dict(*args, **kwargs)

    def _looked_up(self, q: Tensor, column: int) -> Tensor:
        table = self.table(q)[:, column].contiguous()
        place = q * self.NODES
        left = place.nan_to_num(0.0).clamp(0, self.NODES - 1).long()  # what is not finite stays so
        return torch.lerp(table[left], table[left + 1], place - left)

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        q = self._place(squared_norm(x))
        if torch.is_grad_enabled():
            return self.network(q.flatten())[0].reshape(q.shape).to(x.dtype)
        return self._looked_up(q, 0)

    def slope(self, s: Tensor) -> Tensor:
        square = float(self.radius) ** 2
        # Rounding can take a squared distance below 0.
        s = s.clamp_min(0.0)
        return self._looked_up(self._place(s), 1) * (square / (s + square).square())

    def slope_with_graph(self, s: Tensor) -> Tensor:
        """Return dφ/ds at squared distances ``(m)``, differentiable in the weights."""
        square = self.radius.square()
        return self.network(self._place(s))[1] * square / (s + square).square()

    def average(self, z: Tensor, weights: Tensor) -> Tensor:
        """Return Σ_k w_k mean W(z_k), ``(K, m, d), (K) → ()``, differentiable in the weights.

        Every pair is shared out between the two nearest nodes of the table: the network runs on
        the nodes alone.
        """
        with torch.no_grad():
            place = self._place(squared_norm(z)) * self.NODES
            left = place.nan_to_num(0.0).clamp(0, self.NODES - 1).long()
            right_part = place - left
            each = (weights / z.shape[1])[:, None].to(z)
            size = self.NODES + 1
            share = torch.bincount(left.flatten(), (each * (1 - right_part)).flatten(), size)
            share += torch.bincount(left.flatten() + 1, (each * right_part).flatten(), size)
            used = share.nonzero()[:, 0]
        return (self.network(used.to(z) / self.NODES)[0] * share[used]).sum()

    def config(self) -> dict[str, Any]:
        return {"hidden": list(self.hidden)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RadialNetwork:
        return cls(1.0, 1.0, config["hidden"])


class EvenNetwork(LearnedTerm):
    """W(z) = ½(g(z) + g(−z)), g a network of the components of z.

    Args:
        scaling: Standardisation of z, with mean 0 and a symmetric box.
        hidden: Widths of the hidden layers.
        generator: Draws the initial weights.
    """

    def __init__(
        self,
        scaling: Scaling,
        hidden: Sequence[int] = (32, 32),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.base = MLPPotential(scaling, hidden, None, generator)

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        return 0.5 * (self.base.value(x) + self.base.value(-x))

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        return 0.5 * (self.base.gradient(x) - self.base.gradient(-x))

    def average(self, z: Tensor, weights: Tensor) -> Tensor:
        """Return Σ_k w_k mean W(z_k), ``(K, m, d), (K) → ()``, differentiable in the weights."""
        return (self.value(z).mean(1) * weights).sum()

    def config(self) -> dict[str, Any]:
        return {"dim": self.base.scaling.mean.shape[0], "hidden": list(self.base.hidden)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EvenNetwork:
        return cls(empty_scaling(config["dim"]), config["hidden"])


def shifted_pairs(x: Tensor, shifts: Sequence[int]) -> Tensor:
    """Return differences of different particles, ``(K, n, d) → (K, n·S, d)``.

    Particle i is paired with i + s for each shift s, none of them a multiple of n: no particle
    meets itself.
    """
    return torch.cat([x - x.roll(s, -2) for s in shifts], -2)


def pair_average(
    W: RadialNetwork | EvenNetwork, x: Tensor, shifts: Sequence[int], weights: Tensor
) -> Tensor:
    """Return Σ_k w_k mean over pairs of W, differentiable in W's weights; see above."""
    return W.average(shifted_pairs(x, shifts), weights)
