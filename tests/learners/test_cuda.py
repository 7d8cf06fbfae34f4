"""Training on a GPU, where there is one: every learner, and what it gives lives with NumPy."""

import numpy as np
import pytest
import torch

import popdyn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

ALL = ("potential", "interaction", "diffusion")
FEW = {"steps": 40, "batch": 100}


@pytest.fixture(scope="module")
def plain():
    return popdyn.simulate(popdyn.FreeEnergy("styblinski_tang"), particles=1000, seed=0)


@pytest.fixture(scope="module")
def joint():
    energy = popdyn.FreeEnergy("double_well", "gaussian_repulsion", 0.2)
    return popdyn.simulate(energy, particles=600, dt=0.1, seed=0)


@pytest.mark.parametrize(
    ("learner", "options"),
    [
        ("weak_form", {}),
        ("weak_form", {"ensemble": 2}),
        ("ijkonet", {}),
        ("ijkonet", {"model": "network", **FEW}),
        ("ijkonet", {"model": "network", "time_varying": True, **FEW}),
        ("ijkonet", {"inner": "network", **FEW}),
        ("ijkonet", {"inner": "network", "multimap": True, **FEW}),
        ("ijkonet", {"inner": "network", "ensemble": 2, **FEW}),
        ("ijkonet", {"inner": "proximal", **FEW}),
        ("jkonet_star", {}),
        ("jkonet_star", {"model": "network", "epochs": 3}),
        ("jkonet_star", {"model": "published", "epochs": 3}),
        ("jkonet", {"steps": 10, "inner_steps": 5}),
        ("zero", {}),
        ("oracle", {}),
    ],
    ids=str,
)
def test_potential_is_learned_there(plain, tmp_path, learner, options):
    run = popdyn.fit(plain, learner, device="cuda", seed=0, out=tmp_path / "run", **options)
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    slope = run.energy.potential_gradient(x)
    assert np.isfinite(slope).all()
    again = popdyn.load_run(tmp_path / "run")
    np.testing.assert_allclose(again.energy.potential_gradient(x), slope, rtol=1e-5, atol=1e-6)
    if options.get("ensemble"):
        assert np.isfinite(run.energy.potential_gradient_std(x)).all()


@pytest.mark.parametrize(
    ("learner", "options"),
    [
        ("weak_form", {}),
        ("ijkonet", {}),
        ("ijkonet", {"model": "network", **FEW}),
        ("ijkonet", {"inner": "network", **FEW}),
        ("ijkonet", {"inner": "network", "interaction": "even", **FEW}),
        ("ijkonet", {"inner": "network", "entropy_gradient": True, **FEW}),
        ("jkonet_star", {}),
        ("jkonet_star", {"model": "network", "epochs": 3}),
    ],
    ids=str,
)
def test_all_three_energies_are_learned_there(joint, learner, options):
    run = popdyn.fit(joint, learner, device="cuda", seed=0, learn=ALL, **options)
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    assert np.isfinite(run.energy.potential_gradient(x)).all()
    assert np.isfinite(run.energy.interaction_gradient(x)).all()
    assert np.isfinite(run.energy.diffusivity)


def test_features_are_the_same_as_on_the_cpu(plain):
    # They are solved for on the CPU in either case.
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    found = [
        popdyn.fit(plain, "weak_form", device=device, seed=0).energy.potential_gradient(x)
        for device in ("cpu", "cuda")
    ]
    # What standardises them is a sum, rounded in another order there.
    np.testing.assert_allclose(found[0], found[1], atol=0.01 * np.abs(found[0]).max())
