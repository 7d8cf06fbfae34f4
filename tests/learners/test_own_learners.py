"""What a learner of somebody else's returns is looked at before it is believed."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.learners import LEARNERS
from popdyn.learners.registry import learner


@pytest.fixture(scope="module")
def data():
    return popdyn.simulate("quadratic", particles=200, dt=0.3, seed=0)


@pytest.fixture
def returning():
    """Return a function that enters a learner which returns what it is told."""

    def enter(make):
        learner("told", "Returns what it is told.")(lambda data, options, place: make())
        return "told"

    yield enter
    LEARNERS.remove("told")


def net(width):
    layers = torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, width)
    return torch.nn.Sequential(*layers)


def run_of(energy):
    return popdyn.Run(energy, "told", {})


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: None, r"returned <class 'NoneType'>: expected a Run"),
        (lambda: popdyn.FreeEnergy("quadratic"), "expected a Run"),
        (lambda: run_of(net(1)), "a Run of <class .*: expected a Run of a FreeEnergy"),
        (lambda: run_of(popdyn.FreeEnergy(net(1))), r"returned \(8, 1\) .* expected .*\(8,\)"),
        (lambda: run_of(popdyn.FreeEnergy(lambda x: x.detach()[:, 0])), "no gradient comes back"),
    ],
)
def test_what_is_no_energy_is_refused(make, found, data, returning):
    with pytest.raises(PopdynError, match=found):
        popdyn.fit(data, returning(make))


def test_a_bare_module_is_learned_saved_and_loaded(data, returning, tmp_path):
    module = torch.nn.Sequential(*net(1), torch.nn.Flatten(0))
    run = popdyn.fit(data, returning(lambda: run_of(popdyn.FreeEnergy(module))))
    assert (run.learned, run.model) == (["potential"], "network")
    values = run.energy.potential(data["train"]["x"].values.reshape(-1, 2))
    assert abs(values.mean()) < 0.1 * values.std()  # of those that it was fitted to 0
    popdyn.save_run(run, tmp_path / "run")
    again = popdyn.load_run(tmp_path / "run", potential=module)
    x = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_array_equal(
        again.energy.potential_gradient(x), run.energy.potential_gradient(x)
    )


def test_named_terms_are_saved_and_a_callable_is_not(data, returning, tmp_path):
    energy = popdyn.FreeEnergy("quadratic", "gaussian_repulsion")
    run = popdyn.fit(data, returning(lambda: run_of(energy)))
    assert run.learned == ["potential", "interaction"]
    popdyn.save_run(run, tmp_path / "run")
    again, x = popdyn.load_run(tmp_path / "run"), np.ones((3, 2))
    np.testing.assert_array_equal(again.energy.force(x, x), run.energy.force(x, x))
    LEARNERS.remove("told")
    run = popdyn.fit(data, returning(lambda: run_of(popdyn.FreeEnergy(lambda x: x[:, 0]))))
    with pytest.raises(PopdynError, match="no file can rebuild it"):
        popdyn.save_run(run, tmp_path / "other")
    assert not (tmp_path / "other").exists()
