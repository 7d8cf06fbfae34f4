"""Dictionaries of functions that a potential is linear in: polynomials and Gaussians, whitened."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from popdyn.families.feature_blocks import Block, GaussianBlock, TurnedBlock
from popdyn.families.models import Scaling, empty_scaling
from popdyn.families.network_block import NetworkBlock
from popdyn.families.polynomial_block import PolynomialBlock

__all__ = [
    "Block",
    "FeatureMap",
    "GaussianBlock",
    "PolynomialBlock",
    "gaussian_block",
    "polynomials",
    "turned_blocks",
]

DIRECTIONS = 2


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

    def clamped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z in the box, and where each component of it moves with x."""
        scaling = self.scaling
        z = (x - scaling.mean.to(x)) / scaling.scale.to(x)
        inside = z.clamp(scaling.low.to(x), scaling.high.to(x))
        return inside, (z == inside).to(x) / scaling.scale.to(x)

    def values(self, x: Tensor) -> Tensor:
        """Return the functions' values, ``(n, d) → (n, m)``."""
        z, _ = self.clamped(x)
        return torch.cat([block.values(z) for block in self.blocks], 1)

    def gradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return values ``(n, m)`` and gradients ``(d, n, m)`` in x."""
        z, moves = self.clamped(x)
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
        z, moves = self.clamped(x)
        out = x.new_zeros(x.shape[1], len(x), weights.shape[1])
        for block, own in zip(self.blocks, weights.split(self.sizes()), strict=True):
            # What the evidence has switched off costs nothing, nor does a sum without the block.
            used = own.any(0).nonzero()
            if len(used):
                some = slice(int(used[0]), int(used[-1]) + 1)
                block.gradient_of(z, own[:, some], out[:, :, some])
        return out.mul_(moves.T[..., None])

    def pulled(self, x: Tensor, vectors: Tensor) -> Tensor:
        """Return Σ_n v·∇f of vectors at the positions, ``(n, d), (d, n, q) → (q, m)``.

        A function of one component costs no more than that component.
        """
        z, moves = self.clamped(x)
        vectors = vectors * moves.T[..., None]
        return torch.cat([block.pulled(z, vectors) for block in self.blocks], 1)

    def hessian_of(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the second derivatives of a weighted sum, ``(n, d), (m) → (n, d, d)``."""
        z, moves = self.clamped(x)
        out = x.new_zeros(len(x), x.shape[1], x.shape[1])
        for block, own in zip(self.blocks, weights.split(self.sizes()), strict=True):
            if own.count_nonzero():
                block.hessian_of(z, own, out)
        return out * moves[:, :, None] * moves[:, None, :]

    def contracted(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return Σ_ij Q_ij ∂_i∂_j of each function, ``(n, d), (n, d, d) → (n, m)``; Q symmetric."""
        z, moves = self.clamped(x)
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

    def prior(self) -> tuple[np.ndarray, list[str]]:
        """Return the same with each function as large as V is in the components that it has.

        V has the unit |x|²/time, so that components may each have a unit of their own as long as V
        is a sum over them. As test functions all are of one size, see ``mixing``.
        """
        out, groups = self.mixing()
        shares = self.scaling.shares.double().cpu()
        sizes = torch.cat([block.shares(shares) for block in self.blocks])
        return out * sizes.numpy()[:, None], groups

    def config(self) -> dict[str, Any]:
        """Return the JSON that rebuilds the map with empty buffers."""
        dim = self.scaling.mean.shape[0]
        return {"dim": dim, "blocks": [block.config() for block in self.blocks]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FeatureMap:
        """Build the map with empty buffers."""
        dim = config["dim"]
        return cls(empty_scaling(dim), [_empty_block(entry, dim) for entry in config["blocks"]])


def _empty_block(entry: dict[str, Any], dim: int) -> Block:
    if entry["kind"] == "turned":
        inner = _empty_block(entry["inner"], entry["count"])
        return TurnedBlock(torch.zeros(entry["count"], dim), inner)
    if entry["kind"] == "network":
        return NetworkBlock.empty(dim, tuple(entry["hidden"]))
    if entry["kind"] == "polynomial":
        half = torch.ones(entry["dim"])
        return PolynomialBlock(entry["columns"], entry["degrees"], half, entry["group"])
    centers = torch.zeros(entry["size"], len(entry["columns"]))
    return GaussianBlock(entry["columns"], centers, entry["length"], entry["group"])


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


def turned_blocks(
    first: np.ndarray, last: np.ndarray, z: np.ndarray, lengths: Sequence[float]
) -> list[Block]:
    """Return bumps along the two directions in which the population changes most.

    They are the eigenvectors of E zzᵀ at the end less E zzᵀ at the start, with u = D z of unit
    variance. Where the components are many, their products are too many to say what happens along
    a diagonal.

    Args:
        first, last: Standardised particles at the start and at the end, ``(n, d)`` each.
        z: Standardised particles of all times, ``(n, d)``.
        lengths: Widths of the bumps, a group each.
    """
    change = last.T @ last / len(last) - first.T @ first / len(first)
    strengths, vectors = np.linalg.eigh(change)
    most = vectors[:, np.argsort(-np.abs(strengths))[:DIRECTIONS]]
    directions = (most / (z @ most).std(0)).T
    blocks: list[Block] = []
    for length, direction in itertools.product(lengths, directions):
        name = f"bumps of width {length:g} in a direction"
        inner = gaussian_block((z @ direction)[:, None], [0], length, 60, name)
        blocks.append(TurnedBlock(torch.from_numpy(direction)[None], inner))
    return blocks


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
