"""Options of learners: values of another type, and numbers that are none, are one line."""

import pytest
from click.testing import CliRunner

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.base.options import options_in
from popdyn.cli import group
from popdyn.learners import LEARNERS
from popdyn.learners.registry import options_of


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("hidden", "64;64", "hidden is '64;64': expected whole numbers with commas between them"),
        ("hidden", 64, "hidden is 64: expected whole numbers"),
        ("hidden", [0], r"hidden is \(0,\): expected widths of 1 or more"),
        ("learn", float("inf"), "learn is inf: expected words"),
        ("learning_rate", float("inf"), "learning_rate is inf: expected a finite number"),
        ("learning_rate", -1, "learning_rate is -1.0: expected a number > 0"),
        ("learning_rate", 10**400, "expected a finite number"),
        ("time_varying", 2, "time_varying is 2: expected true or false"),
        ("steps", 1.5, "steps is 1.5: expected a whole number"),
        ("steps", True, "steps is True: expected a whole number"),
        ("model", 3, "model is 3: expected a word"),
        ("diffusivity", "x", "diffusivity is 'x': expected a finite number"),
        ("validation_fraction", 1, "validation_fraction is 1.0: expected between 0 and 1"),
    ],
)
def test_a_value_that_an_option_cannot_have(name, value, line):
    with pytest.raises(PopdynError, match=line):
        options_of("ijkonet", {name: value})


def test_what_is_plain_is_taken():
    options = options_of("ijkonet", {"hidden": "64, 32", "learn": "potential,diffusion"})
    assert options.hidden == (64, 32)
    assert options.learn == ("potential", "diffusion")
    assert options_of("ijkonet", {"learning_rate": 1, "hidden": [8]}).learning_rate == 1.0
    assert options_of("ijkonet", {"steps": None}).steps is None


@pytest.mark.parametrize("name", LEARNERS)
def test_every_option_is_a_flag_with_its_meaning_and_default(name):
    shown = CliRunner().invoke(group, ["train", "--help", "--learner", name], terminal_width=100)
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.output.split())
    for option in options_in(LEARNERS[name].options).values():
        assert option.meaning
        if option.kind is not object:
            assert f"--{option.name.replace('_', '-')}" in text
            assert option.meaning.replace("``", "").replace("None:", "If not given:") in text
            assert not option.text or f"[default: {option.text}" in text


@pytest.mark.slow
def test_a_line_and_a_file_and_python_mean_the_same(run_popdyn, small_data, tmp_path):
    options = {"tests": 100, "learn": ["potential", "diffusion"], "time_varying": False}
    popdyn.write(small_data, tmp_path / "small.zarr")
    toml = 'learner = "weak_form"\ntests = 100\nlearn = ["potential", "diffusion"]\n'
    (tmp_path / "options.toml").write_text(toml + "time_varying = false\n")
    flags = ("--learner", "weak_form", "--tests", "100", "--learn", "potential,diffusion")
    for out, line in (
        ("line", (*flags, "--no-time-varying")),
        ("file", ("--config", "options.toml")),
    ):
        done = run_popdyn("train", "small.zarr", "--out", out, *line)
        assert done.code == 0, done.err
        found = popdyn.load_run(tmp_path / out).config["options"]
        assert found == popdyn.fit(small_data, "weak_form", **options).config["options"]
        assert {k: found[k] for k in options} == options


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--steps", "0"), "'--steps': steps is 0: expected 1 or more"),
        (("--steps", "1.5"), "'--steps': steps is '1.5': expected a whole number"),
        (("--learn", "velocity"), "'--learn': learn 'velocity': expected some of auto, potential"),
        (
            ("--model", "deep"),
            "'--model': model is 'deep': expected one of auto, features, network",
        ),
        (("--learner", "zero", "--steps", "3"), "learner 'zero' has no option --steps: ijkonet"),
        (("--nothing",), "No such option '--nothing'"),
    ],
)
def test_a_wrong_flag_is_one_line(run_popdyn, words, line):
    done = run_popdyn("train", "x.zarr", "--out", "y", *words)
    assert done.code == 2
    assert line in done.err
    assert done.err.count("\n") == 1
