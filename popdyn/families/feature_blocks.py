"""Functions that a potential may be linear in: what they share, Gaussian bumps, and turned ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Block", "GaussianBlock", "TurnedBlock"]

LEAST_EXPONENT = -60.0  # numbers that float32 holds only denormalised take ten times as long


class Block(nn.Module):
    """Functions of standardised positions z, ``(n, d)``.

    Attributes:
        size: Number m of functions.
        group: Name of the group whose strength the functions share.
        separate: Whether each function depends on one component alone.
    """

    size: int
    group: str
    separate = False

    def values(self, z: Tensor) -> Tensor:
        """Return the functions' values, ``(n, d) → (n, m)``."""
        raise NotImplementedError

    def gradients(self, z: Tensor, out: Tensor) -> Tensor:
        """Write the gradients into ``out``, zeros of ``(d, n, m)``, and return the values."""
        raise NotImplementedError

    def slopes(self, z: Tensor) -> Iterator[tuple[int, slice | Tensor, Tensor]]:
        """Yield a component, the functions that depend on it, and their slopes, ``(n, own)``."""
        raise NotImplementedError

    def gradient_of(self, z: Tensor, weights: Tensor, out: Tensor) -> None:
        """Add the gradient of weighted sums, ``(n, d), (m, c)``, to ``out``, ``(d, n, c)``."""
        for c, own, part in self.slopes(z):
            out[c].addmm_(part, weights[own])

    def pulled(self, z: Tensor, vectors: Tensor) -> Tensor:
        """Return Σ_n v·∇f, ``(n, d), (d, n, q) → (q, m)``."""
        out = z.new_zeros(vectors.shape[2], self.size)
        for c, own, part in self.slopes(z):
            out[:, own] += vectors[c].T @ part
        return out

    def hessian_of(self, z: Tensor, weights: Tensor, out: Tensor) -> None:
        """Add second derivatives of a weighted sum, ``(n, d), (m)``, to ``out``, ``(n, d, d)``."""
        raise NotImplementedError

    def contracted(self, z: Tensor, matrix: Tensor) -> Tensor:
        """Return Σ_ij Q_ij ∂_i∂_j of each function, ``(n, d), (n, d, d) → (n, m)``; Q symmetric."""
        raise NotImplementedError

    def mixing(self) -> np.ndarray:
        """Return the combinations that have unit prior variance, ``(m, p)``."""
        return np.eye(self.size)

    def shares(self, own: Tensor) -> Tensor:
        """Return the size of each function from those of V in each component, ``(d) → (m)``.

        A function of several components is as large as it may be for the smallest of them.
        """
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the JSON that rebuilds the block with empty buffers."""
        raise NotImplementedError


class GaussianBlock(Block):
    """Gaussian bumps exp(−|z − c|²/(2ℓ²)) in some of the components.

    Args:
        columns: The components.
        centers: Centres, ``(m, len(columns))``.
        length: ℓ in standardised units.
        group: Name of the group.
    """

    centers: Tensor

    def __init__(self, columns: Sequence[int], centers: Tensor, length: float, group: str) -> None:
        super().__init__()
        self.columns, self.length = list(columns), float(length)
        self.size, self.group = len(centers), group
        self.separate = len(self.columns) == 1
        self.register_buffer("centers", centers.double())

    def values(self, z: Tensor) -> Tensor:
        scaled, centers = z[:, self.columns] / self.length, self.centers.to(z) / self.length
        if len(self.columns) == 1:
            exponent = (scaled - centers.T).square_().mul_(-0.5)
        else:
            squares = scaled.square().sum(1, keepdim=True) + centers.square().sum(1)
            exponent = torch.addmm(squares, scaled, centers.T, beta=-0.5)
        return exponent.clamp_min_(LEAST_EXPONENT).exp_()

    def gradients(self, z: Tensor, out: Tensor) -> Tensor:
        kernel, centers = self.values(z), self.centers.to(z)
        part = kernel / self.length**2
        for j, c in enumerate(self.columns):
            torch.mul(centers[:, j] - z[:, c, None], part, out=out[c])
        return kernel

    def slopes(self, z: Tensor) -> Iterator[tuple[int, slice | Tensor, Tensor]]:
        part, centers = self.values(z) / self.length**2, self.centers.to(z)
        for j, c in enumerate(self.columns):
            yield c, slice(None), (centers[:, j] - z[:, c, None]) * part

    def gradient_of(self, z: Tensor, weights: Tensor, out: Tensor) -> None:
        centers, count = self.centers.to(z), weights.shape[1]
        columns = [weights] + [weights * centers[:, j, None] for j in range(len(self.columns))]
        sums = self.values(z) @ torch.cat(columns, 1) / self.length**2
        for j, c in enumerate(self.columns, start=1):
            out[c] += sums[:, j * count : (j + 1) * count]
            out[c].addcmul_(z[:, c, None], sums[:, :count], value=-1.0)

    def hessian_of(self, z: Tensor, weights: Tensor, out: Tensor) -> None:
        # Σ_m w_m f_m ((c_m − x)(c_m − x)ᵀ/ℓ⁴ − 1/ℓ²), from sums over w_m f_m of 1, c_m, c_m c_mᵀ.
        centers, x, own = self.centers.to(z), z[:, self.columns], len(self.columns)
        first = weights[:, None] * centers
        second = (first[:, :, None] * centers[:, None, :]).flatten(1)
        sums = self.values(z) @ torch.cat([weights[:, None], first, second], 1)
        zeroth, first = sums[:, 0, None], sums[:, 1 : own + 1] - 0.5 * sums[:, :1] * x
        mixed = first[:, :, None] * x[:, None, :]
        bend = sums[:, own + 1 :].view(len(z), own, own) - mixed - mixed.mT
        bend /= self.length**4
        bend.diagonal(dim1=1, dim2=2).sub_(zeroth / self.length**2)
        for i, c in enumerate(self.columns):
            if own == 1:
                out[:, c, c] += bend[:, 0, 0]
            else:
                out[:, c, self.columns] += bend[:, i]

    def contracted(self, z: Tensor, matrix: Tensor) -> Tensor:
        centers, x, own = self.centers.to(z), z[:, self.columns], self.columns
        inner = matrix[:, own][:, :, own]
        pulled = torch.einsum("nij,nj->ni", inner, x)
        outer = (centers[:, :, None] * centers[:, None, :]).flatten(1)
        square = torch.addmm((pulled * x).sum(1, keepdim=True), pulled, centers.T, alpha=-2.0)
        square = torch.addmm(square, inner.flatten(1), outer.T) / self.length**4
        trace = inner.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) / self.length**2
        return self.values(z) * (square - trace)

    def mixing(self) -> np.ndarray:
        """Return K^(−1/2) of the kernel's own Gram matrix: the Gaussian process at the centres."""
        gram = self.values_at(self.centers).numpy()
        strengths, vectors = np.linalg.eigh(gram)
        kept = strengths > 1e-6 * strengths[-1]
        return vectors[:, kept] / np.sqrt(strengths[kept])  # type: ignore[no-any-return]

    def shares(self, own: Tensor) -> Tensor:
        return own[self.columns].min().expand(self.size)

    def values_at(self, points: Tensor) -> Tensor:
        """Return the values at points that have the block's own components only."""
        distance = torch.cdist(points, self.centers, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-0.5 * (distance / self.length).square())

    def config(self) -> dict[str, Any]:
        return {
            "kind": "gaussian",
            "columns": self.columns,
            "size": self.size,
            "length": self.length,
            "group": self.group,
        }


class TurnedBlock(Block):
    """Functions of a few directions u = D z in place of components.

    Args:
        directions: D, ``(r, d)``.
        inner: The functions of u.
    """

    directions: Tensor

    def __init__(self, directions: Tensor, inner: Block) -> None:
        super().__init__()
        self.inner, self.size, self.group = inner, inner.size, inner.group
        self.register_buffer("directions", directions.double())

    def _turned(self, z: Tensor) -> tuple[Tensor, Tensor]:
        directions = self.directions.to(z)
        return z @ directions.T, directions

    def values(self, z: Tensor) -> Tensor:
        return self.inner.values(self._turned(z)[0])

    def gradients(self, z: Tensor, out: Tensor) -> Tensor:
        u, directions = self._turned(z)
        own = z.new_zeros(u.shape[1], len(z), self.size)
        values = self.inner.gradients(u, own)
        out += torch.tensordot(directions.T, own, 1)
        return values

    def gradient_of(self, z: Tensor, weights: Tensor, out: Tensor) -> None:
        u, directions = self._turned(z)
        own = z.new_zeros(u.shape[1], len(z), weights.shape[1])
        self.inner.gradient_of(u, weights, own)
        out += torch.tensordot(directions.T, own, 1)

    def pulled(self, z: Tensor, vectors: Tensor) -> Tensor:
        u, directions = self._turned(z)
        return self.inner.pulled(u, torch.tensordot(directions, vectors, 1))

    def hessian_of(self, z: Tensor, weights: Tensor, out: Tensor) -> None:
        u, directions = self._turned(z)
        own = z.new_zeros(len(z), u.shape[1], u.shape[1])
        self.inner.hessian_of(u, weights, own)
        out += directions.T @ own @ directions

    def contracted(self, z: Tensor, matrix: Tensor) -> Tensor:
        u, directions = self._turned(z)
        return self.inner.contracted(u, directions @ matrix @ directions.T)

    def mixing(self) -> np.ndarray:
        return self.inner.mixing()

    def shares(self, own: Tensor) -> Tensor:
        along = self.directions.to(own).square()
        return self.inner.shares(along.sum(1) / (along / own).sum(1))

    def config(self) -> dict[str, Any]:
        return {"kind": "turned", "count": len(self.directions), "inner": self.inner.config()}
