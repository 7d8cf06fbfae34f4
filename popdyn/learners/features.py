"""Dictionaries of functions that a potential is linear in: polynomials and Gaussians, whitened."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from popdyn.learners.models import Scaling, empty_scaling

__all__ = [
    "Block",
    "FeatureMap",
    "GaussianBlock",
    "PolynomialBlock",
    "gaussian_block",
    "polynomials",
]


class Block(nn.Module):
    """Functions of standardised positions z, ``(n, d)``.

    Attributes:
        size: Number m of functions.
        group: Name of the group whose strength the functions share.
    """

    size: int
    group: str

    def values(self, z: Tensor) -> Tensor:
        """Return the functions' values, ``(n, d) → (n, m)``."""
        raise NotImplementedError

    def gradients(self, z: Tensor, out: Tensor) -> Tensor:
        """Write the gradients into ``out``, zeros of ``(d, n, m)``, and return the values."""
        raise NotImplementedError

    def gradient_of(self, z: Tensor, weights: Tensor) -> Tensor:
        """Return the gradient of weighted sums, ``(n, d), (m, c) → (d, n, c)``."""
        raise NotImplementedError

    def hessian_of(self, z: Tensor, weights: Tensor) -> Tensor:
        """Return the second derivatives of a weighted sum, ``(n, d), (m) → (n, d, d)``."""
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
        self.register_buffer("columns", torch.tensor(columns))
        self.register_buffer("degrees", torch.tensor(degrees))
        self.register_buffer("halfwidth", half.double())
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

    def gradient_of(self, z: Tensor, weights: Tensor) -> Tensor:
        plain, slope = self._factors(z, 1)
        out = z.new_zeros(z.shape[1], weights.shape[1], len(z))
        for j in range(len(plain)):
            factors = [slope[i] if i == j else plain[i] for i in range(len(plain))]
            product = self._product(factors)
            for c in range(weights.shape[1]):
                out[:, c].index_add_(0, self.columns[:, j], product * weights[:, c, None])
        return out.mT

    def hessian_of(self, z: Tensor, weights: Tensor) -> Tensor:
        d = z.shape[1]
        out = z.new_zeros(d * d, len(z))
        for i, j, bend in self._bends(z):
            out.index_add_(0, i * d + j, bend * weights[:, None])
        return out.view(d, d, len(z)).permute(2, 0, 1)

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
        self.register_buffer("centers", centers.double())

    def values(self, z: Tensor) -> Tensor:
        scaled, centers = z[:, self.columns] / self.length, self.centers.to(z) / self.length
        if len(self.columns) == 1:
            return torch.exp(-0.5 * (scaled - centers.T).square())
        squares = scaled.square().sum(1, keepdim=True) + centers.square().sum(1)
        return torch.addmm(squares, scaled, centers.T, beta=-0.5).exp_()

    def gradients(self, z: Tensor, out: Tensor) -> Tensor:
        kernel, centers = self.values(z), self.centers.to(z)
        part = kernel / self.length**2
        for j, c in enumerate(self.columns):
            torch.mul(centers[:, j] - z[:, c, None], part, out=out[c])
        return kernel

    def gradient_of(self, z: Tensor, weights: Tensor) -> Tensor:
        centers, count = self.centers.to(z), weights.shape[1]
        columns = [weights] + [weights * centers[:, j, None] for j in range(len(self.columns))]
        sums = self.values(z) @ torch.cat(columns, 1)
        out = z.new_zeros(z.shape[1], len(z), count)
        for j, c in enumerate(self.columns, start=1):
            pulled = sums[:, j * count : (j + 1) * count] - z[:, c, None] * sums[:, :count]
            out[c] = pulled / self.length**2
        return out

    def hessian_of(self, z: Tensor, weights: Tensor) -> Tensor:
        centers, x, own = self.centers.to(z), z[:, self.columns], len(self.columns)
        pairs = [(i, j) for i in range(own) for j in range(i, own)]
        products = [weights * centers[:, i] * centers[:, j] for i, j in pairs]
        firsts = [weights * centers[:, i] for i in range(own)]
        sums = self.values(z) @ torch.stack([weights, *firsts, *products], 1)
        zeroth, first, second = sums[:, 0], sums[:, 1 : own + 1], sums[:, own + 1 :]
        out = z.new_zeros(len(z), z.shape[1], z.shape[1])
        for k, (i, j) in enumerate(pairs):
            bend = second[:, k] - first[:, i] * x[:, j] - first[:, j] * x[:, i]
            bend = (bend + zeroth * x[:, i] * x[:, j]) / self.length**4
            if i == j:
                bend = bend - zeroth / self.length**2
            out[:, self.columns[i], self.columns[j]] = bend
            out[:, self.columns[j], self.columns[i]] = bend
        return out

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


class FeatureMap(nn.Module):
    """Blocks side by side, on inputs clamped to the box of the data.

    Args:
        scaling: Standardisation, box and tail.
        blocks: The blocks, in the order of the coefficients.
    """

    def __init__(self, scaling: Scaling, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.scaling = scaling
        self.parts = nn.ModuleList(blocks)
        self.size = sum(block.size for block in blocks)

    @property
    def blocks(self) -> list[Block]:
        """The blocks, in the order of the coefficients."""
        return list(self.parts)  # type: ignore[arg-type]

    def _clamped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z in the box, and where each component of it moves with x."""
        scaling = self.scaling
        z = (x - scaling.mean.to(x)) / scaling.scale.to(x)
        inside = z.clamp(scaling.low.to(x), scaling.high.to(x))
        return inside, (z == inside).to(x) / scaling.scale.to(x)

    def values(self, x: Tensor) -> Tensor:
        """Return the functions' values, ``(n, d) → (n, m)``."""
        z, _ = self._clamped(x)
        return torch.cat([block.values(z) for block in self.blocks], 1)

    def gradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return values ``(n, m)`` and gradients ``(d, n, m)`` in x."""
        z, moves = self._clamped(x)
        out = x.new_zeros(x.shape[1], len(x), self.size)
        values, start = [], 0
        for block in self.blocks:
            values.append(block.gradients(z, out[:, :, start : start + block.size]))
            start += block.size
        return torch.cat(values, 1), out.mul_(moves.T[..., None])

    def sum(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return weighted sums of the values, ``(n, d), (m, c) → (n, c)``."""
        return self.values(x) @ weights

    def gradient_of(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the gradient of weighted sums in x, ``(n, d), (m, c) → (d, n, c)``."""
        z, moves = self._clamped(x)
        out = x.new_zeros(x.shape[1], len(x), weights.shape[1])
        for block, own in zip(self.blocks, weights.split(self.sizes()), strict=True):
            if own.count_nonzero():  # what the evidence has switched off costs nothing
                out += block.gradient_of(z, own)
        return out.mul_(moves.T[..., None])

    def hessian_of(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the second derivatives of a weighted sum, ``(n, d), (m) → (n, d, d)``."""
        z, moves = self._clamped(x)
        out = x.new_zeros(len(x), x.shape[1], x.shape[1])
        for block, own in zip(self.blocks, weights.split(self.sizes()), strict=True):
            if own.count_nonzero():
                out += block.hessian_of(z, own)
        return out * moves[:, :, None] * moves[:, None, :]

    def contracted(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return Σ_ij Q_ij ∂_i∂_j of each function, ``(n, d), (n, d, d) → (n, m)``; Q symmetric."""
        z, moves = self._clamped(x)
        matrix = matrix * moves[:, :, None] * moves[:, None, :]
        return torch.cat([block.contracted(z, matrix) for block in self.blocks], 1)

    def sizes(self) -> list[int]:
        """Return the sizes of the blocks."""
        return [block.size for block in self.blocks]

    def mixing(self) -> tuple[np.ndarray, list[str]]:
        """Return the combinations of unit prior variance, ``(m, p)``, and their groups."""
        parts = [block.mixing() for block in self.blocks]
        out = np.zeros((self.size, sum(part.shape[1] for part in parts)))
        groups: list[str] = []
        row = 0
        for block, part in zip(self.blocks, parts, strict=True):
            out[row : row + len(part), len(groups) : len(groups) + part.shape[1]] = part
            row += len(part)
            groups += [block.group] * part.shape[1]
        return out, groups

    def config(self) -> dict[str, Any]:
        """Return the JSON that rebuilds the map with empty buffers."""
        dim = self.scaling.mean.shape[0]
        return {"dim": dim, "blocks": [block.config() for block in self.blocks]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FeatureMap:
        """Build the map with empty buffers."""
        blocks: list[Block] = []
        for entry in config["blocks"]:
            if entry["kind"] == "polynomial":
                half = torch.ones(entry["dim"])
                group = entry["group"]
                blocks.append(PolynomialBlock(entry["columns"], entry["degrees"], half, group))
            else:
                centers = torch.zeros(entry["size"], len(entry["columns"]))
                blocks.append(
                    GaussianBlock(entry["columns"], centers, entry["length"], entry["group"])
                )
        return cls(empty_scaling(config["dim"]), blocks)


def polynomials(dim: int, half: Tensor, degree: int, mixed_degree: int) -> list[PolynomialBlock]:
    """Return polynomials in single components and in two or three of them, a group each.

    Args:
        dim: d.
        half: Half width of the box, standardised, ``(d,)``.
        degree: Highest degree in one component.
        mixed_degree: Highest total degree of the products; below 2 there are none.
    """
    columns = [[c] for c in range(dim) for _ in range(degree)]
    degrees = [[k] for _ in range(dim) for k in range(1, degree + 1)]
    blocks = [PolynomialBlock(columns, degrees, half, "polynomials of one component")]
    columns, degrees = [], []
    most = min(3, dim, mixed_degree)
    for own in range(2, most + 1):
        for chosen in itertools.combinations(range(dim), own):
            for powers in itertools.product(range(1, mixed_degree + 1), repeat=own):
                if sum(powers) <= mixed_degree:
                    columns.append([*chosen, *[chosen[0]] * (most - own)])
                    degrees.append([*powers, *[0] * (most - own)])
    if columns:
        blocks.append(PolynomialBlock(columns, degrees, half, "mixed polynomials"))
    return blocks


def gaussian_block(
    z: np.ndarray, columns: Sequence[int], length: float, limit: int, group: str
) -> GaussianBlock:
    """Return bumps of a given width with centres among the data.

    In one or two components the centres are the points of a grid, as wide as the bumps, that have
    data near them. In more, or where that gives more than ``limit`` centres, they are particles,
    each as far from those before it as possible, and the width is their distance.

    Args:
        z: Standardised particles, ``(n, d)``.
        columns: The components that the bumps depend on.
        length: Width and spacing, standardised.
        limit: Largest number of centres.
        group: Name of the group.
    """
    own = z[:, list(columns)]
    centers = np.empty((0, len(columns)))
    if len(columns) <= 2:
        axes = [
            np.linspace(low, high, max(2, int(np.ceil((high - low) / length)) + 1))
            for low, high in zip(own.min(0), own.max(0), strict=True)
        ]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(columns))
        distance, _ = cKDTree(own).query(grid)
        centers = grid[distance < length]
    if not 0 < len(centers) <= limit:
        centers, spacing = _spread_out(own, limit)
        length = max(length, spacing)
    return GaussianBlock(columns, torch.from_numpy(centers), length, group)


def _spread_out(points: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Return up to ``count`` points far from each other, and their typical distance."""
    points = np.unique(points, axis=0)
    nearest = np.square(points - points.mean(0)).sum(1)
    chosen = [int(nearest.argmin())]
    nearest = np.square(points - points[chosen[0]]).sum(1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
    centers = points[chosen]
    if len(centers) == 1:
        return centers, 1.0
    distance = np.asarray(cKDTree(centers).query(centers, k=2)[0])
    return centers, float(np.median(distance[:, 1]))
