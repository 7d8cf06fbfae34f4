"""Suites: what ships, and what a wrong file is told."""

import re
import tomllib
from pathlib import Path

import pytest

from popdyn.base.errors import PopdynError
from popdyn.benchmark import SUITES, load_suite, read_suite
from popdyn.benchmark.suite import entry_from
from popdyn.benchmark.toml_lines import line_of
from popdyn.dynamics import POTENTIALS

DATASETS = Path(__file__).parents[2] / "datasets"
NAMES = [
    *(
        "circulation",
        "diffusion",
        "eb100",
        "eb5",
        "eb50",
        "emt",
        "forecast",
        "genes",
        "growth",
        "highdim",
        "interaction",
        "jko15",
        "jko15-legacy",
        "joint",
        "robust",
        "three_marginals",
        "timevarying",
        "two_starts",
    ),
]
CARD = [
    *("One line", "Equations", "Parameters", "Initial law", "Steps", "Size", "Cost"),
    *("What is hard", "How to evaluate", "Citation"),
]
GOOD = """\
name = "mine"
summary = "my own"

[defaults]
particles = 50
dt = 0.1

[options.ijkonet]
steps = 5

[[entry]]
name = "a"
potential = "quadratic"

[[entry]]
name = "b"
potential = "double_well"
potential_params = { height = 1.0 }
times = [0.0, 0.1, 0.4]
"""


def test_the_suites_that_ship():
    assert sorted(SUITES) == NAMES
    for name, suite in SUITES.items():
        assert suite.name == name
        assert suite.path.parent.name == name
        assert suite.packaged
        assert suite.summary.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_can_be_built(name):
    for entry in SUITES[name].entries:
        if entry.source is None:
            energy = entry.free_energy
            assert entry.dynamics.spec() is not None  # a store can tell its truth
            assert energy.V is not None
        assert entry_from(entry.table()) == entry


@pytest.mark.parametrize("name", NAMES)
def test_every_suite_has_a_card_with_the_fixed_fields(name):
    card = (DATASETS / name / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == CARD
    assert len(card) > 1000


def test_what_the_suites_promise():
    field = [e.name for e in SUITES["jko15"].entries]
    assert len(field) == 15
    assert field == [e.name for e in SUITES["jko15-legacy"].entries]
    assert set(field) <= set(POTENTIALS)
    for entry in SUITES["jko15"].entries:
        assert entry.simulation["particles"] == 10_000
        assert "scheme" not in entry.simulation  # the accurate default
    for entry in SUITES["jko15-legacy"].entries:
        assert entry.simulation["scheme"] == "one_step"
        assert entry.simulation["particles"] == entry.simulation["test_particles"] == 1000
    pairs = {
        (e.energy["potential"], e.energy["interaction"]) for e in SUITES["interaction"].entries
    }
    assert len(pairs) == 6
    betas = {(e.energy["potential"], e.energy["diffusivity"]) for e in SUITES["diffusion"].entries}
    assert len(betas) == 16
    assert {b for _, b in betas} == {0.05, 0.1, 0.2, 0.5}
    reference = SUITES["joint"].entry("wells-repulsion")
    assert reference.energy == {
        "potential": "styblinski_tang",
        "potential_params": {"scale": 0.05},
        "interaction": "gaussian_repulsion",
        "interaction_params": {"strength": 3.0},
        "diffusivity": 0.2,
    }
    assert reference.simulation["snapshots"] == 11
    assert reference.simulation["initial_params"] == {"mean": [1.5, -1.0], "std": 1.0}
    assert {e.simulation["dim"] for e in SUITES["highdim"].entries} == {5, 10, 20, 50}
    assert any(e.free_energy.time_dependent for e in SUITES["timevarying"].entries)
    grown = SUITES["growth"].entries
    assert all("growth" in e.dynamics.terms for e in grown)
    assert sum(e.simulation.get("proportions", False) for e in grown) == 3
    assert all("circulation" in e.dynamics.terms for e in SUITES["circulation"].entries)
    held = {e.name: e.hold_out for e in SUITES["eb5"].entries}
    assert held["leave_two_out"] == (1, 3)
    assert [held[f"leave_one_out-{k}"] for k in (1, 2, 3)] == [(1,), (2,), (3,)]
    assert SUITES["eb5"].entry("all").source["test_fraction"] == 0.4


def test_own_file_folder_and_defaults(tmp_path):
    file = tmp_path / "suite.toml"
    file.write_text(GOOD)
    for path in (file, tmp_path, str(file)):
        suite = load_suite(path)
        assert suite.name == "mine"
        assert not suite.packaged
    a, b = suite.entries
    assert a.simulation == {"particles": 50, "dt": 0.1}
    assert b.simulation == {"particles": 50, "times": [0.0, 0.1, 0.4]}  # no dt beside times
    assert suite.options == {"ijkonet": {"steps": 5}}


def test_unknown_suite_names_the_nearest():
    with pytest.raises(PopdynError, match="unknown suite 'jk15': did you mean jko15"):
        load_suite("jk15")
    with pytest.raises(PopdynError, match=r"nowhere/suite\.toml"):
        load_suite("nowhere/suite.toml")


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ('potential = "quadratic"', 'potental = "quadratic"', 13, "potental", "mean potential"),
        ('potential = "quadratic"', 'potential = "quadrtic"', 13, "potential", "quadratic"),
        ('potential = "quadratic"', "potential = 3", 13, "potential", "is 3"),
        ("height = 1.0", "hight = 1.0", 18, "potential_params", "height"),
        ("particles = 50", "particles = 0", 5, "particles", "1 or more"),
        ("particles = 50", 'particles = "many"', 5, "particles", "many"),
        ("dt = 0.1", "dt = -0.1", 6, "dt", "number > 0"),
        ("[0.0, 0.1, 0.4]", "[0.0, 0.4, 0.1]", 19, "times", "increasing"),
        ('name = "b"', 'name = "a"', 16, "name", "second time"),
        ('name = "b"', 'name = "b/c"', 16, "name", "letters"),
        ('name = "b"\n', "", 15, "name", "none"),
        ("[options.ijkonet]", "[options.ijkon]", 8, "ijkon", "ijkonet"),
        ('summary = "my own"', "summary = 5", 2, "summary", "is 5"),
        ('summary = "my own"', 'sumary = "my own"', 2, "sumary", "summary"),
        ('summary = "my own"', 'summary = "x"\nlearners = ["zer"]', 3, "learners", "zero"),
        ('summary = "my own"', 'summary = "x"\nplane = [1]', 3, "plane", "2 components"),
        ("[options.ijkonet]", '[score]\npoints = "some"\n[options.ijkonet]', 9, "points", "all"),
        ("times =", "hold_out = [3]\ntimes =", 19, "hold_out", "up to 2"),
        ("times =", "diffusivity = -1\ntimes =", 19, "diffusivity", "≥ 0"),
        ("times =", "dim = 1\npotential = 'ishigami'\ntimes =", 19, "dim", "needs 2"),
        ("times =", "import = { file = 'x.npz' }\ntimes =", 17, "potential", "imported"),
        ("times =", "scheme = 'jko'\ndiffusivity = 0.1\ntimes =", 19, "scheme", "diffusivity 0"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, old, new, line, field, words):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if "ishigami" in new:
        text = text.replace('potential = "double_well"\npotential_params = { height = 1.0 }\n', "")
        line -= 2
    file = tmp_path / "suite.toml"
    file.write_text(text)
    with pytest.raises(PopdynError) as error:
        read_suite(file)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{file}, line {line}, field '{field}': "), message
    assert words in message, message


def test_no_toml_and_no_entry(tmp_path):
    file = tmp_path / "suite.toml"
    file.write_text("name = = 3")
    with pytest.raises(PopdynError, match=r"suite.toml' is no TOML: .*line 1"):
        read_suite(file)
    file.write_text('name = "x"\nsummary = "y"\n')
    with pytest.raises(PopdynError, match="at least one"):
        read_suite(file)


def test_line_of_looks_into_inline_tables():
    text = 'name = "x"\n[[entry]]\nimport = { test_fraction = 3 }\n'
    assert line_of(text, "entry", "test_fraction") == 3
    assert line_of(text, "entry", "nothing") == 2


def test_every_package_and_suite_is_in_the_wheel():
    root = DATASETS.parent
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {
        ".".join(file.parent.relative_to(root).parts)
        for file in (root / "popdyn").rglob("__init__.py")
    }
    assert set(listed["packages"]) == there | {"popdyn.datasets"}
    assert listed["package-dir"]["popdyn.datasets"] == "datasets"
    assert {"*/README.md", "*/suite.toml"} <= set(listed["package-data"]["popdyn.datasets"])
    assert {"*.jinja", "*.css", "*.js"} <= set(listed["package-data"]["popdyn.benchmark"])
