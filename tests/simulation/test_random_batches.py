"""The random batch method: unbiased, with a variance that shrinks as 1/P and with the step."""

import numpy as np
import pytest
import torch

from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.drive import Drive
from popdyn.simulation import simulate

ENERGY = FreeEnergy(interaction="gaussian_repulsion", interaction_params={"scale": 3.0})
N = 60


def batched_forces(partners, draws, n=N):
    """The same population's force, ``(draws, n, 2)``, and the exact one."""
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, generator=stream)
    drive = Drive(ENERGY, partners=partners, generator=stream)
    forces = []
    for _ in range(draws):
        drive.begin_step(x)
        forces.append(drive.gradient(x, 0.0))
    return torch.stack(forces), Drive(ENERGY).gradient(x, 0.0)


@pytest.mark.parametrize("partners", [1, 4, 6])  # 60 is a multiple of 2 and 5, not of 7
def test_the_batched_force_is_unbiased(partners):
    draws = 1000
    forces, exact = batched_forces(partners, draws)
    error = forces.mean(0) - exact
    standard_error = forces.std(0) / draws**0.5
    # 120 components: 4.5 standard errors are passed with probability 0.999
    assert (error.abs() < 4.5 * standard_error).all()


def test_the_variance_of_the_force_shrinks_with_the_number_of_partners():
    numbers = np.array([1, 2, 4, 8, 16])
    variances = np.array([float(batched_forces(p, 600)[0].var(0).mean()) for p in numbers])
    # drawn without repetition from n − 1: the factor of a finite population is known
    corrected = variances / (1 - (numbers - 1) / (N - 2))
    slope = np.polyfit(np.log(numbers), np.log(corrected), 1)[0]
    assert slope == pytest.approx(-1, abs=0.06)


def test_all_partners_are_the_exact_force():
    forces, exact = batched_forces(N - 1, 1)
    torch.testing.assert_close(forces[0], exact, rtol=1e-5, atol=1e-6)


def deviation(partners, step):
    """Mean square distance of batched from exact paths at time 1, from the same start."""
    kwargs = {"particles": 400, "times": [0, 1], "paired": True, "test_particles": 0, "step": step}
    exact = simulate(ENERGY, initial="gaussian", **kwargs)["train"]["x"].values[1]
    found = simulate(ENERGY, initial="gaussian", interaction_batch=partners, **kwargs)
    return float(np.square(found["train"]["x"].values[1] - exact).sum(1).mean())


def test_the_deviation_of_paths_shrinks_with_partners_and_with_the_step():
    coarse = deviation(2, 0.04)
    # 400 particles: the mean square has a relative standard error of about 7 %
    assert coarse / deviation(8, 0.04) == pytest.approx(4, rel=0.3)
    assert coarse / deviation(2, 0.01) == pytest.approx(4, rel=0.3)


def test_a_batched_population_keeps_its_mean():
    # within its group every pair acts on both, as in the exact system, when groups come out even
    data = simulate(
        ENERGY, particles=60, test_particles=0, paired=True, interaction_batch=4, dt=0.1
    )
    x = data["train"]["x"].values.astype(float)
    np.testing.assert_allclose(x.mean(1), np.tile(x[0].mean(0), (6, 1)), atol=1e-5)
