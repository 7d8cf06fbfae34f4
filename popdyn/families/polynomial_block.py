"""Products of Legendre polynomials, which a potential may be linear in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.families.feature_blocks import Block

__all__ = ["PolynomialBlock"]


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

    def shares(self, own: Tensor) -> Tensor:
        each = own[self.columns].masked_fill(self.degrees == 0, torch.inf)
        return each.amin(1)

    def config(self) -> dict[str, Any]:
        return {
            "kind": "polynomial",
            "columns": self.columns.tolist(),
            "degrees": self.degrees.tolist(),
            "group": self.group,
            "dim": len(self.halfwidth),
        }
