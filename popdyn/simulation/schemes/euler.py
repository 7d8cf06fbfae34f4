"""The explicit step, as a scheme for the SDE and as the field's legacy protocol."""

import math

from torch import Tensor

from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Noise
from popdyn.simulation.schemes import Time, descend, scheme


@scheme(
    "euler_maruyama",
    "x ← x + h b(x,t) + dB",
    "the fastest step, weak order 1",
    strong_order=1.0,
    weak_order=1.0,
    state_dimension=math.inf,
)
@scheme(
    "one_step",
    "x ← x + τ b(x,t) + dB, τ the whole interval",
    "the field's legacy protocol: one explicit step for each interval; not the SDE",
    whole_interval=True,
    state_dimension=math.inf,
)
def euler_maruyama(x: Tensor, t: Time, h: Time, drive: Drive, noise: Noise | None) -> None:
    """Move ``x`` in place by an explicit step."""
    slope = drive.slope(x, t)
    # β where the step begins: Itô's sense.
    spread = drive.spread(x, t) if drive.beta is None else None
    descend(x, slope, h)
    if noise is not None:
        x.add_(noise.increment if spread is None else noise.increment * spread)
