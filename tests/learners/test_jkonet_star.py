"""JKOnet*: what it finds on data of exact steps and of dynamics, and what it refuses."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.pairwise import mean_interaction_gradient
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.models import Scaling
from popdyn.learners import LEARNERS
from popdyn.learners.jkonet_star.fit import _parted
from popdyn.learners.jkonet_star.terms import RadialMLP, SoftplusPotential
from popdyn.snapshots import make_tree, positions

TAU = 0.1
EXACT = {"debias": False, "early_stop": False, "ridge": 1e-9, "block": 0}


def steps_of(step, count=4, n=300, seed=0):
    """Snapshots of the same particles, each a JKO step of the last."""
    x = np.random.default_rng(seed).normal(size=(n, 2))
    x = (x - x.mean(0)) / x.std(0)
    snapshots = [x]
    for _ in range(count):
        snapshots.append(step(snapshots[-1]))
    snapshots = [x.astype(np.float32) for x in snapshots]
    return make_tree(snapshots, snapshots, TAU * np.arange(count + 1))


def fit(data, **options):
    return popdyn.fit(data, learner="jkonet_star", seed=0, **options)


def test_the_closed_form_recovers_a_quadratic():
    # An implicit step of ½c|x|² divides x by 1 + τc, and the coupling is each particle's own.
    data = steps_of(lambda x: x / (1 + 2.0 * TAU))
    energy = fit(data, model="features", **EXACT).energy
    with pytest.raises(popdyn.PopdynError, match="no estimate that knows its standard error"):
        energy.potential_gradient_std(np.zeros((1, 2)))
    x = positions(data, 2)
    np.testing.assert_allclose(energy.potential_gradient(x), 2.0 * x, atol=0.02)


def test_the_closed_form_recovers_an_interaction():
    # An implicit step of W = ½c|z|² divides deviations from the mean, here 0, by 1 + τc.
    data = steps_of(lambda x: x / (1 + 2.0 * TAU))
    energy = fit(data, model="features", learn=("interaction",), **EXACT).energy
    assert energy.V is None
    z = positions(data, 2)
    np.testing.assert_allclose(energy.interaction_gradient(z), 2.0 * z, atol=0.1)


# Ten components follow the sample's own noise, which attenuates β.
@pytest.mark.parametrize(("density", "within"), [("mixture", 0.15), ("score_matching", 0.03)])
def test_the_closed_form_recovers_diffusion(density, within):
    # A step of β∫ρ log ρ takes a Gaussian of width s to the width s′ with s′ − s = τβ/s′.
    beta = 0.5

    def step(x):
        s = x.std()
        return x * (s + np.sqrt(s**2 + 4 * TAU * beta)) / 2 / s

    data = steps_of(step, n=1000)
    energy = fit(data, model="features", learn=("diffusion",), density=density, **EXACT).energy
    assert abs(energy.diffusivity - beta) < within


def test_a_known_diffusivity_is_taken_off():
    # Equilibrium: V = β|x|²/2s² holds a Gaussian of width s against diffusion.
    data = steps_of(lambda x: x, n=1000)
    energy = fit(data, diffusivity=0.5, **EXACT).energy
    assert energy.diffusivity == 0.5
    x = positions(data, 2)
    wrong = energy.potential_gradient(x) - 0.5 * x
    assert (wrong**2).sum() < 0.05 * ((0.5 * x) ** 2).sum()


@pytest.fixture(scope="module")
def tang():
    return popdyn.simulate(FreeEnergy("styblinski_tang"), particles=1000, seed=0)


@pytest.mark.parametrize(
    ("options", "least"),
    [
        pytest.param({}, 0.85, marks=pytest.mark.slow),
        ({"model": "network", "epochs": 8}, 0.5),
        ({"model": "published", "early_stop": False, "epochs": 40}, 0.4),
    ],
)
def test_recovers_styblinski_tang(tang, options, least, skill):
    run = fit(tang, **options)
    assert skill(run.energy, FreeEnergy("styblinski_tang"), tang) > least
    if "best_epoch" in run.certificate:
        assert run.certificate["held_out"] == min(m["criterion"] for m in run.metrics)


@pytest.mark.slow
def test_held_out_couplings_stop_what_would_fit_noise(skill):
    # At N = 300 the sampling noise of `friedman` is larger than its signal.
    truth = FreeEnergy("friedman")
    data = popdyn.simulate(truth, particles=300, test_particles=1000, seed=0)
    stopped, fixed = (
        skill(fit(data, early_stop=stop, ridge=1e-4).energy, truth, data) for stop in (True, False)
    )
    assert fixed < -1.0
    assert stopped > -0.5


def test_halves_stop_a_network_that_would_fit_noise(skill):
    data = popdyn.simulate(FreeEnergy("flowers"), particles=300, test_particles=1000, seed=0)
    run, fixed = (fit(data, model="published", epochs=40, early_stop=s) for s in (True, False))
    # Judged by couplings of the particles that it is trained on it would run on to the end.
    assert run.converged
    assert run.certificate["best_epoch"] < 30
    truth = FreeEnergy("flowers")
    assert skill(run.energy, truth, data) > skill(fixed.energy, truth, data) + 1.0


def test_every_particle_is_held_out_once_in_each_way_to_part_them():
    snapshots = [torch.arange(101.0)[:, None], torch.arange(90.0)[:, None]]
    for block, count, ways in ((1000, 2, 6), (0, 2, 6), (30, 3, 4), (5, 12, 1)):
        rounds = _parted(snapshots, block, 12, 0)
        assert [len(parts) for parts in rounds] == [count] * ways
        for parts in rounds:
            for k, x in enumerate(snapshots):
                together = torch.cat([part[k] for part in parts])
                torch.testing.assert_close(together.sort(dim=0)[0], x)
    one, two = (_parted(snapshots, 0, 4, 0)[r][0][0] for r in (0, 1))
    assert not torch.equal(one, two)


NETWORK = {"model": "network", "epochs": 3}


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.slow), NETWORK, NETWORK | {"model": "published"}],
)
def test_a_moving_potential_is_saved_and_loaded(tmp_path, options):
    data = popdyn.simulate(FreeEnergy("moving_well"), particles=300, snapshots=5, dt=0.1, seed=0)
    run = fit(data, time_varying=True, **options)
    assert run.energy.time_dependent
    x = np.ones((3, 2), np.float32)
    early, late = (run.energy.potential_gradient(x, t) for t in (0.1, 0.4))
    assert np.abs(early - late).max() > 0
    popdyn.save_run(run, tmp_path / "run")
    loaded = popdyn.load_run(tmp_path / "run").energy
    np.testing.assert_array_equal(late, loaded.potential_gradient(x, 0.4))


@pytest.mark.slow
def test_a_moving_potential_is_followed(skill):
    data = popdyn.simulate(FreeEnergy("moving_well"), particles=1000, snapshots=5, dt=0.1, seed=0)
    assert skill(fit(data, time_varying=True).energy, FreeEnergy("moving_well"), data) > 0.8


@pytest.mark.slow
def test_networks_learn_interaction_and_diffusion(tmp_path):
    data = steps_of(lambda x: x / (1 + 2.0 * TAU))
    options = {"model": "network", "early_stop": False, "batch": 100, "epochs": 80}
    run = fit(data, learn=("interaction",), learning_rate=3e-3, **options)
    z = positions(data, 1)
    found = run.energy.interaction_gradient(z)
    assert ((found - 2.0 * z) ** 2).sum() < 0.1 * ((2.0 * z) ** 2).sum()
    popdyn.save_run(run, tmp_path / "run")
    loaded = popdyn.load_run(tmp_path / "run").energy
    np.testing.assert_array_equal(found, loaded.interaction_gradient(z))
    spreading = steps_of(lambda x: x * (1 + np.sqrt(1 + 4 * TAU * 0.5 / x.std() ** 2)) / 2, n=500)
    run = fit(spreading, learn=("diffusion",), learning_rate=3e-3, **options)
    assert abs(run.energy.diffusivity - 0.5) < 0.1


def test_repeated_particles_are_no_trouble():
    data = popdyn.simulate(FreeEnergy("quadratic"), particles=60, snapshots=3, seed=0)
    for group in ("train", "test"):
        x = data[group].x.values
        x[:, 30:] = x[:, :30]
    for options in ({}, {"learn": ("potential", "diffusion"), "density": "mixture"}):
        energy = fit(data, **options).energy
        assert np.isfinite(energy.potential_gradient(positions(data, 1))).all()


def test_the_truth_and_the_test_group_stay_out_of_reach(small_data):
    blank = small_data.copy(deep=True)
    for name in ("energy", "initial", "scheme", "step"):
        blank.attrs[name] = None
    blank["test"].x.values[:] = 7.0
    one, two = (fit(d, **NETWORK) for d in (small_data, blank))
    x = positions(small_data, 1)
    np.testing.assert_array_equal(*(r.energy.potential_gradient(x) for r in (one, two)))


@pytest.mark.slow
def test_learned_potential_has_mean_zero(small_data):
    for options in ({}, NETWORK):
        energy = fit(small_data, **options).energy
        training = TrainingSet.from_data(small_data)
        parts = zip(training.fit, training.validation, strict=True)
        means = [float(energy.potential(torch.cat(p)).mean()) for p in parts]
        spread = float(energy.potential(training.fit[0]).std())
        assert abs(np.mean(means)) < 1e-3 * max(1.0, spread)


def generator():
    return torch.Generator().manual_seed(0)


def test_written_gradients_are_the_derivatives_of_the_values():
    scaling = Scaling(torch.ones(3), torch.full((3,), 2.0), -torch.ones(3), torch.ones(3), 0.5)
    V = SoftplusPotential(scaling, (16, 16), (0.0, 1.0), generator()).double()
    W = RadialMLP(3.0, 2.0, (16, 16), generator()).double()
    x = torch.randn(40, 3, generator=generator(), dtype=torch.float64) * 2
    for value, gradient in ((lambda x: V.value(x, 0.3), V.gradient(x, 0.3)), (W.value, None)):
        at = x.clone().requires_grad_(True)
        (auto,) = torch.autograd.grad(value(at).sum(), at)
        torch.testing.assert_close(W.gradient(x) if gradient is None else gradient, auto)


def test_the_response_times_the_table_is_the_mean_field():
    W = RadialMLP(2.0, 1.0, (16, 16), generator()).double()
    x = torch.randn(30, 2, generator=generator(), dtype=torch.float64)
    y = torch.randn(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = W.responses(x, y) @ W.table()
    torch.testing.assert_close(found, mean_interaction_gradient(W, x, y))


def test_it_is_listed():
    assert "Terpin" in LEARNERS["jkonet_star"].summary


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "mpl"}, "expected one of features, network, published"),
        ({"density": "mixtur"}, "mixture"),
        ({"learn": ("potental",)}, "potental"),
        ({"diffusivity": -1.0}, "-1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"block": -1}, "block is -1"),
        ({"hidden": (0,)}, "hidden"),
        ({"ridge": 0.0}, "ridge is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"debias": 1.5}, "debias is 1.5"),
        ({"time_varying": True, "learn": ("interaction",)}, "time_varying"),
        ({"steps": 5}, "no option 'steps'"),
    ],
)
def test_bad_options_say_what_was_found(small_data, options, words):
    with pytest.raises(popdyn.PopdynError, match=words) as caught:
        fit(small_data, **options)
    assert "\n" not in str(caught.value)
