"""Data sets and runs that figures are drawn of."""

from dataclasses import dataclass, field

import numpy as np
import pytest

import popdyn
from popdyn.dynamics import FreeEnergy
from popdyn.snapshots import make_tree


@dataclass
class Learned:
    """As much of a run as figures read."""

    energy: FreeEnergy
    learner: str = "zero"
    config: dict = field(default_factory=dict)
    metrics: list = field(default_factory=list)
    certificate: dict = field(default_factory=dict)

    def held_out(self, data):
        return self.config.get("hold_out", ())


METRICS = [{"step": 10, "loss": 1.0, "criterion": 3.0}, {"step": 20, "loss": 0.5, "criterion": 4.0}]


def simulated(dim, potential="styblinski_tang", **more):
    energy = FreeEnergy(potential, diffusivity=0.05, **more)
    law = {"initial": "gaussian", "initial_params": {"std": 1.5}}
    return popdyn.simulate(
        energy, particles=200, test_particles=150, snapshots=4, dt=0.1, dim=dim, **law
    )


@pytest.fixture(scope="session", params=["1d", "2d", "3d", "interacting", "moving", "real"])
def case(request):
    """A run and its data: in one, two, three dimensions, with W, with time, without truth."""
    wrong = FreeEnergy("quadratic", diffusivity=0.1)
    if request.param == "interacting":
        data = simulated(2, interaction="gaussian_repulsion")
        wrong = FreeEnergy("quadratic", "gaussian_attraction")
    elif request.param == "moving":
        data = simulated(2, "moving_well")
    elif request.param == "real":
        rng = np.random.default_rng(0)
        x = [rng.normal(k, 1.0, size=(80 + k, 5)).astype(np.float32) for k in range(4)]
        data = make_tree(x, [np.zeros((0, 5))] * 4, [0.0, 1.0, 2.0, 4.0])
        run = Learned(wrong, config={"hold_out": [1, 3]}, certificate={"inner_residual": 0.01})
        return run, data
    else:
        data = simulated(int(request.param[0]))
    return Learned(wrong, "ijkonet", metrics=METRICS, certificate={"solved": True}), data
