"""The comparison of carried particles with the next snapshot: its level, power and share."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn.dynamics import FreeEnergy
from popdyn.estimation import carried, compare
from popdyn.snapshots import positions, times

DRAWS = 40


def ou(seed, counts, beta=0.3, dim=2, t=(0.0, 0.2, 0.3, 1.0)):
    """Draws of the exact law of an Ornstein–Uhlenbeck process from (2, …, 2), variance 1/4."""
    rng = np.random.default_rng([seed, 77])
    out = []
    for time, n in zip(t, counts, strict=True):
        spread = 0.25 * np.exp(-2 * time) + beta * (1 - np.exp(-2 * time))
        out.append(2 * np.exp(-time) + np.sqrt(spread) * rng.standard_normal((n, dim)))
    return [x.astype(np.float32) for x in out], np.array(t)


def z_of(seed, counts, energy, **options):
    x, t = ou(seed, counts, **options)
    return compare(x, carried(energy, x, t, seed), t, seed=seed, share=False).statistic


@pytest.mark.parametrize(
    ("counts", "dim"),
    [((600,) * 4, 2), ((2000, 300, 2000, 300), 2), ((600,) * 4, 8), ((60,) * 4, 1)],
)
def test_the_level_is_right_on_the_true_dynamics(counts, dim):
    truth = FreeEnergy("quadratic", diffusivity=0.3)
    z = np.array([z_of(seed, counts, truth, dim=dim) for seed in range(DRAWS)])
    # Of 40 draws at 1 %, more than 3 have probability 6e-4.
    assert (z > 2.3263).sum() <= 3
    # Mean and standard deviation of N(0, 1) to 4 standard errors; below is the safe side.
    assert z.mean() < 4 / np.sqrt(DRAWS)
    assert z.std(ddof=1) < 1 + 4 / np.sqrt(2 * DRAWS)


@pytest.mark.parametrize(
    "wrong",
    [
        FreeEnergy(),
        FreeEnergy("quadratic"),
        FreeEnergy("quadratic", diffusivity=0.6),
        FreeEnergy("quadratic", "gaussian_repulsion", 0.3, interaction_params={"strength": 3.0}),
    ],
    ids=["nothing", "no β", "twice β", "a W too many"],
)
def test_wrong_dynamics_is_rejected(wrong):
    assert z_of(0, (2000,) * 4, wrong) > 5


def test_the_level_holds_where_springs_tie_particles_together():
    # One population each: its particles hang together, and are fewer than they look.
    energy = FreeEnergy(interaction="quadratic", diffusivity=0.1)
    z = []
    for seed in range(20):
        data = popdyn.simulate(
            energy,
            particles=300,
            test_particles=0,
            dt=0.2,
            initial="gaussian",
            seed=seed,
            step=0.02,
        )
        t = times(data)
        x = [positions(data, k) for k in range(len(t))]
        z.append(compare(x, carried(energy, x, t, seed), t, seed=seed, share=False).statistic)
    # More than 2 of 20 at 1 % have probability 1e-3.
    assert (np.array(z) > 2.3263).sum() <= 2


def test_a_particle_counts_once_for_both_of_its_intervals():
    # Nothing moves: what lies ahead of the first snapshot is what lies behind the last.
    truth, counts = FreeEnergy("quadratic", diffusivity=0.25), (500,) * 4
    z = [z_of(s, counts, truth, beta=0.25, t=(5.0, 5.01, 5.02, 5.03)) for s in range(DRAWS)]
    assert abs(np.mean(z)) < 4 / np.sqrt(DRAWS)
    assert abs(np.std(z, ddof=1) - 1) < 4 / np.sqrt(2 * DRAWS)


def test_a_paired_store_is_not_compared_with_itself():
    energy = FreeEnergy("quadratic", diffusivity=0.2)
    z = []
    for seed in range(DRAWS):
        data = popdyn.simulate(
            energy, particles=1000, test_particles=0, dt=0.1, paired=True, seed=seed
        )
        t = times(data)
        x = [positions(data, k) for k in range(len(t))]
        moved = carried(energy, x, t, seed)
        z.append(compare(x, moved, t, seed=seed, paired=True, share=False).statistic)
    assert np.mean(z) < 4 / np.sqrt(DRAWS)
    assert np.std(z, ddof=1) < 1 + 4 / np.sqrt(2 * DRAWS)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 1.0), (0.5, 0.75), (0.0, 0.0)])
def test_the_share_is_what_is_explained_of_the_action(factor, expected):
    # A drift that is a fraction s of the true one leaves (1 − s)² of the action.
    t = (0.0, 0.02, 0.04, 0.06)
    x, times_ = ou(3, (20_000,) * 4, beta=0.0, t=t)
    y = carried(FreeEnergy("quadratic"), x, times_, 0)
    moved = [a + factor * (b - a) for a, b in zip(x[:-1], y, strict=True)]
    found = compare(x, moved, times_)
    assert abs(found.share - expected) < 4 * found.share_error + 0.02  # O(τ)


def test_the_share_does_not_depend_on_how_many_particles_there_are():
    wrong = FreeEnergy("quadratic")
    found = []
    for n in (1000, 10_000):
        x, t = ou(4, (n,) * 4)
        found.append(compare(x, carried(wrong, x, t, 0), t))
    few, many = found
    assert few.share_error > 2 * many.share_error
    assert abs(few.share - many.share) < 4 * few.share_error
    assert many.p_value < few.p_value


def test_units_and_origin_do_not_matter():
    x, t = ou(5, (500,) * 4)
    y = carried(FreeEnergy("quadratic"), x, t, 0)
    here = compare(x, y, t)
    far = compare(
        [1e3 * a.astype(np.float64) - 7e3 for a in x],
        [1e3 * a.astype(np.float64) - 7e3 for a in y],
        1e5 + 60.0 * t,
    )
    assert abs(far.statistic - here.statistic) < 0.02
    assert abs(far.share - here.share) < 0.02


def test_nothing_of_the_host_is_used_up():
    before = torch.get_rng_state()
    z_of(0, (100,) * 4, FreeEnergy("quadratic", diffusivity=0.3))
    assert torch.equal(before, torch.get_rng_state())


def test_an_interacting_population_without_numbers_is_carried_all_the_same():
    broken = FreeEnergy(interaction=lambda z: np.nan * z.square().sum(-1))
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    (later,) = carried(broken, [x, x], np.array([0.0, 1.0]), seed=0)
    assert later.shape == x.shape
    assert np.isnan(later).all()
