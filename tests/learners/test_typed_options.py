"""Options of learners: values of another type, and numbers that are none, are one line."""

import pytest

from popdyn.errors import PopdynError
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
