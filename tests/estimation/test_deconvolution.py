"""Noise of the observation is taken out of the law, and of what is learned from it."""

import numpy as np
import pytest

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.estimation.deconvolution import without_noise


def mixture(n, dim, seed):
    rng = np.random.default_rng(seed)
    return 0.5 * rng.standard_normal((n, dim)) + rng.choice([-1.0, 1.0], (n, 1))


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_the_law_is_that_before_the_noise(dim, unit):
    x, noise = mixture(4000, dim, 0), np.full(dim, 0.3)
    y = x + noise * np.random.default_rng(1).standard_normal(x.shape)
    z = without_noise(unit * y + 7 * unit, unit * noise, "it") / unit - 7
    # Standard errors of the two moments over draws of 4000: 0.02 and 0.05.
    assert z.var(0) == pytest.approx(np.full(dim, 1.25), abs=0.08)
    assert (z**4).mean(0) == pytest.approx(np.full(dim, 2.6875), abs=0.3)
    assert (y**4).mean(0).min() > 3.1


def test_noise_of_one_component_leaves_the_other():
    y = mixture(1000, 2, 2)
    z = without_noise(y, np.array([0.2, 0.0]), "it")
    assert z[:, 1] == pytest.approx(y[:, 1])
    assert y[:, 0].var() - z[:, 0].var() == pytest.approx(0.04, rel=0.1)


@pytest.fixture(scope="module")
def noisy():
    energy = popdyn.FreeEnergy("styblinski_tang", potential_params={"scale": 0.05}, diffusivity=0.2)
    return popdyn.simulate(
        energy, particles=1000, snapshots=5, dt=0.2, step=0.05, noise=0.3, seed=0,
        initial="gaussian", initial_params={"mean": [1.5, -1.0], "std": 1.0},
    )  # fmt: skip


def test_diffusion_is_not_taken_for_noise(noisy):
    learn = ("potential", "diffusion")
    told = popdyn.fit(noisy, "weak_form", learn=learn, observation_noise=0.3)
    untold = popdyn.fit(noisy, "weak_form", learn=learn)
    error = told.energy.diffusivity_standard_error
    assert abs(told.energy.diffusivity - 0.2) < 3 * error
    # Noise in the first snapshot has been carried on, that in the next one is new.
    assert untold.energy.diffusivity > told.energy.diffusivity + 0.05
    assert told.config["observation_noise"] == [0.3, 0.3]
    assert any("as the store says" in note for note in untold.notes)
    assert not any("as the store says" in note for note in told.notes)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (-0.1, "at least 0"),
        (float("nan"), "at least 0"),
        ("much", "at least 0"),
        ([0.1, 0.1, 0.1], r"shape \(3,\): expected one number, or 2"),
        (5.0, r"observation_noise is 5 in component 1, where snapshot 0 spreads by"),
    ],
)
def test_what_is_refused(noisy, noise, words):
    with pytest.raises(PopdynError, match=words):
        popdyn.fit(noisy, "zero", observation_noise=noise)


def test_the_command_takes_it(run_popdyn, tmp_path, noisy):
    popdyn.write(noisy, tmp_path / "noisy.zarr")
    train = ("train", "noisy.zarr", "--learner", "zero", "--out")
    assert run_popdyn(*train, "run", "--observation-noise", "0.3,0.2").code == 0
    assert popdyn.load_run(tmp_path / "run").config["observation_noise"] == [0.3, 0.2]
    wrong = run_popdyn(*train, "other", "--observation-noise", "9")
    assert wrong.code == 1
    assert "observation_noise is 9 in component 1" in wrong.last_line
    assert not (tmp_path / "other").exists()


def test_outliers_lie_far_off_and_are_as_many_as_asked():
    energy = popdyn.FreeEnergy("quadratic")
    options = {"particles": 20_000, "snapshots": 2, "initial": "gaussian", "seed": 3}
    clean = popdyn.simulate(energy, **options)
    seen = popdyn.simulate(energy, **options, outliers=0.02)
    moved = (seen["train"].x.values != clean["train"].x.values).any(-1)
    assert (seen["test"].x.values == clean["test"].x.values).all()
    # Binomial: a standard deviation of 0.001.
    assert moved.mean(1) == pytest.approx([0.02, 0.02], abs=0.004)
    assert seen.attrs["outliers"] == 0.02
    assert np.abs(seen["train"].x.values).max() > 4.5
    with pytest.raises(PopdynError, match=r"outliers is 1"):
        popdyn.simulate(energy, outliers=1.0)
