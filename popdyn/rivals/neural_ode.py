"""A neural differential equation that is trained to carry each snapshot into the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from popdyn.base.options import Bounds
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.registry import learner
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.rivals.velocities import VelocityOptions, VelocityProblem, fit_velocity

__all__ = ["NeuralODE", "NeuralODEOptions", "fit_neural_ode"]


@dataclass(frozen=True)
class NeuralODEOptions(VelocityOptions):
    """Options of a neural differential equation.

    Attributes:
        time_varying: Whether the velocity may depend on time.
        steps: Steps of Adam.
        substeps: Steps of Heun's scheme for each interval.
    """

    time_varying: bool = False
    steps: Annotated[int, Bounds(ge=1)] = 1000
    substeps: Annotated[int, Bounds(ge=1)] = 4


class NeuralODE(VelocityProblem):
    """The energy distance between what is carried and the next snapshot, by backpropagation.

    References:
        Székely and Rizzo, J. Stat. Plan. Inference 143 (2013).
    """

    options: NeuralODEOptions

    def loss(self, x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
        h = self.tau / self.options.substeps
        start = x
        for i in range(self.options.substeps):
            now = self.start + i * h
            push = torch.zeros_like(x)
            if self.beta > 0:
                noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)).to(x)
                push = (2.0 * self.beta * h).sqrt()[..., None] * noise
            slope = self.V.gradient(x, now)
            after = x - h[..., None] * slope + push
            x = x + push - 0.5 * h[..., None] * (slope + self.V.gradient(after, now + h))
        across, own = torch.cdist(x, y).mean((1, 2)), torch.cdist(x, x).mean((1, 2))
        apart = torch.cdist(start, y).mean((1, 2))
        return ((2.0 * across - own) / apart).sum()


@learner(
    "node",
    "A neural differential equation by the energy distance (Tong et al. 2020's idea, no flow).",
    NeuralODEOptions,
)
def fit_neural_ode(data: TrainingSet, options: NeuralODEOptions, place: Workplace) -> Run:
    """Fit a potential to the training set; see :func:`popdyn.fit`.

    References:
        Chen et al., NeurIPS 2018; Tong et al., ICML 2020.
    """
    return fit_velocity("node", NeuralODE, data, options, place)
