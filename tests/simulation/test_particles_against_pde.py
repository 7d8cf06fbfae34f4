"""Histograms of particles against the cell masses that the finite-volume solver gives.

A cell passes if its frequency is within 5 standard errors of the solver's mass, plus a bound on
what is not noise:

- the solver's error: its mass on a grid of half as many cells differs by 4 − 1 = 3 times the
  error on the full grid (second order), so the difference is a bound;
- a population of n interacting particles follows the mean-field law up to O(1/n): 3/n of the mass;
- Heun's time-step error gets no allowance: measured on shared noise, two steps against one, it
  was at most 0.2 standard errors in any cell for the steps and numbers of particles used here.

Cells that expect fewer than 100 particles, and everything outside the box, are one cell: with 100
the normal approximation still makes 5 standard errors rare. The squares of all cells together
are tested too, by their χ² law at 1e-5, which sees a wrong noise scale long before one cell does.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.simulation.advance import advance
from popdyn.simulation.fokker_planck import fokker_planck
from popdyn.simulation.simulate import simulate

ALPHA = 1e-5


def gaussian(mean, std):
    mean = np.atleast_1d(mean)
    norm = (2 * np.pi * std**2) ** (len(mean) / 2)
    return lambda x: np.exp(-((x - mean) ** 2).sum(1) / (2 * std**2)) / norm


def masses(solution: xr.Dataset, bins: int) -> np.ndarray:
    """Return the mass of ``bins`` equal cells along each axis at each time, ``(time, bin)``."""
    rho = solution.density.values
    for axis in range(1, rho.ndim):
        x = solution[f"x{axis - 1}"].values
        rho = np.add.reduceat(rho, np.arange(0, len(x), len(x) // bins), axis) * (x[1] - x[0])
    return rho.reshape(len(rho), -1)


def reference(energy, initial, times, box, cells, bins) -> tuple[np.ndarray, np.ndarray]:
    """Return the masses ``(time, bin)`` after the first time, and bounds on their error."""
    fine, coarse = (
        masses(fokker_planck(energy, initial, times, bounds=box, cells=n), bins)[1:]
        for n in (cells, cells // 2)
    )
    return fine, np.abs(fine - coarse) + 1e-4 * fine


def frequencies(x: np.ndarray, box, bins: int) -> np.ndarray:
    """Return the fractions of the particles ``(n, d)`` in the bins."""
    counts, _ = np.histogramdd(x, bins, box)
    return counts.ravel() / len(x)


def merged(values: np.ndarray, keep: np.ndarray, total: float | None = 1.0) -> np.ndarray:
    """Return the values of the kept bins, and last what everything else makes up for."""
    rest = values[~keep].sum() if total is None else total - values[keep].sum()
    return np.append(values[keep], rest)


def excess(found: np.ndarray, p: np.ndarray, bias: np.ndarray, se: np.ndarray) -> np.ndarray:
    """Return by how many standard errors each cell misses, after the allowance for bias."""
    return np.maximum(np.abs(found - p) - bias, 0) / se


def passes(z: np.ndarray) -> bool:
    # The merged masses sum to 1: one degree of freedom fewer than cells.
    return bool(z.max() < 5 and (z**2).sum() < stats.chi2.isf(ALPHA, len(z) - 1))


def misses(
    energy, reference_energy=None, *, mean, std, times, box, cells, bins, particles, step, seed=0
):
    """Yield, for each time, the misses of independent particles in all cells."""
    p, bias = reference(reference_energy or energy, gaussian(mean, std), times, box, cells, bins)
    data = simulate(
        energy,
        particles=particles,
        times=times,
        step=step,
        dim=len(box),
        initial="gaussian",
        initial_params={"mean": mean, "std": std},
        test_particles=0,
        seed=seed,
    )
    for k in range(len(times) - 1):
        x = data["train"]["x"].values[k + 1]
        keep = particles * p[k] >= 100
        q = merged(p[k], keep)
        yield excess(
            merged(frequencies(x, box, bins), keep),
            q,
            merged(bias[k], keep, None),
            np.sqrt(q * (1 - q) / particles),
        )


DOUBLE_WELL = {
    "mean": [0.4],
    "std": 0.5,
    "times": [0, 0.2, 0.6, 1.5],
    "box": [(-5, 5)],
    "cells": 1600,
    "bins": 100,
    "step": 0.005,
}
MULLER_BROWN = {
    "mean": [0.3, -0.2],
    "std": 0.7,
    "times": [0, 0.1, 0.3, 0.8],
    "box": [(-6, 6), (-6, 6)],
    "cells": 120,
    "bins": 30,
    "step": 0.005,
}


def test_double_well():
    energy = FreeEnergy("double_well", diffusivity=0.5)
    for z in misses(energy, particles=400_000, **DOUBLE_WELL):
        assert len(z) > 20
        assert passes(z)


@pytest.mark.slow
def test_moving_potential():
    # A bistable potential whose tilt swings: what matters is that both read the same clock.
    energy = FreeEnergy(
        lambda x, t: (x.square() - 1).square().sum(-1) + 2 * math.sin(5 * t) * x[..., 0],
        diffusivity=0.4,
    )
    arguments = DOUBLE_WELL | {"box": [(-3.5, 3.5)], "times": [0.1, 0.3, 0.6, 1.0], "cells": 600}
    for z in misses(energy, particles=100_000, **arguments):
        assert passes(z)


@pytest.mark.slow
def test_muller_brown():
    energy = FreeEnergy("muller_brown", diffusivity=1.0)
    for z in misses(energy, particles=80_000, **MULLER_BROWN):
        assert len(z) > 60
        assert passes(z)


@pytest.mark.parametrize("name", ["rotation", "along_levels", "vortex"])
def test_circulation(name):
    energy = FreeEnergy("double_well", diffusivity=0.6)
    turning = Dynamics(energy, circulation=name, circulation_params={"scale": 2.0})
    arguments = MULLER_BROWN | {"times": [0, 0.3, 0.9], "mean": [1.5, -0.5]}
    for z in misses(turning, particles=80_000, **arguments):
        assert len(z) > 60
        assert passes(z)


def test_a_circulation_that_turns_too_slowly_is_seen():
    right, wrong = (
        Dynamics(
            FreeEnergy("double_well", diffusivity=0.6),
            circulation="rotation",
            circulation_params={"rate": rate},
        )
        for rate in (2.0, 1.9)
    )
    arguments = MULLER_BROWN | {"times": [0, 0.6], "mean": [1.5, -0.5]}
    (z,) = misses(wrong, right, particles=80_000, **arguments)
    assert not passes(z)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["double_well", "muller_brown"])
def test_potentials_on_a_million_particles(name):
    energy = FreeEnergy(name, diffusivity=0.5 if name == "double_well" else 1.0)
    arguments = DOUBLE_WELL if name == "double_well" else MULLER_BROWN | {"cells": 240}
    arguments = arguments | {"step": arguments["step"] / 2}
    for z in misses(energy, particles=1_000_000, seed=1, **arguments):
        assert passes(z)


def test_a_wrong_noise_scale_is_seen():
    # √(2β) off by 2 %.
    right, wrong = (FreeEnergy("double_well", diffusivity=beta) for beta in (0.5, 0.52))
    arguments = DOUBLE_WELL | {"times": [0, 0.6]}
    (z,) = misses(wrong, right, particles=500_000, **arguments)
    assert not passes(z)


def populations(energy, count, n, *, mean, std, times, substeps, seed):
    """Yield ``count`` independent populations of n interacting particles in 1-D at each time."""
    generator = torch.Generator().manual_seed(seed)
    x = mean + std * torch.randn(count, n, 1, generator=generator)
    for start, stop in itertools.pairwise(times):
        x = advance(energy, x, start, stop, substeps=substeps, generator=generator)
        yield x.numpy()


def interacting_misses(
    energy, reference_energy=None, *, count, n, mean, std, times, box, cells, bins, substeps, seed=0
):
    """Yield the misses for populations of interacting particles.

    Particles of one population are not independent, so the standard errors come from the
    scatter between populations; an empty cell has none, so it gets the weight of one particle.
    """
    p, bias = reference(reference_energy or energy, gaussian(mean, std), times, box, cells, bins)
    runs = populations(
        energy, count, n, mean=mean, std=std, times=times, substeps=substeps, seed=seed
    )
    for k, x in enumerate(runs):
        keep = count * n * p[k] >= 100
        found = np.stack([merged(frequencies(one, box, bins), keep) for one in x])
        q = merged(p[k], keep)
        yield excess(
            found.mean(0),
            q,
            merged(bias[k], keep, None) + 3 / n * q,
            np.maximum(found.std(0, ddof=1) / np.sqrt(count), 1 / (count * n)),
        )


INTERACTING = {
    "gaussian_repulsion": (
        FreeEnergy("quadratic", "gaussian_repulsion", 0.2, interaction_params={"strength": 3.0}),
        {"mean": 0.8, "std": 0.4},
    ),
    "quadratic": (
        FreeEnergy("double_well", "quadratic", 0.3, interaction_params={"strength": 1.5}),
        {"mean": 0.5, "std": 1.0},
    ),
}


POPULATIONS = {
    "count": 128,
    "n": 250,
    "times": [0, 0.15, 0.35, 0.6],
    "box": [(-5, 5)],
    "cells": 800,
    "bins": 50,
    "substeps": 12,
}


@pytest.mark.parametrize("name", INTERACTING)
def test_mckean_vlasov(name):
    energy, start = INTERACTING[name]
    for z in interacting_misses(energy, **POPULATIONS, **start):
        assert len(z) > 10
        assert z.max() < 5


@pytest.mark.parametrize("name", INTERACTING)
def test_a_missing_interaction_is_seen(name):
    energy, start = INTERACTING[name]
    alone = FreeEnergy(energy.V, None, energy.diffusivity)
    assert all(z.max() > 5 for z in interacting_misses(alone, energy, **POPULATIONS, **start))


@pytest.mark.slow
@pytest.mark.parametrize("name", INTERACTING)
def test_mckean_vlasov_in_large_populations(name):
    energy, start = INTERACTING[name]
    arguments = POPULATIONS | {"n": 1000, "seed": 1}
    for z in interacting_misses(energy, **arguments, **start):
        assert z.max() < 5
