"""Every interaction: its formula in plain NumPy, its slope, evenness, potentials as kernels."""

import inspect

import numpy as np
import pytest
import torch

from popdyn.base.errors import PopdynError
from popdyn.dynamics import INTERACTIONS, POTENTIALS, FreeEnergy, ScalarField
from popdyn.dynamics.fields import CallableField
from popdyn.dynamics.interactions import SymmetrisedField, check_even


def lennard_jones(r):
    q = 1 / (r**2 + 0.9**2)
    return 4 * (q**6 - q**3)


def morse(r):
    r = np.sqrt(r**2 + 0.1**2)
    return 2 * np.exp(-r / 0.5) - np.exp(-r / 2)


# In the distance r, not its square.
FORMULAS = {
    "gaussian_repulsion": lambda r: np.exp(-(r**2) / 2),
    "gaussian_attraction": lambda r: -np.exp(-(r**2) / 2),
    "morse": morse,
    "power_law": lambda r: np.sqrt(r**2 + 0.01) ** 4 / 4 - np.sqrt(r**2 + 0.01) ** 2 / 2,
    "quadratic": lambda r: 0.5 * r**2,
    "soft_coulomb": lambda r: 1 / np.sqrt(r**2 + 0.25),
    "lennard_jones": lennard_jones,
    "opinion": lambda r: -0.5 * 0.2 * np.log1p(np.exp((1 - r**2) / 0.2)),
    "compact": lambda r: max(1 - r**2 / 1.5**2, 0) ** 3,
}

PARAMETERS = {
    "gaussian_repulsion": {"strength": 2.0, "width": 0.7},
    "gaussian_attraction": {"strength": 2.0, "width": 0.7},
    "morse": {
        "repulsion": 3.0,
        "attraction": 0.5,
        "repulsion_range": 0.8,
        "attraction_range": 1.5,
        "softening": 0.3,
    },
    "power_law": {"strength": 0.5, "attraction": 3.0, "repulsion": 1.0, "softening": 0.2},
    "quadratic": {"strength": -0.5},
    "soft_coulomb": {"strength": -2.0, "softening": 0.3},
    "lennard_jones": {"depth": 0.5, "distance": 1.3, "softening": 1.0},
    "opinion": {"strength": 2.0, "confidence": 2.0, "smoothing": 0.3},
    "compact": {"strength": -1.0, "radius": 3.0},
}


def differences(dim, n=64, seed=0):
    z = np.random.default_rng(seed).normal(size=(n, dim))
    return z * np.geomspace(0.01, 3, n)[:, None]


def test_table_has_every_interaction():
    assert FORMULAS.keys() == INTERACTIONS.keys()
    for name, entry in INTERACTIONS.items():
        assert entry.parameters.keys() == {"scale", *PARAMETERS[name]}


@pytest.mark.parametrize("dim", [1, 2, 3, 10])
@pytest.mark.parametrize("name", INTERACTIONS)
def test_value_is_the_formula_and_zero_at_zero(name, dim):
    energy = FreeEnergy(interaction=name)
    z = differences(dim)
    W = FORMULAS[name]
    expected = [W(np.linalg.norm(v)) - W(0.0) for v in z]
    np.testing.assert_allclose(energy.interaction(z), expected, rtol=1e-9, atol=1e-12)
    assert energy.interaction(np.zeros((1, dim)))[0] == 0.0


@pytest.mark.parametrize("dim", [1, 2, 3, 10])
@pytest.mark.parametrize("name", INTERACTIONS)
def test_gradient_is_that_of_the_value_and_odd(name, dim):
    for params in ({}, {**PARAMETERS[name], "scale": 1.5}):
        W = FreeEnergy(interaction=name, interaction_params=params).W
        z = torch.from_numpy(differences(dim))
        before = z.clone()
        gradient = W.gradient(z)
        np.testing.assert_allclose(gradient, ScalarField.gradient(W, z), rtol=1e-9, atol=1e-11)
        assert torch.equal(gradient, -W.gradient(-z))
        assert torch.equal(z, before)
        assert not W.gradient(torch.zeros(1, dim)).any()


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, given in PARAMETERS.items() for key in given]
)
def test_every_parameter_changes_the_gradient(name, key):
    z = differences(2)
    changed = FreeEnergy(interaction=name, interaction_params={key: PARAMETERS[name][key]})
    usual = FreeEnergy(interaction=name)
    assert not np.allclose(usual.interaction_gradient(z), changed.interaction_gradient(z))


@pytest.mark.parametrize("name", INTERACTIONS)
def test_entry_tells_what_a_list_needs(name):
    entry = INTERACTIONS[name]
    assert entry.radial
    assert entry.formula
    assert entry.summary
    assert [*inspect.signature(entry.gradient).parameters] == [
        *inspect.signature(entry.function).parameters
    ]
    if entry.exponential:
        W = FreeEnergy(interaction=name, interaction_params=PARAMETERS[name] | {"scale": 3.0}).W
        a, b = W.exponential
        s = torch.linspace(0, 9, 10, dtype=torch.float64)
        np.testing.assert_allclose(a * torch.exp(-b * s), W.slope(s.clone()), rtol=1e-12)


def test_power_zero_is_a_logarithm():
    energy = FreeEnergy(
        interaction="power_law",
        interaction_params={"attraction": 2.0, "repulsion": 0.0, "softening": 1e-6},
    )
    z = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert np.diff(energy.interaction(z))[0] == pytest.approx(1.5 - np.log(2), rel=1e-9)
    # ∇W = z − z/|z|²: rest at |z| = 1, where log repulsion balances the spring.
    np.testing.assert_allclose(energy.interaction_gradient(z), [[0.0, 0.0], [0.0, 1.5]], atol=1e-10)


def test_compact_ends_at_its_radius():
    energy = FreeEnergy(interaction="compact", interaction_params={"radius": 2.0})
    far = np.array([[2.0, 0.0], [3.0, 4.0]])
    np.testing.assert_array_equal(energy.interaction_gradient(far), 0.0)
    assert np.abs(energy.interaction_gradient(0.99 * far[:1])).max() > 0


def test_opinion_is_a_spring_within_reach_and_nothing_beyond():
    z = np.array([[0.2, 0.0], [3.0, 0.0]])
    gradient = FreeEnergy(interaction="opinion").interaction_gradient(z)
    np.testing.assert_allclose(gradient[0], z[0], rtol=1e-2)
    np.testing.assert_allclose(gradient[1], 0.0, atol=1e-12)


STATIC = [name for name, entry in POTENTIALS.items() if not entry.time_dependent]


@pytest.mark.parametrize("name", STATIC)
def test_a_potential_as_kernel_is_symmetrised(name):
    W = SymmetrisedField(POTENTIALS[name], {"scale": 2.0})
    energy = FreeEnergy(interaction=W)
    V = FreeEnergy(name, potential_params={"scale": 2.0})
    z = differences(3)
    expected = 0.5 * (V.potential(z) + V.potential(-z)) - V.potential(np.zeros((1, 3)))
    np.testing.assert_allclose(energy.interaction(z), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        energy.interaction_gradient(z), ScalarField.gradient(W, torch.from_numpy(z)), atol=1e-10
    )
    assert energy.interaction(np.zeros((1, 3)))[0] == 0.0
    assert energy.W.label().startswith(f"symmetrised {name}")
    assert energy.spec()["interaction"]["symmetrised"] is True
    check_even(energy.W, 3)


def test_a_name_in_both_registries_is_the_interaction():
    energy = FreeEnergy(interaction="quadratic", interaction_params={"strength": 2.0})
    assert energy.W.label() == "quadratic(strength=2)"
    assert FreeEnergy(interaction="flowers").W.label() == "symmetrised flowers"


def test_time_dependent_kernels_are_refused():
    with pytest.raises(PopdynError, match="'moving_well' depends on time"):
        FreeEnergy(interaction="moving_well")
    with pytest.raises(PopdynError, match="depends on time"):
        FreeEnergy(interaction=lambda z, t: z.square().sum(-1))


@pytest.mark.parametrize("dim", [1, 2, 10])
def test_check_even(dim):
    for name in INTERACTIONS:
        check_even(FreeEnergy(interaction=name).W, dim)
    check_even(CallableField(lambda z: 1e3 + z.abs().sum(-1)), dim)

    def slanted(z):
        return z.square().sum(-1) + 0.1 * z[..., 0]

    with pytest.raises(PopdynError) as error:
        check_even(CallableField(slanted), dim)
    assert "the interaction 'slanted' is not even: W(z) = " in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(PopdynError, match="not even"):
        check_even(FreeEnergy("flowers").V, dim)
