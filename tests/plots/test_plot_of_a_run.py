"""``popdyn.plot``: the figure of a run, without a window and without pyplot."""

import subprocess
import sys

import pytest
from matplotlib.figure import Figure

import popdyn
from popdyn import PopdynError
from popdyn.plots import FIGURES


@pytest.fixture(scope="module")
def run():
    energy = popdyn.FreeEnergy("quadratic", "gaussian_repulsion")
    data = popdyn.simulate(energy, particles=300, snapshots=3, dt=0.1, seed=0)
    return popdyn.fit(data, learner="weak_form", learn="potential,interaction")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_a_run(run, name):
    figure = popdyn.plot(run, name)
    assert isinstance(figure, Figure)
    assert figure.axes
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook asks for


def test_the_figure_that_says_most(run):
    titles = [axis.get_title() for axis in popdyn.plot(run).axes]
    assert "recovered V" in titles
    alone = popdyn.Run(popdyn.FreeEnergy(), "zero", {}, data=run.data)
    assert "t = 0" in [axis.get_title() for axis in popdyn.plot(alone).axes]


def test_what_is_wrong_is_said(run):
    with pytest.raises(PopdynError, match="unknown figure 'potentail': did you mean potential"):
        popdyn.plot(run, "potentail")
    with pytest.raises(PopdynError, match="plot was given FreeEnergy: expected a run"):
        popdyn.plot(run.energy)


def test_a_figure_leaves_pyplot_alone():
    code = (
        "import sys, popdyn\n"
        "data = popdyn.simulate(popdyn.FreeEnergy('quadratic'), particles=100, snapshots=3)\n"
        "popdyn.plot(popdyn.fit(data, learner='weak_form'))._repr_png_()\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
