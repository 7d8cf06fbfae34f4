"""What ``score`` returns: the JSON's dictionary, a table, HTML, a data frame, a data set."""

import json

import numpy as np
import pytest

import popdyn
from popdyn import PopdynError
from popdyn.scores import Scores


@pytest.fixture(scope="module")
def data():
    energy = popdyn.FreeEnergy("quadratic", diffusivity=0.1)
    return popdyn.simulate(energy, particles=300, snapshots=4, dt=0.1, seed=0)


@pytest.fixture(scope="module")
def run(data):
    return popdyn.fit(data, learner="weak_form", learn="potential,diffusion")


@pytest.fixture(scope="module")
def scores(run, data):
    return popdyn.score(run, data, points=100)


def test_it_is_the_dictionary_of_the_json(scores, run, data):
    keys = ["learner", "verdict", "gradient", "diffusivity", "distribution", "references"]
    assert list(scores) == keys
    assert json.loads(json.dumps(scores)) == scores.to_dict()
    of_energy = popdyn.score(run.energy, data, points=100)
    assert of_energy == {k: v for k, v in scores.items() if k not in ("learner", "verdict")}
    copied = scores.to_dict()
    copied["gradient"]["potential"]["skill"] = None
    assert scores["gradient"]["potential"]["skill"] is not None
    assert type(copied) is dict


def test_it_prints_as_the_table(scores):
    text = repr(scores)
    assert text.startswith(f"verdict: {scores['verdict']}\n")
    skill = scores["gradient"]["potential"]["skill"]
    row = next(line for line in text.splitlines() if line.startswith("weak_form, model=features"))
    assert f"{skill:.3f}" in row
    for name in ("zero", "floor", "copy_previous", "mccann", "w2 at each time"):
        assert name in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_html_is_escaped():
    distribution = {"times": [1.0], "points": [3], "points_predicted": [3], "w2": [0.1]}
    names = ("w1", "sliced_w2", "mmd", "energy_distance", "bw2_uvp")
    row = {"distribution": distribution | {name: [0.1] for name in names}}
    text = Scores(row | {"references": {}, "verdict": "<i>"}, "<b>")._repr_html_()
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "<i>" not in text


def test_a_data_frame(scores):
    frame = scores.to_pandas()
    label = "weak_form, model=features"
    assert frame.index.tolist() == [label, "zero", "floor", "copy_previous", "mccann"]
    column = frame["gradient.potential.skill"]
    assert column[label] == scores["gradient"]["potential"]["skill"]
    assert column["zero"] == 0
    assert np.isnan(column["floor"])
    # The last time has no later snapshot to interpolate from: no mean has it.
    w2 = scores["distribution"]["w2"]
    assert frame["distribution.w2"][label] == pytest.approx(np.mean(w2[:-1]))


def test_a_data_set(scores):
    out = scores.to_xarray()
    assert out.sizes == {"row": 5, "time": 3, "snapshot": 3}
    np.testing.assert_array_equal(
        out.w2.sel(row="floor"), scores["references"]["floor"]["distribution"]["w2"]
    )
    assert np.isnan(out.w2.sel(row="mccann", time=out.time[-1]))
    by_time = [c["skill"] for c in scores["gradient"]["potential"]["by_time"]]
    np.testing.assert_array_equal(out.potential_skill_by_time[0], by_time)
    assert float(out.diffusivity[0]) == scores["diffusivity"]["estimate"]
    assert np.isnan(out.potential_skill.sel(row="floor"))


def test_of_real_cells_there_is_no_gradient(data, run):
    arrays = [data["test/x"].values[k] for k in range(4)]
    cells = popdyn.from_arrays(arrays, data["train/time"].values)
    scores = popdyn.score(run, cells, points=30)
    assert "gradient" not in scores
    assert "no gradient scores" in repr(scores)
    assert "gradient.potential.skill" not in scores.to_pandas()
    assert "potential_skill" not in scores.to_xarray()


def test_what_a_run_did_not_see_is_what_it_is_scored_on(data, tmp_path):
    popdyn.write(data, tmp_path / "a.zarr")
    run = popdyn.fit(data, learner="zero", hold_out=2)
    scores = popdyn.score(run, tmp_path / "a.zarr", points=30)
    assert scores["distribution"]["times"] == [pytest.approx(0.2)]
    everything = popdyn.score(run, data, points=30, hold_out=())
    assert len(everything["distribution"]["times"]) == 3


def test_a_wrong_object_is_said(data):
    with pytest.raises(PopdynError, match="score was given str: expected a run or an energy"):
        popdyn.score("runs/st", data)
