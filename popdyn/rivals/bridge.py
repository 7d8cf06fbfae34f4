"""Schrödinger bridges under the present drift, and the drift that their paths have on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.options import Bounds
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.registry import learner
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.rivals.velocities import VelocityOptions, VelocityProblem, fit_velocity

__all__ = ["Bridge", "BridgeOptions", "fit_bridge"]


@dataclass(frozen=True)
class BridgeOptions(VelocityOptions):
    """Options of bridges in turns with their drift.

    Attributes:
        diffusivity: β, which has to be given, and above 0.
        time_varying: Whether V may depend on time.
        steps: Steps of Adam.
        batch: Particles of each snapshot in a step, and in a plan.
        substeps: Steps of Euler's scheme for each interval.
        iterations: Of Sinkhorn's algorithm.
    """

    diffusivity: Annotated[float | None, Bounds(gt=0)] = None
    time_varying: bool = False
    steps: Annotated[int, Bounds(ge=1)] = 1000
    batch: Annotated[int, Bounds(ge=2)] = 128
    substeps: Annotated[int, Bounds(ge=2)] = 8
    iterations: Annotated[int, Bounds(ge=1)] = 20

    def check(self) -> None:
        super().check()
        if self.diffusivity is None:
            raise PopdynError("diffusivity is not given: bridges need one above 0")


class Bridge(VelocityProblem):
    """Paths between snapshots that are likeliest under the present drift; their mean drift.

    A particle runs along the flow φ of the present drift. To first order in what it lacks, a path
    is φ_s + B_s with a Brownian bridge B from 0 to y − φ_1(x), and y follows x by the entropic plan
    of the cost |y − φ_1(x)|²/(4βτ). The drift of such a path at s is
    b(φ_s) + (y − φ_1(x) − B_s)/(τ(1 − s)), and V is fitted to it by least squares, which is the
    likeliest V given the paths.
    """

    options: BridgeOptions

    def loss(self, x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
        n, tau = self.options.substeps, self.tau[..., None]
        with torch.no_grad():
            flow, drifts = [x], []
            for i in range(n):
                now = self.start + (i / n) * self.tau
                drifts.append(-self.V.gradient(flow[-1], now))
                flow.append(flow[-1] + drifts[-1] * tau / n)
            y = self._following(flow[-1], y, rng)
            lack = y - flow[-1]
            i = int(rng.integers(n))
            s = i / n
            noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)).to(x)
            between = s * lack + (2.0 * self.beta * tau * s * (1.0 - s)).sqrt() * noise
            wanted = drifts[i] + (lack - between) / (tau * (1.0 - s))
        found = -self.V.gradient(flow[i] + between, self.start + s * self.tau)
        return ((found - wanted) / self.V.scaling.scale).square().mean() * self.tau.mean() ** 2

    def _following(self, x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
        """Return for each x a y of the next snapshot, drawn by the entropic plan."""
        kernel = torch.cdist(x, y).square() / (-4.0 * self.beta * self.tau[..., None])
        f, g = kernel[..., :1] * 0.0, kernel[:, :1] * 0.0
        for _ in range(self.options.iterations):
            f = -torch.logsumexp(kernel + g, 2, keepdim=True)
            g = -torch.logsumexp(kernel + f, 1, keepdim=True)
        shares = (kernel + f + g).double().exp().cumsum(2)
        luck = torch.from_numpy(rng.random((*x.shape[:2], 1))).to(shares) * shares[..., -1:]
        chosen = torch.searchsorted(shares, luck).clamp(max=y.shape[1] - 1)
        return y.take_along_dim(chosen, 1)


@learner(
    "bridge",
    "Schrödinger bridges in turns with their drift (after nn-APPEX): V alone, β given.",
    BridgeOptions,
)
def fit_bridge(data: TrainingSet, options: BridgeOptions, place: Workplace) -> Run:
    """Fit a potential to the training set; see :func:`popdyn.fit`.

    References:
        Shen, Berlinghieri and Broderick, arXiv:2408.06277; Guan et al., arXiv:2410.22729.
    """
    return fit_velocity("bridge", Bridge, data, options, place)
