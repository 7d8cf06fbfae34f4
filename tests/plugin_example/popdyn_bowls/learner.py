"""A learner: the one bowl that the means and the spreads of the snapshots ask for."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from popdyn.base.options import Bounds, Options
from popdyn.dynamics import FreeEnergy
from popdyn.families.models import LearnedTerm
from popdyn.learners.registry import learner
from popdyn.learners.run import Run


class Bowl(LearnedTerm):
    """V = ½ k |x − c|²."""

    def __init__(self, dim):
        super().__init__()
        self.register_buffer("stiffness", torch.zeros(()))
        self.register_buffer("centre", torch.zeros(dim))

    def value(self, x, t=None):
        return 0.5 * self.stiffness * (x - self.centre).square().sum(-1)

    def config(self):
        return {"dim": len(self.centre)}

    @classmethod
    def from_config(cls, config):
        return cls(config["dim"])


@dataclass(frozen=True)
class BowlOptions(Options):
    """Options of the bowl.

    Attributes:
        interval: Which interval between snapshots is looked at, from 0.
    """

    interval: Annotated[int, Bounds(ge=0)] = 0


@learner("bowl", "One round bowl, from the first two moments.", BowlOptions)
def fit_bowl(data, options, place):
    """Fit ẋ = −k (x − c): spreads shrink as exp(−k h), means towards c."""
    k = options.interval
    h = data.times[k + 1] - data.times[k]
    before, after = (data.fit[i].double() for i in (k, k + 1))
    shrunk = float(after.std(0).mean() / before.std(0).mean())
    bowl = Bowl(before.shape[1])
    bowl.stiffness.fill_(-np.log(shrunk) / h)
    bowl.centre.copy_((after.mean(0) - shrunk * before.mean(0)) / (1.0 - shrunk))
    return Run(FreeEnergy(bowl), "bowl", {}, steps=1)
