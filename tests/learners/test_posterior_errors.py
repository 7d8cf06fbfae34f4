"""What a posterior says of the learned gradients: against draws from it; and in an ensemble."""

import dataclasses

import numpy as np
import pytest
import torch

import popdyn
from popdyn.estimation.evidence import MOST_ERRORS, Posterior, maximise_evidence
from popdyn.estimation.linearised import Linearised
from popdyn.families.features import FeatureMap, gaussian_block, polynomials
from popdyn.families.linear import LinearPotential, RadialFeatures, RadialInteraction
from popdyn.families.models import Scaling
from popdyn.learners import load_run, save_run

DRAWS = 300
# The standard deviation of DRAWS normal numbers is off by 1/√(2 DRAWS) of itself.
FIVE_ERRORS = 5 / (2 * DRAWS) ** 0.5


def dictionary() -> FeatureMap:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(400, 2))
    x = torch.from_numpy(points).float()
    scaling = Scaling(x.mean(0), x.std(0), x.amin(0), x.amax(0), 1.0)
    bumps = gaussian_block(points, [0, 1], 0.6, 20, "wide bumps")
    return FeatureMap(scaling, [*polynomials(2, scaling.high, 3, 2), bumps])


@pytest.mark.parametrize("t", [0.0, 0.7])
def test_the_error_of_a_potentials_gradient_is_its_spread_over_draws(t: float) -> None:
    features = dictionary()
    rng = np.random.default_rng(1)
    errors = torch.from_numpy(rng.normal(size=(features.size, 2, 5)))
    V = LinearPotential(features, torch.zeros(features.size, 2), (0.0, 1.0), errors)
    x = torch.from_numpy(rng.normal(size=(30, 2)) * 0.7).float()
    drawn = []
    for _ in range(DRAWS):
        weights = errors @ torch.from_numpy(rng.normal(size=5))
        drawn.append(LinearPotential(features, weights, (0.0, 1.0)).gradient(x, t))
    spread = torch.stack(drawn).std(0)
    torch.testing.assert_close(V.gradient_std(x, t), spread, rtol=FIVE_ERRORS, atol=1e-6)


def test_the_error_of_an_interactions_gradient_is_its_spread_over_draws() -> None:
    centers = 0.5 * torch.arange(6)
    features = RadialFeatures(3.0, centers, torch.full((6,), 0.5))
    rng = np.random.default_rng(2)
    errors = torch.from_numpy(rng.normal(size=(features.size, 3)))
    W = RadialInteraction(features, torch.zeros(features.size), errors)
    z = torch.from_numpy(2.0 * rng.normal(size=(30, 2)))
    assert (z.norm(dim=1) > 3.0).any()  # beyond the reach as well
    drawn, values = [], []
    for _ in range(DRAWS):
        weights = errors @ torch.from_numpy(rng.normal(size=3))
        one = RadialInteraction(features, weights)
        drawn.append(one.gradient(z))
        values.append(one.value(z) - one.value(z[:7]).mean())
    # The slope of a draw comes from its table, linearly interpolated.
    spread = torch.stack(drawn).std(0)
    torch.testing.assert_close(W.gradient_std(z), spread, rtol=FIVE_ERRORS, atol=1e-3)
    spread = torch.stack(values).std(0)
    torch.testing.assert_close(W.value_std(z, z[:7]), spread, rtol=FIVE_ERRORS, atol=1e-3)


def test_a_factor_of_the_covariance_keeps_the_largest_directions() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(MOST_ERRORS + 5, MOST_ERRORS + 5)) * np.geomspace(
        1.0, 1e-4, MOST_ERRORS + 5
    )
    size = len(root) + 1
    covariance = np.zeros((size, size))
    covariance[:-1, :-1] = root @ root.T
    posterior = Posterior(np.zeros(size), covariance, np.zeros(size), {}, {})
    factor = posterior.factor(slice(0, size - 1))
    assert factor.shape == (size, MOST_ERRORS)
    assert not factor[-1].any()
    # What is left out is at most the largest of the five smallest eigenvalues.
    assert factor @ factor.T == pytest.approx(covariance, abs=1e-6 * np.abs(covariance).max())
    assert posterior.factor(slice(3, 3)).shape == (size, 0)


@pytest.mark.slow
def test_an_ensemble_of_features_has_their_own_standard_error(tmp_path) -> None:
    repulsion = {"strength": 4.0}
    energy = popdyn.FreeEnergy("quadratic", "gaussian_repulsion", interaction_params=repulsion)
    # A cloud that moves: below sampling noise nothing would be learned.
    start = {"initial": "gaussian", "initial_params": {"mean": [1.5, -1.0], "std": 0.7}}
    data = popdyn.simulate(energy, particles=1000, snapshots=3, dt=0.2, seed=0, **start)
    learned = ("potential", "interaction")
    run = popdyn.fit(data, ensemble=2, learn=learned, seed=1)
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    at = torch.from_numpy(x)
    for term, found in (
        (run.energy.V, run.energy.potential_gradient_std(x)),
        (run.energy.W, run.energy.interaction_gradient_std(x)),
    ):
        own = torch.stack([m.gradient_std(at) for m in term.members])
        half = (0.5 * own.square().mean(0)).sqrt()
        assert float(half.max()) > 0.0
        assert found == pytest.approx(half.numpy(), rel=1e-5, abs=1e-7)
        # Two members' spread would need Student's quantile, 6.3.
        assert term.band_factor() == pytest.approx(1.645 * 1.5**0.5, rel=1e-3)
    save_run(run, tmp_path / "run")
    again = load_run(tmp_path / "run").energy
    assert np.array_equal(again.potential_gradient_std(x), run.energy.potential_gradient_std(x))
    assert np.array_equal(again.interaction_gradient_std(x), run.energy.interaction_gradient_std(x))


def test_a_direction_whose_bias_is_larger_than_itself_tells_nothing() -> None:
    spread = np.diag([100.0, 100.0, 100.0])
    right = np.array([50.0, 300.0, 20.0])
    system = Linearised(np.diag([80.0, -60.0, 90.0]), right, spread, 0.0, right, 10, 10.0)
    posterior = maximise_evidence(system, ["V"] * 3)
    assert posterior.mean[1] == 0.0
    assert posterior.covariance[1, 1] == pytest.approx(posterior.strengths["V"] ** 2, rel=0.05)
    positive = dataclasses.replace(system, matrix=np.diag([80.0, 60.0, 90.0]))
    assert maximise_evidence(positive, ["V"] * 3).mean[1] > 1.0


def test_a_single_fit_gives_the_error_of_its_gradient_in_the_datas_units(tmp_path) -> None:
    data = popdyn.simulate("styblinski_tang", particles=2000, snapshots=3, seed=0)
    run = popdyn.fit(data)
    x = np.random.default_rng(0).uniform(-3.0, 3.0, (400, 2)).astype(np.float32)
    error = run.energy.potential_gradient_std(x)
    off = run.energy.potential_gradient(x) - popdyn.FreeEnergy(
        "styblinski_tang"
    ).potential_gradient(x)
    assert error.shape == x.shape
    # Unknowns that are determined are few, so the share within their errors is known roughly.
    assert 0.5 < np.mean(np.abs(off) < 1.645 * error) <= 1.0
    assert np.sqrt(np.mean(error**2)) < 3.0 * np.sqrt(np.mean(off**2))
    save_run(run, tmp_path / "run")
    assert np.array_equal(load_run(tmp_path / "run").energy.potential_gradient_std(x), error)


def test_a_gradient_that_is_zero_for_its_noise_has_an_error() -> None:
    data = popdyn.simulate("flat", particles=300, snapshots=3, seed=0)
    energy = popdyn.fit(data).energy
    x = np.random.default_rng(0).uniform(-3.0, 3.0, (100, 2)).astype(np.float32)
    assert not energy.potential_gradient(x).any()
    # A force that is the same everywhere is known to √2 · spread / √300 / 0.02: no better here.
    least = 2**0.5 * 8 / 12**0.5 / 300**0.5 / 0.02
    assert energy.potential_gradient_std(x).mean() > 0.8 * least


def test_a_single_network_knows_no_error() -> None:
    data = popdyn.simulate("styblinski_tang", particles=100, snapshots=3, seed=0)
    energy = popdyn.fit(data, model="network", steps=2, hidden=(8,)).energy
    with pytest.raises(popdyn.PopdynError, match="no estimate that knows its standard error"):
        energy.potential_gradient_std(np.zeros((1, 2), np.float32))
