"""iJKOnet: what it may see, what it finds, what it certifies, what it refuses."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn.base.intervals import Intervals
from popdyn.dynamics import FreeEnergy
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.models import MLPPotential, Scaling, SecondOrder
from popdyn.learners.ijkonet.options import IJKOnetOptions
from popdyn.learners.ijkonet.problem import interval_weights
from popdyn.learners.jko.inner import Proximal


def same_energy(a, b, dim=2):
    x = np.random.default_rng(0).normal(size=(50, dim)).astype(np.float32)
    np.testing.assert_array_equal(a.potential_gradient(x, 0.01), b.potential_gradient(x, 0.01))


NETWORK = {"model": "network", "batch": 300, "every": 10}


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({}, 0.9),
        ({"model": "network", "steps": 150, "every": 50, "batch": 500}, 0.6),
        pytest.param(
            {"inner": "proximal", "steps": 100, "every": 50, "batch": 500},
            0.6,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"inner": "network", "steps": 100, "every": 50, "batch": 500},
            0.3,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_recovers_styblinski_tang(small_data, options, least, skill):
    run = popdyn.fit(small_data, seed=0, **options)
    assert skill(run.energy, FreeEnergy("styblinski_tang"), small_data) > least
    assert run.converged
    assert run.certificate["inner_residual"] < 0.1
    assert run.certificate["gap_standard_error"] > 0


def test_a_network_that_only_stands_in_for_features_is_trained_for_less():
    assert IJKOnetOptions().training == (1000, 500)
    assert IJKOnetOptions(model="network").training == (2000, 1000)
    assert IJKOnetOptions(inner="network").training == (2000, 1000)
    assert IJKOnetOptions(steps=30, batch=20).training == (30, 20)


def test_an_unsolved_inner_problem_is_not_called_converged(small_data):
    run = popdyn.fit(small_data, inner="network", inner_steps=1, steps=3, batch=100)
    assert run.certificate["inner_residual"] > 0.1
    assert not run.converged
    assert any("inner problem not solved" in note for note in run.notes)


@pytest.mark.parametrize("options", [{}, NETWORK | {"steps": 20}])
def test_the_truth_stays_out_of_reach(small_data, options):
    blank = small_data.copy()
    for name in ("energy", "initial", "scheme", "step"):
        blank.attrs[name] = None
    one, two = (popdyn.fit(d, **options, seed=1) for d in (small_data, blank))
    same_energy(one.energy, two.energy)
    assert one.metrics == two.metrics


@pytest.mark.parametrize("options", [{}, NETWORK | {"steps": 20}])
def test_test_group_and_held_out_snapshots_are_not_looked_at(small_data, options):
    spoiled = small_data.copy(deep=True)
    spoiled["test"].x.values[:] = 7.0
    spoiled["train"].x.values[2] = 7.0
    one, two = (popdyn.fit(d, **options, hold_out=[2], seed=1) for d in (small_data, spoiled))
    same_energy(one.energy, two.energy)


@pytest.mark.parametrize("options", [{}, NETWORK | {"steps": 20}])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(small_data, options):
    one, two, other = (popdyn.fit(small_data, **options, seed=s) for s in (1, 1, 2))
    same_energy(one.energy, two.energy)
    with pytest.raises(AssertionError):
        same_energy(one.energy, other.energy)


def test_a_held_out_snapshot_makes_its_interval_longer(small_data):
    data = TrainingSet.from_data(small_data, [1])
    np.testing.assert_allclose(data.intervals.tau, [0.02, 0.01])
    assert data.indices == [0, 2, 3]


@pytest.mark.parametrize(
    "options", [pytest.param({}, marks=pytest.mark.slow), NETWORK | {"steps": 20}]
)
def test_time_varying_run_is_saved_and_loaded(tmp_path, options):
    moving = FreeEnergy("moving_well")
    data = popdyn.simulate(moving, particles=1000, snapshots=5, dt=0.1, seed=0)
    run = popdyn.fit(data, time_varying=True, **options)
    x = np.ones((3, 2), np.float32)
    early, late = (run.energy.potential_gradient(x, t) for t in (0.0, 0.4))
    assert np.abs(early - late).max() > 0
    popdyn.save_run(run, tmp_path / "run")
    loaded = popdyn.load_run(tmp_path / "run")
    same_energy(run.energy, loaded.energy)
    assert loaded.config == run.config
    assert loaded.summary() == run.summary()


def test_learned_potential_has_mean_zero(small_data):
    for options in ({}, {"inner": "proximal", "steps": 10, "every": 10, "batch": 300}):
        run = popdyn.fit(small_data, **options)
        training = TrainingSet.from_data(small_data)
        means = [float(run.energy.potential(x).mean()) for x in training.fit]
        spread = float(run.energy.potential(training.fit[0]).std())
        assert abs(np.mean(means)) < 1e-3 * max(1.0, spread)


def test_written_gradient_is_the_derivative_of_the_value():
    generator = torch.Generator().manual_seed(0)
    scaling = Scaling(torch.ones(3), torch.full((3,), 2.0), -torch.ones(3), torch.ones(3), 0.5)
    for span in (None, (0.0, 1.0)):
        V = MLPPotential(scaling, (16, 16), span, generator).double()
        x = 4 * torch.randn(40, 3, generator=generator, dtype=torch.float64)
        x.requires_grad_(True)
        (auto,) = torch.autograd.grad(V.value(x, 0.3).sum(), x)
        torch.testing.assert_close(V.gradient(x, 0.3), auto)


@pytest.mark.parametrize("options", [{}, NETWORK | {"steps": 20}])
def test_the_tail_confines(options):
    data = popdyn.simulate(FreeEnergy("sphere"), particles=500, snapshots=3, seed=0)
    run = popdyn.fit(data, **options)
    far = 50.0 * torch.eye(2)
    inward = -(run.energy.force(far) * far).sum(-1)
    assert (inward > 0).all()


def test_proximal_solves_a_step_where_the_fixed_point_iteration_diverges():
    # τ‖∇²V‖ = 5: y ← x − τ∇V(y) runs away, the minimiser is x / 6.
    energy = FreeEnergy("quadratic", potential_params={"stiffness": 5.0})
    x = torch.randn(1, 100, 2, generator=torch.Generator().manual_seed(0))
    one = torch.ones(1, 1)
    y = Proximal().solve(energy, x, 0 * one, one)
    torch.testing.assert_close(y, x / 6, atol=5e-3, rtol=0)


def test_proximal_with_interaction_is_one_joint_problem():
    # W = ½c|z|²: the mean stays, deviations shrink by 1 + τ c n/(n−1).
    energy = FreeEnergy(interaction="quadratic")
    n = 50
    x = torch.randn(1, n, 2, generator=torch.Generator().manual_seed(0))
    one = torch.ones(1, 1)
    y = Proximal().solve(energy, x, 0 * one, one)
    c = float(energy.interaction_gradient(torch.ones(1, 2))[0, 0])
    mean = x.mean(1, keepdim=True)
    torch.testing.assert_close(y, mean + (x - mean) / (1 + c * n / (n - 1)), atol=5e-3, rtol=0)


def test_second_order_recovery_has_order_two():
    # Implicit Euler of V against the flow of V − (τ/4)|∇V|²: the one-step error falls as τ³.
    class Wave(torch.nn.Module):
        time_dependent = False

        def value(self, x, t=None):
            return torch.cos(x).sum(-1)

        def gradient(self, x, t=None):
            return -torch.sin(x)

    x = torch.linspace(-2, 2, 30, dtype=torch.float64)[:, None]
    errors = []
    for tau in (0.2, 0.1, 0.05):
        y = x.clone()
        for _ in range(200):
            y = x + tau * torch.sin(y)
        exact = popdyn.simulation.advance(
            FreeEnergy(SecondOrder(Wave(), tau)), x, 0.0, tau, substeps=200
        )
        errors.append(float((y - exact).abs().max()))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 2.8).all(), orders


def test_interval_weights_are_the_straight_line():
    weights = interval_weights(Intervals(np.linspace(0, 1, 6)), [100] * 6)
    np.testing.assert_allclose(weights / weights[0], np.array([5, 8, 9, 8, 5]) / 5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learner": "ijkonett"}, "ijkonet"),
        ({"inner": "simulat"}, "simulate"),
        ({"wings": 2}, "no option 'wings'"),
        ({"diffusivity": -1.0}, "-1"),
        ({"inner": "proximal", "diffusivity": 0.1}, "--inner simulate"),
        ({"hold_out": [9]}, "9"),
        ({"hold_out": [0, 1, 2]}, "expected at least 2"),
        ({"device": "warp"}, "warp"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_bad_options_say_what_was_found(small_data, options, words):
    with pytest.raises(popdyn.PopdynError, match=words) as caught:
        popdyn.fit(small_data, **options)
    assert "\n" not in str(caught.value)


def test_zero_and_oracle(small_data, skill):
    zero = popdyn.fit(small_data, learner="zero").energy
    oracle = popdyn.fit(small_data, learner="oracle").energy
    truth = FreeEnergy("styblinski_tang")
    assert skill(zero, truth, small_data) == 0
    assert skill(oracle, truth, small_data) == 1
