"""Functions that a potential may be linear in: polynomials, Gaussian bumps, and both turned."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Block", "GaussianBlock", "PolynomialBlock", "TurnedBlock"]

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

    def config(self) -> dict[str, Any]:
        """Return the JSON that rebuilds the block with empty buffers."""
        raise NotImplementedError


class PolynomialBlock(Block):
    """Products of Legendre polynomials, up to three components in each.

    Args:
        columns: The components of each product, ``(m, c)``.
        degrees: The degrees in them, ``(m, c)``; 0 fills up.
        half: Half width of the box in which the polynomials are scaled, ``(d,)``.
        group: Name of the group.
    """

    halfwidth: Tensor
    columns: Tensor
    degrees: Tensor
    legendre: Tensor

    def __init__(
        self,
        columns: Sequence[Sequence[int]],
        degrees: Sequence[Sequence[int]],
        half: Tensor,
        group: str,
    ) -> None:
        super().__init__()
        self.size, self.group = len(columns), group
        self.separate = len(columns[0]) == 1
        self.register_buffer("columns", torch.tensor(columns))
        self.register_buffer("degrees", torch.tensor(degrees))
        self.register_buffer("halfwidth", half.double())
        # Of each factor: a component, and the functions in which it is of that component.
        self.dependent = [
            [
                (c, ((of == c) & (degree > 0)).nonzero()[:, 0])
                for c in of[degree > 0].unique().tolist()
            ]
            for of, degree in zip(self.columns.T, self.degrees.T, strict=True)
        ]
        highest = int(self.degrees.max())
        table = np.zeros((highest + 1, highest + 1))
        for k in range(highest + 1):
            table[k, : k + 1] = np.polynomial.legendre.leg2poly(np.eye(highest + 1)[k])[: k + 1]
        self.register_buffer("legendre", torch.from_numpy(table), persistent=False)

    def _factors(self, z: Tensor, order: int) -> list[list[Tensor]]:
        """Return derivative 0…order of each factor of the products, ``(m, n)`` each."""
        table, width = self.legendre.to(z), self.halfwidth.to(z)[:, None]
        scaled = z.T / width
        powers = [torch.ones_like(scaled)]
        for _ in range(len(table) - 1):
            powers.append(powers[-1] * scaled)
        monomials = torch.stack(powers).flatten(1)
        orders = torch.arange(1, len(table), dtype=z.dtype, device=z.device)
        where = self.degrees.T * z.shape[1] + self.columns.T
        out = []
        for own in range(order + 1):
            rows = (table @ monomials).view(len(table), *scaled.shape)
            if own:
                rows /= width**own
            rows = rows.flatten(0, 1)
            out.append([rows[index] for index in where])
            # Column k of the next table is what monomial k has in the derivative.
            table = torch.nn.functional.pad(table[:, 1:] * orders, (0, 1))
        return out

    @staticmethod
    def _product(factors: Sequence[Tensor]) -> Tensor:
        out = factors[0]
        for factor in factors[1:]:
            out = out * factor
        return out

    def _bends(self, z: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield components i, j and the functions' second derivatives in them, ``(m, n)``."""
        plain, slope, bend = self._factors(z, 2)
        for i, j in itertools.product(range(len(plain)), repeat=2):
            factors = list(plain)
            factors[i] = slope[i]
            factors[j] = bend[j] if i == j else slope[j]
            yield self.columns[:, i], self.columns[:, j], self._product(factors)

    def values(self, z: Tensor) -> Tensor:
        return self._product(self._factors(z, 0)[0]).T

    def gradients(self, z: Tensor, out: Tensor) -> Tensor:
        plain, slope = self._factors(z, 1)
        every = torch.arange(self.size, device=z.device)
        for j in range(len(plain)):
            factors = [slope[i] if i == j else plain[i] for i in range(len(plain))]
            out[self.columns[:, j], :, every] += self._product(factors)
        return self._product(plain).T

    def slopes(self, z: Tensor) -> Iterator[tuple[int, slice | Tensor, Tensor]]:
        plain, slope = self._factors(z, 1)
        for j in range(len(plain)):
            factors = [slope[i] if i == j else plain[i] for i in range(len(plain))]
            product = self._product(factors)
            for c, own in self.dependent[j]:
                yield c, own, product[own].T

    def hessian_of(self, z: Tensor, weights: Tensor, out: Tensor) -> None:
        d = z.shape[1]
        total: dict[int, Tensor] = {}
        for i, j, bend in self._bends(z):
            place = i * d + j
            for entry in place.unique().tolist():
                own = place == entry
                added = weights[own] @ bend[own]
                total[entry] = total[entry] + added if entry in total else added
        for entry, added in total.items():
            out[:, entry // d, entry % d] += added

    def contracted(self, z: Tensor, matrix: Tensor) -> Tensor:
        entries = matrix.permute(1, 2, 0).contiguous()
        out = z.new_zeros(self.size, len(z))
        for i, j, bend in self._bends(z):
            out += entries[i, j] * bend
        return out.T

    def config(self) -> dict[str, Any]:
        return {
            "kind": "polynomial",
            "columns": self.columns.tolist(),
            "degrees": self.degrees.tolist(),
            "group": self.group,
            "dim": len(self.halfwidth),
        }


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

    def config(self) -> dict[str, Any]:
        return {"kind": "turned", "count": len(self.directions), "inner": self.inner.config()}
