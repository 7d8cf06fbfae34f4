"""The finite-volume solver against closed-form solutions, and its invariants."""

import numpy as np
import pytest
import torch
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.simulation.fokker_planck import fokker_planck, reference_density

# Rounding over some hundreds of steps stays well below the 1e-12 that the solver promises.
MASS = 1e-12


def gaussian(mean, covariance):
    """Return the density of a Gaussian as a function of points (n, d)."""
    mean, covariance = np.atleast_1d(mean), np.atleast_2d(covariance)
    norm = np.sqrt(np.linalg.det(2 * np.pi * covariance))
    precision = np.linalg.inv(covariance)
    return lambda x: np.exp(-np.einsum("ni,ij,nj->n", x - mean, precision, x - mean) / 2) / norm


def uniform(low, high, dim):
    return lambda x: ((x >= low) & (x <= high)).all(1) / (high - low) ** dim


def centres(solution: xr.Dataset) -> np.ndarray:
    axes = [solution[name].values for name in solution.density.dims[1:]]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def volume(solution: xr.Dataset) -> float:
    axes = [solution[name].values for name in solution.density.dims[1:]]
    return float(np.prod([axis[1] - axis[0] for axis in axes]))


def l1(solution: xr.Dataset, exact, k: int = -1) -> float:
    points = centres(solution)
    values = exact(points.reshape(-1, points.shape[-1])).reshape(points.shape[:-1])
    return float(np.abs(solution.density.values[k] - values).sum() * volume(solution))


def order(sizes, errors) -> float:
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def quadratic_form(Q):
    """Return V(x) = ½ xᵀQx."""
    matrix = torch.tensor(Q, dtype=torch.float64)
    return lambda x: ((x @ matrix) * x).sum(-1) / 2


def double_well(x):
    return (x.square() - 1).square().sum(-1)


def moving_well(x, t):
    return 2 * (x - t).square().sum(-1)


def repulsion(z):
    return torch.exp(-z.square().sum(-1) / 2)


def attraction(z):
    return z.square().sum(-1) / 2


def oscillator(x):
    return x.square().sum(-1) / 2


PARTS = {
    "double well": FreeEnergy(double_well, diffusivity=0.3),
    "moving well": FreeEnergy(moving_well, diffusivity=0.2),
    "repulsion": FreeEnergy(double_well, repulsion, diffusivity=0.1),
    "attraction alone": FreeEnergy(None, attraction, diffusivity=0.05),
    "steep, nearly deterministic": FreeEnergy(lambda x: 50 * double_well(x), diffusivity=0.01),
    "deterministic": FreeEnergy(double_well),
    "free diffusion": FreeEnergy(diffusivity=0.1),
}


class TestKnownSolutions:
    def test_ornstein_uhlenbeck_is_second_order_in_1d(self):
        beta, m0, v0, t = 0.3, 1.0, 0.2, 0.7
        energy = FreeEnergy(oscillator, diffusivity=beta)
        exact = gaussian(m0 * np.exp(-t), beta + (v0 - beta) * np.exp(-2 * t))
        cells = [50, 100, 200, 400]
        errors = [
            l1(
                fokker_planck(
                    energy, gaussian(m0, v0), [0, t], bounds=[(-4, 4)], cells=n, step=0.002
                ),
                exact,
            )
            for n in cells
        ]
        assert order(1 / np.array(cells), errors) > 1.95
        assert errors[-1] < 2e-4

    def test_ornstein_uhlenbeck_is_second_order_in_2d(self):
        # A rotated well, another number of cells and another box on each axis: no symmetry hides
        # a mix-up of the axes.
        Q, beta, t = np.array([[1.5, 0.6], [0.6, 0.8]]), 0.4, 0.5
        m0, S0 = np.array([0.8, -0.4]), np.array([[0.3, 0.1], [0.1, 0.2]])
        values, vectors = np.linalg.eigh(Q)
        decay = vectors @ np.diag(np.exp(-t * values)) @ vectors.T
        end = beta * np.linalg.inv(Q)
        exact = gaussian(decay @ m0, end + decay @ (S0 - end) @ decay)
        energy = FreeEnergy(quadratic_form(Q), diffusivity=beta)
        factors = np.array([1, 2, 3])
        errors = [
            l1(
                fokker_planck(
                    energy,
                    gaussian(m0, S0),
                    [0, t],
                    bounds=[(-4, 4), (-4.5, 5)],
                    cells=(32 * f, 40 * f),
                    step=0.005,
                ),
                exact,
            )
            for f in factors
        ]
        assert order(1 / factors, errors) > 1.9
        assert errors[-1] < 5e-3

    def test_quadratic_interaction_is_second_order(self):
        # W = c z²/2 alone: the mean stays, and the variance follows dv/dt = 2β − 2cv.
        c, beta, v0, t = 1.5, 0.3, 0.6, 0.5
        energy = FreeEnergy(None, lambda z: c * attraction(z), diffusivity=beta)
        exact = gaussian(0.5, beta / c + (v0 - beta / c) * np.exp(-2 * c * t))
        cells = [50, 100, 200]
        errors = [
            l1(
                fokker_planck(
                    energy, gaussian(0.5, v0), [0, t], bounds=[(-5, 6)], cells=n, step=0.005
                ),
                exact,
            )
            for n in cells
        ]
        assert order(1 / np.array(cells), errors) > 1.95
        assert errors[-1] < 2e-3

    def test_quadratic_interaction_in_2d(self):
        c, beta, v0, t = 1.5, 0.5, 0.3, 0.3
        energy = FreeEnergy(None, lambda z: c * attraction(z), diffusivity=beta)
        exact = gaussian([0.5, -0.5], (beta / c + (v0 - beta / c) * np.exp(-2 * c * t)) * np.eye(2))
        errors = [
            l1(
                fokker_planck(
                    energy,
                    gaussian([0.5, -0.5], v0 * np.eye(2)),
                    [0, t],
                    bounds=[(-3, 4), (-4, 3.5)],
                    cells=(n, n + 4),
                    step=0.02,
                ),
                exact,
            )
            for n in (24, 48)
        ]
        assert errors[0] / errors[1] > 3.5

    def test_moving_well_carries_the_gaussian_along(self):
        # V = 2(x − t)²: dm/dt = −4(m − t), so m = t − ¼ + (m₀ + ¼) e^{−4t}; times from 0.5 on,
        # so that a solver which forgets the absolute time is caught.
        beta, v0, t0, t1 = 0.2, 0.1, 0.5, 1.1
        energy = FreeEnergy(moving_well, diffusivity=beta)
        v = beta / 4 + (v0 - beta / 4) * np.exp(-8 * (t1 - t0))
        m = t1 - 0.25 + (0.25 - t0) * np.exp(-4 * (t1 - t0))
        solution = fokker_planck(
            energy, gaussian(0.0, v0), [t0, 0.8, t1], bounds=[(-2, 3)], cells=400
        )
        assert l1(solution, gaussian(m, v)) < 1e-3

    def test_without_diffusivity_upwind_fluxes_are_first_order(self):
        m0, v0, t = 1.0, 0.3, 0.5
        energy = FreeEnergy(oscillator)
        exact = gaussian(m0 * np.exp(-t), v0 * np.exp(-2 * t))
        cells = [100, 200, 400]
        runs = [
            fokker_planck(energy, gaussian(m0, v0), [0, t], bounds=[(-3, 5)], cells=n, step=0.005)
            for n in cells
        ]
        errors = [l1(run, exact) for run in runs]
        assert 0.8 < order(1 / np.array(cells), errors) < 1.2
        # The stated numerical diffusivity is E|x| h/2, largest at the start.
        speed = np.abs(np.random.default_rng(0).normal(m0, np.sqrt(v0), 10**6)).mean()
        assert runs[-1].attrs["numerical_diffusivity"] == pytest.approx(
            speed * (8 / 400) / 2, rel=0.01
        )


class TestTimeOrder:
    @pytest.mark.parametrize(
        "energy",
        [
            PARTS["double well"],
            PARTS["moving well"],
            FreeEnergy(double_well, repulsion, diffusivity=0.3),
            FreeEnergy(moving_well, lambda z: 2 * repulsion(z), diffusivity=0.3),
        ],
        ids=["static", "moving", "interacting", "moving and interacting"],
    )
    def test_second_order(self, energy):
        steps = 0.04 / 2.0 ** np.arange(4)
        runs = [
            fokker_planck(
                energy, gaussian(0.4, 0.1), [0, 0.4], bounds=[(-3, 3)], cells=60, step=step
            )
            for step in [*steps, steps[-1] / 4]
        ]
        changes = [
            np.abs(run.density.values[-1] - runs[-1].density.values[-1]).sum() for run in runs[:-1]
        ]
        assert order(steps[1:], changes[1:]) > 1.9

    def test_the_default_step_meets_its_stated_error(self):
        energy = FreeEnergy(double_well, repulsion, diffusivity=0.3)
        arguments = {"bounds": [(-3, 3)], "cells": 60}
        chosen = fokker_planck(energy, gaussian(0.4, 0.1), [0, 0.1, 0.4], **arguments)
        fine = fokker_planck(energy, gaussian(0.4, 0.1), [0, 0.1, 0.4], step=5e-4, **arguments)
        error = float(np.abs(chosen.density - fine.density).sum("x0").max()) * 0.1
        assert error < chosen.attrs["time_error"] < 1e-4


class TestInvariants:
    @pytest.mark.parametrize("dim", [1, 2])
    @pytest.mark.parametrize("step", [0.1, None], ids=["large steps", "default"])
    @pytest.mark.parametrize("name", PARTS)
    def test_mass_and_sign(self, name, step, dim):
        if dim == 2 and step is None:
            step = 0.02
        solution = fokker_planck(
            PARTS[name],
            uniform(-0.8, 0.8, dim),
            [0, 0.1, 0.3],
            bounds=[(-4, 4)] * dim,
            cells=101 if dim == 1 else 40,
            step=step,
        )
        mass = solution.density.sum(solution.density.dims[1:]).values * volume(solution)
        assert np.abs(mass - 1).max() < MASS
        assert solution.density.values.min() >= 0

    def test_the_limiter_is_local(self):
        # A spike of mass 1e-6 drains from its cell faster than a step, and the plain second-order
        # step leaves that cell negative. The rest of the density must not notice: were the whole
        # step replaced by backward Euler, it would move by 1e-3.
        energy = FreeEnergy(oscillator, diffusivity=0.05)
        box = {"bounds": [(-4, 4)], "cells": 200}
        smooth = fokker_planck(energy, gaussian(-1, 0.1), [0], **box).density.values[0]
        spiked = (1 - 1e-6) * smooth
        spiked[150] += 1e-6 / 0.04
        ends = [
            fokker_planck(energy, start, [0, 0.2], step=0.1, **box).density.values[-1]
            for start in (smooth, spiked)
        ]
        assert ends[1].min() >= 0
        assert np.abs(ends[1] - ends[0]).sum() * 0.04 < 3e-6

    def test_deterministic_mass_that_meets_a_wall_stays(self):
        solution = fokker_planck(
            FreeEnergy(lambda x: -x[..., 0]),
            uniform(0, 1, 1),
            [0, 2],
            bounds=[(0, 1)],
            cells=50,
            boundary_mass=1,
        )
        assert solution.density.values[-1, -1] * 0.02 == pytest.approx(1, abs=1e-3)


class TestSteadyState:
    @pytest.mark.parametrize("step", [0.01, 1.0, 100.0])
    @pytest.mark.parametrize("dim", [1, 2])
    def test_gibbs_is_exact(self, dim, step):
        energy = FreeEnergy(double_well, diffusivity=0.2)
        box, cells = [(-2.5, 2.5), (-2.2, 2.4)][:dim], (60, 45)[:dim]
        start = gibbs(energy, box, cells)
        solution = fokker_planck(
            energy, start, [0, 10 * step], bounds=box, cells=cells, step=step, boundary_mass=1
        )
        assert np.abs(solution.density.values[-1] / start - 1).max() < 1e-10

    def test_self_consistent_gibbs_is_exact(self):
        energy = FreeEnergy(double_well, repulsion, diffusivity=0.3)
        start = gibbs(energy, [(-3, 3)], (120,))
        solution = fokker_planck(energy, start, [0, 5], bounds=[(-3, 3)], cells=120, step=0.5)
        assert np.abs(solution.density.values[-1] / start - 1).max() < 1e-10

    @pytest.mark.parametrize("W", [None, repulsion, attraction])
    def test_the_long_run_ends_in_gibbs(self, W):
        # With attraction there are several steady states, so the test is that this is one.
        energy = FreeEnergy(double_well, W, diffusivity=0.5)
        solution = fokker_planck(
            energy, gaussian(0.8, 0.1), [0, 100], bounds=[(-3, 3)], cells=100, step=0.5
        )
        end = solution.density.values[-1]
        assert np.abs(end - boltzmann(energy, [(-3, 3)], (100,), end)).max() < 1e-8


def boltzmann(energy: FreeEnergy, box, cells, rho) -> np.ndarray:
    """Return exp(−(V + W∗ρ)/β)/Z at the cell centres."""
    axes = [a + (b - a) * (np.arange(n) + 0.5) / n for (a, b), n in zip(box, cells, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    h = np.prod([(b - a) / n for (a, b), n in zip(box, cells, strict=True)])
    field = energy.potential(points)
    if energy.W is not None:
        pairs = (points[:, None] - points).reshape(-1, len(axes))
        field = field + energy.interaction(pairs).reshape(len(points), -1) @ rho.ravel() * h
    weights = np.exp(-field / energy.diffusivity)
    return (weights / (weights.sum() * h)).reshape(cells)


def gibbs(energy: FreeEnergy, box, cells) -> np.ndarray:
    """Return the fixed point of ``boltzmann``, by damped iteration."""
    rho = boltzmann(energy, box, cells, np.zeros(cells))
    for _ in range(0 if energy.W is None else 300):
        rho = 0.7 * rho + 0.3 * boltzmann(energy, box, cells, rho)
    return rho


class TestShapes:
    def test_dataset(self):
        solution = fokker_planck(
            FreeEnergy(oscillator, diffusivity=0.3),
            gaussian([0, 0], 0.3 * np.eye(2)),
            [0, 0.1],
            bounds=[(-4, 4), (-5, 5)],
            cells=(40, 50),
            step=0.03,
        )
        assert solution.density.dims == ("time", "x0", "x1")
        assert solution.density.shape == (2, 40, 50)
        assert solution.density.dtype == np.float64
        assert solution.x0.values[0] == pytest.approx(-3.9)
        assert solution.x1.values[-1] == pytest.approx(4.9)
        assert solution.attrs["step"] == pytest.approx(0.025)

    def test_cell_averages_start_the_same_run(self):
        energy = FreeEnergy(oscillator, diffusivity=0.3)
        arguments = {"bounds": [(-4, 4)], "cells": 80, "step": 0.05}
        one = fokker_planck(energy, gaussian(1, 0.3), [0, 0.5], **arguments)
        two = fokker_planck(energy, one.density.values[0], [0, 0.5], **arguments)
        assert np.allclose(one.density, two.density, rtol=1e-12, atol=0)

    def test_cell_averages_are_averages(self):
        solution = fokker_planck(
            FreeEnergy(diffusivity=0.3), gaussian(0, 0.01), [0], bounds=[(-1, 1)], cells=21
        )
        exact = np.random.default_rng(0).normal(0, 0.1, 10**6)
        count, _ = np.histogram(exact, 21, (-1, 1))
        p = solution.density.values[0] * 2 / 21
        assert (np.abs(count - 1e6 * p) < 5 * np.sqrt(1e6 * p + 1)).all()

    def test_reference_density_widens_the_box(self):
        energy = FreeEnergy(diffusivity=1.0)
        solution = reference_density(energy, gaussian(0, 1), [0, 1], bounds=[(-2, 2)])
        assert solution.density.sizes["x0"] == 400
        assert solution.attrs["boundary_mass"] < 1e-4
        assert l1(solution, gaussian(0, 3)) < 1e-3

    def test_reference_density_gives_up_on_what_runs_away(self):
        energy = FreeEnergy(lambda x: -100 * x[..., 0], diffusivity=1.0)
        with pytest.raises(PopdynError, match="widen bounds"):
            reference_density(energy, gaussian(0, 0.1), [0, 1], bounds=[(-2, 2)], cells=50)


GOOD = {
    "energy": FreeEnergy(oscillator, diffusivity=0.3),
    "initial": gaussian(0, 0.3),
    "times": [0, 1],
    "bounds": [(-4, 4)],
    "cells": 50,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": [(-4, 4)] * 3}, "3 axes: expected 1 or 2"),
        ({"bounds": (-4, 4)}, "pair for each axis"),
        ({"bounds": [(4, -4)]}, "low < high"),
        ({"bounds": [(-4, np.inf)]}, "finite numbers with low < high"),
        ({"cells": 3}, "cells is 3: expected a whole number ≥ 4"),
        ({"cells": (50, 50)}, "cells is"),
        ({"times": [0, 1, 1]}, "1 after 1: expected strictly increasing"),
        ({"times": [0, np.nan]}, "not finite"),
        ({"times": []}, "one number or more"),
        ({"step": 0.0}, "step is 0.0: expected a finite number > 0"),
        ({"initial": lambda x: gaussian(0, 0.3)(x) - 1e-3}, "density is -0.001 somewhere"),
        ({"initial": lambda x: x}, r"returned shape \(400, 1\)"),
        ({"initial": lambda x: np.full(len(x), np.nan)}, "density is not finite"),
        ({"initial": np.full(49, 1 / 8)}, r"shape \(49,\): expected one for each cell, \(50,\)"),
        ({"initial": lambda x: 2 * gaussian(0, 0.3)(x)}, r"mass 2 in \[-4, 4\]: expected 1"),
        ({"initial": gaussian(4, 0.3)}, "mass 0.5 in .*widen bounds"),
        ({"initial": uniform(-4, 4, 1)}, "of the mass is in the outermost cells at time 0"),
        ({"energy": FreeEnergy(diffusivity=3.0)}, "outermost cells at time 1"),
        (
            {"energy": FreeEnergy(lambda x: x[..., 0].log(), diffusivity=0.3)},
            "potential is not finite at 25 of 50 points",
        ),
        (
            {"energy": FreeEnergy(None, lambda z: 1 / z.square().sum(-1), diffusivity=0.3)},
            "interaction is not finite",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    arguments = GOOD | change
    with pytest.raises(PopdynError, match=message) as caught:
        fokker_planck(arguments.pop("energy"), **arguments)
    assert "\n" not in str(caught.value)
