"""A run folder of another format is refused by name."""

import pytest

import popdyn
from popdyn.base.files import write_manifest
from popdyn.learners import load_run, save_run


def test_a_run_of_another_format_is_one_line(tmp_path) -> None:
    data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=20, seed=0)
    save_run(popdyn.fit(data, "zero"), tmp_path / "run")
    write_manifest(tmp_path / "run", "run", format=3)
    with pytest.raises(popdyn.PopdynError, match="is a run of format 3: expected 5") as caught:
        load_run(tmp_path / "run")
    assert "\n" not in str(caught.value)
