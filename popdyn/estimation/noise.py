"""The noise of means over snapshots: covariances, their inverse, and what populations share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
from scipy.linalg.blas import get_blas_funcs
from torch import Tensor

__all__ = ["RANK", "SharedNoise", "covariance", "shrinkage", "tridiagonal", "worth"]

RANK = 1e-6  # of the largest variance: what float32 sums leave of a smaller one is rounding
LEAST, MOST = -0.9, 30.0  # an excess over independent particles' variance, in units of that


class SharedNoise:
    """The excess of a snapshot's noise over that of independent particles.

    Particles that pulled each other on the way to a snapshot share where they were pulled: a mean
    over them is off by more than a mean over independent ones where they attract each other, for
    the cloud contracts and its centre does not, and by less where they repel. To first order a
    deviation δ of the means of all f becomes Rᵀδ an interval later, R the regression of f∘Φ, with
    what a particle does through the others, on f. So the covariance Σ of means over n particles,
    times n, follows Σ' = cov(f∘Φ) + Rᵀ(Σ − cov f)R, from Σ = cov f where they start. A snapshot is
    taken to be a whole population, as the simulator makes it.

    Args:
        spreads: cov f in each snapshot, ``(q, q)`` each.

    Attributes:
        excess: Σ − cov f of each snapshot; 0 until followed.
        gain: R of each interval, likewise.
    """

    def __init__(self, spreads: Sequence[np.ndarray]) -> None:
        self.spreads = spreads
        self.excess = [np.zeros_like(x) for x in spreads]
        self.gain = [np.zeros_like(x) for x in spreads[1:]]

    def carried(self, k: int) -> np.ndarray:
        """Return what is left of snapshot k's excess at the end of its interval."""
        return self.gain[k].T @ self.excess[k] @ self.gain[k]

    def follow(self, k: int, across: np.ndarray, moved: np.ndarray, alone: np.ndarray) -> None:
        """Find the excess of snapshot k + 1.

        Args:
            k: The interval.
            across: The covariance of f in snapshot k and f∘Φ, with what a particle does through
                the others, ``(q, q)``.
            moved: That of f∘Φ alone, likewise.
            alone: The same without what a particle does through the others.
        """
        spread, ahead = self.spreads[k], self.spreads[k + 1]
        gram = spread + 1e-3 * np.diag(np.diag(spread))
        self.gain[k] = np.linalg.lstsq(gram, across, rcond=None)[0]
        excess = moved - alone + self.carried(k)
        # A difference of samples: its shares of the variance are kept in bounds. Functions that
        # vary no more than rounding, as narrow bumps where there are few particles, have no share.
        size = np.sqrt(np.maximum(np.diag(ahead), 0.0))
        scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0.0)
        strengths, vectors = np.linalg.eigh(ahead * scale[:, None] * scale)
        kept = strengths > RANK * max(float(strengths[-1]), 0.0)
        root = size[:, None] * vectors[:, kept] * np.sqrt(strengths[kept])
        back = (scale[:, None] * vectors[:, kept] / np.sqrt(strengths[kept])).T
        shares, vectors = np.linalg.eigh(back @ excess @ back.T)
        axes = root @ vectors
        self.excess[k + 1] = (axes * shares.clip(LEAST, MOST)) @ axes.T


def covariance(a: Tensor, b: Tensor) -> np.ndarray:
    """Return the covariance of centred columns, ``(n, p), (n, q) → (p, q)``, in float64."""
    if a is b and a.numel():  # symmetric: half the work; BLAS takes no empty matrix
        columns = a.numpy().T
        syrk = get_blas_funcs("syrk", (columns,))
        half = syrk(1.0 / max(1, len(a) - 1), columns, lower=True).astype(float)
        return half + np.tril(half, -1).T  # type: ignore[no-any-return]
    return (a.T @ b).double().numpy() / max(1, len(a) - 1)


def shrinkage(S: np.ndarray, count: int) -> float:
    """Return what to add to a sample covariance's diagonal, ``(q, q)``, to bound its inverse.

    Where functions hardly vary in a snapshot their few numbers say nothing of how much, and an
    inverse would believe them most. q variances are known from n particles to a share q/n of their
    mean, in squares.

    References:
        Ledoit and Wolf, J. Multivar. Anal. 88 (2004) 365: shrinkage to the mean variance, there
        with the share that the sample itself asks for.
    """
    return float(np.trace(S)) / count


def worth(count: int, numbers: int) -> float:
    """Return by how many particles to divide a sample covariance, lest its inverse be too large.

    That of p Gaussian numbers from n draws has the mean (n − 1)/(n − p − 2) times the inverse of
    what they come from: so n (n − p − 2)/(n − 1), and no less than half of them.

    References:
        Hartlap, Simon and Schneider, Astron. Astrophys. 464 (2007) 399.
    """
    return count * max(0.5, (count - numbers - 2.0) / (count - 1.0))


def tridiagonal(covariance: tuple[np.ndarray, np.ndarray]):  # type: ignore[no-untyped-def]
    """Factor a block tridiagonal matrix.

    Returns:
        The diagonal and upper blocks of its inverse; a function that maps ``(K, q, p)`` to
        L⁻¹ of it, ``(K q, p)``, for C = L Lᵀ; and one that maps that to C⁻¹ of it, ``(K, q, p)``.
    """
    diagonal, upper = covariance
    K = len(diagonal)
    factors, links = [], []
    schur = diagonal[0]
    for k in range(K):
        factors.append(np.linalg.cholesky(schur))
        if k + 1 < K:
            link = scipy.linalg.solve_triangular(factors[k], upper[k], lower=True)
            links.append(link)
            schur = diagonal[k + 1] - link.T @ link

    def half(right: np.ndarray) -> np.ndarray:
        out: list[np.ndarray] = []
        for k in range(K):
            rest = right[k] - links[k - 1].T @ out[-1] if k else right[k]
            out.append(scipy.linalg.solve_triangular(factors[k], rest, lower=True))
        return np.concatenate(out)

    def back(left: np.ndarray) -> np.ndarray:
        out = left.reshape(K, -1, left.shape[1]).copy()
        for k in reversed(range(K)):
            if k + 1 < K:
                out[k] -= links[k] @ out[k + 1]
            out[k] = scipy.linalg.solve_triangular(factors[k].T, out[k], lower=False)
        return out

    own, above = np.zeros_like(diagonal), np.zeros_like(upper)
    eye = np.eye(diagonal.shape[1])
    for k in reversed(range(K)):
        own[k] = scipy.linalg.cho_solve((factors[k], True), eye)
        if k + 1 < K:
            gain = scipy.linalg.solve_triangular(factors[k].T, links[k], lower=False)
            above[k] = -gain @ own[k + 1]
            own[k] += gain @ own[k + 1] @ gain.T
    return (own, above), half, back
