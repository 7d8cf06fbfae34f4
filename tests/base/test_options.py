"""One reader of annotated dataclasses: values, bounds, flags."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import click
import numpy as np
import pytest
from click.testing import CliRunner

from popdyn.base.errors import PopdynError
from popdyn.base.options import Bounds, Off, OneOf, Options, flags, options_in, read_options

COLOURS = {"red": 0, "green": 1}


@dataclass(frozen=True)
class Shape(Options):
    """A shape.

    Attributes:
        sides: How many sides
            it has.
        size: Its size. None: as large as there is room.
        share: How much of it is filled.
        widths: Widths of its lines.
        corners: Cells at each corner: one number, or one for each.
        colour: Its colour.
        kind: What it is.
        parts: What of it is drawn.
        shut: Whether it is closed.
        extra: From Python alone.
    """

    sides: Annotated[int, Bounds(ge=1, le=9)] = 3
    size: Annotated[float | None, Bounds(gt=0)] = None
    share: Annotated[float, Bounds(ge=0, lt=1)] = 0.5
    widths: Annotated[tuple[int, ...], Bounds(ge=1, length=2, what="widths")] = (1, 2)
    corners: Annotated[int | tuple[int, ...], Bounds(ge=0)] = 0
    colour: Annotated[str, OneOf("colour", (f"{__name__}:COLOURS",))] = "red"
    kind: Literal["plane", "solid"] | None = None
    parts: tuple[Literal["edge", "face"], ...] = ("edge",)
    shut: Annotated[bool, Off("open")] = True
    extra: Mapping[str, Any] | None = None

    def check(self) -> None:
        if self.kind == "solid" and not self.shut:
            raise PopdynError("a solid is shut")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"sides": 0}, "sides is 0: expected 1 or more"),
        ({"sides": 10}, "sides is 10: expected 9 or fewer"),
        ({"sides": 2.5}, "sides is 2.5: expected a whole number"),
        ({"sides": None}, "sides is None: expected a whole number"),
        ({"sides": True}, "sides is True: expected a whole number"),
        ({"size": 0}, "size is 0.0: expected a number > 0"),
        ({"size": float("nan")}, "size is nan: expected a finite number"),
        ({"share": 1.0}, "share is 1.0: expected 0 or more, below 1"),
        ({"widths": [1]}, r"widths is \(1,\): expected 2 widths of 1 or more"),
        ({"widths": "1,x"}, "widths is '1,x': expected whole numbers with commas"),
        ({"corners": [1, -2]}, r"corners is \(1, -2\): expected numbers of 0 or more"),
        ({"corners": 0.5}, "corners is 0.5: expected a whole number, or a list of them"),
        ({"colour": "gren"}, "unknown colour 'gren': did you mean green"),
        ({"kind": "flat"}, "kind is 'flat': expected plane or solid"),
        ({"parts": "edge,corner"}, "parts 'edge,corner': expected some of edge, face"),
        ({"shut": 1}, "shut is 1: expected true or false"),
        ({"extra": 3}, "extra is 3: expected a table"),
    ],
)
def test_a_wrong_value_is_one_line_that_carries_its_field(given, line):
    with pytest.raises(PopdynError, match=line) as caught:
        Shape(**given)
    assert caught.value.field == next(iter(given))


def test_options_that_do_not_go_together_and_those_that_there_are_not():
    with pytest.raises(PopdynError, match="a solid is shut"):
        Shape(kind="solid", shut=False)
    with pytest.raises(PopdynError, match="a shape has no option 'side': expected one of sides"):
        read_options(Shape, {"side": 3}, "a shape")


def test_what_has_to_be_given_is_asked_for():
    @dataclass(frozen=True)
    class Named(Options):
        name: str
        tables: tuple[Mapping[str, Any], ...] = ()

    with pytest.raises(PopdynError, match="name is none: expected a word") as caught:
        read_options(Named, {}, "a thing")
    assert caught.value.field == "name"
    assert read_options(Named, {"name": "a", "tables": [{"b": 1}]}, "a thing").tables == ({"b": 1},)
    with pytest.raises(PopdynError, match="tables is 3: expected tables"):
        Named("a", tables=3)


def test_numbers_of_any_library_are_those_of_python():
    shape = Shape(sides=np.int64(4), size=np.float32(0.5), corners=np.array([1, 2]), widths="3, 4")
    assert (shape.sides, shape.size, shape.corners, shape.widths) == (4, 0.5, (1, 2), (3, 4))
    assert type(shape.sides) is int
    assert Shape(sides=4.0) == Shape(sides=4)


def test_flags_say_what_options_mean_and_read_what_they_say():
    got = {}
    command = click.Command("draw", params=list(flags(Shape)), callback=got.update)
    shown = " ".join(CliRunner().invoke(command, ["--help"], terminal_width=200).output.split())
    assert "How many sides it has. [default: 3; 1 or more]" in shown
    assert "Its size. If not given: as large as there is room. [a number > 0]" in shown
    assert "--colour [red|green]" in shown
    assert "--shut / --open" in shown
    assert "extra" not in shown
    line = "--sides 5 --corners 7 --widths [1,2] --open --parts edge,face --kind plane"
    assert CliRunner().invoke(command, line.split()).exit_code == 0
    given = {name: value for name, value in got.items() if value is not None}
    assert given == {
        "sides": 5,
        "corners": 7,
        "widths": (1, 2),
        "shut": False,
        "parts": ("edge", "face"),
        "kind": "plane",
    }
    wrong = CliRunner().invoke(command, ["--sides", "many"])
    assert wrong.exit_code == 2
    assert "sides is 'many': expected a whole number" in wrong.output


def test_every_option_is_described():
    assert all(option.meaning for option in options_in(Shape).values())
