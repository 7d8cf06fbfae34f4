"""A weighted sum of a dictionary's functions, as the flow asks for it again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from popdyn.learners.features import FeatureMap

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
        scaling = self.scaling = features.scaling
        pairs = list(zip(features.blocks, weights.split(features.sizes()), strict=True))
        pairs = [(block, own) for block, own in pairs if own.count_nonzero()]
        rest = [pair for pair in pairs if not (tabulated and pair[0].separate)]
        self.rest = FeatureMap(scaling, [block for block, _ in rest])
        self.weights = torch.cat([weights[:0], *(own for _, own in rest)])
        self.low = scaling.low.to(weights)
        self.width = (scaling.high.to(weights) - self.low).clamp_min(1e-6) / (self.NODES - 1)
        self.table: Tensor | None = None
        if len(rest) < len(pairs):
            nodes = self.low + torch.arange(self.NODES).to(weights)[:, None] * self.width
            slopes = weights.new_zeros(nodes.shape[1], self.NODES, 1)
            for block, own in pairs:
                if block.separate:
                    block.gradient_of(nodes, own, slopes)
            # Beside each slope what it is to the next one, all components one after the other.
            ahead = torch.cat([slopes[:, 1:], slopes[:, -1:]], 1) - slopes
            self.table = torch.cat([slopes, ahead], 2).flatten(0, 1)

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return slopes and their derivatives in z, and where z moves with x, ``(n, d)`` each."""
        assert self.table is not None
        z, moves = self.rest.clamped(x)
        place = (z - self.low) / self.width
        node = place.long().clamp_(0, self.NODES - 2)
        first = torch.arange(x.shape[1]) * self.NODES
        slope, ahead = self.table[node + first].unbind(2)
        return slope + (place - node) * ahead, ahead / self.width, moves

    def gradient(self, x: Tensor) -> Tensor:
        """Return its gradient, ``(n, d) → (n, d)``."""
        out = self.rest.gradient_of(x, self.weights)[..., 0].T
        if self.table is not None:
            slope, _, moves = self._read(x)
            out = out + slope * moves
        return out

    def hessian(self, x: Tensor) -> Tensor:
        """Return its second derivatives, ``(n, d) → (n, d, d)``."""
        out = self.rest.hessian_of(x, self.weights[:, 0])
        if self.table is not None:
            _, bend, moves = self._read(x)
            out.diagonal(dim1=1, dim2=2).add_(bend * moves.square())
        return out
