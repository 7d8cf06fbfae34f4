"""The trapezoidal rule with a predictor."""

from torch import Tensor

from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Noise
from popdyn.simulation.schemes import Time, descend, later, scheme


@scheme(
    "heun",
    "y = x + h b(x,t) + dB;  x ← x + ½h(b(x,t) + b(y,t+h)) + dB",
    "the accurate default: two drifts a step, weak order 2",
    strong_order=1.0,
    weak_order=2.0,
)
def heun(x: Tensor, t: Time, h: Time, drive: Drive, noise: Noise | None) -> None:
    """Move ``x`` in place by the mean of the drifts here and ahead."""
    slope = drive.slope(x, t)
    ahead = x.clone()
    descend(ahead, slope, h)
    if noise is not None:
        ahead.add_(noise.increment)
    slope += drive.slope(ahead, later(t, h))
    descend(x, slope, h / 2)
    if noise is not None:
        x.add_(noise.increment)
