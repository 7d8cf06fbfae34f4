"""``popdyn simulate --suite``, and how the leaderboard fits a terminal."""

import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from popdyn.base.errors import PopdynError
from popdyn.benchmark import load_suite
from popdyn.benchmark.tables import leaderboards
from popdyn.cli import group
from popdyn.cli.bench import _table
from popdyn.snapshots import open_snapshots, validate


def invoke(*arguments):
    return CliRunner().invoke(group, ["simulate", *map(str, arguments)])


def test_a_suite_is_made_skipping_what_is_there(small_suite, tmp_path):
    out = tmp_path / "data"
    one = invoke("--suite", small_suite, "--entry", "still", "--out", out, "--seed", 3)
    assert one.exit_code == 0, one.output
    stamp = (out / "still.zarr" / "zarr.json").stat().st_mtime_ns
    both = invoke("--suite", small_suite, "--out", out, "--seed", 3, "--json")
    assert both.exit_code == 0, both.output
    stores = [str(out / f"{name}.zarr") for name in ("bowl", "still")]
    assert json.loads(both.stdout) == {"suite": str(small_suite), "seed": 3, "stores": stores}
    assert (out / "still.zarr" / "zarr.json").stat().st_mtime_ns == stamp
    for store in stores:
        assert validate(store) == []
        assert open_snapshots(store).attrs["seed"] == 3
    other = invoke("--suite", small_suite, "--out", out, "--seed", 4)
    assert isinstance(other.exception, PopdynError)
    assert "not made from the present definition" in str(other.exception)


def test_bad_input(small_suite, tmp_path):
    out = ("--out", tmp_path / "data")
    beside = invoke("--suite", small_suite, "--dt", 0.1, *out)
    assert beside.exit_code == 2
    assert "--dt beside --suite" in beside.output
    alone = invoke("--potential", "flat", "--entry", "bowl", *out)
    assert alone.exit_code == 2
    assert "expected --suite" in alone.output
    unknown = invoke("--suite", small_suite, "--entry", "bow", *out)
    assert "did you mean bowl" in str(unknown.exception)
    assert "did you mean jko15" in str(invoke("--suite", "jko16", *out).exception)
    (tmp_path / "file").touch()
    lost = invoke("--suite", small_suite, "--out", tmp_path / "file")
    assert "is a file" in str(lost.exception)


@pytest.mark.parametrize("width", [40, 80, 240])
def test_a_leaderboard_fits_its_terminal(small_suite, small_bench, width):
    (board,) = leaderboards(small_bench[0], load_suite(small_suite))
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(_table(board, width))
    lines = console.export_text().splitlines()
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= width
    for name in ("skill ∇V", "cells"):
        assert name in lines[1]
