"""Data that grows, fitted by learners without growth: what is said, and what is learned from."""

import numpy as np
import pytest

import popdyn
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.estimation.training_set import TrainingSet
from popdyn.snapshots import positions
from popdyn.snapshots.tree import weights

BOWL = FreeEnergy("quadratic", diffusivity=0.2)
TIMES = [0.0, 0.2, 0.4]


@pytest.fixture(scope="module")
def growing():
    flow = Dynamics(BOWL, growth="half_space", growth_params={"rate": 4.0, "outside": -2.0})
    return popdyn.simulate(flow, particles=4000, times=TIMES, seed=1)


def test_cells_of_equal_weight_have_the_weighted_law(growing):
    training = TrainingSet.from_data(growing)
    for k, x in enumerate(training.cells):
        cells, w = positions(growing, k).astype(float), weights(growing, k).astype(float)
        mean = w @ cells / w.sum()
        # Each is kept with the odds of its weight: 5 standard errors of what is left, both from
        # the draw of the cells and from which are kept.
        x = x.numpy().astype(float)
        assert (np.abs(x.mean(0) - mean) < 5 * x.std(0) / np.sqrt(len(x))).all()
        assert len(np.unique(x, axis=0)) == len(x)
        assert len(x) == pytest.approx(len(cells) * w.mean() / w.max(), rel=0.1)
    again = TrainingSet.from_data(growing)
    assert all(np.array_equal(a, b) for a, b in zip(training.cells, again.cells, strict=True))


@pytest.mark.slow
def test_a_learner_without_growth_says_so_and_does_not_explain(growing):
    run = popdyn.fit(growing, learner="weak_form", learn=("potential", "diffusion"))
    assert any("each kept with the odds of its weight" in note for note in run.notes)
    assert any("what is learned has no growth" in note for note in run.notes)
    assert run.verdict.verdict == "unexplained"


def test_masses_that_stay_are_not_spoken_of():
    cells = [np.random.default_rng(k).normal(size=(60, 2)) for k in range(3)]
    for masses, said in (([1, 1, 1], False), ([10, 20, 30], True)):
        both = {"train": masses, "test": masses}
        data = popdyn.snapshots.make_tree(cells, cells, TIMES, masses=both)
        assert bool(TrainingSet.from_data(data).notes) == said


def test_a_circulation_is_part_of_what_is_judged():
    flow = Dynamics(
        FreeEnergy("double_well", diffusivity=0.2),
        circulation="rotation",
        circulation_params={"rate": 3.0},
    )
    data = popdyn.simulate(flow, particles=2000, times=TIMES, seed=1)
    assert popdyn.fit(data, learner="oracle").verdict.verdict == "explained"
