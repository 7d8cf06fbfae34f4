"""What is assumed between snapshots that are far apart is chosen by leaving snapshots out."""

import numpy as np
import pytest

import popdyn
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.between import (
    NOT_PREDICTED,
    choose_between,
    clearly_best,
    in_units_of,
    is_worse,
    words_of_choice,
)
from popdyn.learners.ijkonet.options import IJKOnetOptions
from popdyn.learners.in_units import in_units, measured
from popdyn.learners.training import Problem, Workplace, train

FEW = {"steps": 40, "batch": 50, "hidden": (16,)}

BETWEEN = {
    "left_out": [2],
    "chosen": 1,
    "mccann": [1.4],
    "copy_previous": [2.6],
    "candidates": [
        {"model": "features", "learn": ["potential"], "w1": [1.9]},
        {"model": "network", "time_varying": True, "diffusivity": 0.05, "w1": [1.2]},
    ],
}


def turned_about(scale: float = 1.0, n: int = 120):
    """Four snapshots of a cloud that goes round in a circle: no V that stands still does that."""
    rng = np.random.default_rng(5)
    angles = np.arange(4) * 0.5 * np.pi
    centres = np.stack([np.cos(angles), np.sin(angles)], 1)
    arrays = [scale * (3.0 * c + 0.3 * rng.normal(size=(n, 2))) for c in centres]
    return popdyn.from_arrays(arrays, scale * np.arange(4.0))


def choice(scale: float = 1.0):
    training = TrainingSet.from_data(turned_about(scale), validation_fraction=0.2, seed=0)
    units, _ = measured(training)
    _, between = choose_between(in_units(training, units), IJKOnetOptions(**FEW), ())
    return in_units_of(units, between)


def test_inner_snapshots_are_left_out_and_the_best_is_taken() -> None:
    between = choice()
    assert between["left_out"] == [1, 2]
    means = [float(np.mean(c["w1"])) for c in between["candidates"]]
    assert 0.98 * means[between["chosen"]] <= min(means)
    kinds = [(c["model"], c.get("time_varying")) for c in between["candidates"]]
    assert {("network", True), ("network", False)} == set(kinds)
    # A quarter of a circle of radius 3 is left, and the chord of half a circle goes through 0.
    assert between["copy_previous"] == pytest.approx([3.0 * np.sqrt(2.0)] * 2, abs=0.3)
    assert between["mccann"] == pytest.approx([3.0, 3.0], abs=0.3)


def test_another_choice_has_to_be_clearly_better() -> None:
    assert clearly_best([[2.0, 2.2], [2.0, 2.19], [1.5, 1.5], [1.4, 1.59]]) == 2
    assert clearly_best([[np.inf], [3.0], [2.99]]) == 1
    assert clearly_best([[np.inf], [np.inf]]) == 0


def test_the_choice_does_not_know_units() -> None:
    ours, theirs = choice(), choice(100.0)
    assert ours["chosen"] == theirs["chosen"]
    for row in ("mccann", "copy_previous"):
        np.testing.assert_allclose(theirs[row], 100.0 * np.array(ours[row]), rtol=1e-4)
    # Times are as many times longer: β is a length squared over a time.
    betas = [[c.get("diffusivity", 0.0) for c in b["candidates"]] for b in (ours, theirs)]
    np.testing.assert_allclose(betas[1], 100.0 * np.array(betas[0]), rtol=1e-4)


@pytest.mark.slow
def test_where_nothing_stands_still_networks_are_chosen_and_know_their_error() -> None:
    run = popdyn.fit(turned_about(n=400), **FEW)
    between = run.certificate["between"]
    assert between["candidates"][between["chosen"]]["model"] == "network"
    assert run.config["ensemble"] == 3
    assert run.energy.potential_gradient_std(np.zeros((1, 2)), t=1.0).shape == (1, 2)
    assert any(note == words_of_choice(between) for note in run.notes)
    assert run.word == "unexplained"


def test_a_choice_that_knows_no_more_than_a_row_without_dynamics_is_said_to() -> None:
    assert not is_worse(BETWEEN)
    assert is_worse(BETWEEN | {"mccann": [1.1]})
    assert "V(x, t) with β = 0.05 predicts best what is left out (snapshot 2)" in words_of_choice(
        BETWEEN
    )
    assert "McCann" in NOT_PREDICTED


class Overshoots(Problem):
    """Descent on w² with a step that is too long at first: each doubles w and turns it over."""

    def __init__(self) -> None:
        import torch

        self.w, self.pace = torch.ones(1), 1.0

    def step(self, step: int) -> float:
        self.w = self.w - self.pace * 3.0 * self.w
        return self.criterion()

    def criterion(self) -> float:
        return float(self.w.square())

    def solution(self):
        return {"w": self.w}

    def retreat(self, best) -> None:
        self.w, self.pace = best["w"].clone(), 0.3 * self.pace


def test_steps_that_went_astray_go_on_from_the_best_more_slowly() -> None:
    history = train(Overshoots(), 10, 1, Workplace())
    assert history.metrics[0]["criterion"] == 4.0
    assert history.best_criterion < 1e-6
