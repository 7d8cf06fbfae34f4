"""Couplings of JKOnet*: exact, in blocks, sound on repeated points, an error where unsolved."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

import popdyn
from popdyn.base.intervals import Intervals
from popdyn.estimation.couplings import couple, optimal_pairs
from popdyn.estimation.density import DENSITIES


def normal(n, d=2, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def uniform(n, seed):
    return 8.0 * torch.rand(n, 2, generator=torch.Generator().manual_seed(seed)) - 4.0


def test_a_plan_is_as_cheap_as_the_best_assignment():
    x, y = normal(80).double().numpy(), normal(80, seed=1).double().numpy()
    rows, columns, mass = optimal_pairs(x, y)
    cost = ((x[:, None] - y) ** 2).sum(-1)
    best = cost[linear_sum_assignment(cost)].mean()
    np.testing.assert_allclose((cost[rows, columns] * mass).sum(), best, rtol=1e-10)


def test_unequal_sizes_keep_both_masses():
    rows, columns, mass = optimal_pairs(normal(30).numpy(), normal(20, seed=1).numpy())
    np.testing.assert_allclose(np.bincount(rows, mass), np.full(30, 1 / 30), rtol=1e-10)
    np.testing.assert_allclose(np.bincount(columns, mass), np.full(20, 1 / 20), rtol=1e-10)


def test_blocks_use_every_particle_once_and_know_their_interval():
    times = np.array([0.0, 0.1, 0.4])
    snapshots = [normal(50, seed=s) for s in range(3)]
    pairs = couple(snapshots, Intervals(times), 20, seed=0)
    assert len(pairs) == 100
    for k, tau in ((1, 0.1), (2, 0.3)):
        own = pairs.snapshots == k
        np.testing.assert_allclose(pairs.intervals[own], tau, rtol=1e-6)
        np.testing.assert_allclose(pairs.times[own], times[k], rtol=1e-6)
        np.testing.assert_allclose(pairs.weights[own], 1.0, rtol=1e-6)
        np.testing.assert_array_equal(pairs.ends[own].sort(dim=0)[0], snapshots[k].sort(dim=0)[0])
        starts = pairs.ends[own] - tau * pairs.speeds[own]
        torch.testing.assert_close(starts.sort(dim=0)[0], snapshots[k - 1].sort(dim=0)[0])


@pytest.mark.parametrize("block", [0, 1000])
@pytest.mark.parametrize("debias", [0.0, 0.5, 1.0])
def test_repeated_points_are_coupled(block, debias):
    same = torch.ones(60, 2)
    twice = normal(30).repeat(2, 1)
    for x, y in ((same, same), (twice, twice), (same, twice)):
        pairs = couple([x, y], Intervals(np.array([0.0, 1.0])), block, seed=0, debias=debias)
        assert torch.isfinite(pairs.speeds).all()
        np.testing.assert_allclose(float(pairs.weights.sum()), len(pairs), rtol=1e-5)


@pytest.mark.parametrize("name", DENSITIES)
def test_repeated_points_have_a_density(name):
    for x in (torch.ones(60, 2), normal(6).repeat(10, 1)):
        assert torch.isfinite(DENSITIES[name](x, 0)(normal(20, seed=1))).all()


def test_an_unsolved_plan_is_an_error_of_one_line(small_data):
    with pytest.raises(popdyn.PopdynError, match="did not converge in 3 iterations") as caught:
        popdyn.fit(small_data, learner="jkonet_star", iterations=3)
    assert "\n" not in str(caught.value)


def test_what_sampling_alone_does_is_taken_off():
    # Two samples of one law: the plan draws the edge outwards, on average over many draws.
    plain, debiased = [], []
    for seed in range(20):
        x, y = uniform(200, 2 * seed), uniform(200, 2 * seed + 1)
        for debias, into in ((0.0, plain), (1.0, debiased)):
            pairs = couple([x, y], Intervals(np.array([0.0, 1.0])), 0, seed, debias=debias)
            edge = pairs.ends.abs() > 3.8
            into.append(float((pairs.speeds * pairs.ends.sign())[edge].mean()))
    error = np.std(debiased, ddof=1) / np.sqrt(len(debiased))
    assert abs(np.mean(debiased)) < 4 * error
    assert np.mean(plain) > 4 * np.std(plain, ddof=1) / np.sqrt(len(plain))
    assert abs(np.mean(debiased)) < 0.5 * np.mean(plain)


def test_a_weight_mixes_plain_and_debiased_pairs():
    x, y = uniform(100, 0), uniform(100, 1)
    plain, whole, mixed = (
        couple([x, y], Intervals(np.array([0.0, 1.0])), 0, 0, debias=w) for w in (0.0, 1.0, 0.25)
    )
    assert len(mixed) == len(plain) + len(whole)
    mean = [(p.weights[:, None] * p.speeds).mean(0) for p in (plain, whole, mixed)]
    torch.testing.assert_close(mean[2], 0.75 * mean[0] + 0.25 * mean[1])
    np.testing.assert_allclose(float(mixed.weights.mean()), 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_know_a_gaussian(name):
    scale = torch.tensor([1.0, 0.5])
    x = normal(4000) * scale + 1.0
    at = normal(500, seed=1) * scale + 1.0
    found, true = DENSITIES[name](x, 0)(at), -(at - 1.0) / scale**2
    error = (found - true).square().mean() / true.square().mean()
    assert error < (0.01 if name == "score_matching" else 0.25)
