"""Positions seen with noise: moved so that their law is the one without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from popdyn.base.errors import PopdynError
from popdyn.estimation.density import score_matching

__all__ = ["noise_of", "without_noise"]

STEPS = 2  # of Heun's method over the whole of the noise: its error falls as their square
SCORED = 10_000  # particles that tell ∇log ρ


def noise_of(noise: float | Sequence[float] | None, dim: int) -> np.ndarray | None:
    """Return the standard deviation of the observation noise of each component, ``(d,)``.

    Args:
        noise: One number for all components, or one for each; None or 0 is no noise.
        dim: Number of components.

    Raises:
        PopdynError: On another count, or what is no number of at least 0.
    """
    if noise is None:
        return None
    try:
        each = np.atleast_1d(np.asarray(noise, dtype=np.float64))
    except (TypeError, ValueError):
        each = np.array([np.nan])
    if each.ndim != 1 or len(each) not in (1, dim):
        raise PopdynError(
            f"observation_noise has shape {each.shape}: expected one number, or {dim}, one for "
            "each component"
        )
    if not (np.isfinite(each) & (each >= 0)).all():
        raise PopdynError(f"observation_noise is {noise!r}: expected numbers of at least 0")
    return np.broadcast_to(each, (dim,)) if each.any() else None


def without_noise(cells: np.ndarray, noise: np.ndarray, label: str) -> np.ndarray:
    """Return as many positions whose law is that of the particles before they were observed.

    Noise of standard deviation σ spreads a law as heat does for the time σ². Particles that follow
    dx/ds = ½ σ² ∇log p_s(x) from s = 1, where they were seen, to 0 have the law p_s all the way:
    the probability flow of the heat equation, backwards. ∇log p_s is fitted to them at each step.
    Single positions are not restored, nor could they be; only what is expected of them.

    Args:
        cells: Observed positions, ``(n, d)``.
        noise: Standard deviation of the noise of each component, ``(d,)``, in the same units.
        label: What the particles are, for errors.

    Raises:
        PopdynError: If a component's noise is at least as wide as its particles spread.

    References:
        Song et al., Score-based generative modeling through stochastic differential equations
        (2021), eq. 13, without a drift.
    """
    x = np.asarray(cells, dtype=np.float64)
    centre, spread = x.mean(0), x.std(0)
    if (wide := np.flatnonzero((noise > 0) & (noise >= spread))).size:
        c = wide[0]
        raise PopdynError(
            f"observation_noise is {noise[c]:g} in component {c + 1}, where {label} spreads by "
            f"{spread[c]:g}: expected less noise than spread"
        )
    unit = np.where(spread > 0, spread, 1.0)
    half = torch.from_numpy(0.5 * (noise / unit) ** 2 / STEPS)
    z = torch.from_numpy((x - centre) / unit)
    for _ in range(STEPS):
        first = half * score_matching(z[:SCORED], 0)(z)
        ahead = z + first
        z = z + 0.5 * (first + half * score_matching(ahead[:SCORED], 0)(ahead))
    return (centre + unit * z.numpy()).astype(cells.dtype)
