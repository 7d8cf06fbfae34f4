"""Functions of a user's own: what is wrong with one is said before anything moves."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.dynamics import INTERACTIONS, POTENTIALS
from popdyn.dynamics.fields import entry_of


@pytest.fixture
def registered():
    names = []

    def enter(registry, function, **declared):
        entry_of(registry, "a formula", **declared)(function)
        names.append((registry, function.__name__))
        return function.__name__

    yield enter
    for registry, name in names:
        registry.remove(name)


def bell(z):
    """A bell, of a difference of positions."""
    return (-0.5 * z.square().sum(-1)).exp()


def bell_profile(s):
    """A bell, as a profile of squared distances."""
    return (-0.5 * s).exp()


def test_an_interaction_is_of_differences_unless_it_says_that_it_is_radial(registered):
    of_z, of_s = (
        registered(INTERACTIONS, bell),
        registered(INTERACTIONS, bell_profile, radial=True),
    )
    plain = popdyn.FreeEnergy(interaction="gaussian_repulsion")
    z = np.random.default_rng(0).normal(size=(20, 3))
    for name in (of_z, of_s):
        energy = popdyn.FreeEnergy(interaction=name)
        np.testing.assert_allclose(
            energy.interaction_gradient(z), plain.interaction_gradient(z), rtol=1e-6, atol=1e-9
        )
        np.testing.assert_allclose(energy.interaction(z), plain.interaction(z), atol=1e-7)
        rebuilt = popdyn.FreeEnergy.from_spec(energy.spec())
        np.testing.assert_array_equal(rebuilt.interaction(z), energy.interaction(z))
        popdyn.simulate(energy, particles=20, snapshots=2)


def test_a_gradient_that_is_not_that_of_the_values_is_refused(registered):
    def half_a_bowl(x):
        return x.square().sum(-1)

    name = registered(POTENTIALS, half_a_bowl, gradient=lambda x: x)
    with pytest.raises(PopdynError, match="the gradient of 'half_a_bowl' is not that of its"):
        popdyn.simulate(name, particles=10)


@pytest.mark.parametrize(
    "cut",
    [lambda x: x.detach().square().sum(-1), torch.no_grad()(lambda x: x.square().sum(-1))],
    ids=["detach", "no_grad"],
)
def test_a_potential_that_no_gradient_comes_back_from_is_no_zero(cut):
    with pytest.raises(PopdynError, match="no gradient comes back"):
        popdyn.simulate(cut, particles=10)


def test_a_constant_is_one_without_a_gradient():
    constant = popdyn.FreeEnergy(lambda x: torch.ones_like(x[:, 0]))
    assert not constant.potential_gradient(np.ones((3, 2))).any()


def test_a_function_of_numpy_arrays_is_named():
    with pytest.raises(PopdynError, match="the callable '<lambda>' takes NumPy arrays"):
        popdyn.simulate(lambda x: np.square(x).sum(-1), particles=10)


def test_a_module_is_asked_in_its_own_precision():
    net = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    x = np.ones((3, 2))
    assert popdyn.FreeEnergy(net).potential_gradient(x).dtype == np.float64
