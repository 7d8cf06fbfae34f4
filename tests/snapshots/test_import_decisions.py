"""What import makes of plain files by itself: it says so, or names the cell that is wrong."""

import gzip

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from popdyn.base.errors import PopdynError
from popdyn.snapshots import import_data, inspect, make_tree, positions, times

N = 30
LABELS = np.repeat([0, 1, 3], N // 3)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(N, 2))


@pytest.fixture
def frame(x):
    return pd.DataFrame({"x": x[:, 0], "y": x[:, 1], "time": LABELS})


def notes(tree):
    return " | ".join(tree.attrs["import"]["notes"])


def write_csv(folder, frame, name="c.csv", **options):
    frame.to_csv(folder / name, index=False, **options)
    return folder / name


@pytest.mark.parametrize("columns", [None, "x,y"])
def test_a_text_in_a_column_of_numbers_is_named_by_line_and_column(tmp_path, frame, columns):
    frame = frame.astype({"y": object})
    frame.loc[4, "y"] = "n.d."
    path = write_csv(tmp_path, frame)
    # A blank line before it is a line of the file, too.
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "", *lines[1:]]))
    with pytest.raises(PopdynError, match=r"column 'y' is 'n\.d\.' in line 7 \(1 such values\)"):
        import_data(path, columns=columns)
    assert import_data(path, columns="x").attrs["import"]["components"] == ["x"]


def test_columns_that_are_no_positions_are_left_out_and_named(tmp_path, frame):
    frame = frame.assign(batch=LABELS % 2, n_counts=np.arange(N) + 900, donor="d", fine=True)
    path = write_csv(tmp_path, frame)
    tree = import_data(path)
    assert tree.attrs["import"]["components"] == ["x", "y"]
    for name in ("batch (whole numbers)", "n_counts (whole numbers)", "donor (no numbers)", "fine"):
        assert name in notes(tree)
    assert "--columns" in notes(tree)
    chosen = import_data(path, columns=["y", "n_counts"])
    assert chosen.attrs["import"]["components"] == ["y", "n_counts"]
    assert chosen.attrs["import"]["notes"] == [] or "spreads" in notes(chosen)
    assert "whole numbers alone" in notes(
        import_data(write_csv(tmp_path, frame[["batch", "time"]]))
    )
    assert (
        import_data(write_csv(tmp_path, frame[["x", "y", "time"]])).attrs["import"]["notes"] == []
    )


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ("x,z", "has no column 'z': expected one of x, y, time"),
        ("x,time", "expected different columns of .* beside its labels 'time'"),
        ("x,x", "expected different columns"),
        ("", "has no column ''"),
    ],
)
def test_columns_that_are_not_there(tmp_path, frame, columns, line):
    with pytest.raises(PopdynError, match=line):
        import_data(write_csv(tmp_path, frame), columns=columns)


def test_arrays_have_no_columns_and_tables_no_arrays(tmp_path, x, frame):
    np.savez(tmp_path / "c.npz", pcs=x, sample_labels=LABELS)
    with pytest.raises(PopdynError, match=r"is no table: expected the name of an array"):
        import_data(tmp_path / "c.npz", columns="x")
    with pytest.raises(PopdynError, match=r"is a table: expected --columns"):
        import_data(write_csv(tmp_path, frame), data_key="x")


def test_missing_values_are_refused_by_place_or_dropped_and_counted(tmp_path, frame):
    whole = import_data(write_csv(tmp_path, frame), test_fraction=0)
    frame.loc[3, "y"] = np.nan
    path = write_csv(tmp_path, frame)
    with pytest.raises(PopdynError, match=r"column 'y' is nan in line 5 .*--drop-missing"):
        import_data(path)
    frame.loc[7, "time"] = np.nan
    path = write_csv(tmp_path, frame)
    with pytest.raises(PopdynError, match=r"time is nan at line 9 .*--drop-missing"):
        import_data(path)
    tree = import_data(path, drop_missing=True, test_fraction=0)
    assert tree.attrs["import"]["dropped"] == 2
    assert "2 of 30 cells were left out: 1 lack a position, 1 a label" in notes(tree)
    kept = np.delete(np.arange(N // 3), [3, 7])
    np.testing.assert_array_equal(positions(tree, 0), positions(whole, 0)[kept])
    # Where each came from is still told by the rows of the source.
    np.testing.assert_array_equal(tree["origin"]["train"].values[0, : len(kept)], kept)
    with pytest.raises(PopdynError, match="all 30 cells lack a position or a label"):
        import_data(write_csv(tmp_path, frame.assign(x=np.nan)), columns="x", drop_missing=True)


def test_a_number_that_float32_cannot_hold(tmp_path, frame):
    frame.loc[2, "x"] = 1e300
    with pytest.raises(PopdynError, match=r"column 'x' is 1e\+300 in line 4 .* of float32"):
        import_data(write_csv(tmp_path, frame))


TABLES = {
    "c.tsv": {"sep": "\t"},
    "c.csv": {"sep": ";"},
    "c.csv.gz": {},
    "c.tsv.gz": {"sep": "\t"},
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_kinds_are_read(tmp_path, frame, name):
    plain = import_data(write_csv(tmp_path, frame, "plain.csv"))
    tree = import_data(write_csv(tmp_path, frame, name, **TABLES[name]))
    assert tree["train"].equals(plain["train"])


def test_a_compressed_parquet_and_one_that_is_damaged(tmp_path, frame):
    frame.to_parquet(tmp_path / "c.parquet")
    packed = tmp_path / "c.parquet.gz"
    packed.write_bytes(gzip.compress((tmp_path / "c.parquet").read_bytes()))
    assert import_data(packed)["train"].equals(import_data(tmp_path / "c.parquet")["train"])
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(PopdynError, match=r"c\.parquet\.gz cannot be read"):
        import_data(packed)


LABELLED = {
    "day 0,day 3,day 10": [0, 3, 10],
    "E7.5,E8.0,E8.5": [7.5, 8, 8.5],
    "0h,24h,48h": [0, 24, 48],
    "D_1,D_02,d3": None,  # another word is another kind of label
    "T1h,T2h,T4h": [1, 2, 4],
    "2024-01-31,2024-02-01,2024-02-02 12:00": [0, 1, 2.5],
}


@pytest.mark.parametrize("texts", LABELLED)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_labels_that_say_plainly_when(tmp_path, x, texts, as_bytes):
    names = np.array(texts.split(","))
    labels = names[np.searchsorted([0, 1, 3], LABELS)]
    np.savez(tmp_path / "c.npz", pcs=x, sample_labels=labels.astype("S") if as_bytes else labels)
    expected = LABELLED[texts] or [1, 2, 3]
    tree = import_data(tmp_path / "c.npz")
    assert times(tree).tolist() == expected
    assert tree.attrs["labels"] == names.tolist()
    assert "sample_labels" in notes(tree)
    back = import_data(tmp_path / "c.npz", time_map=dict(zip(names, [5, 6, 9], strict=True)))
    assert times(back).tolist() == [5, 6, 9]
    assert back.attrs["import"]["notes"] == []


@pytest.mark.parametrize(
    ("texts", "ready"),
    [
        ("ctrl,late,end", "ctrl=TIME,end=TIME,late=TIME"),
        ("donor1,donor2,donor3", "donor1=1,donor2=2,donor3=3"),
        ("24h,2d,9d", "2d=2,9d=9,24h=24"),
        ("day -1,day 0,day 1", "'day -1=TIME,day 0=TIME,day 1=TIME'"),
    ],
)
def test_other_labels_come_with_a_ready_time_map(tmp_path, x, texts, ready):
    labels = np.array(texts.split(","))[np.searchsorted([0, 1, 3], LABELS)]
    np.savez(tmp_path / "c.npz", pcs=x, sample_labels=labels)
    with pytest.raises(PopdynError, match="is no number: expected numbers, or a time_map") as error:
        import_data(tmp_path / "c.npz")
    assert str(error.value).endswith(f"--time-map {ready}")


@pytest.mark.parametrize("kind", ["dates", "zoned", "spans", "iso"])
def test_dates_of_a_table(tmp_path, frame, kind):
    spans = pd.Series(pd.to_timedelta(36 * LABELS, unit="h"))
    dates = pd.Timestamp("2024-02-28") + spans
    column = {"spans": spans, "dates": dates, "zoned": dates.dt.tz_localize("UTC")}.get(
        kind, dates.astype(str)
    )
    frame.assign(time=column).to_parquet(tmp_path / "c.parquet")
    tree = import_data(tmp_path / "c.parquet")
    assert times(tree).tolist() == [0, 1.5, 4.5]
    assert "times are days" in notes(tree)


def annotated(x, X=None, **obsm):
    obs = pd.DataFrame({"time": LABELS}, index=[f"c{i}" for i in range(N)])
    return anndata.AnnData(X, obs=obs, obsm={"X_s": scipy.sparse.csr_matrix(x), **obsm})


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_anndata_as_zarr_and_sparse_arrays_of_it(tmp_path, x):
    annotated(x).write_h5ad(tmp_path / "c.h5ad")
    annotated(x).write_zarr(tmp_path / "c.zarr")
    first = import_data(tmp_path / "c.h5ad", obsm_key="X_s")
    assert import_data(tmp_path / "c.zarr", obsm_key="X_s")["train"].equals(first["train"])
    rows = first["origin"]["train"].values
    np.testing.assert_array_equal(positions(first, 0), x[rows[0]].astype(np.float32))
    import_data(tmp_path / "c.h5ad", obsm_key="X_s", out=tmp_path / "store.zarr")
    with pytest.raises(PopdynError, match="is a Zarr store and no AnnData"):
        import_data(tmp_path / "store.zarr")


def test_components_that_import_computes_or_takes_by_itself_are_said(tmp_path, x):
    counts = np.random.default_rng(0).poisson(3.0, size=(N, 12)).astype(np.float32)
    annotated(x, counts).write_h5ad(tmp_path / "raw.h5ad")
    raw = import_data(tmp_path / "raw.h5ad")
    assert raw.attrs["import"]["components"] == ["PC1", "PC2", "PC3", "PC4", "PC5"]
    assert f"of raw counts (whole numbers up to {counts.max():g})" in notes(raw)
    assert "no obsm 'X_pca'; obsm has X_s" in notes(raw)
    annotated(x, scipy.sparse.csr_matrix(np.log1p(counts))).write_h5ad(tmp_path / "log.h5ad")
    assert "that are no raw counts" in notes(import_data(tmp_path / "log.h5ad"))
    wide = np.random.default_rng(1).normal(size=(N, 50))
    annotated(x, counts, X_pca=wide).write_h5ad(tmp_path / "wide.h5ad")
    assert "all 50 components of X_pca are taken" in notes(import_data(tmp_path / "wide.h5ad"))
    few = import_data(tmp_path / "wide.h5ad", components=5)
    assert few.attrs["import"]["notes"] == []
    assert few.attrs["import"]["components"][-1] == "X_pca[4]"


def test_odd_cells_and_components_are_named(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 4))
    x[17, 1], x[120:170], x[:, 2] = 1e4, x[120], 3.0
    x[:, 3] *= 100
    labels = np.repeat([0, 1, 2], 100)
    np.savez(tmp_path / "c.npz", pcs=x, sample_labels=labels)
    tree = import_data(tmp_path / "c.npz", out=tmp_path / "c.zarr")
    repeated, far, constant, apart = tree.attrs["import"]["notes"]
    assert repeated.startswith("49 of 100 cells in 1 of 3 snapshots stand exactly where another")
    assert far.startswith("time 0: row 17 lies far from the other 99 (pcs[1] = 10000;")
    assert constant == "component pcs[2] is 3 in all cells: nothing can be learned in it"
    assert "--standardize component" in apart
    seen = inspect(tmp_path / "c.zarr")
    assert seen["components"] == [f"pcs[{i}]" for i in range(4)]
    assert [n.split(" lies")[0].split()[-2] for n in seen["notes"] if "far" in n] == ["particle"]
    assert seen["notes"][2:] == [constant, apart]


def test_nothing_is_odd_about_plain_snapshots():
    x = np.random.default_rng(0).standard_t(3, size=(3, 4000, 2))
    assert inspect(make_tree(x, x[:, :0], [0, 1, 2]))["notes"] == []


def test_a_mean_that_float32_cannot_hold_is_taken_away_before_it_is_cast(tmp_path, x):
    np.savez(tmp_path / "c.npz", pcs=x + 1e7, sample_labels=LABELS)
    assert "float32 holds it to" in notes(import_data(tmp_path / "c.npz"))
    tree = import_data(tmp_path / "c.npz", standardize="global", test_fraction=0)
    # float64 holds 10⁷ + x to 2·10⁻⁹; float32 its difference to 10⁻⁷.
    spread = tree.attrs["standardize"]["scale"][0]
    rows = tree["origin"]["train"].values[0]
    np.testing.assert_allclose(
        positions(tree, 0) * spread, x[rows] - x.mean(axis=0), atol=1e-6 * np.abs(x).max()
    )
