"""One file of several experiments becomes a store for each."""

import numpy as np
import pytest

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.snapshots import counts, positions, times

DAYS = {"control": (0, 1, 2), "treated": (1, 2)}


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["replicate,day,x,y"]
    for n, (name, days) in enumerate(DAYS.items()):
        for day in days:
            cells = rng.normal(10.0 * n + day, 1.0, size=(20, 2))
            lines += [f"{name},day {day},{x:.4f},{y:.4f}" for x, y in cells]
    path = tmp_path / "cells.csv"
    path.write_text("\n".join(lines))
    return path


def test_each_has_its_own_cells_and_times(file):
    found = popdyn.import_experiments(file, "replicate", time_key="day", test_fraction=0)
    assert list(found) == list(DAYS)
    for n, (name, days) in enumerate(DAYS.items()):
        assert times(found[name]).tolist() == list(days)
        assert counts(found[name]).tolist() == [20] * len(days)
        for k, day in enumerate(days):
            # Means of 20 cells: within five standard errors.
            assert positions(found[name], k).mean() == pytest.approx(10.0 * n + day, abs=0.8)


def test_dates_count_from_the_first_of_all(tmp_path):
    path = tmp_path / "dates.csv"
    rows = [("a", "2024-01-01"), ("a", "2024-01-03"), ("b", "2024-01-02"), ("b", "2024-01-05")]
    cells = [f"{r},{t},{i / 7}" for r, t in rows for i in range(4)]
    path.write_text("\n".join(["r,time,x", *cells]))
    found = popdyn.import_experiments(path, "r")
    assert times(found["a"]).tolist() == [0.0, 2.0]
    assert times(found["b"]).tolist() == [1.0, 4.0]


def test_the_command_writes_a_store_for_each(file, tmp_path, run_popdyn):
    line = ["import", file, "--time-key", "day", "--split-by", "replicate", "--json"]
    done = run_popdyn(*line, "--out", tmp_path / "all")
    assert done.code == 0, done.last_line
    stores = [entry["store"] for entry in done.json["stores"]]
    assert stores == [str(tmp_path / "all" / f"{name}.zarr") for name in DAYS]
    assert [len(times(popdyn.open_snapshots(store))) for store in stores] == [3, 2]
    again = run_popdyn(*line, "--out", tmp_path / "all")
    assert again.code == 1
    assert "exists" in again.last_line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_by": "batch"}, "has no column 'batch': expected one of replicate, day, x, y"),
        ({"split_by": "day"}, "day 'day 0': .* has the one label day 0"),
        ({"split_by": "replicate", "standardize": "global"}, "standardize is 'global' with split"),
        ({"split_by": "replicate", "mass": {"day 0": 1.0}}, "mass is given with split_by"),
    ],
)
def test_what_cannot_be_split_is_said(file, options, message):
    with pytest.raises(PopdynError, match=message):
        popdyn.import_experiments(file, time_key="day", **options)


def test_an_import_of_one_data_set_refuses_to_split(file):
    with pytest.raises(PopdynError, match="split_by is 'replicate': expected none"):
        popdyn.import_data(file, time_key="day", split_by="replicate")
    np.save(file.with_name("data.npy"), np.ones((4, 2)))
    np.save(file.with_name("sample_labels.npy"), np.array([0, 0, 1, 1]))
    with pytest.raises(PopdynError, match="has no further arrays: expected a table"):
        popdyn.import_experiments(file.with_name("data.npy"), "replicate")
