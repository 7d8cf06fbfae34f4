"""A run folder of another format is refused by name."""

import json

import pytest

import popdyn
from popdyn.learners import load_run, save_run


def test_a_run_of_another_format_is_one_line(tmp_path) -> None:
    data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=20, seed=0)
    save_run(popdyn.fit(data, "zero"), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["popdyn_run"] = 1
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(popdyn.PopdynError, match="is a run of format 1: expected 2") as caught:
        load_run(tmp_path / "run")
    assert "\n" not in str(caught.value)
