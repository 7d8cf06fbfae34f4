"""What real cells need of the network: held ends in time, and a fixed number of substeps."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.learners.ijkonet.options import IJKOnetOptions
from popdyn.learners.jko.inner import Simulate

NETWORK = {"model": "network", "steps": 20, "every": 20, "batch": 200, "diffusivity": 0.05}


def test_held_ends_stand_still_and_survive_a_file(tmp_path):
    data = popdyn.simulate(
        popdyn.FreeEnergy("moving_well"), particles=300, snapshots=4, dt=0.1, seed=0
    )
    run = popdyn.fit(data, time_varying=True, **NETWORK)
    popdyn.save_run(run, tmp_path / "run")
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    for energy in (run.energy, popdyn.load_run(tmp_path / "run").energy):
        # The first interval ends at 0.1, and the middle of the last is 0.25.
        at = {t: energy.potential_gradient(x, t) for t in (0.0, 0.1, 0.11, 0.15, 0.25, 0.3)}
        np.testing.assert_array_equal(at[0.0], at[0.1])
        np.testing.assert_array_equal(at[0.25], at[0.3])
        assert np.abs(at[0.1] - at[0.11]).max() > 0
        assert np.abs(at[0.15] - at[0.25]).max() > 0
    free = popdyn.fit(data, time_varying=True, hold_ends=False, **NETWORK).energy
    assert np.abs(free.potential_gradient(x, 0.0) - free.potential_gradient(x, 0.05)).max() > 0


@pytest.mark.parametrize("substeps", [3, 7])
def test_substeps_can_be_fixed(substeps):
    noise = torch.Generator().manual_seed(0)
    inner = Simulate(noise, substeps=substeps)
    x, start, tau = torch.randn(1, 200, 2), torch.zeros(1, 1), torch.ones(1, 1)
    steep = popdyn.FreeEnergy("quadratic", potential_params={"scale": 30.0})
    inner.solve(steep, x, start, tau)
    assert inner.substeps == substeps
    fitting = Simulate(noise)
    fitting.solve(steep, x, start, tau)
    assert fitting.substeps == Simulate.LARGEST


def test_no_substeps_are_refused():
    with pytest.raises(PopdynError, match="substeps is 0: expected 1 or more"):
        IJKOnetOptions(substeps=0)
