"""What a population was simulated with is learned, or given, or said to be left out."""

import warnings

import pytest

from popdyn.benchmark import Entry, bench
from popdyn.benchmark.cells import Cell, cell_options, terms_of
from popdyn.learners import load_run

NOISY = {"potential": "quadratic", "diffusivity": 0.1}
JOINT = NOISY | {"interaction": "quadratic"}


def entry(energy, **fit):
    return Entry("a", energy=energy, simulation={"particles": 50}, fit=fit)


@pytest.mark.parametrize("learner", ["ijkonet", "weak_form", "jkonet_star"])
def test_what_the_data_was_made_with_is_learned_where_nothing_else_is_wished(learner):
    def learned(energy, given=(), **fit):
        return cell_options(entry(energy, **fit), learner, dict(given)).get("learn")

    assert learned({"potential": "quadratic"}) == ["potential"]
    assert learned(NOISY) == ["potential", "diffusion"]
    assert learned(JOINT) == ["potential", "interaction", "diffusion"]
    assert learned(NOISY, diffusivity=0.1) == ["potential"]
    assert learned(NOISY, {"diffusivity": 0.2}) == ["potential"]
    assert learned(JOINT, diffusivity=0.1) == ["potential", "interaction"]
    assert learned(NOISY, learn=["potential"]) == ["potential"]
    assert cell_options(entry(NOISY), "zero", {}) == {}


@pytest.mark.parametrize(
    ("energy", "fit", "told", "missing"),
    [
        ({"potential": "quadratic"}, {}, "potential learned", ""),
        (NOISY, {}, "potential and diffusion learned", ""),
        (NOISY, {"diffusivity": 0.1}, "potential learned, β = 0.1 given", ""),
        (NOISY, {"learn": ["potential"]}, "potential learned", "diffusion"),
        (NOISY, {"diffusivity": 0.0}, "potential learned, β = 0 given", "diffusion"),
        (JOINT, {"learn": "potential,diffusion"}, "potential and diffusion learned", None),
    ],
)
def test_what_is_left_out_is_said(energy, fit, told, missing):
    made = entry(energy, **fit)
    cell = Cell(made, "ijkonet", 0, cell_options(made, "ijkonet", {}), {})
    assert terms_of(cell) == (told, "interaction" if missing is None else missing)
    assert terms_of(Cell(made, "zero", 0, {}, {})) == ("", "")


def test_an_own_suite_with_diffusion(tmp_path):
    file = tmp_path / "suite.toml"
    file.write_text(
        'name = "own"\nsummary = "s"\n[score]\npoints = 60\n[[entry]]\nname = "a"\n'
        'potential = "quadratic"\ndiffusivity = 0.1\nparticles = 500\n'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = bench(file, tmp_path / "out", learners=["ijkonet"])
    run = load_run(tmp_path / "out" / "cells" / "a-ijkonet-seed0" / "run")
    assert run.config["options"]["learn"] == ["potential", "diffusion"]
    assert results["rows"][0]["scores"]["diffusivity"]["true"] == 0.1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "ijkonet: potential and diffusion learned." in page
