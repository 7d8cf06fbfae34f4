"""Populations run forward under dynamics: the small door for learners and scores."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.host import usual_torch
from popdyn.base.registry import lookup
from popdyn.dynamics import Dynamics
from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Brownian, Noise
from popdyn.simulation.schemes import DEFAULT_SCHEME, SCHEMES

__all__ = ["advance"]


@usual_torch()
@torch.no_grad()
def advance(
    dynamics: Dynamics,
    x: Tensor,
    start: float | Tensor,
    stop: float | Tensor,
    *,
    step: float | None = None,
    substeps: int | None = None,
    scheme: str = DEFAULT_SCHEME,
    generator: Generator | None = None,
    noise: Tensor | None = None,
    partners: int | None = None,
) -> Tensor:
    """Return the populations ``x`` at time ``start``, run to time ``stop``. No gradient flows.

    Args:
        dynamics: What drives them.
        x: Positions ``(..., n, d)``: populations along the leading axes; not changed.
        start: Time of ``x``; a number, or one for each population, of shape ``x.shape[:-2]``.
        stop: Time to run to, of the same kind.
        step: Integration step; (stop − start)/20 if neither it nor ``substeps`` is given.
        substeps: Number of equal steps, instead of ``step``.
        scheme: A name of ``SCHEMES``.
        generator: Source of the noise where β > 0.
        noise: Standard normals ``(substeps, *x.shape)`` instead of drawing them: common random
            numbers.
        partners: Others that act on a particle in a step, drawn anew each time; all if None.

    Raises:
        PopdynError: On an unknown scheme, times that run backwards, or noise of another shape.

    Example:
        >>> from popdyn.dynamics import FreeEnergy
        >>> x = torch.ones(5, 2)
        >>> y = advance(FreeEnergy("quadratic"), x, 0.0, 1.0, substeps=1000)
        >>> bool((y - x * math.exp(-1)).abs().max() < 1e-5)
        True
    """
    chosen = lookup(SCHEMES, scheme, "scheme")
    chosen.check(dynamics, step=step)
    t0, t1 = _time(start, x, "start"), _time(stop, x, "stop")
    span = t1 - t0
    longest = float(torch.as_tensor(span).max())
    if not float(torch.as_tensor(span).min()) >= 0:
        raise PopdynError(f"start is {start} and stop is {stop}: expected start ≤ stop")
    if isinstance(span, Tensor) and not chosen.many_steps:
        raise PopdynError(
            f"scheme '{scheme}' takes the same step for all populations: expected start and stop "
            "as numbers"
        )
    if (step is not None and not step > 0) or (substeps is not None and substeps < 1):
        raise PopdynError(f"step is {step} and substeps {substeps}: expected positive numbers")
    if chosen.whole_interval:
        substeps = 1
    elif substeps is None:
        substeps = 20 if step is None else max(1, math.ceil(longest / step * (1 - 1e-9)))
    if noise is not None and chosen.integral:
        raise PopdynError(f"scheme '{scheme}' draws more than increments: expected no noise")
    if noise is not None and noise.shape != (substeps, *x.shape):
        raise PopdynError(f"noise has shape {tuple(noise.shape)}: expected {(substeps, *x.shape)}")
    h = span / substeps
    wide = h.to(x).unsqueeze(-1) if isinstance(h, Tensor) else h
    drive = Drive(dynamics, partners=partners, generator=generator)
    brownian = Brownian(dynamics.beta, integral=chosen.integral, generator=generator)
    sigma = (2.0 * brownian.beta * wide) ** 0.5
    x = x.detach().clone(memory_format=torch.contiguous_format)
    for j in range(substeps):
        drive.begin_step(x)
        if noise is None or brownian.beta == 0:
            dB = brownian.draw(x, wide)
        else:
            dB = Noise(noise[j] * sigma)
        chosen.step(x, t0 + j * h, wide, drive, dB)
    return x


def _time(t: float | Tensor, x: Tensor, name: str) -> float | Tensor:
    """Return a float, or a float64 tensor that broadcasts against ``x[..., 0]``."""
    if not isinstance(t, Tensor) or t.ndim == 0:
        return float(t)
    if t.shape != x.shape[:-2]:
        raise PopdynError(
            f"{name} has shape {tuple(t.shape)}: expected a number or {tuple(x.shape[:-2])}"
        )
    return t.to(x.device, torch.float64).unsqueeze(-1)
