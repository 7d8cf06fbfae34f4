"""Linearised moment equations, and what they say of the unknowns once their bias is off."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Linearised"]


@dataclass(frozen=True)
class Linearised:
    """The weighted normal equations, A θ = b with noise of covariance ``spread``.

    Attributes:
        matrix: A, free of the bias that noisy regressors have.
        right: b, likewise.
        spread: The covariance of b − A θ at the truth.
        misfit: rᵀ C⁻¹ r.
        score: Mᵀ C⁻¹ r, from which the misfit after a step follows.
        count: Number of moment equations.
        freedom: How many they count for, see :class:`popdyn.estimation.moments.Equations`.
        noise: Gives s₁ and s₂ for a direction v of the unknowns: δ away from where the equations
            are linearised vᵀ(b − A θ) has the variance vᵀSv + 2 s₁δ + s₂δ². None: not known.
    """

    matrix: np.ndarray
    right: np.ndarray
    spread: np.ndarray
    misfit: float
    score: np.ndarray
    count: int
    freedom: float
    noise: Callable[[np.ndarray], tuple[float, float]] | None = None

    def misfit_after(self, step: np.ndarray) -> float:
        """Return rᵀ C⁻¹ r after a step, to first order."""
        return float(self.misfit - 2.0 * step @ self.score + step @ self.spread @ step)

    def noisiest(self, use: np.ndarray) -> float:
        """Return the largest share of a regressor's square that is noise, of some unknowns."""
        raw = np.diag(self.spread)[use]
        share = 1.0 - np.diag(self.matrix)[use] / np.maximum(raw, 1e-300)
        return float(share[raw > 0.0].max(initial=0.0))

    def restricted(self, keep: np.ndarray) -> Linearised:
        """Return the equations of some unknowns alone, the others being 0; without the score."""
        square = np.ix_(keep, keep)
        return dataclasses.replace(
            self, matrix=self.matrix[square], right=self.right[keep], spread=self.spread[square]
        )

    def given(self, j: int, value: float) -> Linearised:
        """Return the equations of the others where unknown j is known."""
        others = np.delete(np.arange(len(self.right)), j)
        right = self.right - self.matrix[:, j] * value
        return dataclasses.replace(self, right=right).restricted(others)

    def dispersed(self, factor: float) -> Linearised:
        """Return the same equations with noise of a larger variance."""
        noise = self.noise
        return dataclasses.replace(
            self,
            noise=None if noise is None else lambda v: (noise(v)[0] / factor, noise(v)[1] / factor),
            matrix=self.matrix / factor,
            right=self.right / factor,
            spread=self.spread / factor,
        )

    def whitened(self) -> tuple[np.ndarray, np.ndarray]:
        """Return Aᵀ S⁻¹ A and Aᵀ S⁻¹ b; see :meth:`root`."""
        root, right = self.root()
        return root.T @ root, root.T @ right

    def root(self) -> tuple[np.ndarray, np.ndarray]:
        """Return R and z with RᵀR = Aᵀ S⁻¹ A and Rᵀz = Aᵀ S⁻¹ b, ``(r, p)`` and ``(r)``.

        S is inverted where it has a part at all; r is at most p and the number of equations.
        At the truth A is positive. Where the bias that was taken off leaves it negative, its noise
        is all that there is: the data says nothing there, and Gauss–Newton steps would drift for
        ever.
        """
        spread = 0.5 * (self.spread + self.spread.T)
        size = 1.0 / np.sqrt(np.maximum(np.diag(spread), 1e-300))
        strengths, vectors = np.linalg.eigh(spread * size[:, None] * size)
        kept = strengths > 1e-9 * strengths[-1]
        root = (vectors[:, kept] / np.sqrt(strengths[kept])).T * size
        matrix = root @ (0.5 * (self.matrix + self.matrix.T))
        strengths, vectors = np.linalg.eigh(matrix @ root.T)
        seen = vectors[:, strengths > 0.0].T
        return seen @ matrix, seen @ (root @ self.right)

    def units(self, diagonal: np.ndarray) -> np.ndarray:
        """Return one over the standard error of each unknown on its own, ``(p,)``.

        Args:
            diagonal: That of Aᵀ S⁻¹ A.

        Where the data says nothing once the bias is taken off, it is that of the noise.
        """
        least = 1e-6 * np.diag(self.spread)
        return np.sqrt(np.maximum(diagonal, np.maximum(least, 1e-300)))
