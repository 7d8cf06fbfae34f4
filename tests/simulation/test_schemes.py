"""Schemes: their laws against exact ones, their orders, and what they refuse."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.interpolate import CubicSpline

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy, ScalarField
from popdyn.dynamics.drive import Drive
from popdyn.simulation import SCHEMES, advance, simulate
from popdyn.simulation.brownian import Brownian, Noise, join

ALPHA = 1e-5
BETA = 0.5
MEAN, STD = 1.0, 0.5
CONSISTENT = [name for name, scheme in SCHEMES.items() if scheme.consistent]


def normal_pvalue(samples, mean, variance):
    return stats.kstest(samples.ravel(), "norm", args=(mean, math.sqrt(variance))).pvalue


def ornstein_uhlenbeck(scheme, *, diffusivity=BETA, times=(0.0, 0.3, 1.0), step=0.01):
    """131 072 samples at each time: two independent components of 65 536 particles."""
    data = simulate(
        FreeEnergy("quadratic", diffusivity=diffusivity),
        particles=65_536,
        test_particles=0,
        times=times,
        step=step,
        scheme=scheme,
        initial="gaussian",
        initial_params={"mean": MEAN, "std": STD},
        seed=4,
    )
    return data["train"]["x"].values


def exact_law(t, diffusivity=BETA):
    decay = math.exp(-t)
    return MEAN * decay, STD**2 * decay**2 + diffusivity * (1 - decay**2)


@pytest.mark.parametrize("scheme", CONSISTENT)
def test_consistent_schemes_follow_the_exact_law(scheme):
    # The step's own bias moves the distribution function by 6e-4 at most (Euler), far below
    # the 6.8e-3 at which 131 072 samples reject at this level.
    x = ornstein_uhlenbeck(scheme)
    for k, t in enumerate((0.0, 0.3, 1.0)):
        assert normal_pvalue(x[k], *exact_law(t)) > ALPHA


@pytest.mark.parametrize("wrong", [0.5 * BETA, 1.15 * BETA])
def test_a_wrong_noise_scale_is_rejected(wrong):
    # √β in place of √(2β), and a scale that is off by 7 %.
    x = ornstein_uhlenbeck("heun", diffusivity=wrong)
    assert normal_pvalue(x[2], *exact_law(1.0)) < ALPHA


def test_one_step_follows_its_own_law_and_not_the_equation():
    tau = 0.3
    x = ornstein_uhlenbeck("one_step", times=(0.0, tau), step=None)
    own = MEAN * (1 - tau), STD**2 * (1 - tau) ** 2 + 2 * BETA * tau
    assert normal_pvalue(x[1], *own) > ALPHA
    assert normal_pvalue(x[1], *exact_law(tau)) < ALPHA


def test_jko_follows_its_own_law_and_not_the_equation():
    tau = 0.3
    x = ornstein_uhlenbeck("jko", times=(0.0, tau), step=None, diffusivity=0.0)
    own = MEAN / (1 + tau), STD**2 / (1 + tau) ** 2
    assert normal_pvalue(x[1], *own) > ALPHA
    assert normal_pvalue(x[1], *exact_law(tau, 0.0)) < ALPHA


@pytest.mark.parametrize("interaction", [None, "gaussian_repulsion"])
@pytest.mark.parametrize("potential", ["styblinski_tang", "wavy_plateau"])
def test_jko_data_is_stationary_for_the_jko_objective(potential, interaction):
    energy = FreeEnergy(potential, interaction)
    x = torch.empty(2, 200, 2).uniform_(-4, 4, generator=torch.Generator().manual_seed(0))
    y = advance(energy, x, 0.0, 0.01, scheme="jko")
    residual = (y.double() - x.double()) / 0.01 + Drive(energy).gradient(y.double(), 0.0)
    # float32 stores y to 6e-8·4; divided by τ, plus τ·|V″| ≤ 1 times as much from ∇V
    assert residual.abs().max() < 5e-5


def test_jko_solves_the_interaction_for_the_population_at_once():
    # V = 0, W = ½|z|²: the step contracts about the mean by 1/(1 + τ n/(n − 1)).
    x = torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(1))
    y = advance(FreeEnergy(interaction="quadratic"), x, 0.0, 0.5, scheme="jko")
    mean = x.mean(-2, keepdim=True)
    torch.testing.assert_close(y, mean + (x - mean) / (1 + 0.5 * 40 / 39), rtol=0, atol=1e-6)


class Rippled(ScalarField):
    """V = ½x² − ½x + ½(1 + sin 3t)(1 − cos 2x): bounded curvature, and time."""

    time_dependent = True

    def gradient(self, x, t=None):
        return x + torch.sin(2 * x) * (1 + math.sin(3 * t)) - 0.5


def strong_errors(name, levels, finest, paths=4000):
    """RMS distance to the path with 2^finest steps, on the same Brownian path."""
    scheme, drive = SCHEMES[name], Drive(FreeEnergy(Rippled(), diffusivity=BETA))
    stream = torch.Generator().manual_seed(1)
    x = torch.randn(paths, 1, generator=stream, dtype=torch.float64)
    runs = {level: x.clone() for level in (*levels, finest)}
    brownian = Brownian(BETA, integral=True, generator=stream)
    h = 2.0**-finest
    collected = {}
    for j in range(2**finest):
        fine = Noise(*(part.clone() for part in brownian.draw(x, h)))
        for level, run in runs.items():
            many = 2 ** (finest - level)
            collected[level] = fine if j % many == 0 else join(collected[level], fine, h)
            if j % many == many - 1:
                scheme.step(run, (j + 1 - many) * h, many * h, drive, collected[level])
    return [float((runs[level] - runs[finest]).square().mean().sqrt()) for level in levels]


@pytest.mark.parametrize("name", CONSISTENT)
def test_strong_order_is_as_declared(name):
    levels = [4, 5, 6]
    errors = strong_errors(name, levels, finest=10)
    order = -np.polyfit(levels, np.log2(errors), 1)[0]
    # The finest run's own error is within 2^−4 of the coarse ones'; the sampling error is less.
    assert order == pytest.approx(SCHEMES[name].strong_order, abs=0.2)


def expectation(name, steps):
    """E[tanh X + X²/10] at time 1 from three starting points, without sampling.

    One step back in time is a Gauss–Hermite mean over the noise of the scheme's own step.
    """
    scheme, drive = SCHEMES[name], Drive(FreeEnergy(Rippled(), diffusivity=BETA))
    h, grid = 1.0 / steps, np.linspace(-7, 7, 561)
    nodes, weights = np.polynomial.hermite_e.hermegauss(11)
    weights = weights / weights.sum()
    second = nodes if scheme.integral else np.zeros(1)
    first, other = (a.ravel() for a in np.meshgrid(nodes, second, indexing="ij"))
    weights = np.outer(weights, weights).ravel() if scheme.integral else weights
    sigma = math.sqrt(2 * BETA * h)
    increment = torch.from_numpy(sigma * np.tile(first, len(grid)))[:, None]
    integral = h / 2 * increment + torch.from_numpy(
        sigma * h / math.sqrt(12) * np.tile(other, len(grid))
    ).unsqueeze(1)
    values = np.tanh(grid) + grid**2 / 10
    for j in reversed(range(steps)):
        x = torch.from_numpy(np.repeat(grid, len(weights)))[:, None]
        scheme.step(x, j * h, h, drive, Noise(increment, integral))
        values = CubicSpline(grid, values)(x.numpy().reshape(len(grid), -1)) @ weights
    return CubicSpline(grid, values)(np.array([-1.0, 0.3, 1.0]))


@pytest.mark.parametrize("name", CONSISTENT)
def test_weak_order_is_as_declared(name):
    fine, finer = expectation("heun", 128), expectation("heun", 256)
    exact = finer + (finer - fine) / 3
    steps = [8, 16, 32]
    errors = [np.abs(expectation(name, n) - exact).max() for n in steps]
    order = -np.polyfit(np.log2(steps), np.log2(errors), 1)[0]
    assert order == pytest.approx(SCHEMES[name].weak_order, abs=0.3)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_runs_an_interacting_population(name):
    beta = 0.1 if SCHEMES[name].noise else 0.0
    energy = FreeEnergy("quadratic", "gaussian_repulsion", beta)
    data = simulate(energy, particles=50, test_particles=0, snapshots=3, scheme=name)
    assert np.isfinite(data["train"]["x"].values).all()


def test_milstein_is_euler_for_additive_noise():
    a, b = (ornstein_uhlenbeck(s, times=(0.0, 0.1)) for s in ("milstein", "euler_maruyama"))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("scheme", "energy", "options", "line"),
    [
        ("jko", FreeEnergy("quadratic", diffusivity=0.1), {}, "'jko' and diffusivity 0.1"),
        (
            "jko",
            FreeEnergy("quadratic", "quadratic"),
            {"interaction_batch": 2},
            "'jko' and interaction_batch 2",
        ),
        ("one_step", FreeEnergy("quadratic"), {"step": 0.1}, "'one_step' and step 0.1"),
        ("one_step", FreeEnergy("quadratic"), {"check_step": True}, "'one_step' and check_step"),
        ("heun", FreeEnergy("quadratic"), {"interaction_batch": 2}, "there is no interaction"),
        ("euler", FreeEnergy("quadratic"), {}, "did you mean euler_maruyama"),
    ],
)
def test_impossible_pairs_are_refused_with_the_reason(scheme, energy, options, line):
    with pytest.raises(PopdynError, match=line):
        simulate(energy, particles=10, scheme=scheme, **options)


def test_srk_refuses_what_advance_cannot_give_it():
    x, energy = torch.zeros(2, 5, 2), FreeEnergy("quadratic", diffusivity=0.1)
    with pytest.raises(PopdynError, match="same step for all populations"):
        advance(energy, x, torch.zeros(2), torch.ones(2), scheme="srk")
    with pytest.raises(PopdynError, match="draws more than increments"):
        advance(energy, x, 0.0, 1.0, scheme="srk", substeps=1, noise=torch.zeros(1, 2, 5, 2))


def test_torchsde_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    energy, stream = FreeEnergy("quadratic", diffusivity=0.1), torch.Generator()
    advance(energy, torch.zeros(5, 2), 0.0, 1.0, scheme="srk", generator=stream)
    assert torch.equal(torch.rand(3), expected)
