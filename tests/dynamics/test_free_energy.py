"""The sum of V, W and β: arrays in and out, JSON and back, and what a user gets wrong."""

import json

import numpy as np
import pytest
import torch

from popdyn.base.errors import PopdynError
from popdyn.dynamics import INTERACTIONS, POTENTIALS, FreeEnergy
from popdyn.dynamics.interactions import SymmetrisedField

X = np.random.default_rng(0).uniform(-3, 3, (12, 2))


def rebuilt(energy):
    return FreeEnergy.from_spec(json.loads(json.dumps(energy.spec())))


@pytest.mark.parametrize("name", POTENTIALS)
def test_spec_rebuilds_every_potential(name):
    energy = FreeEnergy(name, diffusivity=0.25, potential_params={"scale": np.float32(1.5)})
    again = rebuilt(energy)
    assert again.spec() == energy.spec()
    assert again.diffusivity == 0.25
    np.testing.assert_array_equal(again.potential(X, 0.4), energy.potential(X, 0.4))
    assert again.spec()["potential"]["params"]["scale"] == 1.5


@pytest.mark.parametrize("name", [*INTERACTIONS, "flowers"])
def test_spec_rebuilds_every_interaction(name):
    energy = FreeEnergy(interaction=name, interaction_params={"scale": -2})
    again = rebuilt(energy)
    assert again.spec() == energy.spec()
    np.testing.assert_array_equal(again.interaction(X), energy.interaction(X))
    assert repr(again) == repr(energy)


def test_spec_tells_a_symmetrised_potential_from_an_interaction_of_its_name():
    params = {"matrix": [[1.0, 0.0], [0.0, 3.0]]}
    energy = FreeEnergy(interaction=SymmetrisedField(POTENTIALS["quadratic"], params))
    again = rebuilt(energy)
    assert isinstance(again.W, SymmetrisedField)
    np.testing.assert_array_equal(again.interaction(X), energy.interaction(X))


def test_spec_holds_defaults_and_lists():
    spec = FreeEnergy("quadratic", potential_params={"center": np.array([1, 2])}).spec()
    assert spec == {
        "potential": {
            "name": "quadratic",
            "params": {"scale": 1.0, "stiffness": 1.0, "matrix": None, "center": [1.0, 2.0]},
        },
        "interaction": None,
        "diffusivity": 0.0,
    }


def test_a_callable_has_no_spec():
    assert FreeEnergy(lambda x: x.sum(-1)).spec() is None
    assert FreeEnergy("flat", lambda z: z.square().sum(-1)).spec() is None
    empty = FreeEnergy()
    assert rebuilt(empty).spec() == empty.spec()
    assert empty.spec()["potential"] is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_in_numpy_out_torch_in_torch_out(dtype):
    energy = FreeEnergy("styblinski_tang", "gaussian_repulsion", 0.1)
    x = X.astype(dtype)
    x.flags.writeable = False  # as arrays from a store are
    for method in (
        energy.potential,
        energy.potential_gradient,
        energy.interaction,
        energy.interaction_gradient,
        energy.force,
        lambda x: energy.force(x, x[:5]),
    ):
        out = method(x)
        assert isinstance(out, np.ndarray)
        assert out.dtype == dtype
        tensor = method(torch.from_numpy(x.copy()))
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(out, tensor.numpy())


def test_whole_numbers_and_lists_are_positions_too():
    energy = FreeEnergy("quadratic")
    np.testing.assert_array_equal(energy.potential(np.array([[1, 2]])), [2.5])
    np.testing.assert_array_equal(energy.potential_gradient([[1, 2]]), [[1.0, 2.0]])
    assert energy.potential(torch.tensor([[1, 2]])).item() == 2.5


def test_nothing_is_zero():
    energy = FreeEnergy()
    x = np.array([[np.inf, 1.0]])
    for method in (energy.potential, energy.interaction):
        np.testing.assert_array_equal(method(x), [0.0])
    for method in (energy.potential_gradient, energy.interaction_gradient, energy.force):
        np.testing.assert_array_equal(method(x), [[0.0, 0.0]])
    assert not energy.time_dependent


def test_force_is_both_gradients():
    energy = FreeEnergy("double_well", "morse")
    y = X[:5] + 0.3
    pairs = X[:, None] - y
    pull = energy.interaction_gradient(pairs.reshape(-1, 2)).reshape(pairs.shape).mean(1)
    np.testing.assert_allclose(
        energy.force(X, y), -energy.potential_gradient(X) - pull, rtol=1e-9, atol=1e-12
    )
    # Among themselves the particles don't count themselves: the mean is over n − 1.
    alone = -energy.potential_gradient(X)
    np.testing.assert_allclose(
        energy.force(X) - alone, (energy.force(X, X) - alone) * 12 / 11, rtol=1e-9, atol=1e-12
    )


def test_callables_work_on_positions_and_on_pairs():
    # Written for (n, d) only, and without a closed form.
    named = FreeEnergy("quadratic", "quadratic")
    own = FreeEnergy(
        lambda x: 0.5 * (x[:, 0] ** 2 + x[:, 1] ** 2), lambda z: 0.5 * torch.sum(z**2, 1)
    )
    np.testing.assert_allclose(own.force(X), named.force(X), rtol=1e-12)
    np.testing.assert_allclose(own.interaction(X), named.interaction(X), rtol=1e-12)
    batch = torch.from_numpy(X).reshape(3, 4, 2)
    torch.testing.assert_close(own.potential(batch), named.potential(batch))


def test_a_callable_of_time():
    def swing(x, t):
        return t * x.sum(-1)

    energy = FreeEnergy(swing)
    assert energy.time_dependent
    np.testing.assert_allclose(energy.potential_gradient(X, 3.0), np.full_like(X, 3.0))
    t = np.arange(12.0)
    np.testing.assert_allclose(energy.potential(X, t), t * X.sum(-1))
    with pytest.raises(PopdynError, match="'swing' depends on time, and none was given"):
        energy.potential(X)
    batch = torch.from_numpy(X).reshape(3, 4, 2)
    times = torch.arange(3.0, dtype=torch.float64)[:, None]
    torch.testing.assert_close(energy.potential(batch, times), times * batch.sum(-1))


def test_a_constant_callable_has_no_force():
    energy = FreeEnergy(lambda x: torch.ones(len(x)))
    np.testing.assert_array_equal(energy.force(X), 0.0)


def test_repr_names_what_differs_from_the_defaults():
    energy = FreeEnergy(
        "quadratic", "flowers", 0.5, potential_params={"stiffness": 2, "center": [1, 2]}
    )
    assert repr(energy) == (
        "FreeEnergy(V=quadratic(stiffness=2, center=[1.0, 2.0]), W=symmetrised flowers, "
        "diffusivity=0.5)"
    )


MISTAKES = [
    ({"potential": "stiblinski"}, "unknown potential 'stiblinski': did you mean styblinski_tang"),
    ({"potential": "xyzzy"}, "unknown potential 'xyzzy': expected one of styblinski_tang, "),
    ({"interaction": "morsel"}, "unknown interaction 'morsel': did you mean morse"),
    ({"interaction": "flower"}, "did you mean flowers"),
    ({"potential": 3}, "the potential is 3: expected a name, a callable or None"),
    ({"interaction": 3}, "the interaction is 3: expected a name, a callable or None"),
    ({"diffusivity": -0.1}, "diffusivity is -0.1: expected a finite number ≥ 0"),
    ({"diffusivity": float("nan")}, "diffusivity is nan: expected"),
    ({"diffusivity": "much"}, "diffusivity is 'much': expected"),
    ({"potential_params": {"a": 1}}, "potential parameters a were given without a named potential"),
]
PARAMETER_MISTAKES = [
    ({"strenght": 1.0}, "has no parameter 'strenght': expected one of scale, strength, width"),
    (
        {"width": -1.0},
        "parameter 'width' of 'gaussian_repulsion' is -1.0: expected a finite number > 0",
    ),
    ({"width": 0}, "is 0: expected a finite number > 0"),
    ({"width": float("nan")}, "is nan: expected a finite number > 0"),
    ({"strength": float("inf")}, "is inf: expected a finite number"),
    ({"strength": "strong"}, "is 'strong': expected a finite number"),
    ({"strength": "1.0"}, "is '1.0': expected a finite number"),
    ({"strength": True}, "is True: expected a finite number"),
    ({"strength": None}, "is None: expected a finite number"),
    ({"strength": [1.0, 2.0]}, "is [1.0, 2.0]: expected a finite number"),
    ({"scale": [1.0]}, "parameter 'scale' of 'gaussian_repulsion' is [1.0]"),
]
LIST_MISTAKES = [
    ({"means": []}, "parameter 'means' of 'gaussian_mixture' is []: expected finite numbers"),
    ({"means": [[1.0], [1.0, 2.0]]}, "expected finite numbers"),
    ({"weights": [1.0, -1.0]}, "is [1.0, -1.0]: expected finite numbers > 0"),
    ({"width": [1.0, float("nan")]}, "expected finite numbers > 0"),
]


def one_line(build, found):
    with pytest.raises(PopdynError) as error:
        build()
    assert found in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("given", "found"), MISTAKES)
def test_mistakes_are_one_line(given, found):
    one_line(lambda: FreeEnergy(**given), found)


@pytest.mark.parametrize(("params", "found"), PARAMETER_MISTAKES)
def test_wrong_parameters_are_one_line(params, found):
    one_line(lambda: FreeEnergy(interaction="gaussian_repulsion", interaction_params=params), found)


@pytest.mark.parametrize(("params", "found"), LIST_MISTAKES)
def test_wrong_lists_are_one_line(params, found):
    one_line(lambda: FreeEnergy("gaussian_mixture", potential_params=params), found)


def test_other_mistakes_are_one_line():
    one_line(
        lambda: FreeEnergy("flat").force(X, np.zeros((3, 5))),
        "the population has dimension 5: expected 2 as in x",
    )
    one_line(
        lambda: FreeEnergy(lambda x: x).potential(X),
        "returned (12, 2) for positions of shape (12, 2): expected a tensor of shape (12,)",
    )
    one_line(lambda: FreeEnergy(lambda x: 1.0).force(X), "returned float")
    one_line(lambda: FreeEnergy.from_spec({"potential": "flat"}), "the potential of an energy is")
    one_line(lambda: FreeEnergy.from_spec({"potential": {"name": "flt"}}), "did you mean flat")
