"""Features to expand a potential in: bumps around centres of the data, and polynomials."""

import numpy as np

__all__ = ["Features"]

CENTRES = {1: 40, 2: 200}
# Beyond this dimension every point is far from every other: bumps say little.
HIGH = 12
CENTRES_HIGH = 60
# Least width of a bump, in standard deviations: positions are rounded to about so much.
NARROWEST = 1e-6


class Features:
    """Gaussian bumps around centres of the data, the coordinates, and their products.

    Args:
        x: Positions ``(n, d)`` from all snapshots, float64.

    Attributes:
        size: How many features there are.
    """

    def __init__(self, x: np.ndarray) -> None:
        from scipy.spatial import cKDTree
        from sklearn.cluster import KMeans

        self.mean, scale = x.mean(axis=0), x.std(axis=0)
        self.scale = np.where(scale > 0, scale, 1.0)
        z = (x - self.mean) / self.scale
        sample = z[np.random.default_rng(0).permutation(len(z))[:8_000]]
        d = z.shape[1]
        n = CENTRES.get(d, CENTRES[2]) if d <= HIGH else CENTRES_HIGH
        n = max(1, min(n, len(np.unique(sample, axis=0)) // 8))
        self.centres = KMeans(n, n_init=1, max_iter=20, random_state=0).fit(sample).cluster_centers_
        apart = np.asarray(cKDTree(self.centres).query(self.centres, k=[min(2, n)])[0])
        self.width = max(NARROWEST, 1.5 * float(np.median(apart)) or 1.0)
        # All products where they are few, else squares alone.
        self.pairs = np.triu_indices(d) if d <= HIGH else (np.arange(d), np.arange(d))
        self.size = n + d + len(self.pairs[0])

    def values(self, x: np.ndarray) -> np.ndarray:
        """Return the features at ``(n, d)``: ``(n, size)``."""
        z = (x - self.mean) / self.scale
        i, j = self.pairs
        return np.concatenate([self._bumps(z), z, z[:, i] * z[:, j]], axis=1)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values ``(n, size)`` and gradients ``(d, n, size)``."""
        z = (x - self.mean) / self.scale
        values = self.values(x)
        n, d = len(self.centres), z.shape[1]
        bumps, (i, j) = values[:, :n], self.pairs
        gradients = np.zeros((d, *values.shape))
        for a in range(d):
            gradients[a, :, :n] = bumps * (self.centres[:, a] - z[:, a : a + 1]) / self.width**2
            gradients[a, :, n + a] = 1.0
            gradients[a, :, n + d :] = (i == a) * z[:, j] + (j == a) * z[:, i]
            gradients[a] /= self.scale[a]
        return values, gradients

    def _bumps(self, z: np.ndarray) -> np.ndarray:
        square = (z**2).sum(axis=1)[:, None] + (self.centres**2).sum(axis=1)
        square -= 2 * z @ self.centres.T
        return np.exp(-0.5 * np.maximum(square, 0.0) / self.width**2)
