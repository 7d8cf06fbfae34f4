"""The trapezoidal rule with a predictor."""

from torch import Tensor

from popdyn.simulation.brownian import Noise
from popdyn.simulation.forces import Drive
from popdyn.simulation.schemes import Time, descend, later, scheme


@scheme(
    "heun",
    "y = x − h∇J(x,t) + dB;  x ← x − ½h(∇J(x,t) + ∇J(y,t+h)) + dB",
    "the accurate default: two gradients a step, weak order 2",
    strong_order=1.0,
    weak_order=2.0,
)
def heun(x: Tensor, t: Time, h: Time, drive: Drive, noise: Noise | None) -> None:
    """Move ``x`` in place by the mean of the gradients here and ahead."""
    gradient = drive.gradient(x, t)
    ahead = x.clone()
    descend(ahead, gradient, h)
    if noise is not None:
        ahead.add_(noise.increment)
    gradient += drive.gradient(ahead, later(t, h))
    descend(x, gradient, h / 2)
    if noise is not None:
        x.add_(noise.increment)
