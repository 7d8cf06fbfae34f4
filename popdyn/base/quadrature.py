"""Integrals over the intervals between times at which alone a function is known."""

import numpy as np

__all__ = ["quadrature"]


def quadrature(times: np.ndarray) -> np.ndarray:
    """Return weights of integrals over the intervals on the values at all times, ``(K, K + 1)``.

    They are exact for cubics through the four times around an interval, for lower degrees where
    there are fewer times, or where times are so uneven that the weights would make the noise of
    the values larger than that of a single one.
    """
    K = len(times) - 1
    out = np.zeros((K, K + 1))
    for k, tau in enumerate(np.diff(times)):
        for degree in range(min(3, K), 0, -1):
            first = min(max(0, k - (degree - 1) // 2), K - degree)
            nodes = np.arange(first, first + degree + 1)
            powers = np.vander((times[nodes] - times[k]) / tau, increasing=True).T
            weights = np.linalg.solve(powers, 1.0 / np.arange(1, degree + 2))
            if weights @ weights <= 1.0:
                break
        out[k, nodes] = tau * weights
    return out
