"""A weighted sum of a dictionary's functions, as the flow asks for it again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from popdyn.families.features import FeatureMap

__all__ = ["WeightedSum"]


class WeightedSum:
    """Σ_m w_m f_m: what of it is a sum over components is read from a table of its slopes.

    The table is linear between its nodes, which puts slopes of bumps a tenth of a standard
    deviation wide off by 1e-5 of their size; a particle costs the same however many functions
    there are.

    Args:
        features: The functions.
        weights: w, ``(m, 1)``.
        tabulated: Whether to make the table: it pays where the weights stay as they are.
    """

    NODES = 8192

    def __init__(self, features: FeatureMap, weights: Tensor, tabulated: bool) -> None:
        scaling = features.scaling
        pairs = zip(features.blocks, weights.split(features.sizes()), strict=True)
        used = [(block, own) for block, own in pairs if own.count_nonzero()]
        self.clamped = features.clamped
        self.rest = [pair for pair in used if not (tabulated and pair[0].separate)]
        self.low = scaling.low.to(weights)
        self.width = (scaling.high.to(weights) - self.low).clamp_min(1e-6) / (self.NODES - 1)
        self.table: Tensor | None = None
        if len(self.rest) < len(used):
            nodes = self.low + torch.arange(self.NODES).to(weights)[:, None] * self.width
            slopes = weights.new_zeros(nodes.shape[1], self.NODES, 1)
            for block, own in used:
                if block.separate:
                    block.gradient_of(nodes, own, slopes)
            # Beside each slope what it is to the next one, all components one after the other.
            ahead = torch.cat([slopes[:, 1:], slopes[:, -1:]], 1) - slopes
            self.table = torch.cat([slopes, ahead], 2).flatten(0, 1)

    def _read(self, table: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return slopes and their derivatives in z, ``(n, d)`` each."""
        place = (z - self.low) / self.width
        node = place.long().clamp_(0, self.NODES - 2)
        first = torch.arange(z.shape[1]) * self.NODES
        slope, ahead = table[node + first].unbind(2)
        return slope + (place - node) * ahead, ahead / self.width

    def gradient(self, x: Tensor) -> Tensor:
        """Return its gradient, ``(n, d) → (n, d)``."""
        z, moves = self.clamped(x)
        out = x.new_zeros(x.shape[1], len(x), 1)
        for block, own in self.rest:
            block.gradient_of(z, own, out)
        slopes = out[..., 0].T * moves
        return slopes if self.table is None else slopes + self._read(self.table, z)[0] * moves

    def hessian(self, x: Tensor) -> Tensor:
        """Return its second derivatives, ``(n, d) → (n, d, d)``."""
        z, moves = self.clamped(x)
        out = x.new_zeros(len(x), x.shape[1], x.shape[1])
        for block, own in self.rest:
            block.hessian_of(z, own[:, 0], out)
        out = out * moves[:, :, None] * moves[:, None, :]
        if self.table is not None:
            out.diagonal(dim1=1, dim2=2).add_(self._read(self.table, z)[1] * moves.square())
        return out
