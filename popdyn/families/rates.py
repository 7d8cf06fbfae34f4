"""What is linear in the unknowns beside V and W: a rate of growth, and stream functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from popdyn.families.features import FeatureMap

__all__ = ["Rates", "Streams"]


@dataclass(frozen=True)
class Rates:
    """Functions that g is linear in: 1, and features.

    Attributes:
        features: The features φ.
        mixing: Combinations of (1, φ) with unit prior variance, ``(1 + m, p)``.
    """

    features: FeatureMap
    mixing: np.ndarray

    @property
    def size(self) -> int:
        """The number of unknowns."""
        return int(self.mixing.shape[1])

    def value(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return g at positions, ``(n, d), (1 + m) → (n)``."""
        return self.features.sum(x, weights[1:, None])[:, 0] + weights[0]

    def gradient(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return ∇g, ``(n, d)``."""
        return self.features.gradient_of(x, weights[1:, None])[..., 0].T

    def columns(self, x: Tensor) -> Tensor:
        """Return ∂g/∂θ, ``(n, p)``."""
        mixing = torch.from_numpy(self.mixing).to(x)
        return self.features.sum(x, mixing[1:]) + mixing[0]

    def pulled(self, x: Tensor, factors: Tensor) -> Tensor:
        """Return Σ_n u ∂g/∂θ, ``(n, d), (n, q) → (q, p)`` in float64."""
        sums = (factors.T @ self.features.values(x)).double()
        every = torch.cat([factors.sum(0, dtype=torch.float64)[:, None], sums], 1)
        return every @ torch.from_numpy(self.mixing)


@dataclass(frozen=True)
class Streams:
    """Stream functions, each in a plane of two components: b_i = −∂_jψ, b_j = ∂_iψ.

    Attributes:
        features: The functions that every ψ is linear in.
        planes: The components i, j of each plane, P of them.
        mixing: Combinations with unit prior variance, ``(P, m, p)``.
    """

    features: FeatureMap
    planes: tuple[tuple[int, int], ...]
    mixing: np.ndarray

    @property
    def size(self) -> int:
        """The number of unknowns."""
        return int(self.mixing.shape[2])

    def slope(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return minus the drift, ``(n, d), (P, m) → (n, d)``."""
        return self._turned(self.features.gradient_of(x, weights.T)[..., None])[..., 0].T

    def columns(self, x: Tensor) -> Tensor:
        """Return minus the drift's derivatives, ``(d, n, p)``."""
        mixing = torch.from_numpy(self.mixing).to(x)
        flat = mixing.transpose(0, 1).flatten(1)
        slopes = self.features.gradient_of(x, flat)
        return self._turned(slopes.view(*slopes.shape[:2], len(self.planes), self.size))

    def pulled(self, x: Tensor, vectors: Tensor) -> Tensor:
        """Return Σ_n v·(minus the drift's derivatives), ``(n, d), (d, n, q) → (q, p)``."""
        out = torch.zeros(vectors.shape[2], self.size, dtype=torch.float64)
        for (i, j), mixing in zip(self.planes, torch.from_numpy(self.mixing), strict=True):
            across = torch.zeros_like(vectors)
            across[j], across[i] = vectors[i], -vectors[j]
            out += self.features.pulled(x, across).double() @ mixing
        return out

    def bend(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the derivatives of minus the drift, ``(n, d, d)``."""
        out = x.new_zeros(len(x), x.shape[1], x.shape[1])
        for (i, j), own in zip(self.planes, weights, strict=True):
            hessian = self.features.hessian_of(x, own)
            out[:, i] += hessian[:, j]
            out[:, j] -= hessian[:, i]
        return out

    def _turned(self, slopes: Tensor) -> Tensor:
        """Return minus the drift of slopes in each plane, ``(d, n, P, p) → (d, n, p)``."""
        out = slopes.new_zeros(*slopes.shape[:2], slopes.shape[3])
        for k, (i, j) in enumerate(self.planes):
            out[i] += slopes[j, :, k]
            out[j] -= slopes[i, :, k]
        return out
