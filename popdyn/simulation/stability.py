"""The largest stable step, from the curvature of the energy along the particles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from popdyn.dynamics.drive import Drive

__all__ = ["PROBES", "STABLE", "curvature_seen", "largest_curvature", "largest_stable_step"]

STABLE = 2.0 * (1 + 1e-3)  # of h·λ for every explicit scheme here, and the error of λ
PROBES = 256
WITNESSES = 2048  # particles whose pairs a population is judged by before it is refused
FAR = 4.0  # below the limit; the rough radius is seldom half of the true one
CREASE = 8.0  # how much further a second difference reaches
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
        x = x + h * drive.drift(x, t)
        t += h
    return 2.0 / worst if worst > 0 else math.inf


def curvature_seen(drive: Drive, x: Tensor, t: float, h: float) -> float:
    """Return the largest curvature λ on the populations ``x`` at time ``t``.

    Where h is far below any stable step, a rough radius of the spectrum is enough. Where h·λ on a
    few particles is above the stable limit of an interaction, more of them are asked: the mean over
    few others is rougher than that over all.

    Args:
        drive: What drives the particles.
        x: Populations ``(n, d)`` or ``(k, n, d)``, of which the first is looked at.
        t: Time.
        h: Step.
    """
    x = (x if x.ndim == 2 else x[0])[:WITNESSES]
    x = x.to(_precision(drive, x[:1], t))
    curvature = _curvature_around(drive, x[:PROBES], t, h)
    if drive.W is not None and len(x) > PROBES and curvature * h > STABLE:
        return _curvature_around(drive, x, t, h)
    return curvature


def _curvature_around(drive: Drive, x: Tensor, t: float, h: float) -> float:
    # A step ahead, too: of particles that overshoot all may be on flatter ground at once.
    places = (x, x + h * drive.drift(x, t))
    rough = max(float(_power(drive, y, t, 0.0, ITERATIONS // 5).abs().max()) for y in places)
    if rough * h <= STABLE / FAR:
        return rough
    return max(largest_curvature(drive, y, t) for y in places)


def largest_curvature(drive: Drive, x: Tensor, t: float) -> float:
    """Return the largest eigenvalue of −∇b on ``x`` ``(n, d)``, or 0 if negative.

    Of an energy it is that of the Hessian; what turns has none.

    Power iteration with Hessian–vector products by central differences of the gradient; a shift
    by the spectral radius makes the largest eigenvalue the dominant one. A crease, where the
    gradient jumps, does not count: steps over it stay as bounded as the jump.
    """
    radius = _power(drive, x, t, 0.0).abs().max()
    return max(0.0, float(_power(drive, x, t, float(radius)).max()))


def _power(drive: Drive, x: Tensor, t: float, shift: float, iterations: int = ITERATIONS) -> Tensor:
    """Return the eigenvalue of largest modulus after the shift, of each particle or of all."""
    joint = drive.W is not None
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    # the cube root of the rounding error balances it against the error of the difference
    small = torch.finfo(x.dtype).eps ** (1 / 3) * (1.0 + float(x.abs().max()))

    def slope(v: Tensor, reach: float) -> Tensor:
        return (drive.drift(x - reach * v, t) - drive.drift(x + reach * v, t)) / (2 * reach)

    def along(v: Tensor, hv: Tensor) -> Tensor:
        return (v * hv).sum() if joint else (v * hv).sum(-1)

    for _ in range(iterations):
        v = v / _norm(v, joint)
        hv = slope(v, small)
        value = along(v, hv)
        if not torch.isfinite(value).all():
            return torch.full_like(value, math.inf)
        last, v = v, hv + shift * v
    # Over a longer reach a jump looks less steep, a curvature the same.
    crease = value.abs() > 2.0 * along(last, slope(last, CREASE * small)).abs()
    return torch.where(crease, torch.zeros_like(value), value)


def _precision(drive: Drive, x: Tensor, t: float) -> torch.dtype:
    """Return float64 where the energy takes it: a learned one may be bound to float32."""
    try:
        drive.drift(x.double(), t)
    except RuntimeError:
        return x.dtype
    return torch.float64


def _norm(v: Tensor, joint: bool) -> Tensor:
    return (v.norm() if joint else v.norm(dim=-1, keepdim=True)).clamp_min(1e-300)
