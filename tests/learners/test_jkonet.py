"""JKOnet: its maps, its derivative through the inner problem, what it finds and refuses."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn.dynamics import FreeEnergy
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.models import Scaling
from popdyn.learners.jkonet import JKOnetOptions, JKOnetProblem, sinkhorn_pull
from popdyn.learners.jkonet_map import ConvexMaps
from popdyn.snapshots import make_tree, positions


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def shrinking():
    """Implicit steps of ½·3|x|² with τ = 0.1: each divides positions by 1.3."""
    rng = np.random.default_rng(0)
    snapshots = [(rng.normal(size=(400, 2)) / 1.3**k).astype(np.float32) for k in range(4)]
    return make_tree(snapshots, snapshots, 0.1 * np.arange(4))


def test_maps_are_gradients_of_convex_functions():
    scaling = Scaling(
        torch.ones(3), torch.tensor([1.0, 2.0, 0.5]), -torch.ones(3), torch.ones(3), 1
    )
    maps = ConvexMaps(scaling.double(), 2, (16, 16), torch.Generator().manual_seed(0))
    weights = {k: 3.0 * v.double() for k, v in maps.weights.items()}  # far from the first ones

    def one(x):
        return maps(weights, x.expand(2, 1, 3))[1, 0]

    for x in normal(20, 3):
        bend = torch.func.jacrev(one)(x)
        torch.testing.assert_close(bend, bend.T)
        assert torch.linalg.eigvalsh(bend).min() > 0


def test_the_pull_is_the_derivative_of_the_divergence():
    x, y = normal(1, 12, 2), normal(1, 12, 2, seed=1) + 0.5
    pull, _ = sinkhorn_pull(x, y, 0.5, iterations=2000)

    def half_divergence(z):
        return 0.5 * sinkhorn_pull(z, y, 0.5, iterations=2000)[1]

    for i, c in ((0, 0), (5, 1)):
        step = torch.zeros_like(x)
        step[0, i, c] = 1e-5
        slope = (half_divergence(x + step) - half_divergence(x - step)) / 2e-5
        np.testing.assert_allclose(float(pull[0, i, c]) / 12, slope, rtol=1e-4, atol=1e-8)


def test_the_implicit_derivative_is_that_of_the_inner_solution(shrinking):
    # y = x/(1 + τa) solves the step of ½a|x|², so that dy/da = −τy/(1 + τa).
    problem = JKOnetProblem(TrainingSet.from_data(shrinking), JKOnetOptions(batch=50))
    a, tau = 2.0, 0.1
    problem.V = FreeEnergy("quadratic", potential_params={"stiffness": a}).V
    x = normal(3, 50, 2).float()
    y, pull = x / (1 + tau * a), normal(3, 50, 2, seed=1).float()
    through = problem._implicit(y, pull)
    torch.testing.assert_close((pull * (-tau * y / (1 + tau * a))), -through * tau * y)


@pytest.mark.slow
def test_it_recovers_a_quadratic(shrinking):
    options = {"steps": 40, "batch": 150, "every": 10, "map_hidden": (32, 32)}
    run = popdyn.fit(shrinking, learner="jkonet", learning_rate=1e-2, seed=0, **options)
    x = positions(shrinking, 1)
    wrong = run.energy.potential_gradient(x) - 3.0 * x
    assert 1 - (wrong**2).sum() / ((3.0 * x) ** 2).sum() > 0.7
    assert run.converged == (run.certificate["inner_residual"] < 0.2)
    best = min(run.metrics, key=lambda m: m["criterion"])
    assert best["step"] == run.certificate["best_step"]


FAST = {"steps": 4, "batch": 50, "every": 2, "inner_steps": 2, "map_hidden": (8, 8)}


def test_a_run_is_saved_loaded_and_the_same_again(tmp_path, shrinking):
    one, two = (popdyn.fit(shrinking, learner="jkonet", seed=1, **FAST) for _ in range(2))
    popdyn.save_run(one, tmp_path / "run")
    loaded = popdyn.load_run(tmp_path / "run")
    x = positions(shrinking, 1)
    for other in (two, loaded):
        np.testing.assert_array_equal(
            one.energy.potential_gradient(x), other.energy.potential_gradient(x)
        )


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, shrinking):
    data = TrainingSet.from_data(shrinking)
    options = JKOnetOptions(**FAST)
    whole, before, after = (JKOnetProblem(data, options) for _ in range(3))
    for step in range(4):
        whole.step(step)
    for step in range(2):
        before.step(step)
    after.load_state({k: v.clone() for k, v in before.state().items()})
    for step in range(2, 4):
        after.step(step)
    for name, weight in whole.solution().items():
        torch.testing.assert_close(weight, after.solution()[name], rtol=0, atol=0)


def test_repeated_particles_are_no_trouble():
    x = np.repeat(np.random.default_rng(0).normal(size=(10, 2)), 8, 0).astype(np.float32)
    data = make_tree([x, x, x], [x, x, x], np.arange(3) / 10)
    energy = popdyn.fit(data, learner="jkonet", **FAST).energy
    assert np.isfinite(energy.potential_gradient(x)).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learn": ("potential", "diffusion")}, "learns 'potential' alone"),
        ({"inner_steps": 0}, "inner_steps is 0"),
        ({"batch": 1}, "batch is 1"),
        ({"epsilon": 0.0}, "epsilon is 0"),
        ({"map_hidden": (8,)}, "2 widths"),
        ({"hidden": ()}, "hidden"),
        ({"time_varying": True}, "no option 'time_varying'"),
    ],
)
def test_bad_options_say_what_was_found_by_jkonet(shrinking, options, words):
    with pytest.raises(popdyn.PopdynError, match=words) as caught:
        popdyn.fit(shrinking, learner="jkonet", **options)
    assert "\n" not in str(caught.value)
