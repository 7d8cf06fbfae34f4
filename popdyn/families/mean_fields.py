"""Mean fields of radial kernels over a population: on a grid in one and two dimensions."""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from popdyn.families.linear import RadialFeatures

__all__ = ["GRIDDED", "DirectFields", "Fields", "GridFields", "fields_for", "influence"]

GRIDDED = 2  # dimensions up to which a grid has few cells


class Fields(Protocol):
    """Gives the mean over a population of the gradients of radial kernels."""

    def gradients(self, x: Tensor, population: Tensor, weights: Tensor) -> Tensor:
        """Return mean_y ∇w_c(x − y), w_c = Σ_m weights_mc w_m; ``(n, d), (N, d), (m, c)``.

        Returns:
            ``(d, n, c)``. A particle that is in the population exerts nothing on itself and is
            counted in the mean.
        """


class GridFields:
    """Convolution on a grid: particles are spread by cubic B-splines, and read by their gradients.

    The spline's own smoothing is divided out in Fourier space, so that the error is of order
    (spacing/width)⁴ whatever the number of particles, at a cost of O(N + cells · log cells).

    Args:
        features: The kernels.
        low, high: Box of the particles; those outside are moved to its edge.

    References:
        Essmann et al., J. Chem. Phys. 103 (1995), smooth particle mesh Ewald.
    """

    CELLS = 256

    def __init__(self, features: RadialFeatures, low: Tensor, high: Tensor) -> None:
        low, high = low.double(), high.double()
        width = float(features.widths.min()) / 3.0
        self.h = max(width, float((high - low).max()) / self.CELLS)
        self.low, self.high = low, high
        # Twice the box, so that the periodic images stay out of reach, and room for the splines.
        cells = [int(np.ceil(2.0 * float(side) / self.h)) + 24 for side in high - low]
        self.shape = tuple(next_fast_len(n, real=True) for n in cells)
        lags = [torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64) * self.h for n in self.shape]
        grids = torch.meshgrid(*lags, indexing="ij")
        r = torch.stack([g.square() for g in grids]).sum(0).sqrt()
        smoothing = torch.ones(1, dtype=torch.float64)
        for axis, n in enumerate(self.shape):
            turn = torch.fft.fftfreq(n, dtype=torch.float64)
            if axis == len(self.shape) - 1:
                turn = torch.fft.rfftfreq(n, dtype=torch.float64)
            own = (4.0 + 2.0 * torch.cos(2.0 * np.pi * turn)) / 6.0
            smoothing = smoothing[..., None] * own
        kernels = features.values(r).movedim(-1, 0)
        self.kernels = torch.fft.rfftn(kernels, dim=self._dims()) / smoothing[0].square()

    def _dims(self) -> tuple[int, ...]:
        return tuple(range(-len(self.shape), 0))

    def _locate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the cells ``(4^d, n)``, and splines and their slopes ``(d, 4, n)``."""
        low, high = self.low[:, None], self.high[:, None]
        place = ((x.T.double().clamp(low, high) - low) / self.h + 2.0).contiguous()
        cell = place.floor()
        u = place.sub_(cell).float()
        v = 1.0 - u
        uu, vv = u.square(), v.square()
        first, last = v * vv / 6.0, u * uu / 6.0
        second = 0.5 * u * uu - uu + 2.0 / 3.0
        values = torch.stack([first, second, 1.0 - first - second - last, last], 1)
        first, last = -0.5 * vv, 0.5 * uu
        second = 1.5 * uu - 2.0 * u
        slopes = torch.stack([first, second, -first - second - last, last], 1) / self.h
        index = torch.zeros(len(x), dtype=torch.int32)
        near = torch.zeros(1, dtype=torch.int32)
        for n, own in zip(self.shape, cell.int(), strict=True):
            index = index * n + own
            near = (near[:, None] * n + torch.arange(-1, 3, dtype=torch.int32)).flatten()
        return index + near[:, None], values, slopes

    @staticmethod
    def _product(factors: list[Tensor]) -> Tensor:
        """Return the products of one of each component's four, ``(4^d, n)``."""
        out = factors[0]
        for factor in factors[1:]:
            out = (out[:, None] * factor).flatten(0, 1)
        return out

    def gradients(self, x: Tensor, population: Tensor, weights: Tensor) -> Tensor:
        """Return the fields; see :class:`Fields`."""
        cells = int(np.prod(self.shape))
        index, values, slopes = self._locate(population)
        shares = self._product(list(values))
        spread = torch.bincount(index.flatten(), shares.flatten().double(), cells)
        density = torch.fft.rfftn(spread.reshape(self.shape), dim=self._dims())
        kernels = torch.tensordot(weights.to(self.kernels).T, self.kernels, 1)
        potentials = torch.fft.irfftn(density * kernels, self.shape, dim=self._dims())
        table = potentials.reshape(len(kernels), cells).T.contiguous() / len(population)
        table -= spread @ table / len(population)  # it pulls nobody, and splines are rounded
        if x is not population:
            index, values, slopes = self._locate(x)
        out = table.new_zeros(len(values), len(x), table.shape[1])
        pulls = [
            self._product([slopes[b] if b == axis else v for b, v in enumerate(values)])
            for axis in range(len(values))
        ]
        # One of the near cells after the other: arrays of all would not stay in the cache.
        for k, near in enumerate(index):
            at = table.index_select(0, near)
            for own, pull in zip(out, pulls, strict=True):
                own.addcmul_(at, pull[k, :, None])
        return out.to(x.dtype)


class DirectFields:
    """Pairs, in tiles: for three dimensions and more.

    The particles of a large population feel others than themselves, as many for each, and each
    tile of them its own: what a moment sees is an average over nearly all pairs all the same (an
    incomplete U-statistic), and cost grows with the particles, not with their square.

    Args:
        features: The kernels.

    References:
        Blom, Biometrika 63 (1976) 573.
    """

    NODES = 4096
    PAIRS = 1 << 20
    # The force on a particle has the noise of a mean of so many; in a step h that adds its variance
    # times h² over this to the spread, far below what a β of interest does.
    PARTNERS = 1000

    def __init__(self, features: RadialFeatures) -> None:
        self.reach = float(features.reach)
        r = torch.linspace(0.0, self.reach, self.NODES + 1, dtype=torch.float64)
        self.slopes = features.slopes(r)

    def gradients(self, x: Tensor, population: Tensor, weights: Tensor) -> Tensor:
        """Return the fields; see :class:`Fields`."""
        table = (self.slopes @ weights.double()).to(x.dtype)
        everyone = torch.cat([population, torch.ones_like(population[:, :1])], 1)
        out = x.new_empty(x.shape[1], len(x), table.shape[1])
        # Of the others the next ones, so that none of them is in the tile: that they are in no
        # order is what every particle of a snapshot relies on.
        some = x is population and len(x) >= 2 * self.PARTNERS
        rows = self.PARTNERS if some else max(1, self.PAIRS // len(population))
        for start in range(0, len(x), rows):
            part, partners, count = x[start : start + rows], everyone, float(len(population))
            if some:
                next_ = torch.arange(start + rows, start + rows + self.PARTNERS) % len(x)
                partners = everyone[next_]
                count = self.PARTNERS * len(x) / (len(x) - 1)  # each is counted, and does nothing
            place = _place(part, partners[:, :-1], self.reach, self.NODES)
            for c in range(table.shape[1]):
                sums = table[:, c][place] @ partners
                pulled = sums[:, -1:] * part - sums[:, :-1]
                out[:, start : start + rows, c] = 2.0 * pulled.T / count
        return out


def _place(x: Tensor, y: Tensor, reach: float, nodes: int) -> Tensor:
    distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.mul_(nodes / reach).round_().clamp_(max=nodes).long()


def fields_for(features: RadialFeatures, low: Tensor, high: Tensor) -> Fields:
    """Return the grid where its cells are few, all pairs otherwise."""
    return GridFields(features, low, high) if len(low) <= GRIDDED else DirectFields(features)


def influence(
    features: RadialFeatures, weights: Tensor, x: Tensor, others: Tensor, gradients: Tensor
) -> Tensor:
    """Return mean over y in others of ∇f(y)·∇w_c(y − x): what a particle at x does through others.

    Args:
        features: The kernels.
        weights: Combinations of them, ``(m, c)``.
        x: Where the particle is, ``(n, d)``.
        others: A sample of the population, ``(N, d)``.
        gradients: ∇f at the others, ``(d, N, q)``.

    Returns:
        ``(n, q, c)``.
    """
    nodes = DirectFields.NODES
    reach = float(features.reach)
    r = torch.linspace(0.0, reach, nodes + 1, dtype=torch.float64)
    table = (features.slopes(r) @ weights.double()).to(x.dtype)
    dims, count = range(x.shape[1]), gradients.shape[2]
    along = torch.stack([others[:, a, None] * gradients[a] for a in dims]).sum(0)
    right = torch.cat([along, *gradients], 1)
    out = x.new_empty(len(x), count, table.shape[1])
    rows = max(1, DirectFields.PAIRS // len(others))
    for start, c in itertools.product(range(0, len(x), rows), range(table.shape[1])):
        part = x[start : start + rows]
        sums = table[:, c][_place(part, others, reach, nodes)] @ right
        total = sums[:, :count].clone()
        for a in dims:
            total -= part[:, a, None] * sums[:, (a + 1) * count : (a + 2) * count]
        out[start : start + rows, :, c] = 2.0 * total / len(others)
    return out
