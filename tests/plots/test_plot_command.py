"""``popdyn plot`` in a real process, and in this one."""

import pytest
from click.testing import CliRunner

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.cli import group
from popdyn.plots import FIGURES


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plot")
    energy = popdyn.FreeEnergy("styblinski_tang")
    data = popdyn.simulate(energy, particles=150, snapshots=3, out=folder / "st.zarr")
    popdyn.fit(data, "oracle", out=folder / "run", source=folder / "st.zarr")
    return folder / "run"


def invoke(*arguments):
    return CliRunner().invoke(group, ["plot", *map(str, arguments)], catch_exceptions=True)


def test_all_figures_in_a_real_process(run_popdyn, run, tmp_path):
    done = run_popdyn("plot", run, "--out", "figures", "--json")
    assert done.code == 0, done.err
    names = [f"figures/{name}.png" for name in FIGURES if name != "interaction"]
    assert done.json == {"run": str(run), "figures": names}
    assert all((tmp_path / name).stat().st_size > 5000 for name in done.json["figures"])


def test_chosen_figures_formats_and_overwriting(run, tmp_path):
    out = tmp_path / "figures"
    line = (run, "--out", out, "--only", "force", "--only", "cells", "--format")
    for ending in ("svg", "pdf"):
        assert invoke(*line, ending).exit_code == 0
    assert sorted(f.name for f in out.iterdir()) == [
        *("cells.pdf", "cells.svg", "force.pdf", "force.svg")
    ]
    again = invoke(*line, "svg")
    assert isinstance(again.exception, PopdynError)
    assert "force.svg' exists" in str(again.exception)
    assert invoke(*line, "svg", "--overwrite").exit_code == 0


def test_bad_input(run, tmp_path):
    wrong = invoke(run, "--out", tmp_path / "a", "--plane", "1,3")
    assert "components from 1 to 2" in str(wrong.exception)
    assert invoke(run, "--out", tmp_path / "a", "--plane", "x").exit_code == 2
    assert invoke(run, "--out", tmp_path / "a", "--only", "nothing").exit_code == 2
    file = tmp_path / "file"
    file.touch()
    assert "is a file" in str(invoke(run, "--out", file).exception)
    lost = invoke(run, "--out", tmp_path / "b", "--data", tmp_path / "none.zarr")
    assert "none.zarr" in str(lost.exception)
    assert "is not a run" in str(invoke(tmp_path, "--out", tmp_path / "b").exception)
