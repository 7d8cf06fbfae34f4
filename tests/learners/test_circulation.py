"""A drift that is no gradient: learned when asked for, named where it is missing."""

import numpy as np
import pytest

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.snapshots import positions

TIMES = [0.0, 0.1, 0.2, 0.3]
ENERGY = FreeEnergy("double_well")
LEARN = ("potential", "circulation")


def turning(dim: int = 2, **params):
    flow = Dynamics(ENERGY, circulation="rotation", circulation_params={"rate": 3.0} | params)
    how = {"initial": "gaussian", "initial_params": {"mean": [1.0] * dim, "std": 1.0}}
    return flow, popdyn.simulate(flow, dim=dim, particles=2000, times=TIMES, seed=0, **how)


@pytest.mark.slow
def test_a_rotation_is_learned_and_named_where_it_is_not(tmp_path):
    flow, data = turning()
    run = popdyn.fit(data, learner="weak_form", learn=LEARN)
    assert run.word == "explained"
    assert popdyn.score(run, data, points=100)["gradient"]["force"]["skill"] > 0.95
    x = positions(data, 1, "test")
    popdyn.save_run(run, tmp_path / "run")
    again = popdyn.load_run(tmp_path / "run")
    assert np.array_equal(run.dynamics.drift(x), again.dynamics.drift(x))
    # The energy's own force has none of it.
    turn = run.dynamics.drift(x) - run.energy.force(x)
    true = flow.drift(x) - flow.energy.force(x)
    assert np.square(turn - true).sum() < 0.2 * np.square(true).sum()
    plain = popdyn.fit(data, learner="weak_form", learn=("potential",))
    assert plain.word == "unexplained"
    assert plain.certificate["beyond"]["circulation"]["verdict"] == "explained"
    assert any("with circulation" in note for note in plain.notes)


def test_in_three_dimensions_all_turn_by_one_matrix():
    flow, data = turning(3, plane=[1.0, 3.0])
    run = popdyn.fit(data, learner="weak_form", learn=LEARN)
    x = positions(data, 1, "test")
    turn = run.dynamics.drift(x) - run.energy.force(x)
    # About another centre it is a turn and a shift, which is a gradient: that part is V's.
    true = flow.drift(x) - flow.energy.force(x)
    true, turn = true - true.mean(0), turn - turn.mean(0)
    assert np.square(turn - true).sum() < 0.1 * np.square(true).sum()
    assert popdyn.score(run, data, points=100)["gradient"]["force"]["skill"] > 0.95


def test_a_line_has_nothing_that_turns():
    data = popdyn.simulate(FreeEnergy("quadratic"), dim=1, particles=200, seed=0)
    with pytest.raises(PopdynError, match="a circulation in 1 dimension"):
        popdyn.fit(data, learner="weak_form", learn=LEARN)
