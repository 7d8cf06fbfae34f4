"""One step of populations that may grow: any scheme, and log-weights along its path."""

from __future__ import annotations

from torch import Tensor

from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Noise
from popdyn.simulation.schemes import Scheme, Time, later

__all__ = ["take_step"]


def take_step(
    scheme: Scheme,
    x: Tensor,
    t: Time,
    h: Time,
    drive: Drive,
    noise: Noise | None,
    log_weight: Tensor | None = None,
    *,
    weigh: bool = False,
) -> None:
    """Move ``x`` in place over ``[t, t + h]``; log-weights gain the trapezoidal rule of g.

    Args:
        scheme: The scheme.
        x: Populations ``(..., n, d)``.
        t: Time.
        h: Step, as the scheme takes it.
        drive: What acts; its batches are drawn.
        noise: Of the step.
        log_weight: Log-weights ``(..., n)`` float64, changed in place; None where nothing grows.
        weigh: Whether the particles act on each other with these weights.
    """
    if log_weight is None:
        scheme.step(x, t, h, drive, noise)
        return
    half = (h.squeeze(-1) if isinstance(h, Tensor) else h) / 2
    log_weight.add_(half * drive.growth(x, t))
    if weigh:
        # Their masses in the middle of the step: so the mean field is of order 2, too.
        drive.weights = log_weight.exp().to(x)
    scheme.step(x, t, h, drive, noise)
    log_weight.add_(half * drive.growth(x, later(t, h)))
