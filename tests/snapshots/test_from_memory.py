"""From memory: arrays, an AnnData and a data frame become the data set that a file gives."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

import popdyn
from popdyn import PopdynError
from popdyn.snapshots import counts, positions, times, validate

RNG = np.random.default_rng(0)
ARRAYS = [RNG.normal(size=(n, 2)).astype(np.float32) for n in (100, 60, 80)]
LABELS = np.repeat([0.0, 0.5, 2.0], [100, 60, 80])
ROWS = np.concatenate(ARRAYS)


def frame(**more):
    columns = {"day": LABELS, "a": ROWS[:, 0], "b": ROWS[:, 1]}
    return pd.DataFrame(columns | more)


def adata():
    obs = pd.DataFrame({"day": LABELS}, index=[str(i) for i in range(len(LABELS))])
    return anndata.AnnData(obs=obs, obsm={"X_pca": ROWS})


def same(one, other):
    return all(
        np.array_equal(positions(one, k, group), positions(other, k, group))
        for group in ("train", "test")
        for k in range(3)
    )


def test_all_ways_in_give_what_a_file_gives(tmp_path):
    frame().to_csv(tmp_path / "c.csv", index=False)
    wanted = popdyn.import_data(tmp_path / "c.csv", time_key="day", seed=3)
    ways = [
        popdyn.from_arrays(ARRAYS, [0, 0.5, 2], seed=3),
        popdyn.from_frame(frame(), time_key="day", seed=3),
        popdyn.from_anndata(adata(), obs_key="day", seed=3),
    ]
    assert counts(wanted).tolist() == [80, 48, 64]
    for data in ways:
        assert same(data, wanted)
        np.testing.assert_array_equal(times(data), [0, 0.5, 2])
        assert data.attrs["observation"] == "unpaired"
    popdyn.write(ways[0], tmp_path / "a.zarr")
    assert validate(tmp_path / "a.zarr") == []
    assert same(popdyn.open_snapshots(tmp_path / "a.zarr"), wanted)


def test_arrays_of_torch_lists_and_any_order_of_times():
    back = [torch.tensor(x, requires_grad=True) for x in reversed(ARRAYS)]
    data = popdyn.from_arrays(back, ["E9.5", "E8", "E7.5"])
    assert times(data).tolist() == [7.5, 8.0, 9.5]
    assert counts(data).tolist() == [80, 48, 64]
    nested = popdyn.from_arrays([x.tolist() for x in ARRAYS], torch.arange(3), test_fraction=0)
    np.testing.assert_array_equal(positions(nested, 1), ARRAYS[1])


def test_the_options_of_an_import():
    data = popdyn.from_arrays(ARRAYS, ["a", "b", "c"], time_map={"a": 0, "b": 1, "c": 4})
    assert times(data).tolist() == [0, 1, 4]
    holed = [x.copy() for x in ARRAYS]
    holed[1][7, 1] = np.nan
    with pytest.raises(PopdynError, match="column 'x2' is nan in row 7 of array 1"):
        popdyn.from_arrays(holed, [0, 1, 2])
    data = popdyn.from_arrays(holed, [0, 1, 2], drop_missing=True, components=1)
    assert counts(data).sum() + counts(data, "test").sum() == 240
    assert popdyn.from_frame(frame(batch=1), "day").attrs["import"]["components"] == ["a", "b"]


@pytest.mark.parametrize(
    ("arrays", "at", "options", "message"),
    [
        (ARRAYS, [0, 1], {}, r"times have shape \(2,\) and there are 3 arrays"),
        (ARRAYS, [0, 1, 1], {}, "the time 1 stands twice"),
        (ARRAYS[:1], [0], {}, "has the one label 0: expected two snapshots"),
        ([], [], {}, "there are no arrays"),
        ([*ARRAYS[:2], np.zeros((0, 2))], [0, 1, 2], {}, r"array 2 has shape \(0, 2\)"),
        ([*ARRAYS[:2], np.zeros((9, 3))], [0, 1, 2], {}, "array 2 has 3 components, array 0 has 2"),
        (ROWS, LABELS, {}, r"array 0 has shape \(2,\)"),
        ([[[1, 2], [3]], [[1, 2]]], [0, 1], {}, "array 0 is no array"),
        (ARRAYS, [0, 1, np.nan], {}, "times is nan at row 0 of array 2"),
        (ARRAYS, [0, 1, 2], {"obs_key": "day"}, "from_arrays has no option 'obs_key'"),
        (ARRAYS, [0, 1, 2], {"test_fraction": 1}, "test_fraction is 1"),
    ],
)
def test_what_is_wrong_is_said(arrays, at, options, message):
    with pytest.raises(PopdynError, match=message):
        popdyn.from_arrays(arrays, at, **options)


def test_the_wrong_kind_of_object_and_missing_names_are_said():
    with pytest.raises(PopdynError, match="from_frame was given ndarray: expected a pandas"):
        popdyn.from_frame(ROWS)
    with pytest.raises(PopdynError, match="from_anndata was given DataFrame: expected an AnnData"):
        popdyn.from_anndata(frame())
    with pytest.raises(PopdynError, match=r"the frame has no column .*: name one of day"):
        popdyn.from_frame(frame())
    with pytest.raises(PopdynError, match="the AnnData has no obs column"):
        popdyn.from_anndata(adata())
    twice = pd.concat([frame(), frame()[["a"]]], axis="columns")
    with pytest.raises(PopdynError, match="the frame has the column 'a' twice"):
        popdyn.from_frame(twice, "day")
    with pytest.raises(PopdynError, match="the arrays are None: expected a list"):
        popdyn.from_arrays(None, [0, 1])
    with pytest.raises(PopdynError, match="from_frame has no option 'time_kye': expected one of"):
        popdyn.from_frame(frame(), time_kye="day")


def test_sources_stay_as_they_are():
    cells, table = adata(), frame()
    before = table.copy()
    popdyn.from_anndata(cells, "day")
    popdyn.from_frame(table, "day", columns=["a"])
    pd.testing.assert_frame_equal(table, before)
    np.testing.assert_array_equal(cells.obsm["X_pca"], ROWS)


def test_fit_takes_a_tree_or_a_path(tmp_path):
    data = popdyn.from_arrays([x + 0.3 * k for k, x in enumerate(ARRAYS)], [0, 0.5, 1.0])
    popdyn.write(data, tmp_path / "a.zarr")
    of_tree = popdyn.fit(data, learner="zero")
    of_path = popdyn.fit(tmp_path / "a.zarr", learner="zero")
    (by_path,), (by_tree,) = of_path.config["data"], of_tree.config["data"]
    assert by_path["digest"] == by_tree["digest"]
    assert by_path["path"] == str((tmp_path / "a.zarr").resolve())
    assert by_tree["path"] is None
    with pytest.raises(PopdynError, match="the data is ndarray: expected a data set"):
        popdyn.fit(ARRAYS)


def test_minibatches_draw_each_snapshot_on_its_own(tmp_path):
    data = popdyn.from_arrays(ARRAYS, [0, 0.5, 2])
    popdyn.write(data, tmp_path / "a.zarr")
    batches = popdyn.torch_dataset(tmp_path / "a.zarr", batch=40, batches=6, seed=1)
    items = list(DataLoader(batches, batch_size=None, num_workers=2))
    assert len(items) == len(batches) == 6
    assert all(x.shape == (3, 40, 2) and x.dtype == torch.float32 for x in items)
    assert torch.equal(items[4], popdyn.torch_dataset(data, batch=40, batches=6, seed=1)[4])
    assert batches.times.tolist() == [0, 0.5, 2]
    known = [{tuple(row) for row in positions(data, k).tolist()} for k in range(3)]
    for x in items:
        for k in range(3):
            rows = {tuple(row) for row in x[k].tolist()}
            assert len(rows) == 40
            assert rows <= known[k]
    assert len({tuple(x.flatten().tolist()) for x in items}) == 6
    together = next(iter(DataLoader(batches, batch_size=2, shuffle=True)))
    assert together.shape == (2, 3, 40, 2)


def test_rows_of_two_snapshots_are_not_paired():
    # The same particles in all snapshots: were a draw shared, rows would be equal.
    x = RNG.normal(size=(500, 1))
    item = popdyn.torch_dataset(popdyn.from_arrays([x, x], [0, 1], test_fraction=0), batch=400)[0]
    # Of 400 out of 500 in two orders, about 400/500 stand in one place by chance.
    assert (item[0] == item[1]).sum() < 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 49}, "batch is 49 and snapshot 1 has 48 train particles"),
        ({"batch": 0}, "batch is 0: expected 1 or more"),
        ({"batches": 0}, "batches is 0"),
        ({"batch": 9, "hold_out": 3}, "hold-out index 3: the data has snapshots 0 to 2"),
        ({"batch": 9, "hold_out": (0, 1, 2)}, "all snapshots are held out"),
        ({"batch": 9, "group": "all"}, "group 'all' was asked for"),
    ],
)
def test_wrong_batches_are_said(options, message):
    with pytest.raises(PopdynError, match=message):
        popdyn.torch_dataset(popdyn.from_arrays(ARRAYS, [0, 0.5, 2]), **options)


def test_held_out_snapshots_are_not_drawn():
    batches = popdyn.torch_dataset(popdyn.from_arrays(ARRAYS, [0, 0.5, 2]), batch=9, hold_out=1)
    assert batches[0].shape == (2, 9, 2)
    assert batches.times.tolist() == [0, 2]
