"""Flow matching along optimal transport between minibatches, its velocity a gradient."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.registry import learner
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.rivals.velocities import VelocityOptions, VelocityProblem, fit_velocity

__all__ = ["FlowMatching", "fit_flow_matching"]


class FlowMatching(VelocityProblem):
    """Regression of the velocity on straight lines between the pairs of an optimal plan.

    With s uniform in (0, 1), (x, y) a pair of an exact plan of two minibatches and τ the interval,
    E|v(x + s(y − x), t_k + sτ) − (y − x)/τ|² is least for the velocity of the interpolant; as the
    batch grows the plan becomes that of the populations, whose velocity is a gradient.
    """

    def loss(self, x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
        order = [_paired(a, b) for a, b in zip(x, y, strict=True)]
        y = torch.stack([b[i] for b, i in zip(y, order, strict=True)])
        s = torch.from_numpy(rng.random(x.shape[:2], dtype=np.float32)).to(x)
        at = x + s[..., None] * (y - x)
        wanted = (y - x) / self.tau[..., None]
        found = -self.V.gradient(at, self.start + s * self.tau)
        return ((found - wanted) / self.V.scaling.scale).square().mean() * self.tau.mean() ** 2


def _paired(x: Tensor, y: Tensor) -> Tensor:
    """Return the row of y that an optimal plan, here a permutation, gives to each row of x."""
    _, rows = linear_sum_assignment(torch.cdist(x, y).square().cpu().numpy())
    return torch.from_numpy(rows).to(x.device)


@learner(
    "otcfm",
    "Flow matching along minibatch optimal transport (Tong et al. 2024): a velocity, no energy.",
    VelocityOptions,
)
def fit_flow_matching(data: TrainingSet, options: VelocityOptions, place: Workplace) -> Run:
    """Fit a velocity to the training set; see :func:`popdyn.fit`.

    Its −∇V is the velocity that carries the snapshots, noise included: of a population that
    diffuses V is no potential, and with ``diffusivity`` given predictions are too broad.

    References:
        Tong et al., TMLR 2024; Lipman et al., ICLR 2023.
    """
    return fit_velocity("otcfm", FlowMatching, data, options, place)
