"""Scharfetter–Gummel finite volumes on a box, and one step in time that keeps signs and mass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import fft
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import SuperLU, splu

from popdyn.base.errors import PopdynError
from popdyn.dynamics import Dynamics

__all__ = ["BoxError", "Grid", "Solver", "box_label"]

GAMMA = 1 - math.sqrt(0.5)  # makes the two-stage SDIRK scheme L-stable and of order 2


class BoxError(PopdynError):
    """The box does not hold the mass; a wider one may."""


@dataclass(frozen=True)
class Grid:
    """A box of equal cells, numbered with the last axis fastest."""

    bounds: tuple[tuple[float, float], ...]
    cells: tuple[int, ...]

    @property
    def dimension(self) -> int:
        return len(self.cells)

    @property
    def size(self) -> int:
        return math.prod(self.cells)

    @cached_property
    def spacing(self) -> np.ndarray:
        return np.array([(b - a) / n for (a, b), n in zip(self.bounds, self.cells, strict=True)])

    @property
    def volume(self) -> float:
        return float(self.spacing.prod())

    @cached_property
    def centres(self) -> list[np.ndarray]:
        return [
            a + h * (np.arange(n) + 0.5)
            for (a, _), h, n in zip(self.bounds, self.spacing, self.cells, strict=True)
        ]

    @cached_property
    def points(self) -> np.ndarray:
        return _product(self.centres)

    @cached_property
    def faces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells left and right of each inner face, and the spacing across it."""
        index = np.arange(self.size).reshape(self.cells)
        left = [index.take(range(n - 1), a).ravel() for a, n in enumerate(self.cells)]
        right = [index.take(range(1, n), a).ravel() for a, n in enumerate(self.cells)]
        across = [np.full(len(one), h) for one, h in zip(left, self.spacing, strict=True)]
        return np.concatenate(left), np.concatenate(right), np.concatenate(across)

    @cached_property
    def face_points(self) -> tuple[np.ndarray, np.ndarray]:
        """Midpoints of the inner faces, ``(face, d)``, and the axis across each."""
        points, axes = [], []
        for axis, h in enumerate(self.spacing):
            along = [c[:-1] + h / 2 if a == axis else c for a, c in enumerate(self.centres)]
            points.append(_product(along))
            axes.append(np.full(len(points[-1]), axis))
        return np.concatenate(points), np.concatenate(axes)

    @cached_property
    def divergence(self) -> csr_array:
        """The matrix that takes face fluxes to rates of change of the cells."""
        left, right, h = self.faces
        face = np.arange(len(h))
        entries = np.concatenate([-1 / h, 1 / h])
        where = (np.concatenate([left, right]), np.concatenate([face, face]))
        return csr_array((entries, where), shape=(self.size, len(h)))

    @cached_property
    def outermost(self) -> np.ndarray:
        """Which cells touch a wall, flat."""
        inner = np.zeros(self.cells, bool)
        inner[(slice(1, -1),) * self.dimension] = True
        return ~inner.ravel()


class Solver:
    """Dynamics on one grid; densities are flat float64 arrays of cell averages."""

    def __init__(self, dynamics: Dynamics, grid: Grid) -> None:
        self.dynamics, self.grid = dynamics, grid
        terms = dynamics.terms.values()
        self.turning = [term for term in terms if not term.conservative]
        moving = [term for term in terms if term.part != "growth" and term.time_dependent]
        self.autonomous = not dynamics.interacting and not moving
        self.grows = "growth" in dynamics.terms
        self._rates: dict[float, np.ndarray] = {}
        self._factors: dict[float, SuperLU] = {}
        self._padded = tuple(fft.next_fast_len(2 * n - 1, real=True) for n in grid.cells)
        if dynamics.interacting:
            # differences of cell centres, in the wrapped order of a circular convolution
            offsets = [
                h * np.where(np.arange(m) < n, np.arange(m), np.arange(m) - m)
                for h, m, n in zip(grid.spacing, self._padded, grid.cells, strict=True)
            ]
            kernel = _finite(
                dynamics.energy.interaction(_product(offsets)), "interaction", "the differences"
            )
            self._kernel = fft.rfftn(kernel.reshape(self._padded)) * grid.volume
        if self.autonomous:
            self._static = self._fluxes(None, 0.0)

    def run(self, start: np.ndarray, times: np.ndarray, substeps: np.ndarray) -> np.ndarray:
        """Return the densities at the times, ``(time, cell)``; ``substeps`` for each interval."""
        densities = [start]
        self._factors.clear()
        for t, length, number in zip(times[:-1], np.diff(times), substeps, strict=True):
            # equal intervals that differ in the last bits share their factors
            rho, dt = densities[-1], float(f"{length / number:.12g}")
            for i in range(number):
                rho = self._grown_step(rho, t + i * dt, dt)
            densities.append(rho)
        return np.stack(densities)

    def numerical_diffusivity(self, rho: np.ndarray, t: float) -> float:
        """Return the diffusivity that the fluxes add to β, averaged over the mass."""
        left, right, _ = self.grid.faces
        rises, (_, _, beta) = self._rises(rho, t), self._betas(t)
        excess = (_jump_rate(rises, beta) + _jump_rate(-rises, beta)) / 2 - beta
        weights = rho[left] + rho[right]
        return float(max(0.0, (weights * excess).sum() / weights.sum()))

    def check_walls(self, rho: np.ndarray, t: float, allowed: float) -> float:
        """Return the fraction of the mass in the outermost cells; refuse more than allowed."""
        mass = float(rho[self.grid.outermost].sum()) * self.grid.volume
        if self.grows:
            mass /= max(float(rho.sum()) * self.grid.volume, 1e-300)
        if mass > allowed:
            raise BoxError(
                f"{mass:.1e} of the mass is in the outermost cells at time {t:g}: expected at most "
                f"{allowed:g}; widen bounds {box_label(self.grid.bounds)}"
            )
        return mass

    def _potential(self, rho: np.ndarray | None, t: float) -> np.ndarray:
        """Return V + W∗ρ at the cell centres."""
        V = self.dynamics.energy.potential(self.grid.points, float(t))
        out = _finite(V, "potential", "the box")
        if self.dynamics.interacting and rho is not None:
            spectrum = fft.rfftn(rho.reshape(self.grid.cells), self._padded) * self._kernel
            field = fft.irfftn(spectrum, self._padded)
            out = out + field[tuple(slice(n) for n in self.grid.cells)].ravel()
        return out

    def _rises(self, rho: np.ndarray | None, t: float) -> np.ndarray:
        """Return the rise of V + W∗ρ over each face, less what turns along the way."""
        left, right, h = self.grid.faces
        potential = self._potential(rho, t)
        rises: np.ndarray = potential[right] - potential[left]
        if self.turning:
            points, axis = self.grid.face_points
            x = torch.from_numpy(points)
            for term in self.turning:
                drift = term.drift(x, float(t))
                if drift is not None:
                    across = drift.numpy()[np.arange(len(axis)), axis]
                    rises = rises - h * _finite(across, "circulation", "the box")
        return rises

    def _betas(self, t: float) -> tuple[Any, Any, Any]:
        """Return β in the cells left and right of each face, and on it; numbers where it is one."""
        beta = self.dynamics.beta
        if beta is not None:
            return beta, beta, beta
        left, right, _ = self.grid.faces
        each = _finite(self.dynamics.noise(self.grid.points, float(t)), "diffusivity", "the box")
        return each[left], each[right], (each[left] + each[right]) / 2

    def _growth(self, t: float) -> np.ndarray:
        """Return the rate of growth at the cell centres."""
        key = t if self.dynamics.terms["growth"].time_dependent else 0.0
        if key not in self._rates:
            rates = self.dynamics.growth(self.grid.points, float(t))
            self._rates = {key: _finite(rates, "growth", "the box")}
        return self._rates[key]

    def _fluxes(self, rho: np.ndarray | None, t: float) -> csr_array:
        """Return the matrix that takes cell averages to the fluxes through the faces.

        Where β depends on the state they are those of u = βρ in the drift b/β: the flux
        bρ − ∇(βρ) of Itô's equation.
        """
        left, right, h = self.grid.faces
        rises, (before, behind, beta) = self._rises(rho, t), self._betas(t)
        down, up = _jump_rate(rises, beta), _jump_rate(-rises, beta)
        if self.dynamics.beta is None:
            down = down * np.divide(before, beta, out=np.ones_like(beta), where=beta > 0)
            up = up * np.divide(behind, beta, out=np.ones_like(beta), where=beta > 0)
        entries = np.stack([down / h, -up / h], 1)
        where = (np.stack([left, right], 1).ravel(), 2 * np.arange(len(h) + 1))
        return csr_array((entries.ravel(), *where), shape=(len(h), self.grid.size))

    def _factor(self, fluxes: csr_array, dt: float) -> SuperLU:
        """Return the factors of 1 − dt·A, with A = div·fluxes.

        The matrix is an M-matrix with column sums 1. Pivots stay on the diagonal, so that every
        product in the substitutions is ≥ 0 and the solution is positive in rounded arithmetic.
        """
        if self.autonomous and dt in self._factors:
            return self._factors[dt]
        matrix = (eye_array(self.grid.size) - dt * (self.grid.divergence @ fluxes)).tocsc()
        factor = splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        if self.autonomous:
            self._factors[dt] = factor
        return factor

    def _grown_step(self, rho: np.ndarray, t: float, dt: float) -> np.ndarray:
        """Take a step of transport between two halves of growth (Strang), which keep signs."""
        if not self.grows:
            return self._step(rho, t, dt)
        grown = rho * np.exp(dt / 2 * self._growth(t + dt / 4))
        return self._step(grown, t, dt) * np.exp(dt / 2 * self._growth(t + 3 * dt / 4))

    def _step(self, rho: np.ndarray, t: float, dt: float) -> np.ndarray:
        if self.autonomous:
            fluxes = self._static
        else:
            middle = rho
            if self.dynamics.interacting:
                now = self._fluxes(rho, t)
                middle = self._factor(now, dt / 2).solve(rho)
            fluxes = self._fluxes(middle, t + dt / 2)
        solve = self._factor(fluxes, GAMMA * dt).solve
        first = solve(rho)
        second = solve(rho + (1 - GAMMA) / GAMMA * (first - rho))
        if second.min() >= 0:
            return second
        return self._limited(rho, fluxes, (1 - GAMMA) * first + GAMMA * second, dt)

    def _limited(
        self, rho: np.ndarray, fluxes: csr_array, stages: np.ndarray, dt: float
    ) -> np.ndarray:
        """Backward Euler plus as much of the second-order fluxes as leaves each cell positive."""
        left, right, h = self.grid.faces
        low = self._factor(fluxes, dt).solve(rho)
        extra = dt * (fluxes @ (stages - low))
        donor = np.where(extra > 0, left, right)
        outflow = np.bincount(donor, np.abs(extra) / h, self.grid.size)
        # a hair less than everything, and nothing from what has all but underflowed, so that
        # rounding cannot take more than there is
        room = np.divide(
            (1 - 1e-9) * low, outflow, out=np.zeros_like(low), where=(outflow > 0) & (low > 1e-290)
        )
        return low + self.grid.divergence @ (np.minimum(1.0, room[donor]) * extra)


def _jump_rate(rise: np.ndarray, beta: Any) -> np.ndarray:
    """Return β·B(rise/β), B(x) = x/(eˣ − 1), the rate over a face that rises; upwind if β = 0."""
    if isinstance(beta, np.ndarray):
        still = beta == 0
        if still.any():
            moving = _jump_rate(rise, np.where(still, 1.0, beta))
            return np.where(still, np.maximum(-rise, 0.0), moving)
    elif beta == 0:
        return np.maximum(-rise, 0.0)
    x = np.abs(rise) / beta
    # below 1e-5 the series is exact to rounding; beyond 700 the rate uphill is as good as 0
    small, bounded = x < 1e-5, np.clip(x, 1e-5, 700.0)
    uphill = np.where(small, 1 - x / 2 + x * x / 12, bounded / np.expm1(bounded))
    return beta * np.where(rise > 0, uphill, uphill + x)


def _product(axes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the points of a product grid, ``(n, d)``, the last axis fastest."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))


def _finite(values: np.ndarray, name: str, where: str) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise PopdynError(
            f"the {name} is not finite at {bad} of {len(values)} points of {where}: expected "
            "finite values; choose other bounds"
        )
    return values


def box_label(bounds: Sequence[tuple[float, float]]) -> str:
    """Return ``[low, high] × …``, for errors."""
    return " × ".join(f"[{a:g}, {b:g}]" for a, b in bounds)
