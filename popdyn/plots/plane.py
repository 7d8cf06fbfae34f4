"""The plane of a figure: two components, or the first two principal ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy.spatial import cKDTree

from popdyn.base.errors import PopdynError
from popdyn.snapshots import counts, dimension, positions, times

__all__ = ["Plane", "PlaneLike", "View", "sample", "view_of"]

Color = str | tuple[float, float, float, float]
PlaneLike = str | Sequence[int] | None

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def sample(data: xr.DataTree, k: int, points: int) -> np.ndarray:
    """Return up to ``points`` particles of snapshot k, ``(n, d)``; fresh ones where there are."""
    group = "test" if counts(data, "test")[k] > 0 else "train"
    # The order of particles carries no information in an unpaired store: the first are as good.
    return positions(data, k, group, 0, points)


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane in d dimensions; d = 1 makes do with a line.

    Attributes:
        origin: A point of it, ``(d,)``.
        axes: Two orthonormal directions, ``(2, d)``; one where d = 1.
        labels: What its axes are called.
        shift: Coordinates of the origin in the plane, ``(2,)``.
    """

    origin: np.ndarray
    axes: np.ndarray
    labels: tuple[str, ...]
    shift: np.ndarray

    def project(self, x: np.ndarray) -> np.ndarray:
        """Return coordinates in the plane, ``(n, d) → (n, 2)``."""
        return (x - self.origin) @ self.axes.T + self.shift

    def lift(self, u: np.ndarray) -> np.ndarray:
        """Return the points of the plane with these coordinates, ``(n, 2) → (n, d)``."""
        return np.asarray(self.origin + (u - self.shift) @ self.axes, dtype=np.float32)

    @classmethod
    def of(cls, x: np.ndarray, plane: PlaneLike = None) -> Plane:
        """Choose a plane through the mean of the particles.

        Args:
            x: Particles, ``(n, d)``.
            plane: Two components, counted from 1; ``"pca"`` for the first two principal
                components; None for all that there are up to d = 2 and for ``"pca"`` beyond.

        Raises:
            PopdynError: On a component that there is not, or another word.
        """
        d = x.shape[1]
        origin = x.mean(0, dtype=np.float64)
        if plane is None:
            plane = "pca" if d > 2 else tuple(range(1, d + 1))
        if isinstance(plane, str):
            if plane != "pca":
                raise PopdynError(f"plane '{plane}': expected pca, or two components such as 1,2")
            if d < 3:
                return cls.of(x)
            covariance = np.cov(x, rowvar=False, dtype=np.float64)
            values, vectors = np.linalg.eigh(covariance)
            axes = vectors[:, ::-1][:, :2].T
            # A sign must be chosen, and be the same every time: the largest loading is positive.
            largest = axes[np.arange(2), np.abs(axes).argmax(1)]
            axes = axes * np.sign(largest)[:, None]
            share = values[::-1][:2] / values.sum()
            labels = tuple(f"principal component {i + 1} ({s:.0%})" for i, s in enumerate(share))
            return cls(origin, axes, labels, np.zeros(2))
        chosen = [int(i) for i in plane]
        if len(chosen) != min(d, 2) or len(set(chosen)) < len(chosen):
            raise PopdynError(f"plane {chosen}: expected {min(d, 2)} different components")
        if not all(1 <= i <= d for i in chosen):
            raise PopdynError(f"plane {chosen}: expected components from 1 to {d}")
        rows = [i - 1 for i in chosen]
        labels = tuple(f"x{i}".translate(_SUBSCRIPTS) for i in chosen)
        return cls(origin, np.eye(d)[rows], labels, origin[rows])


@dataclass(frozen=True, eq=False)
class View:
    """A plane with a window and a grid in it.

    Attributes:
        plane: The plane.
        low: Lower corner of the window, ``(2,)``.
        high: Upper corner, ``(2,)``.
        cloud: Particles of all snapshots in the plane, ``(n, 2)``.
        particles: The same particles in d dimensions, ``(n, d)``.
    """

    plane: Plane
    low: np.ndarray
    high: np.ndarray
    cloud: np.ndarray
    particles: np.ndarray

    @property
    def aspect(self) -> str:
        """``equal``, unless the window would become a slit."""
        if self.low.size == 1:
            return "auto"
        width, height = self.high - self.low
        return "equal" if 0.4 < width / height < 2.5 else "auto"

    def grid(self, points: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the ticks along each axis, and all points of the grid in d dimensions."""
        ticks = [np.linspace(a, b, points) for a, b in zip(self.low, self.high, strict=True)]
        return ticks, self.plane.lift(np.stack(np.meshgrid(*ticks), -1).reshape(-1, len(ticks)))

    def dots(
        self,
        axis: Axes,
        x: np.ndarray,
        size: float,
        color: Color,
        name: str = "",
        ring: bool = False,
        **looks: Any,
    ) -> None:
        """Draw particles ``(n, d)`` as dots, or as rings."""
        u = self.plane.project(x)
        if ring:
            paint: dict[str, Any] = {"facecolors": "none", "edgecolors": [color], "linewidths": 0.6}
        else:
            paint = {"color": [color], "linewidths": 0}
        # Thousands of dots are a picture, not a drawing.
        axis.scatter(u[:, 0], u[:, 1], s=size, rasterized=True, label=name, **(paint | looks))

    def frame(self, axis: Axes) -> None:
        """Name the axes of a panel, and let it show the window."""
        axis.set(xlabel=self.plane.labels[0], xlim=(self.low[0], self.high[0]))
        if self.low.size == 1:
            axis.set_ylabel("density")
            return
        axis.set(ylabel=self.plane.labels[1], ylim=(self.low[1], self.high[1]), aspect=self.aspect)

    @property
    def deep(self) -> bool:
        """Whether the plane hides components: d > 2."""
        return self.particles.shape[1] > 2

    def averaged(self, values: np.ndarray, ticks: Sequence[np.ndarray]) -> np.ndarray:
        """Return the mean of the particles' values near each point of a grid in the plane.

        Args:
            values: One or several for each particle, ``(n)`` or ``(n, m)``.
            ticks: Coordinates along the two axes, as of :meth:`grid`.

        Returns:
            ``(points, points)`` or ``(points, points, m)``, the first axis upwards.
        """
        # Gaussian weights a twentieth of the window wide, which are products over the axes.
        across, up = (
            np.exp(-0.5 * ((t[:, None] - u) / (0.05 * (b - a))) ** 2)
            for t, u, a, b in zip(ticks, self.cloud.T, self.low, self.high, strict=True)
        )
        columns = np.asarray(values, np.float64).reshape(len(values), -1)
        # Far from all particles the nearest decide: a weight is never quite 0.
        total = np.einsum("an,bn->ab", up, across) + 1e-12
        mean = columns.mean(0)
        sums = np.stack([up @ (across * c).T for c in (columns - mean).T], -1)
        out = sums / total[..., None] + mean
        return out[..., 0] if np.ndim(values) == 1 else out

    def supported(self, points: np.ndarray) -> np.ndarray:
        """Return whether particles are near, ``(n, d) → (n)`` bool, seen in the plane."""
        tree = cKDTree(self.cloud)
        spacing = np.asarray(tree.query(self.cloud, k=[min(8, len(self.cloud))])[0])
        distance = np.asarray(tree.query(self.plane.project(points))[0])
        return np.asarray(distance <= 2.0 * np.quantile(spacing, 0.95) + 1e-12)


def view_of(data: xr.DataTree, plane: PlaneLike = None, points: int = 2000) -> View:
    """Return the view of a data set: its plane, and the window that holds its particles."""
    if dimension(data) < 1:
        raise PopdynError("the data has no components to draw")
    t = times(data)
    each = max(100, points // len(t))
    x = np.concatenate([sample(data, k, each) for k in range(len(t))])
    chosen = Plane.of(x, plane)
    cloud = chosen.project(x)
    low, high = np.quantile(cloud, [0.002, 0.998], axis=0)
    margin = 0.05 * np.maximum(high - low, 1e-6)
    return View(chosen, low - margin, high + margin, cloud, x)
