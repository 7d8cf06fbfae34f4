"""Births and deaths: as weights and as cells, against the PDE, in stores, and refused."""

import math

import numpy as np
import pytest

import popdyn
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.simulation import fokker_planck, simulate
from popdyn.snapshots import open_snapshots, positions, validate
from popdyn.snapshots.tree import masses, weights

WELL = FreeEnergy("double_well", diffusivity=0.4)
FRONT = {"growth": "half_space", "growth_params": {"rate": 2.0, "outside": -1.0, "width": 0.3}}
FADING = {"growth": "fading_bump", "growth_params": {"rate": 3.0, "center": [1.0], "decay": 0.5}}
REPELLING = FreeEnergy(
    "quadratic", "gaussian_repulsion", 0.3, interaction_params={"strength": 3.0, "width": 0.7}
)
TIMES = [0.0, 0.3, 0.8]
START = {"initial": "gaussian", "initial_params": {"mean": [-0.3], "std": 0.6}, "dim": 1}
BOX, BINS = (-5.0, 5.0), 25


def start(x):
    return np.exp(-0.5 * ((x[:, 0] + 0.3) / 0.6) ** 2) / (0.6 * math.sqrt(2 * math.pi))


def cells_of(flow, cells):
    """Return the mass in each bin at each later time, and the total."""
    solution = fokker_planck(flow, start, TIMES, bounds=[BOX], cells=cells)
    rho = solution.density.values * (BOX[1] - BOX[0]) / cells
    return rho.reshape(len(TIMES), BINS, -1).sum(-1)[1:], solution.mass.values[1:]


def misses(flow, data):
    """Yield by how many standard errors each bin, and the mass, miss the PDE, at each time.

    Growth and transport are of second order on the grid: the difference from a grid twice as
    coarse, which is three times the error of the fine one, is allowed for.
    """
    fine, total = cells_of(flow, 1000)
    coarse, _ = cells_of(flow, 500)
    n = len(positions(data, 0))
    for k in range(1, len(TIMES)):
        x, w = positions(data, k)[:, 0], weights(data, k)
        if w is not None:
            w = np.asarray(w, float)
            places = np.clip(np.digitize(x, np.linspace(*BOX, BINS + 1)) - 1, 0, BINS - 1)
            each = np.zeros((BINS, len(x)))
            each[places, np.arange(len(x))] = w
            found, se = each.mean(1), each.std(1) / math.sqrt(n)
            mass, mass_se = w.mean(), w.std() / math.sqrt(n)
        else:
            found = np.histogram(x, BINS, BOX)[0] / n
            # Clones are counted together. Of a pure birth process with mean m they have the
            # second moment 2m² − m; a rate of 2 up to time t bounds m.
            clone = 2 * math.exp(2 * TIMES[k]) - 1
            se = np.sqrt(clone * found / n)
            mass, mass_se = len(x) / n, math.sqrt(clone * len(x)) / n
        keep = fine[k - 1] * n >= 100
        allowed = np.abs(fine - coarse)[k - 1]
        error = np.maximum(np.abs(found - fine[k - 1]) - allowed, 0)[keep] / se[keep]
        yield error, abs(mass - total[k - 1]) / max(mass_se, 1e-5 * mass)


@pytest.mark.parametrize("growth", [FRONT, FADING], ids=["half_space", "fading_bump"])
@pytest.mark.parametrize("how", ["weights", "births"])
def test_particles_against_the_pde(growth, how):
    flow = Dynamics(WELL, **growth)
    options = {"particles": 60_000, "times": TIMES, "step": 0.01, "test_particles": 0}
    data = simulate(flow, growth_as=how, seed=1, **options, **START)
    for cells, mass in misses(flow, data):
        assert len(cells) >= 8
        assert cells.max() < 5
        assert mass < 5


@pytest.mark.parametrize("how", ["weights", pytest.param("births", marks=pytest.mark.slow)])
def test_interacting_particles_against_the_pde(how):
    """The mean field is that of the mass: with weights of 1 the repulsion would be too weak."""
    flow = Dynamics(REPELLING, growth="constant", growth_params={"rate": 1.5})
    options = {"particles": 4000, "times": TIMES, "step": 0.02, "test_particles": 0}
    data = simulate(flow, growth_as=how, seed=2, **options, **START)
    for cells, mass in misses(flow, data):
        assert cells.max() < 5
        assert mass < 5
    still = simulate(REPELLING, seed=2, **options, **START)
    assert np.std(positions(data, 2)) > 1.1 * np.std(positions(still, 2))


def test_a_constant_rate_is_exact():
    flow = Dynamics("quadratic", growth="constant", growth_params={"rate": -1.5})
    data = simulate(flow, particles=50, times=TIMES, seed=0)
    for group in ("train", "test"):
        np.testing.assert_allclose(masses(data, group), np.exp(-1.5 * np.array(TIMES)), rtol=1e-6)
        for k, t in enumerate(TIMES):
            np.testing.assert_allclose(weights(data, k, group), math.exp(-1.5 * t), rtol=1e-6)
    # What does not grow moves as before, bit by bit.
    alone = simulate("quadratic", particles=50, times=TIMES, seed=0)
    assert np.array_equal(alone["train"]["x"], data["train"]["x"])
    assert weights(alone, 0) is None
    assert masses(alone) is None


def test_paired_weights_follow_their_particles():
    flow = Dynamics("quadratic", growth=lambda x: x[:, 0])
    data = simulate(flow, particles=20, times=[0, 1.0], step=0.001, paired=True, seed=0)
    # x(t) = x₀e⁻ᵗ, so ∫x₁ dt = x₀(1 − e⁻¹)
    expected = np.exp(positions(data, 0)[:, 0] * (1 - math.exp(-1)))
    np.testing.assert_allclose(weights(data, 1), expected, rtol=1e-4)


def test_proportions_alone():
    options = {"particles": 300, "times": TIMES, "seed": 3}
    flow = Dynamics(WELL, **FRONT)
    whole, seen = (simulate(flow, proportions=p, **options) for p in (False, True))
    assert masses(seen) is None
    for k in range(3):
        w = weights(whole, k)
        np.testing.assert_allclose(weights(seen, k), w / w.mean(dtype=float), rtol=1e-5)
    cells = simulate(flow, proportions=True, growth_as="births", **options)
    assert masses(cells) is None
    assert weights(cells, 1) is None
    assert len(positions(cells, 1)) != 300


@pytest.mark.parametrize("how", ["weights", "births"])
@pytest.mark.parametrize("proportions", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_store_holds_what_memory_does(tmp_path, how, proportions):
    flow = Dynamics(WELL, **FRONT)
    options = {"particles": 250, "test_particles": 90, "times": TIMES, "seed": 4, "block": 100}
    options |= {"growth_as": how, "proportions": proportions}
    made = simulate(flow, **options)
    stored = simulate(flow, out=tmp_path / "x.zarr", workers=2, **options)
    assert not validate(tmp_path / "x.zarr")
    assert stored.attrs["growth_as"] == how
    assert Dynamics.from_spec(stored.attrs["dynamics"]).spec() == flow.spec()
    for group in ("train", "test"):
        assert set(made[group].variables) == set(stored[group].variables)
        for name, variable in made[group].variables.items():
            a, b = variable.values, stored[group][name].values
            if name == "mass":  # summed block by block there
                np.testing.assert_allclose(a, b, rtol=1e-12)
            else:
                assert np.array_equal(a, b, equal_nan=True), name
    popdyn.write(stored, tmp_path / "y.zarr")
    again = open_snapshots(tmp_path / "y.zarr")
    assert again.identical(stored) or again["train"].equals(stored["train"])


def test_a_lost_file_of_weights_is_found(tmp_path):
    simulate(Dynamics(WELL, **FRONT), particles=20, times=TIMES, out=tmp_path / "x.zarr")
    (tmp_path / "x.zarr/train/weight/c/1/0").unlink()
    with pytest.raises(popdyn.PopdynError, match="train/weight/c/1/0 is missing"):
        open_snapshots(tmp_path / "x.zarr")


def lost(x):
    return x[:, 0] * math.nan


WRONG = [
    ({"growth": lambda x: x}, {}, "expected a tensor of shape"),
    ({"growth": lost}, {}, "the growth 'lost' overflows by time 0.3: a weight has passed"),
    ({"growth": "constant", "growth_params": {"rate": 500}}, {}, "overflows by time 0.3"),
    (
        {"growth": "constant", "growth_params": {"rate": 30}},
        {"growth_as": "births"},
        "5 cells have become .* expected 1000 times as many at most",
    ),
    (
        {"growth": "constant", "growth_params": {"rate": -40}},
        {"growth_as": "births"},
        "all 5 cells of the train group have died before time 0.3",
    ),
    (FRONT, {"growth_as": "births", "paired": True}, "expected unpaired observation"),
    (FRONT, {"check_step": True}, "check_step and a growth"),
    ({}, {"growth_as": "births"}, "growth_as is births and nothing grows"),
    ({}, {"proportions": True}, "proportions is True and nothing grows"),
    (FRONT, {"growth_as": "death"}, "growth_as is 'death'"),
]


@pytest.mark.parametrize(("growth", "options", "line"), WRONG)
def test_what_is_wrong_is_said_in_one_line(growth, options, line):
    flow = Dynamics("quadratic", **growth)
    with pytest.raises(popdyn.PopdynError, match=line) as error:
        simulate(flow, particles=5, times=TIMES, **options)
    assert "\n" not in str(error.value)


def test_weights_and_masses_out_of_range_are_refused():
    x = [np.zeros((3, 2)), np.ones((2, 2))]
    for w, line in (
        ([np.ones(3), np.array([1, -1])], "weight -1 at row 1: expected finite weights ≥ 0"),
        ([np.ones(3), np.array([1, np.inf])], "weight inf at row 1"),
        ([np.ones(3), np.ones(3)], r"shape \(3,\): expected \(2,\)"),
        ([np.zeros(3), np.ones(2)], "weighs 0 on average"),
        ([np.ones(3)], "weights of 1 snapshots: expected 2"),
    ):
        with pytest.raises(popdyn.PopdynError, match=line):
            popdyn.snapshots.make_tree(x, x, [0, 1], weights={"train": w, "test": w})
    for m in ([1, 0], [1, np.nan], [1, 2, 3]):
        with pytest.raises(popdyn.PopdynError, match="one finite number > 0 for each of 2"):
            popdyn.snapshots.make_tree(x, x, [0, 1], masses={"train": m, "test": m})
