"""What the data tells apart: warned of where it does not, silent where it does."""

import numpy as np
import pytest

import popdyn
from popdyn.dynamics import FreeEnergy
from popdyn.estimation.identifiability import diagnose
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.interaction_models import RadialNetwork
from popdyn.families.models import LearnedTerm
from popdyn.learners.ensemble import MeanKernel, MeanTerm
from popdyn.learners.ijkonet.fit import fit_ijkonet
from popdyn.learners.ijkonet.options import IJKOnetOptions
from popdyn.learners.in_units import fit_in_units
from popdyn.learners.training import Workplace
from popdyn.snapshots import make_tree

ALL = ("potential", "interaction", "diffusion")
TIMES = 0.2 * np.arange(6)


def snapshots(mean, width, n=2000, d=2, seed=0):
    """Normal snapshots with a mean (first component) and a width for each time."""
    x = np.random.default_rng(seed).normal(size=(len(TIMES), n, d))
    x *= np.broadcast_to(width, len(TIMES))[:, None, None]
    x[..., 0] += np.broadcast_to(mean, len(TIMES))[:, None]
    x = x.astype(np.float32)
    return make_tree(x, x[:, :0], TIMES)


def found(data, learn=ALL):
    return diagnose(TrainingSet.from_data(data), learn, "diffusion" in learn)


def ou(mean, width, beta=0.2, **more):
    """Return snapshots of dX = −X dt + √(2β) dB from their closed form."""
    decay = np.exp(-TIMES)
    return snapshots(mean * decay, np.sqrt(width**2 * decay**2 + beta * (1 - decay**2)), **more)


@pytest.mark.parametrize("seed", range(3))
def test_a_population_that_moves_and_spreads_warns_of_nothing(seed):
    diagnosis = found(ou(2.0, 1.0, seed=seed))
    assert diagnosis.warnings == []
    assert diagnosis.gauge_error < 0.2
    assert diagnosis.diffusivity_error < 0.15


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("d", [1, 3])
def test_equal_marginals_are_called_so(seed, d):
    diagnosis = found(ou(0.0, 0.2**0.5, d=d, seed=seed))
    # χ² over its degrees of freedom, 4 polynomials for d = 1 and 34 for d = 3, 5 times.
    spread = (2 / (5 * (4 if d == 1 else 34))) ** 0.5
    assert diagnosis.motion == pytest.approx(1.0, abs=4 * spread)
    assert len(diagnosis.warnings) == 1
    assert "equal to their sampling noise" in diagnosis.warnings[0]
    assert "earlier snapshots" in diagnosis.warnings[0]
    assert found(ou(0.0, 0.2**0.5, d=d, seed=seed), ("potential",)).warnings == []


@pytest.mark.parametrize("seed", range(3))
def test_a_constant_mean_hides_the_gauge(seed):
    data = ou(0.0, 1.5, seed=seed)
    (warning,) = found(data, ("potential", "interaction")).warnings
    assert "V and W cannot be told apart" in warning
    assert "starts to one side" in warning
    assert found(data, ("potential", "diffusion")).warnings == []
    assert found(data, ("interaction", "diffusion")).gauge_error is None


@pytest.mark.parametrize("seed", range(3))
def test_near_equilibrium_v_and_beta_are_confused(seed):
    # The mean drifts at constant width: it moves, and what it does is as well V's as anything's.
    data = ou(0.25, 0.2**0.5, n=8000, seed=seed)
    (warning,) = found(data, ("potential", "diffusion")).warnings
    assert "V and β" in warning
    assert "earlier snapshots" in warning


def test_standard_error_of_beta_is_that_of_many_data_sets():
    # Least squares on the same polynomials, V free: its spread over data sets is the error given.
    errors = [found(ou(2.0, 1.0, seed=s), ("potential", "diffusion")) for s in range(4)]
    predicted = np.mean([e.diffusivity_error for e in errors])
    larger = found(ou(2.0, 1.0, n=8000), ("potential", "diffusion")).diffusivity_error
    assert predicted / larger == pytest.approx(2.0, rel=0.15)  # 1/√N


def test_the_certificate_and_the_command_say_it(tmp_path, run_popdyn):
    popdyn.write(snapshots(0.0, 1.0, n=200, d=1), tmp_path / "still.zarr")
    options = ("--learner", "weak_form", "--learn", "potential,diffusion")
    done = run_popdyn("train", "still.zarr", "--out", "run", *options)
    assert done.code == 0, done.err
    assert "warning: the snapshots are equal" in done.err
    certificate = popdyn.load_run(tmp_path / "run").certificate
    assert "equal to their sampling noise" in certificate["warnings"][0]
    assert certificate["identifiability"]["motion"] == pytest.approx(1.0, abs=0.8)


def test_one_particle_does_not_interact(tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 20, 2)).astype(np.float32)
    data = make_tree([x[0], x[1][:1], x[2]], x[:, :0], [0.0, 0.1, 0.2])
    with pytest.raises(popdyn.PopdynError, match="snapshot 1 has 1 training particles") as caught:
        popdyn.fit(data, learn=("potential", "interaction"))
    assert "\n" not in str(caught.value)


def test_members_spread_as_a_fit_to_all_particles():
    # The mean of a half, over many halves, around the mean of all: σ/√n, and not √2 times that.
    data = snapshots(0.0, 1.0, n=400)
    means = []
    for seed in range(400):
        half = TrainingSet.from_data(data, half=True, seed=seed)
        means.append(np.concatenate([half.fit[0], half.validation[0]]).mean(0))
    spread = np.std(means, axis=0, ddof=1)
    # The standard error of a standard deviation from 400 draws is 3.5 %.
    own = np.asarray(data["train"].x[0]).std(axis=0) / np.sqrt(400)
    np.testing.assert_allclose(spread / own, 1.0, atol=0.15)


def test_the_band_of_few_members_is_wide():
    several = [MeanTerm([LearnedTerm()] * count) for count in (2, 1000)]
    assert several[0].band_factor() == pytest.approx(6.314 * 1.5**0.5, rel=1e-3)
    assert several[1].band_factor() == pytest.approx(1.645, rel=2e-3)


def test_an_ensemble_is_its_members_and_radial_if_they_are(tmp_path):
    energy = FreeEnergy("quadratic", "gaussian_repulsion", 0.1)
    data = popdyn.simulate(energy, particles=200, snapshots=3, dt=0.2, seed=0)
    given = {
        "learn": ALL,
        "diffusivity": 0.1,
        "model": "network",
        "steps": 3,
        "every": 3,
        "seeded": False,
        "batch": 60,
    }
    run = popdyn.fit(data, ensemble=2, seed=5, **given)
    z = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    assert isinstance(run.energy.W, MeanKernel)
    assert all(isinstance(m.inner, RadialNetwork) for m in run.energy.W.members)
    members = [
        FreeEnergy(v, w) for v, w in zip(run.energy.V.members, run.energy.W.members, strict=True)
    ]
    # The same bits whichever process fitted a member: here this one fits the last again.
    seeds = np.random.SeedSequence([5, 7]).generate_state(2)
    half = TrainingSet.from_data(data, half=True, seed=int(seeds[1]))
    again = fit_in_units(fit_ijkonet, half, IJKOnetOptions(**given), Workplace()).energy
    np.testing.assert_array_equal(members[1].force(z), again.force(z))
    for name in ("potential_gradient", "interaction_gradient"):
        each = np.stack([getattr(m, name)(z) for m in members])
        np.testing.assert_allclose(getattr(run.energy, name)(z), each.mean(0), atol=1e-5)
        spread = getattr(run.energy, f"{name}_std")(z)
        np.testing.assert_allclose(spread, each.std(0, ddof=1), atol=1e-5)
    assert np.abs(spread).max() > 0
    popdyn.save_run(run, tmp_path / "run")
    loaded = popdyn.load_run(tmp_path / "run").energy
    np.testing.assert_array_equal(loaded.force(z), run.energy.force(z))
