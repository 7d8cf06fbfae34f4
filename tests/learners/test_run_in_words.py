"""A run prints itself in words, as a table and as HTML."""

import sys

import numpy as np
import pandas as pd
import pytest

import popdyn
from popdyn import PopdynError


@pytest.fixture(scope="module")
def bowl():
    energy = popdyn.FreeEnergy("quadratic", diffusivity=0.2)
    return popdyn.simulate(energy, particles=2000, snapshots=4, dt=0.1, seed=0)


@pytest.fixture(scope="module")
def run(bowl):
    return popdyn.fit(bowl, learner="weak_form", learn="potential,diffusion")


def test_a_run_says_what_was_learned_and_what_it_is_worth(run):
    lines = str(run).splitlines()
    assert repr(run) == str(run)
    assert lines[0] == f"verdict  {run.word}: {run.verdict.note}"
    assert lines[1] == "learned  potential V and diffusivity β (weak_form, model=features)"
    beta, error = run.energy.diffusivity, run.energy.diffusivity_standard_error
    assert lines[2] == f"β        {beta:.3g} ± {error:.2g}"
    assert lines[3].startswith("met      ")
    assert "differ by chance" in lines[3]
    assert lines[4].startswith("took     ")
    assert lines[4].endswith("s, converged") or "step" in lines[4]
    assert len(lines) <= 9


def test_notes_are_shown_three_at_a_time(run):
    run = popdyn.Run(run.energy, "weak_form", {}, notes=[f"note {i}" for i in range(5)])
    lines = str(run).splitlines()
    assert lines[-4:] == ["note: note 0", "note: note 1", "note: note 2", "… and 2 more in notes"]


def test_a_run_of_nothing(bowl):
    run = popdyn.fit(bowl, learner="zero")
    assert str(run).startswith("verdict  unexplained: ")
    assert "\nlearned  nothing (zero)\n" in str(run)
    assert run.model is None


def test_beta_says_where_it_comes_from(bowl):
    given = popdyn.fit(bowl, learner="weak_form", diffusivity=0.2, learn="potential")
    assert "β        0.2, as given\n" in str(given)
    not_asked = popdyn.fit(bowl, learner="weak_form", learn="potential")
    assert "β        0, not learned\n" in str(not_asked)


def test_the_table_of_a_run(run):
    table = run.table()
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["value", "standard_error"]
    assert table.value["learned"] == "potential, diffusion"
    assert table.value["model"] == "features"
    assert table.standard_error["diffusivity"] == run.energy.diffusivity_standard_error


def test_a_network_says_that_it_is_one(bowl):
    run = popdyn.fit(bowl, model="network", learn="potential", steps=2, batch=50, hidden=(8,))
    assert run.model == "network"
    assert "(ijkonet, model=network)" in str(run)
    assert run.summary()["model"] == "network"


def test_html_has_the_words_and_a_figure(run):
    text = run._repr_html_()
    assert "<img " in text
    assert "diffusivity β (weak_form, model=features)" in text
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_html_is_escaped_and_says_why_there_is_no_figure(run):
    alone = popdyn.Run(
        run.energy, "<b>", {"data": [{"name": "i", "path": "/no/such<i>", "digest": None}]}
    )
    text = alone._repr_html_()
    assert "<b>" not in text
    assert "<i>" not in text
    assert "no figure: " in text


def test_a_run_from_disk_is_the_same_but_for_its_data(run, bowl, tmp_path):
    popdyn.save_run(run, tmp_path / "run")
    again = popdyn.load_run(tmp_path / "run")
    assert str(again) == str(run)
    assert again.model == "features"
    with pytest.raises(PopdynError, match="the data set of the run is not at 'None': expected"):
        popdyn.plot(again)
    assert popdyn.plot(again, data=bowl).axes
    popdyn.write(bowl, tmp_path / "bowl.zarr")
    fitted = popdyn.fit(tmp_path / "bowl.zarr", learner="zero", out=tmp_path / "zero")
    assert fitted.snapshots() is not None
    opened = popdyn.load_run(tmp_path / "zero").snapshots()
    np.testing.assert_array_equal(opened["train/x"].values, bowl["train/x"].values)
