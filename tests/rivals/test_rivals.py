"""Rivals learn what they can, and are judged as everybody is."""

import numpy as np
import pytest

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.learners import LEARNERS, load_run

SHORT = {"steps": 150, "every": 50, "hidden": (32, 32)}


@pytest.fixture(scope="module")
def data():
    """A bowl from a narrow start beside it, without noise: everything moves a lot."""
    law = {"initial": "gaussian", "initial_params": {"mean": [2.0, -1.0], "std": 0.7}}
    return popdyn.simulate(
        popdyn.FreeEnergy("quadratic"), particles=600, snapshots=4, dt=0.2, seed=0, **law
    )


@pytest.mark.parametrize("name", ["otcfm", "node", pytest.param("bridge", marks=pytest.mark.slow)])
def test_each_learns_most_of_a_bowl(name, data, tmp_path):
    assert LEARNERS[name].fit.__module__.startswith("popdyn.rivals.")
    known = {"diffusivity": 0.01} if name == "bridge" else {}
    run = popdyn.fit(data, name, out=tmp_path / "run", **SHORT, **known)
    force = popdyn.score(run, data, points=50)["gradient"]["force"]
    assert force["skill"] > 0.8
    assert run.word is not None
    x = np.array([[1.0, 0.5], [-0.3, 2.0]])
    again = load_run(tmp_path / "run")
    np.testing.assert_array_equal(again.dynamics.drift(x, t=0.1), run.dynamics.drift(x, t=0.1))


def test_what_depends_on_time_is_at_best_undetermined(data):
    assert popdyn.fit(data, "otcfm", **SHORT).word != "explained"


def test_bridges_need_a_diffusivity(data):
    with pytest.raises(PopdynError, match="bridges need one above 0"):
        popdyn.fit(data, "bridge")
    with pytest.raises(PopdynError, match="it learns 'potential' alone"):
        popdyn.fit(data, "node", learn=("potential", "interaction"))
