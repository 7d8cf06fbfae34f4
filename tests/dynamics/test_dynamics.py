"""Terms add up: drift, noise, growth and generator of dynamics, and the JSON that rebuilds them."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn.dynamics import (
    CIRCULATIONS,
    DIFFUSIONS,
    GROWTHS,
    Dynamics,
    FreeEnergy,
    Functions,
)
from popdyn.dynamics.drive import Drive

T = 0.7
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
ENERGY = FreeEnergy("styblinski_tang", "gaussian_repulsion", 0.3)


def everything(**changes):
    given = {"growth": "fading_bump", "circulation": "vortex", "diffusivity": "hollow"}
    return Dynamics(FreeEnergy("styblinski_tang", "gaussian_repulsion"), **(given | changes))


def test_an_energy_is_dynamics_whose_drift_is_its_force():
    assert isinstance(ENERGY, Dynamics)
    assert ENERGY.energy is ENERGY
    np.testing.assert_array_equal(ENERGY.drift(X), ENERGY.force(X))
    np.testing.assert_array_equal(ENERGY.drift(X, X[:7]), ENERGY.force(X, X[:7]))
    np.testing.assert_array_equal(ENERGY.noise(X), np.full(40, 0.3))
    np.testing.assert_array_equal(ENERGY.growth(X), np.zeros(40))
    assert Dynamics(ENERGY).terms.keys() == {"potential", "interaction", "diffusion"}
    assert FreeEnergy().drift(X).shape == X.shape
    assert not FreeEnergy().terms


def test_the_parts_are_sums_over_the_terms():
    flow = everything()
    assert list(flow.terms) == ["potential", "interaction", "diffusion", "circulation", "growth"]
    turning = Dynamics(circulation="vortex").drift(X)
    force = flow.energy.force(X)
    np.testing.assert_allclose(flow.drift(X, t=T), force + turning, rtol=1e-12)
    np.testing.assert_allclose(flow.noise(X), Dynamics(diffusivity="hollow").noise(X))
    assert flow.growth(X, T).shape == (40,)
    assert flow.beta is None
    assert ENERGY.beta == 0.3
    assert flow.time_dependent
    assert flow.interacting


def test_arrays_of_torch_give_arrays_of_torch():
    x = torch.from_numpy(X)
    flow = everything()
    for found, expected in (
        (flow.drift(x, t=T), flow.drift(X, t=T)),
        (flow.growth(x, T), flow.growth(X, T)),
        (flow.noise(x), flow.noise(X)),
    ):
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), expected)


def functions(x):
    """Three test functions with derivatives worked out by hand: x₁, |x|² and x₁x₂²."""
    one, zero, (a, b) = torch.ones(len(x)).to(x), torch.zeros(len(x)).to(x), x.T
    values = torch.stack([a, a**2 + b**2, a * b**2], 1)
    rows = [torch.stack(pair, 1) for pair in ((one, zero), (2 * a, 2 * b), (b**2, 2 * a * b))]
    return Functions(values, torch.stack(rows, 1), torch.stack([zero, 4 * one, 2 * a], 1))


def test_the_generator_is_that_of_drift_noise_and_growth():
    x, flow = torch.from_numpy(X), everything()
    f = functions(x)
    b, beta, g = flow.drift(x, t=T), flow.noise(x), flow.growth(x, T)
    expected = torch.stack(
        [
            (f.gradients[:, q] * b).sum(1) + beta * f.laplacians[:, q] + g * f.values[:, q]
            for q in range(3)
        ],
        1,
    )
    torch.testing.assert_close(flow.generator(f, x, T), expected, rtol=1e-12, atol=1e-12)
    assert FreeEnergy().generator(f, x).abs().max() == 0


def test_a_circulation_has_no_divergence_and_turns_left():
    for name in CIRCULATIONS:
        flow = Dynamics("quadratic", circulation=name)
        term = flow.terms["circulation"]
        x = torch.from_numpy(X[:5]).requires_grad_(True)
        jacobian = np.zeros((5, 2, 2))
        e = 1e-5
        for i in range(2):
            step = np.zeros(2)
            step[i] = e
            ahead, behind = (torch.from_numpy(X[:5] + s * step) for s in (1, -1))
            jacobian[:, :, i] = (term.drift(ahead) - term.drift(behind)).numpy() / (2 * e)
        divergence = np.trace(jacobian, axis1=1, axis2=2)
        np.testing.assert_allclose(divergence, 0.0, atol=1e-9, err_msg=name)
        assert term.drift(x.detach() * 1e-4)[0].isfinite().all()
        # near its centre each turns counterclockwise by its rate of 1
        near = torch.tensor([[1e-4, 0.0]], dtype=torch.float64)
        np.testing.assert_allclose(term.drift(near).numpy(), [[0.0, 1e-4]], atol=1e-9)


def test_a_circulation_turns_in_the_plane_that_it_is_given():
    x = RNG.normal(size=(6, 4))
    flow = Dynamics(circulation="rotation", circulation_params={"plane": [4, 2], "rate": 2.0})
    expected = np.zeros_like(x)
    expected[:, 3], expected[:, 1] = -2 * x[:, 1], 2 * x[:, 3]
    np.testing.assert_allclose(flow.drift(x), expected, rtol=1e-12)


def test_formulas_of_growths_and_diffusivities():
    a, b = X.T
    hill = np.exp(-((a - 1) ** 2 + (b + 1) ** 2) / (2 * 0.5**2))
    edge = 1 / (1 + np.exp(-((3 * a + 4 * b) / 5 - 0.2) / 0.3))
    params = {"direction": [3, 4], "offset": 0.2, "width": 0.3}
    center = {"center": [1, -1], "width": 0.5}
    growths = {
        "constant": ({"rate": -0.5}, np.full(40, -0.5)),
        "half_space": ({"rate": 2, "outside": -1, **params}, -1 + 3 * edge),
        "bump": ({"rate": 2, "base": -0.3, **center}, -0.3 + 2 * hill),
        "fading_bump": (
            {"rate": 2, "base": -0.3, "decay": 2.0, **center},
            -0.3 + 2 * hill * np.exp(-T / 2),
        ),
    }
    assert growths.keys() == set(GROWTHS)
    for name, (given, expected) in growths.items():
        found = Dynamics(growth=name, growth_params=given).growth(X, T)
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)
    low = {"low": 0.1, "high": 0.9}
    diffusions = {
        "rising": ({**low, **params}, 0.1 + 0.8 * edge),
        "hollow": ({**low, **center}, 0.9 - 0.8 * hill),
    }
    assert diffusions.keys() == set(DIFFUSIONS)
    for name, (given, expected) in diffusions.items():
        found = Dynamics(diffusivity=name, diffusivity_params=given).noise(X)
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)


def test_json_rebuilds_dynamics():
    flow = everything(circulation="along_levels", circulation_params={"rate": 0.5})
    again = Dynamics.from_spec(flow.spec())
    assert repr(again) == repr(flow)
    assert again.spec() == flow.spec()
    np.testing.assert_array_equal(again.drift(X, t=T), flow.drift(X, t=T))
    assert isinstance(Dynamics.from_spec(ENERGY.spec()), FreeEnergy)
    for part in ({"growth": lambda x: x[:, 0]}, {"circulation": lambda x: x}):
        assert everything(**part).spec() is None


def test_callables_are_terms():
    flow = Dynamics(
        growth=lambda x, t: t * x[:, 0],
        circulation=lambda x, t: t * x.flip(1),
        diffusivity=lambda x: x.square().sum(1),
    )
    np.testing.assert_allclose(flow.growth(X, T), T * X[:, 0])
    np.testing.assert_allclose(flow.drift(X, t=T), T * X[:, ::-1])
    np.testing.assert_allclose(flow.noise(X), (X**2).sum(1))


WRONG = [
    ({"growth": "bmp"}, "unknown growth 'bmp': did you mean bump?"),
    ({"growth": 3}, "the growth is 3"),
    ({"growth_params": {"rate": 1}}, "growth parameters rate were given without a named growth"),
    ({"growth": "bump", "growth_params": {"width": -1}}, "parameter 'width' of 'bump' is -1"),
    ({"circulation": "along_levels"}, "turns a potential's gradient: expected one"),
    ({"circulation": "rotation", "circulation_params": {"plane": [1, 1]}}, "two different"),
    ({"circulation": "rotation", "circulation_params": {"plane": [0, 1]}}, "counted from 1"),
    ({"energy": FreeEnergy(diffusivity=0.1), "diffusivity": "rising"}, "expected one of them"),
    ({"energy": Dynamics()}, "expected a FreeEnergy"),
]


@pytest.mark.parametrize(("given", "line"), WRONG)
def test_what_is_wrong_is_said_in_one_line(given, line):
    with pytest.raises(popdyn.PopdynError, match=line.replace("?", r"\?")) as error:
        Dynamics(**given)
    assert "\n" not in str(error.value)


def test_no_time_is_guessed_and_no_shape_taken():
    with pytest.raises(popdyn.PopdynError, match="depends on time, and none was given"):
        everything().growth(X)
    with pytest.raises(popdyn.PopdynError, match=r"returned \(40, 2\).* tensor of shape \(40,\)"):
        Dynamics(growth=lambda x: x).growth(X)
    with pytest.raises(
        popdyn.PopdynError, match=r"returned \(40,\).*expected a tensor of the same"
    ):
        Dynamics(circulation=lambda x: x[:, 0]).drift(X)
    with pytest.raises(popdyn.PopdynError, match="is -1 somewhere: expected numbers ≥ 0"):
        Dynamics(diffusivity=lambda x: -1 + 0 * x[:, 0]).noise(X)
    with pytest.raises(popdyn.PopdynError, match="components 1 and 2: expected components up to 1"):
        Dynamics(circulation="rotation").drift(X[:, :1])
    with pytest.raises(popdyn.PopdynError, match="components 1 and 3: expected components up to 2"):
        Dynamics(circulation="rotation", circulation_params={"plane": [1, 3]}).drift(X)
    with pytest.raises(popdyn.PopdynError, match="there is a circulation: expected a free energy"):
        FreeEnergy.from_spec(Dynamics(circulation="rotation").spec())


@pytest.mark.parametrize("name", ["gaussian_repulsion", "quadratic", "wavy_plateau"])
@pytest.mark.parametrize("partners", [None, 3])
def test_particles_act_with_their_weights(name, partners):
    """Against a sum by hand over pairs of which each counts with the other's weight."""
    energy = FreeEnergy(interaction=name)
    x = torch.from_numpy(X[:12])
    stream = torch.Generator().manual_seed(0)
    drive = Drive(energy, partners=partners, generator=stream)
    drive.weights = torch.linspace(0.1, 2.0, 12, dtype=torch.float64)
    rows = []
    for _ in range(1 if partners is None else 4000):
        drive.begin_step(x)
        rows.append(drive.drift(x, 0.0))
    found = torch.stack(rows)
    z = x[:, None] - x[None]
    pull = energy.interaction_gradient(z.reshape(-1, 2)).reshape(12, 12, 2)
    pull = pull * drive.weights[None, :, None] * (1 - torch.eye(12))[..., None]
    expected = -pull.sum(1) / 11
    if partners is None:
        torch.testing.assert_close(found[0], expected, rtol=1e-9, atol=1e-12)
    else:  # 5 standard errors of the mean over the groups
        error = found.std(0) / len(rows) ** 0.5
        assert ((found.mean(0) - expected).abs() <= 5 * error + 1e-9).all()
