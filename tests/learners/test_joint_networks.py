"""Networks for V, W and β: their parts against closed forms, and fits with all of them."""

import math

import numpy as np
import pytest
import torch

import popdyn
from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.interactions import check_even
from popdyn.estimation.entropy import entropy, score
from popdyn.families.interaction_models import EvenNetwork, RadialNetwork, shifted_pairs
from popdyn.families.models import Scaling
from popdyn.learners.jko.inner import Proximal
from popdyn.learners.jko.inner_network import Network, TransportMap
from popdyn.learners.jko.log_determinant import exact_log_determinant, hutchinson_log_determinant

ALL = ("potential", "interaction", "diffusion")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def scaling(d, scale=1.5):
    return Scaling(torch.zeros(d), torch.full((d,), scale), -torch.ones(d), torch.ones(d), 1.0)


@pytest.fixture(scope="module")
def joint_data():
    energy = FreeEnergy("quadratic", "gaussian_repulsion", 0.2)
    start = {"mean": [1.5, -1.0], "std": 1.0}
    return popdyn.simulate(
        energy, particles=400, snapshots=4, dt=0.1, initial="gaussian", initial_params=start, seed=0
    )


def test_entropy_of_a_gaussian(generator):
    # The estimate's standard deviation is about √(d/2 + 1)/√n = 0.02.
    x = torch.randn(5000, 2, generator=generator) * torch.tensor([1.0, 3.0])
    assert entropy(x) == pytest.approx(math.log(2 * math.pi * math.e * 3.0), abs=0.08)


def test_entropy_does_not_fail_on_repeated_points(generator):
    x = torch.randn(300, 2, generator=generator)
    assert entropy(torch.cat([x, x[:200]])) == entropy(x)
    for few in (torch.ones(50, 2), torch.ones(1, 2), torch.cat([0 * x, 0 * x + 1])):
        assert math.isfinite(entropy(few))


def test_score_of_a_gaussian(generator):
    widths = torch.tensor([1.0, 2.0])
    x = torch.randn(5000, 2, generator=generator) * widths
    error = score(x) + x / widths**2
    assert error.square().mean() < 0.2**2 * (x / widths**2).square().mean()


def test_log_determinants(generator):
    d = 12
    net = TransportMap(scaling(d), 1, 2, generator)
    with torch.no_grad():
        net.weights[-1].mul_(30.0)
    x = torch.randn(2, 40, d, generator=generator)
    y, apply = net.linearised(x)
    torch.testing.assert_close(y, net(x))
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v.expand(2, 1, -1))[1, 0], x[1, 3])
    exact = exact_log_determinant(apply, x).detach()
    assert float(exact[1, 3]) == pytest.approx(float(torch.logdet(jacobian)), abs=1e-4)
    assert float(exact.std()) > 0.05
    draws = torch.stack(
        [hutchinson_log_determinant(apply, x, generator, probes=1).detach() for _ in range(100)]
    )
    error = draws.std(0) / 10.0
    assert ((draws.mean(0) - exact).abs() < 5 * error + 1e-3).all()


def test_two_dimensions_have_a_formula_of_their_own(generator):
    net = TransportMap(scaling(2), 1, 1, generator)
    with torch.no_grad():
        net.weights[-1].mul_(30.0)
    x = torch.randn(1, 5, 2, generator=generator)
    _, apply = net.linearised(x)
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda v: net(v[None, None])[0, 0], x[0, i])
        assert float(exact_log_determinant(apply, x)[0, i].detach()) == pytest.approx(
            float(torch.logdet(jacobian)), abs=1e-5
        )


def test_radial_network(generator):
    W = RadialNetwork(2.0, 1.5, generator=generator)
    z = 2.0 * torch.randn(300, 2, generator=generator)
    z.requires_grad_(True)
    (auto,) = torch.autograd.grad(W.value(z).sum(), z)
    z = z.detach()
    torch.testing.assert_close(W.gradient(z), auto, atol=1e-5, rtol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(W.value(z), W.network(W._place((z**2).sum(-1)))[0])
    weighed = 0.3 * W.value(z[:100]).mean() + 0.7 * W.value(z[100:200]).mean()
    both = W.average(z[:200].reshape(2, 100, 2), torch.tensor([0.3, 0.7]))
    torch.testing.assert_close(both, weighed)
    before = W.gradient(z)
    with torch.no_grad():  # as an optimiser does: the table must follow
        W.weights[-1].mul_(2.0)
    torch.testing.assert_close(W.gradient(z), 2 * before)


def test_even_network(generator):
    W = EvenNetwork(scaling(3), generator=generator)
    check_even(W, 3)
    z = torch.randn(50, 3, generator=generator, requires_grad=True)
    (auto,) = torch.autograd.grad(W.value(z).sum(), z)
    torch.testing.assert_close(W.gradient(z.detach()), auto)


def test_no_particle_meets_itself(generator):
    x = torch.randn(2, 7, 2, generator=generator)
    z = shifted_pairs(x, range(1, 7))
    assert z.shape == (2, 42, 2)
    assert (z.norm(dim=-1) > 0).all()
    every = (x[:, :, None] - x[:, None]).square().sum((1, 2, 3))
    torch.testing.assert_close(z.square().sum((1, 2)), every)


def test_the_adversary_finds_the_step_with_entropy(generator):
    # V = ½a|x|² on N(0, s²): the minimiser is T(x) = λx, aλs² − β/λ + (λ − 1)s²/τ = 0 for each
    # component. Without the entropy λ would be 1/(1 + aτ) = 0.71.
    a, beta, tau, s = 1.0, 0.5, 0.4, 1.0
    roots = np.roots([a * s**2 + s**2 / tau, -(s**2) / tau, -beta])
    stretch = float(roots[roots > 0][0])
    energy = FreeEnergy("quadratic", diffusivity=beta, potential_params={"stiffness": a})
    x = s * torch.randn(1, 1000, 2, generator=generator)
    start, length = torch.zeros(1, 1), torch.full((1, 1), tau)
    inner = Network(scaling(2, 1.0), 1, 250, False, 3e-3, generator)
    y = inner.solve(energy, x, start, length)
    found = float((x * y).sum() / (x * x).sum())
    assert stretch == pytest.approx(0.8772, abs=1e-3)
    assert found == pytest.approx(stretch, abs=0.03)
    assert inner.gain is not None
    assert float(inner.gain) == pytest.approx(2 * math.log(stretch), abs=0.08)
    assert inner.residual(energy, x, start, length) < 0.35
    without = FreeEnergy("quadratic", potential_params={"stiffness": a})
    assert inner.residual(without, x, start, length) > 0.9


def test_proximal_with_a_network_for_the_interaction(generator):
    W = RadialNetwork(1.0, 1.0, generator=generator).requires_grad_(False)
    with torch.no_grad():
        W.weights[-1].mul_(30.0)
    energy = FreeEnergy("quadratic", W)
    x = torch.randn(2, 60, 2, generator=generator)
    start, tau = torch.zeros(2, 1), torch.full((2, 1), 0.5)
    assert Proximal().residual(energy, x, start, tau) < 5e-3


@pytest.mark.parametrize(
    "options",
    [
        {"inner": "network", "diffusivity": 0.2},
        pytest.param(
            {"inner": "network", "diffusivity": 0.2, "interaction": "even", "batch": 40},
            marks=pytest.mark.slow,
        ),
        {"model": "network", "diffusivity": 0.2},
        {"inner": "proximal", "learn": ("potential", "interaction")},
        {"inner": "network", "learn": ("interaction",)},
    ],
)
def test_networks_with_interaction_are_saved_loaded_and_repeatable(tmp_path, joint_data, options):
    given = {"learn": ALL, "steps": 3, "every": 3, "batch": 100, "seeded": False} | options
    run, again = (popdyn.fit(joint_data, **given) for _ in range(2))
    popdyn.save_run(run, tmp_path / "run")
    loaded = popdyn.load_run(tmp_path / "run")
    x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    for other in (again, loaded):
        np.testing.assert_array_equal(run.energy.force(x), other.energy.force(x))
        assert other.energy.diffusivity == run.energy.diffusivity
    assert np.abs(run.energy.interaction_gradient(x)).max() > 0
    assert 0 < run.certificate["inner_residual"] < 5
    # Correcting V alone would be wrong where W or β acts as well.
    assert options.get("model") == "network" or "no second-order recovery" in "".join(run.notes)


def test_a_resumed_network_has_the_bits_of_an_usual_torch_one(joint_data, tmp_path):
    from popdyn.estimation.training_set import TrainingSet
    from popdyn.learners.ijkonet.options import IJKOnetOptions
    from popdyn.learners.ijkonet.problem import IJKOnetProblem

    options = IJKOnetOptions(
        inner="network", learn=ALL, diffusivity=0.2, seeded=False, batch=100, steps=20
    )
    data = TrainingSet.from_data(joint_data)
    one, two = (IJKOnetProblem(data, options) for _ in range(2))
    for step in range(4):
        one.step(step)
        if step == 1:
            two.load_state({k: v.clone() for k, v in one.state().items()})
    for step in (2, 3):
        two.step(step)
    for name, value in one.solution().items():
        assert torch.equal(value, two.solution()[name]), name


@pytest.mark.slow
def test_beta_is_held_at_the_weak_form_unless_entropies_are_asked_for(joint_data):
    given = {"learn": ("potential", "diffusion"), "seed": 0}
    seed = popdyn.fit(joint_data, **given).energy
    network = {"inner": "network", "steps": 4, "every": 4, "batch": 200, "seeded": False}
    held = popdyn.fit(joint_data, **given, **network).energy
    assert held.diffusivity == pytest.approx(seed.diffusivity)
    assert held.diffusivity_standard_error == pytest.approx(seed.diffusivity_standard_error)
    drifting = popdyn.fit(joint_data, **given, **network, entropy_gradient=True).energy
    assert 0 < drifting.diffusivity != held.diffusivity
    assert drifting.diffusivity_standard_error is None


def test_a_diverging_fit_is_an_error_in_one_line(joint_data):
    given = {"learn": ALL, "diffusivity": 0.2, "model": "network", "seeded": False, "steps": 5}
    with pytest.raises(popdyn.PopdynError, match="the training loss is nan at step"):
        popdyn.fit(joint_data, **given, learning_rate=1e30, batch=50)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inner": "proximal", "learn": ALL}, "no entropy term.*--inner simulate"),
        ({"inner": "network", "learn": ALL, "diffusivity": -0.1}, "-0.1"),
        ({"learn": ALL, "interaction": "even"}, "--model network"),
        ({"learn": ALL, "interaction": "odd"}, "radial or even"),
        ({"learn": ("diffusion",), "inner": "network"}, "alone with a network"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_line(joint_data, options, words):
    with pytest.raises(popdyn.PopdynError, match=words) as caught:
        popdyn.fit(joint_data, **options)
    assert "\n" not in str(caught.value)
