"""Single steps of torchsde's solvers, on Brownian increments that we draw ourselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Noise
from popdyn.simulation.schemes import scheme

__all__ = ["milstein_step", "srk_step"]


@scheme(
    "srk",
    "Rößler's SRA1 for additive noise, by torchsde",
    "close to single paths: strong order 1.5",
    strong_order=1.5,
    weak_order=2.0,
    integral=True,
    many_steps=False,
)
def srk_step(x: Tensor, t: Any, h: Any, drive: Drive, noise: Noise | None) -> None:
    """Move ``x`` in place by a step of Rößler's SRA1 (strong order 1.5 for additive noise)."""
    _step("srk", x, t, h, drive, noise)


@scheme(
    "milstein",
    "x ← x + h b(x,t) + dB: its correction vanishes for additive noise; by torchsde",
    "a second opinion on euler_maruyama",
    strong_order=1.0,
    weak_order=1.0,
    many_steps=False,
)
def milstein_step(x: Tensor, t: Any, h: Any, drive: Drive, noise: Noise | None) -> None:
    """Move ``x`` in place by a step of Milstein's scheme."""
    _step("milstein", x, t, h, drive, noise)


def _step(method: str, x: Tensor, t: Any, h: float, drive: Drive, noise: Noise | None) -> None:
    import torchsde  # here, as it brings half a second of imports that few need

    # The solver sees time from 0, so that float32 does not round the length of a late step. It
    # probes shapes with torch's global generator, which is the user's and stays as it was.
    with torch.random.fork_rng(devices=[]):
        ends = torch.tensor([0.0, h], dtype=x.dtype, device=x.device)
        path = torchsde.sdeint(
            _System(drive, t, x.shape),
            x.reshape(-1, x.shape[-1]),
            ends,
            bm=_Increment(x, noise),
            method=method,
            dt=float(ends[1]),
        )
    x.copy_(path[1].reshape(x.shape))


class _System:
    """The SDE as torchsde wants it: a batch of rows, √(2β) already in the Brownian motion."""

    noise_type, sde_type = "additive", "ito"

    def __init__(self, drive: Drive, start: float, shape: torch.Size) -> None:
        self.drive, self.start, self.shape = drive, start, shape

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return self.drive.drift(y.reshape(self.shape), self.start + float(t)).reshape(y.shape)

    def g_prod(self, t: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v


class _Increment:
    """What torchsde asks of a Brownian motion: the one increment at hand, and its integral."""

    def __init__(self, x: Tensor, noise: Noise | None) -> None:
        self.x = x.reshape(-1, x.shape[-1])
        zero = torch.zeros_like(self.x)
        self.increment = zero if noise is None else noise.increment.reshape(self.x.shape)
        has_integral = noise is not None and noise.integral is not None
        self.integral = noise.integral.reshape(self.x.shape) if has_integral else zero  # type: ignore[union-attr]

    def __call__(
        self, ta: Tensor, tb: Tensor | None = None, return_U: bool = False, return_A: bool = False
    ) -> Any:
        return (self.increment, self.integral) if return_U else self.increment

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={tuple(self.shape)})"

    @property
    def dtype(self) -> torch.dtype:
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        return self.x.device

    @property
    def shape(self) -> torch.Size:
        return self.x.shape

    @property
    def levy_area_approximation(self) -> str:
        return "space-time"
