"""The largest stable step, from the curvature of the energy along the particles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from popdyn.simulation.forces import Drive

__all__ = ["PROBES", "largest_curvature", "largest_stable_step"]

PROBES = 256
ITERATIONS = 20
TRAIL = 25


def largest_stable_step(drive: Drive, x: Tensor, start: float, stop: float) -> float:
    """Return 2/λ, λ the largest curvature met by particles that run from ``x``.

    Explicit schemes amplify a mode of curvature λ as soon as h·λ > 2. The curvature is taken at
    ``x`` and along a short run whose own step is safe by that measure.

    Args:
        drive: What drives the particles.
        x: Starting points ``(n, d)``; the first ``PROBES`` are followed.
        start: Time of ``x``.
        stop: Time until which they are followed, ``TRAIL`` steps at most.

    Returns:
        A step, or infinity where the energy curves upwards nowhere.
    """
    x = x[:PROBES].to(_precision(drive, x[:1], start))
    t, worst = start, 0.0
    for _ in range(TRAIL):
        curvature = largest_curvature(drive, x, t)
        if not math.isfinite(curvature):  # the followed particles run away themselves
            break
        worst = max(worst, curvature)
        if t >= stop:
            break
        h = min(stop - t, (stop - start) / 10, 0.25 / worst if worst > 0 else math.inf)
        x = x - h * drive.gradient(x, t)
        t += h
    return 2.0 / worst if worst > 0 else math.inf


def largest_curvature(drive: Drive, x: Tensor, t: float) -> float:
    """Return the largest eigenvalue of the energy's Hessian on ``x`` ``(n, d)``, or 0 if negative.

    Power iteration with Hessian–vector products by central differences of the gradient; a shift
    by the spectral radius makes the largest eigenvalue the dominant one.
    """
    radius = _power(drive, x, t, 0.0)
    return max(0.0, _power(drive, x, t, abs(radius)))


def _power(drive: Drive, x: Tensor, t: float, shift: float) -> float:
    joint = drive.W is not None
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    # the cube root of the rounding error balances it against the error of the difference
    small = torch.finfo(x.dtype).eps ** (1 / 3) * (1.0 + float(x.abs().max()))
    value = 0.0
    for _ in range(ITERATIONS):
        v = v / _norm(v, joint)
        hv = (drive.gradient(x + small * v, t) - drive.gradient(x - small * v, t)) / (2 * small)
        rayleigh = (v * hv).sum() if joint else (v * hv).sum(-1)
        if not torch.isfinite(rayleigh).all():
            return math.inf
        # the eigenvalue of largest modulus, signed; with a shift the largest one
        value = float(rayleigh.max() if shift else rayleigh.abs().max())
        v = hv + shift * v
    return value


def _precision(drive: Drive, x: Tensor, t: float) -> torch.dtype:
    """Return float64 where the energy takes it: a learned one may be bound to float32."""
    try:
        drive.gradient(x.double(), t)
    except RuntimeError:
        return x.dtype
    return torch.float64


def _norm(v: Tensor, joint: bool) -> Tensor:
    return (v.norm() if joint else v.norm(dim=-1, keepdim=True)).clamp_min(1e-300)
