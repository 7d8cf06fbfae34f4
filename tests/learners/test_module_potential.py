"""A user's own module as the potential: trained, saved, read back, and refused in one line."""

import pytest
import torch
from torch import nn

import popdyn
from popdyn import FreeEnergy, PopdynError


class Bowl(nn.Module):
    def __init__(self, stiffness=0.1):
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(stiffness))

    def forward(self, x):
        return 0.5 * self.stiffness * x.square().sum(-1)


class Column(Bowl):
    def forward(self, x):
        return super().forward(x)[..., None]


@pytest.fixture(scope="module")
def data():
    truth = FreeEnergy("quadratic", potential_params={"stiffness": 3.0})
    return popdyn.simulate(truth, particles=2000, dt=0.1, snapshots=4, seed=0)


def test_a_module_learns_and_comes_back_from_its_folder(data, tmp_path):
    own = Bowl()
    run = popdyn.fit(data, potential=own, steps=200, every=50, learning_rate=0.1)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    slope = run.energy.potential_gradient(x) / x
    # The means of |x|² of 2000 particles are known to a few percent.
    assert torch.allclose(slope, torch.tensor(3.0), rtol=0.1)
    assert float(own.stiffness.detach()) == pytest.approx(0.1)  # the user's own is left alone
    assert run.config["options"]["potential"].endswith("Bowl")
    popdyn.save_run(run, tmp_path / "run")
    again = popdyn.load_run(tmp_path / "run", potential=Bowl())
    assert torch.equal(again.energy.potential_gradient(x), run.energy.potential_gradient(x))
    with pytest.raises(PopdynError, match=r"own .*Bowl.*load_run\(path, potential=…\)"):
        popdyn.load_run(tmp_path / "run")


def test_bad_modules_are_refused_in_one_line(data):
    with pytest.raises(PopdynError, match=r"Column maps \(8, 2\) to \(8, 1\): expected \(8,\)"):
        popdyn.fit(data, potential=Column(), steps=2)
    with pytest.raises(PopdynError, match=r"Linear fails on particles of shape \(8, 2\)"):
        popdyn.fit(data, potential=nn.Linear(3, 1), steps=2)
    with pytest.raises(PopdynError, match=r"expected a torch\.nn\.Module"):
        popdyn.fit(data, potential="network", steps=2)
    with pytest.raises(PopdynError, match="not finite on the data"):
        popdyn.fit(data, potential=Bowl(float("nan")), steps=2)
    with pytest.raises(PopdynError, match="expected model network"):
        popdyn.fit(data, potential=Bowl(), model="features")
