"""The last hidden layer of a trained network, as functions that a potential may be linear in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.families.feature_blocks import Block
from popdyn.families.models import MLPPotential

__all__ = ["NetworkBlock"]

ROWS = 2000  # particles at a time


class NetworkBlock(Block):
    """f(z) = silu(A₂ silu(A₁ z + b₁) + b₂), one function for each unit of the second layer.

    Args:
        first, second: A₁, ``(h, d)``, and A₂, ``(m, h)``.
        first_bias, second_bias: b₁ and b₂.
        rms: Root mean square gradient of each function over the data, ``(m)``.
    """

    group = "last layer of a network"
    first: Tensor
    second: Tensor
    first_bias: Tensor
    second_bias: Tensor
    rms: Tensor

    def __init__(
        self, first: Tensor, second: Tensor, first_bias: Tensor, second_bias: Tensor, rms: Tensor
    ) -> None:
        super().__init__()
        self.size = len(second)
        for name, value in (
            ("first", first),
            ("second", second),
            ("first_bias", first_bias),
            ("second_bias", second_bias),
            ("rms", rms),
        ):
            self.register_buffer(name, value.detach().double())

    @classmethod
    def of(cls, network: MLPPotential) -> NetworkBlock:
        """Return the block of a network with two hidden layers, as functions of positions x."""
        scaling = network.scaling
        first, second, _ = (w.detach().double().cpu() for w in network.weights)
        one, two = (b.detach().double().cpu() for b in network.biases)
        block = cls(first, second, one, two, torch.ones(len(second)))
        scale = scaling.scale.double().cpu()
        return block.of_inputs(torch.diag(1.0 / scale), -scaling.mean.double().cpu() / scale)

    def of_inputs(self, matrix: Tensor, shift: Tensor) -> NetworkBlock:
        """Return the same functions of y, where z = M y + c; ``(d, d)`` and ``(d)``."""
        bias = self.first_bias + self.first @ shift.double()
        first = self.first @ matrix.double()
        return NetworkBlock(first, self.second, bias, self.second_bias, self.rms)

    def measured(self, z: Tensor) -> NetworkBlock:
        """Return the same with the gradients' sizes over some positions, ``(n, d)``."""
        z = z[:: max(1, len(z) // ROWS)]
        out = z.new_zeros(z.shape[1], len(z), self.size)
        self.gradients(z, out)
        rms = out.square().sum(0).mean(0).sqrt()
        parts = (self.first, self.second, self.first_bias, self.second_bias)
        return NetworkBlock(*parts, rms.clamp_min(1e-3 * float(rms.max())))

    def _layers(self, z: Tensor, order: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return derivatives 0…order of either layer's activations in its sums, ``(n, ·)``."""
        one = _silu(torch.addmm(self.first_bias.to(z), z, self.first.to(z).T), order)
        return one, _silu(torch.addmm(self.second_bias.to(z), one[0], self.second.to(z).T), order)

    def values(self, z: Tensor) -> Tensor:
        return self._layers(z, 0)[1][0]

    def _directions(self, slope: Tensor) -> Tensor:
        """Return the gradients of the second layer's sums, ``(n, h) → (n, m, d)``."""
        weighted = slope[:, :, None] * self.first.to(slope)
        return torch.einsum("mh,nhd->nmd", self.second.to(slope), weighted)

    def gradients(self, z: Tensor, out: Tensor) -> Tensor:
        values = []
        for rows in _blocks(len(z)):
            one, two = self._layers(z[rows], 1)
            out[:, rows] = (two[1][..., None] * self._directions(one[1])).permute(2, 0, 1)
            values.append(two[0])
        return torch.cat(values)

    def gradient_of(self, z: Tensor, weights: Tensor, out: Tensor) -> None:
        for rows in _blocks(len(z)):
            one, two = self._layers(z[rows], 1)
            inner = torch.einsum("nm,mc,mh->nhc", two[1], weights, self.second.to(z))
            out[:, rows] += torch.einsum("nhc,nh,hd->dnc", inner, one[1], self.first.to(z))

    def pulled(self, z: Tensor, vectors: Tensor) -> Tensor:
        out = z.new_zeros(vectors.shape[2], self.size)
        for rows in _blocks(len(z)):
            one, two = self._layers(z[rows], 1)
            along = torch.einsum("dnq,hd->nhq", vectors[:, rows], self.first.to(z))
            along *= one[1][..., None]
            inner = torch.einsum("nhq,mh->nqm", along, self.second.to(z))
            out += torch.einsum("nqm,nm->qm", inner, two[1])
        return out

    def hessian_of(self, z: Tensor, weights: Tensor, out: Tensor) -> None:
        first, second = self.first.to(z), self.second.to(z)
        for rows in _blocks(len(z)):
            one, two = self._layers(z[rows], 2)
            along = self._directions(one[1])
            out[rows] += along.mT @ (along * (weights * two[2])[..., None])
            bend = ((weights * two[1]) @ second) * one[2]
            out[rows] += torch.einsum("nh,hi,hj->nij", bend, first, first)

    def contracted(self, z: Tensor, matrix: Tensor) -> Tensor:
        first, second = self.first.to(z), self.second.to(z)
        parts = []
        for rows in _blocks(len(z)):
            one, two = self._layers(z[rows], 2)
            along, Q = self._directions(one[1]), matrix[rows]
            outer = ((along @ Q) * along).sum(2)
            inner = torch.einsum("nij,hi,hj->nh", Q, first, first) * one[2]
            parts.append(two[2] * outer + two[1] * (inner @ second.T))
        return torch.cat(parts)

    def mixing(self) -> np.ndarray:
        return np.diag(1.0 / self.rms.numpy())

    def shares(self, own: Tensor) -> Tensor:
        return own.min().expand(self.size)

    def config(self) -> dict[str, Any]:
        return {"kind": "network", "hidden": [len(self.first), len(self.second)]}

    @classmethod
    def empty(cls, dim: int, hidden: tuple[int, int]) -> NetworkBlock:
        """Return a block to be filled by ``load_state_dict``."""
        h, m = hidden
        return cls(
            torch.zeros(h, dim), torch.zeros(m, h), torch.zeros(h), torch.zeros(m), torch.ones(m)
        )


def _silu(h: Tensor, order: int) -> list[Tensor]:
    """Return h·s(h), s the logistic function, and its derivatives up to an order of at most 2."""
    s = torch.sigmoid(h)
    out = [h * s, s + h * s * (1.0 - s), s * (1.0 - s) * (2.0 + h * (1.0 - 2.0 * s))]
    return out[: order + 1]


def _blocks(count: int) -> list[slice]:
    return [slice(a, a + ROWS) for a in range(0, count, ROWS)]
