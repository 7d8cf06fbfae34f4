"""Texts from files on a terminal: no markup, no control characters, nothing swallowed."""

import json

import numpy as np
import pytest
from rich.table import Table

from popdyn.base.screen import Screen, escaped, printable
from popdyn.snapshots import make_tree, write

HOSTILE = "[red]a[/b] :smile: \x1b]0;owned\x07\x1b[31mred\x9b1m\u202eback"
SHOWN = "[red]a[/b] :smile: ]0;owned[31mred1mback"


def shown(something, **options):
    screen = Screen(width=200, force_terminal=True, color_system=None, **options)
    with screen.capture() as capture:
        screen.print(something)
    return capture.get()


def test_a_line_a_cell_and_a_title_are_printed_as_they_are():
    assert shown(HOSTILE) == SHOWN + "\n"
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    assert shown(table).count(SHOWN) == 3


def test_a_status_is_no_markup():
    assert Screen().status(HOSTILE).status.plain == SHOWN


def test_lines_and_letters_of_all_languages_stay():
    text = "∇V\tβ = 0.1\nпривет 日本 שלום"
    assert printable(text) == text


def test_json_keeps_every_character_as_an_escape():
    text = HOSTILE + "\ud800"
    document = escaped(json.dumps({"title": text}, ensure_ascii=False))
    assert printable(document) == document
    assert json.loads(document)["title"] == text


@pytest.mark.parametrize("command", ["inspect", "validate", "train", "import"])
def test_commands_with_hostile_names_and_titles(run_popdyn, tmp_path, command):
    name = "st[/b][red]\x1b[31m"
    x = np.random.default_rng(0).normal(size=(3, 60, 2)) - np.arange(3)[:, None, None]
    if command == "import":
        (tmp_path / name).parent.mkdir()  # the tag that ends holds a slash
        np.savez(tmp_path / f"{name}.npz", pcs=x.reshape(-1, 2), sample_labels=np.repeat("abc", 1))
        done = run_popdyn("import", f"{name}.npz", "--out", "a.zarr")
        assert done.code == 1
        assert "st[/b][red][31m.npz" in done.err
    else:
        attrs = {"title": HOSTILE, "import": {"components": ["a", HOSTILE]}}
        write(make_tree(x, x[:, :5], [0, 1, 2], attrs), tmp_path / f"{name}.zarr")
        extra = ("--out", f"{name}.run", "--learner", "zero") if command == "train" else ()
        done = run_popdyn(command, f"{name}.zarr", *extra)
        assert done.code == 0, done.err
        said = done.out + done.err
        assert (SHOWN if command == "inspect" else "st[/b][red][31m") in said
    assert "\x1b" not in done.out + done.err
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err
