"""Growth that is learned beside V: from masses, from proportions, and where there is none."""

import numpy as np
import pytest
import torch
import xarray as xr

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.training_set import TrainingSet
from popdyn.estimation.weak_form import Levels
from popdyn.learners.in_units import in_units, measured
from popdyn.snapshots import positions
from popdyn.snapshots.tree import masses

TIMES = [0.0, 0.1, 0.2, 0.3]
LEARN = ("potential", "growth")
FLOW = Dynamics(
    FreeEnergy("double_well"),
    growth="half_space",
    growth_params={"rate": 4.0, "outside": -2.0, "width": 1.0},
)


@pytest.fixture(scope="module")
def growing() -> xr.DataTree:
    return popdyn.simulate(FLOW, particles=3000, times=TIMES, seed=0)


@pytest.fixture(scope="module")
def run(growing) -> popdyn.Run:
    return popdyn.fit(growing, learner="weak_form", learn=LEARN)


def everywhere(data: xr.DataTree) -> np.ndarray:
    return np.concatenate([positions(data, k, "test") for k in range(len(TIMES))])


def test_growth_and_potential_come_back(run, growing):
    assert run.word == "explained"
    scores = popdyn.score(run, growing, points=200).to_dict()["gradient"]
    # |∇V̂ − ∇V*|² is a sum over some eight determined unknowns of what its own errors say: three
    # times that is beyond their χ² law at the 1 % level.
    x = np.concatenate([positions(growing, k, "test") for k in range(1, len(TIMES))])
    lost = np.square(run.energy.potential_gradient_std(x)).sum()
    lost /= np.square(FLOW.energy.potential_gradient(x)).sum()
    assert 1.0 - scores["potential"]["skill"] < 3.0 * lost
    assert scores["growth"]["skill"] > 0.9
    assert not any("has no growth" in note for note in run.notes)
    x = everywhere(growing)
    off = run.dynamics.growth(x) - FLOW.growth(x)
    error = run.dynamics.growth_std(x)
    # A band of two standard errors covers 0.95 of the places of a true family: the family is not.
    assert np.mean(np.abs(off) < 2.0 * error) > 0.7


def test_without_growth_the_same_data_is_unexplained_and_growth_is_named(growing):
    plain = popdyn.fit(growing, learner="weak_form", learn=("potential",))
    assert plain.word == "unexplained"
    assert plain.certificate["beyond"]["growth"]["verdict"] == "explained"
    assert any("--learn potential,growth" in note and "with growth" in note for note in plain.notes)
    assert "growth" not in plain.dynamics.terms


def test_a_run_with_growth_is_read_as_it_was_written(run, growing, tmp_path):
    popdyn.save_run(run, tmp_path / "run")
    again = popdyn.load_run(tmp_path / "run")
    x = everywhere(growing)
    assert np.array_equal(run.dynamics.growth(x), again.dynamics.growth(x))
    assert np.array_equal(run.dynamics.growth_std(x), again.dynamics.growth_std(x))
    assert np.array_equal(run.dynamics.drift(x), again.dynamics.drift(x))
    assert again.learned == list(LEARN)


def test_predicted_masses_are_those_measured(run, growing):
    ahead = popdyn.predict(run, growing, TIMES[1:], from_="first")
    # Of 3000 particles whose weights spread by less than one, a standard error is below 1/√3000.
    assert masses(ahead) == pytest.approx(masses(growing)[1:], rel=5 / np.sqrt(3000))


@pytest.mark.slow
def test_proportions_tell_growth_up_to_a_constant():
    data = popdyn.simulate(FLOW, particles=3000, times=TIMES, seed=0, proportions=True)
    run = popdyn.fit(data, learner="weak_form", learn=LEARN)
    assert any("up to a constant" in note for note in run.notes)
    training = TrainingSet.from_data(data, validation_fraction=0.0)
    means = [run.dynamics.growth(x).mean() for x in training.fit]
    assert float(sum(means)) == pytest.approx(0.0, abs=1e-3)
    assert popdyn.score(run, data, points=200)["gradient"]["growth"]["skill"] > 0.8


@pytest.mark.slow
def test_where_nothing_grows_growth_is_within_its_error():
    data = popdyn.simulate(FreeEnergy("double_well"), particles=2000, times=TIMES, seed=0)
    run = popdyn.fit(data, learner="weak_form", learn=LEARN)
    x = everywhere(data)
    error = run.dynamics.growth_std(x)
    assert (error > 0.0).all()
    assert (np.abs(run.dynamics.growth(x)) <= 2.0 * error).mean() > 0.9
    alone = popdyn.fit(data, learner="weak_form", learn=("potential",))
    skills = [
        popdyn.score(r, data, points=100)["gradient"]["potential"]["skill"] for r in (run, alone)
    ]
    assert skills[0] > skills[1] - 0.02


@pytest.mark.slow
def test_units_of_time_and_place_do_not_matter(growing):
    """A change of units changes nothing but rounding."""
    scaled = growing.copy(deep=True)
    for group in ("train", "test"):
        node = scaled[group]
        node["x"] = node["x"] * np.float32(16.0)
        scaled[group] = node.to_dataset().assign_coords(time=node["time"] * 0.25)
    here = popdyn.fit(growing, learner="weak_form", learn=LEARN)
    there = popdyn.fit(scaled, learner="weak_form", learn=LEARN)
    x = everywhere(growing)
    off = there.dynamics.growth(16.0 * x) - 4.0 * here.dynamics.growth(x)
    assert (np.abs(off) < 4.0 * here.dynamics.growth_std(x)).all()


def test_derivatives_are_those_of_the_residuals(growing):
    training = TrainingSet.from_data(growing)
    data = in_units(training, measured(training)[0])
    levels = Levels(data, WeakFormOptions(learn=(*LEARN, "circulation")))
    equations = levels.equations(*levels.start)
    unknowns = equations.unknowns
    rng = np.random.default_rng(0)
    theta = 0.02 * rng.normal(size=unknowns.size)
    at = equations.evaluate(theta)
    means = np.stack([part.mean for part in equations.jacobians(at)])
    for part in (unknowns.potential, unknowns.growth, unknowns.circulation):
        v = np.zeros(unknowns.size)
        v[part] = 0.01 * rng.normal(size=part.stop - part.start)
        ahead, behind = (equations.evaluate(theta + s * v).residuals for s in (1.0, -1.0))
        change, foreseen = 0.5 * (behind - ahead), means @ v
        # One step of the midpoint rule for derivatives of Runge–Kutta's: off by its third order.
        assert np.linalg.norm(change - foreseen) < 0.05 * np.linalg.norm(change)


def test_a_growth_along_a_path_weighs_it():
    """Constant growth changes the mass and no proportion."""
    data = popdyn.simulate(
        Dynamics(FreeEnergy("quadratic"), growth="constant", growth_params={"rate": 2.0}),
        particles=1000,
        times=TIMES,
        seed=0,
    )
    run = popdyn.fit(data, learner="weak_form", learn=LEARN)
    x = torch.from_numpy(everywhere(data))
    error = run.dynamics.growth_std(x)
    assert (abs(run.dynamics.growth(x) - 2.0) < 3.0 * error + 0.02).all()


def test_growth_is_exported_and_trained_from_the_command_line(growing, tmp_path, run_popdyn):
    store, out = str(tmp_path / "a.zarr"), str(tmp_path / "run")
    popdyn.write(growing, store)
    given = ["train", store, "--out", out, "--learner", "weak_form", "--learn", "potential,growth"]
    done = run_popdyn(*given, "--json")
    assert done.code == 0, done.err
    assert done.json["learned"] == list(LEARN)
    done = run_popdyn("export", out, "--out", str(tmp_path / "a.npz"))
    assert done.code == 0, done.err
    with np.load(tmp_path / "a.npz") as arrays:
        rate = arrays["growth_rate"]
    assert np.isfinite(rate).all()
    assert rate.std() > 0.5


@pytest.mark.parametrize("proportions", [False, True])
def test_two_snapshots_do_not_tell_growth_from_drift(proportions):
    flow = Dynamics(
        FreeEnergy("quadratic"),
        growth="half_space",
        growth_params={"rate": 3.0, "outside": -3.0, "width": 1.0},
    )
    how = {"initial": "gaussian", "proportions": proportions}
    data = popdyn.simulate(flow, particles=1500, times=[0.0, 0.1], seed=1, **how)
    run = popdyn.fit(data, learner="weak_form", learn=LEARN)
    assert "potential, growth" in run.certificate["undetermined"]
    assert run.word != "explained"
    assert any("V and growth are not told apart" in note for note in run.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learn": ("potential", "growth", "interaction")}, "expected growth without interaction"),
        ({"learn": LEARN, "model": "network", "learner": "ijkonet"}, "learned by features"),
        ({"learn": LEARN, "ensemble": 2}, "expected ensemble 1"),
    ],
)
def test_what_growth_is_not_learned_with_is_one_line(growing, options, said):
    with pytest.raises(PopdynError, match=said):
        popdyn.fit(growing, **{"learner": "weak_form"} | options)
