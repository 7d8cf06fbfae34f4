"""A potential that moves is the last rung: what it explains is not determined."""

import dataclasses

import pytest

import popdyn
from popdyn import FreeEnergy
from popdyn.learners import fitting


@pytest.mark.slow
def test_what_only_a_moving_potential_explains_is_not_called_explained():
    data = popdyn.simulate(FreeEnergy("moving_well"), particles=2000, dt=0.1, seed=0)
    run = popdyn.fit(data)
    assert run.certificate["time_varying"] is True
    assert run.certificate["ladder"][-1]["time_varying"] is True
    assert run.word != "explained"
    assert popdyn.score(run, data)["gradient"]["potential"]["skill"] > 0.9


@pytest.mark.slow
def test_an_interaction_that_no_fit_needs_is_not_learned():
    # From a narrow start a coarse dictionary lacks what W's functions make up for.
    data = popdyn.simulate(
        FreeEnergy("double_well", None, 0.2), particles=3000, times=[0, 0.2, 0.4, 0.8],
        initial="gaussian", initial_params={"std": 0.3}, seed=0,
    )  # fmt: skip
    run = popdyn.fit(data)
    assert list(run.learned) == ["potential", "diffusion"]
    assert run.word == "explained"
    assert run.energy.W is None
    assert abs(run.energy.diffusivity - 0.2) < 2.0 * run.energy.diffusivity_standard_error
    assert popdyn.score(run, data, points=100)["gradient"]["force"]["skill"] > 0.95


def test_where_fresh_particles_refuse_a_choice_the_other_parts_are_tried(monkeypatch):
    data = popdyn.simulate(
        FreeEnergy("quadratic", None, 0.5), particles=600, times=[0, 0.1, 0.3, 0.8],
        initial="gaussian", initial_params={"mean": [2.0], "std": 0.2}, dim=1, seed=0,
    )  # fmt: skip

    def chosen(training, options, place=None):
        rung = {"learn": ["potential"], "misfit": 1.0, "p_value": 0.5, "dictionary": "coarse"}
        told = {"learn": ["potential"], "ladder": [rung]}
        return dataclasses.replace(options, learn=("potential",)), told

    monkeypatch.setattr(fitting, "chosen", chosen)
    run = popdyn.fit(data, model="features")
    assert list(run.learned) == ["potential", "diffusion"]
    assert run.word == "explained"
