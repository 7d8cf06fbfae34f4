"""Ways in and out: every kind of file, equal arrays on the way back, and one line for bad input."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.snapshots import (
    counts,
    export,
    import_data,
    make_tree,
    open_snapshots,
    positions,
    standardization,
    times,
    validate,
    write,
)

N, D = 60, 3


@pytest.fixture
def cells():
    """Rows of three snapshots in no order, labels 2, 0 and 5."""
    generator = np.random.default_rng(0)
    x = (generator.normal(size=(N, D)) * [1, 5, 0.1] + [0, 10, 0]).astype(np.float32)
    return x, generator.choice([2, 0, 5], size=N)


def rows_of(tree):
    """All cells of a tree with the time of each, sorted: what no order can hide."""
    out = []
    for group in ("train", "test"):
        for k, t in enumerate(times(tree)):
            x = positions(tree, k, group)
            out.append(np.column_stack([np.full(len(x), t), x]))
    return np.array(sorted(map(tuple, np.concatenate(out))))


def expected_rows(x, at):
    return np.array(sorted(map(tuple, np.column_stack([at, x]))))


def as_npz(folder, x, labels):
    np.savez(folder / "c.npz", pcs=x, sample_labels=labels)
    return folder / "c.npz", {}


def as_npz_of_other_names(folder, x, labels):
    np.savez(folder / "c.npz", cells=x, day=labels, other=np.zeros(3))
    return folder / "c.npz", {"data_key": "cells", "time_key": "day"}


def as_npy_pair(folder, x, labels):
    np.save(folder / "data.npy", x)
    np.save(folder / "sample_labels.npy", labels)
    return folder / "data.npy", {}


def as_folder(folder, x, labels):
    as_npy_pair(folder, x, labels)
    return folder, {}


def table(x, labels):
    frame = pd.DataFrame(x, columns=list("abc")[: x.shape[1]])
    frame["time"] = labels
    frame["name"] = "cell"
    return frame


def as_csv(folder, x, labels):
    table(x, labels).to_csv(folder / "c.csv")
    return folder / "c.csv", {}


def as_csv_of_other_names(folder, x, labels):
    frame = table(x, labels).rename(columns={"time": "day"}).assign(batch=1)
    frame.to_csv(folder / "c.csv", index=False)
    return folder / "c.csv", {"time_key": "day", "columns": "a,b,c"}


def as_parquet(folder, x, labels):
    table(x, labels).to_parquet(folder / "c.parquet")
    return folder / "c.parquet", {}


def annotated(x, labels, **more):
    obs = pd.DataFrame({"time": labels}, index=[f"c{i}" for i in range(len(x))])
    return anndata.AnnData(obs=obs, obsm={"X_pca": x}, **more)


def as_h5ad(folder, x, labels):
    annotated(x, labels).write_h5ad(folder / "c.h5ad")
    return folder / "c.h5ad", {}


def as_h5ad_of_other_names(folder, x, labels):
    adata = annotated(np.zeros((len(x), 1)), np.zeros(len(x)))
    adata.obs["day"] = pd.Categorical([str(v) for v in labels])
    adata.obsm["X_phate"] = x
    adata.write_h5ad(folder / "c.h5ad")
    return folder / "c.h5ad", {"obs_key": "day", "obsm_key": "X_phate"}


def as_dataset(folder, x, labels):
    return xr.Dataset({"x": (("cell", "component"), x), "time": ("cell", labels)}), {}


KINDS = {
    f.__name__: f
    for f in (
        as_npz,
        as_npz_of_other_names,
        as_npy_pair,
        as_folder,
        as_csv,
        as_csv_of_other_names,
        as_parquet,
        as_h5ad,
        as_h5ad_of_other_names,
        as_dataset,
    )
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_cells_at_their_true_times(tmp_path, cells, kind):
    x, labels = cells
    source, keys = KINDS[kind](tmp_path, x, labels)
    tree = import_data(source, out=tmp_path / "c.zarr", **keys)
    assert times(tree).tolist() == [0, 2, 5]
    np.testing.assert_array_equal(rows_of(tree), expected_rows(x, labels))
    assert validate(tmp_path / "c.zarr") == []
    in_memory = import_data(source, **keys)
    in_memory.attrs["history"] = tree.attrs["history"]
    assert tree.identical(in_memory)


def test_a_padded_dataset_is_read_by_its_time(cells):
    x, labels = cells
    groups = [x[labels == v] for v in (0, 2, 5)]
    padded = np.full((3, max(map(len, groups)), D), np.nan, np.float32)
    for k, group in enumerate(groups):
        padded[k, : len(group)] = group
    source = xr.Dataset({"x": (("time", "cell", "d"), padded)}, coords={"time": [0.0, 2.0, 5.0]})
    np.testing.assert_array_equal(rows_of(import_data(source)), expected_rows(x, labels))


def test_the_split_is_a_fifth_of_each_snapshot_and_follows_the_seed(cells):
    source, _ = as_dataset(None, *cells)
    tree = import_data(source, seed=1)
    total = counts(tree) + counts(tree, "test")
    np.testing.assert_array_equal(counts(tree, "test"), np.round(0.2 * total))
    again, other = import_data(source, seed=1), import_data(source, seed=2)
    assert tree["train"].equals(again["train"])
    assert not tree["train"].equals(other["train"])
    assert counts(import_data(source, test_fraction=0), "test").sum() == 0
    # However large the share, something is left to learn from.
    assert (counts(import_data(source, test_fraction=0.999)) == 1).all()


def test_labels_take_their_times_from_a_map(cells):
    x, labels = cells
    names = np.array(["late", "", "early", "", "", "mid"])[labels]
    source = xr.Dataset({"x": (("cell", "d"), x), "day": ("cell", names)})
    at = {"early": -1.5, "mid": 0.25, "late": 8}
    tree = import_data(source, time_key="day", time_map=at)
    assert times(tree).tolist() == [-1.5, 0.25, 8]
    assert tree.attrs["labels"] == ["early", "mid", "late"]
    np.testing.assert_array_equal(rows_of(tree), expected_rows(x, [at[n] for n in names]))
    numeric, _ = as_dataset(None, x, labels.astype(float))
    tree = import_data(numeric, time_map={"0": 1, 2: 3, 5.0: 2})
    assert times(tree).tolist() == [1, 2, 3]
    assert tree.attrs["labels"] == [0, 5, 2]


@pytest.mark.parametrize("method", ["none", "global", "component"])
def test_standardisation_is_over_the_training_cells_and_goes_back(cells, method):
    source, _ = as_dataset(None, *cells)
    tree = import_data(source, standardize=method)
    x = np.concatenate([positions(tree, k) for k in range(3)])
    mean, scale = standardization(tree)
    if method == "none":
        assert (mean.tolist(), scale.tolist()) == ([0] * D, [1] * D)
    else:
        # Sums of some 50 float32 numbers of order 1.
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    if method == "global":
        np.testing.assert_allclose((x**2).mean(), 1, rtol=1e-5)
        assert len(set(scale)) == 1
    if method == "component":
        np.testing.assert_allclose(x.std(axis=0), 1, rtol=1e-5)
    back = expected_rows(*cells)
    at_source = rows_of(tree)
    at_source[:, 1:] = at_source[:, 1:] * scale + mean
    np.testing.assert_allclose(np.array(sorted(map(tuple, at_source))), back, atol=1e-5)


def test_a_pca_is_computed_where_there_is_none(tmp_path):
    generator = np.random.default_rng(0)
    matrix = generator.poisson(2.0, size=(50, 12)).astype(np.float32)
    labels = np.repeat([0, 1], 25)
    obs = pd.DataFrame({"time": labels}, index=[str(i) for i in range(50)])
    centred = matrix - matrix.mean(axis=0)
    u, s, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    for name, x in (("dense", matrix), ("sparse", scipy.sparse.csr_matrix(matrix))):
        anndata.AnnData(x, obs=obs).write_h5ad(tmp_path / f"{name}.h5ad")
        tree = import_data(tmp_path / f"{name}.h5ad", components=4)
        rows = np.concatenate([tree["origin"]["train"].values, tree["origin"]["test"].values], 1)
        x = np.concatenate([tree["train"]["x"].values, tree["test"]["x"].values], axis=1)
        order = np.argsort(rows[rows >= 0])
        found = x[rows >= 0][order]
        # The signs of components are free.
        np.testing.assert_allclose(np.abs(found), np.abs(u[:, :4] * s[:4]), atol=2e-4)
        whole = import_data(tmp_path / f"{name}.h5ad", components=12)
        assert whole["train"]["x"].shape[-1] == 12


@pytest.mark.parametrize("out", ["d.npz", "d.h5ad", "d"])
@pytest.mark.parametrize("names", [False, True], ids=["numbers", "texts"])
def test_round_trips_give_equal_arrays_labels_and_times(tmp_path, cells, out, names):
    x, labels = cells
    at = None
    if names:
        labels = np.array(["b", "", "c", "", "", "a"])[labels]
        at = {"a": 1.0, "b": 2.5, "c": 0.25}
    np.savez(tmp_path / "c.npz", pcs=x, sample_labels=labels)
    import_data(tmp_path / "c.npz", out=tmp_path / "c.zarr", time_map=at)
    export(tmp_path / "c.zarr", tmp_path / out)
    again = import_data(tmp_path / out)
    first = open_snapshots(tmp_path / "c.zarr")
    np.testing.assert_array_equal(times(again), times(first))
    np.testing.assert_array_equal(rows_of(again), rows_of(first))
    export(again, tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as archive:
        np.testing.assert_array_equal(archive["pcs"], x)
        kept = archive["sample_labels"]
    if out == "d":
        # The layout of JKOnet* knows snapshots by their number.
        order = {label: i for i, label in enumerate(first.attrs["labels"])}
        np.testing.assert_array_equal(kept, [order[v] for v in labels.tolist()])
    else:
        np.testing.assert_array_equal(kept, labels)
        assert kept.dtype.kind == labels.dtype.kind


def test_h5ad_to_store_to_h5ad(tmp_path, cells):
    source, _ = as_h5ad(tmp_path, *cells)
    import_data(source, out=tmp_path / "c.zarr")
    export(tmp_path / "c.zarr", tmp_path / "d.h5ad")
    first, again = anndata.read_h5ad(source), anndata.read_h5ad(tmp_path / "d.h5ad")
    np.testing.assert_array_equal(first.obsm["X_pca"], again.obsm["X_pca"])
    np.testing.assert_array_equal(first.obs["time"], again.obs["time"])
    assert set(again.obs["group"]) == {"train", "test"}


def test_jkonet_layout_there_and_back(tmp_path, cells):
    x, labels = cells
    (tmp_path / "first").mkdir()
    as_folder(tmp_path / "first", x, np.searchsorted([0, 2, 5], labels))
    import_data(tmp_path / "first", out=tmp_path / "c.zarr")
    export(tmp_path / "c.zarr", tmp_path / "again")
    for name in ("data.npy", "sample_labels.npy"):
        np.testing.assert_array_equal(
            np.load(tmp_path / "first" / name), np.load(tmp_path / "again" / name)
        )


def test_groups_and_units_of_an_export(tmp_path, cells):
    x, labels = cells
    source, _ = as_dataset(None, x, labels)
    tree = import_data(source, standardize="component", out=tmp_path / "c.zarr")
    export(tree, tmp_path / "train.npz", group="train")
    with np.load(tmp_path / "train.npz") as archive:
        assert len(archive["pcs"]) == counts(tree).sum()
        assert not archive["is_test"].any()
    export(tree, tmp_path / "all.npz")
    export(tree, tmp_path / "store.npz", units="store")
    with np.load(tmp_path / "all.npz") as archive:
        np.testing.assert_allclose(archive["pcs"], x, atol=1e-5)
        assert archive["is_test"].sum() == counts(tree, "test").sum()
    with np.load(tmp_path / "store.npz") as archive:
        assert abs(archive["pcs"].mean()) < 0.5


def test_a_simulated_store_is_exported_by_snapshot(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(2, 6, 2)
    write(make_tree(x[:, :4], x[:, 4:], [0, 0.5]), tmp_path / "a.zarr")
    export(tmp_path / "a.zarr", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        np.testing.assert_array_equal(archive["pcs"], x.reshape(12, 2))
        assert archive["sample_labels"].tolist() == [0.0] * 6 + [0.5] * 6


def test_real_cells_go_in_and_out(tmp_path, eb5):
    tree = import_data(eb5, out=tmp_path / "eb.zarr")
    assert times(tree).tolist() == [0, 1, 2, 3, 4]
    assert (counts(tree) + counts(tree, "test")).tolist() == [2381, 4163, 3278, 3665, 3332]
    export(tmp_path / "eb.zarr", tmp_path / "eb.npz")
    with np.load(eb5) as first, np.load(tmp_path / "eb.npz") as again:
        np.testing.assert_array_equal(first["pcs"], again["pcs"])
        np.testing.assert_array_equal(first["sample_labels"], again["sample_labels"])


def npz(folder, **arrays):
    np.savez(folder / "c.npz", **arrays)
    return folder / "c.npz"


X, TWO = np.ones((4, 2), np.float32), np.array([0, 0, 1, 1])


def nan_cells():
    x = X.copy()
    x[2, 1] = np.nan
    return x


def h5ad(folder, x=X, **columns):
    obs = pd.DataFrame(columns, index=[str(i) for i in range(4)])
    anndata.AnnData(obs=obs, obsm={"X_pca": x}).write_h5ad(folder / "c.h5ad")
    return folder / "c.h5ad"


def sparse(folder, value):
    obs = pd.DataFrame({"time": TWO}, index=list("abcd"))
    x = scipy.sparse.csr_matrix(np.full((4, 6), value, np.float32))
    anndata.AnnData(x, obs=obs).write_h5ad(folder / "c.h5ad")
    return folder / "c.h5ad"


def text(folder, name, content):
    (folder / name).write_text(content)
    return folder / name


BAD = {
    "wrong keys": (
        lambda f: npz(f, counts=X, batch=TWO),
        {},
        "has no array 'pcs' or 'x' or 'data': name one of counts, batch",
    ),
    "wrong key asked for": (
        lambda f: npz(f, pcs=X, sample_labels=TWO),
        {"time_key": "day"},
        "has no array 'day': expected one of pcs, sample_labels",
    ),
    "labels and rows": (
        lambda f: npz(f, pcs=X, sample_labels=TWO[:3]),
        {},
        r"sample_labels has shape \(3,\), pcs has 4 rows",
    ),
    "a label that is no number": (
        lambda f: npz(f, pcs=X, sample_labels=np.array(["ctrl", "ctrl", "late", "late"])),
        {},
        r"label 'ctrl' of sample_labels is no number: expected numbers, or a time_map .* such as "
        r"--time-map ctrl=TIME,late=TIME$",
    ),
    "a label without a time": (
        lambda f: npz(f, pcs=X, sample_labels=np.array(["d0", "d0", "d3", "d3"])),
        {"time_map": {"d0": 0, "d7": 7}},
        "label 'd3' of sample_labels has no time: expected it in time_map, which has d0, d7",
    ),
    "a time without a label": (
        lambda f: npz(f, pcs=X, sample_labels=TWO),
        {"time_map": {"0": 0, "1": 1, "9": 2}},
        "time_map names 9: expected labels of sample_labels, which are 0, 1",
    ),
    "duplicate times": (
        lambda f: npz(f, pcs=X, sample_labels=TWO),
        {"time_map": {"0": 3, "1": 3}},
        "labels '0' and '1' both have the time 3",
    ),
    "a single snapshot": (
        lambda f: npz(f, pcs=X, sample_labels=0 * TWO),
        {},
        "has the one label 0: expected two snapshots or more",
    ),
    "NaN": (
        lambda f: npz(f, pcs=nan_cells(), sample_labels=TWO),
        {},
        r"pcs is nan at row 2, component 1 \(1 such values\)",
    ),
    "a label that is NaN": (
        lambda f: npz(f, pcs=X, sample_labels=np.array([0, np.nan, 1, 1])),
        {},
        "sample_labels is nan at row 1",
    ),
    "a flat array": (
        lambda f: npz(f, pcs=X[:, 0], sample_labels=TWO),
        {},
        r"pcs has shape \(4,\) and type float32: expected numbers \(cells, components\)",
    ),
    "texts for positions": (
        lambda f: npz(f, pcs=X.astype(str), sample_labels=TWO),
        {},
        "pcs has shape .* and type <U",
    ),
    "pickled arrays": (
        lambda f: npz(f, pcs=X.astype(object), sample_labels=TWO),
        {},
        "cannot be read: Object arrays cannot be loaded",
    ),
    "too many components": (
        lambda f: npz(f, pcs=X, sample_labels=TWO),
        {"components": 3},
        "pcs has 2 components: expected 3 or more",
    ),
    "no such obs column": (
        lambda f: h5ad(f, day=TWO, batch=TWO),
        {},
        "has no obs column 'time' or 'sample_labels': name one of day, batch",
    ),
    "no such obsm": (
        lambda f: h5ad(f, time=TWO),
        {"obsm_key": "X_umap"},
        "has no obsm array 'X_umap': expected one of X_pca",
    ),
    "no such column": (
        lambda f: text(f, "c.csv", "a,b,day\n1,2,0\n3,4,1\n"),
        {},
        "has no column 'time' or 'sample_labels' or 'label': name one of a, b, day",
    ),
    "an empty cell in a table": (
        lambda f: text(f, "c.csv", "a,b,time\n1,2,0\n3,,1\n"),
        {},
        r"column 'b' is nan in line 3 \(1 such values\): .* \(--drop-missing",
    ),
    "decimal commas": (
        lambda f: text(f, "c.csv", "a;time\n1,5;0\n2,5;1\n"),
        {},
        r"has the columns a \(no numbers, such as '1,5'\) beside its labels 'time'",
    ),
    "no rows": (lambda f: text(f, "c.csv", "a,time\n"), {}, r"has the columns a \(empty\)"),
    "a time that is no number": (
        lambda f: npz(f, pcs=X, sample_labels=TWO),
        {"time_map": {0: "now", 1: 2}},
        "time_map gives label '0' the time 'now': expected a number",
    ),
    "a seed below 0": (
        lambda f: npz(f, pcs=X, sample_labels=TWO),
        {"seed": -1},
        "seed is -1: expected 0 or more",
    ),
    "labels that are no UTF-8": (
        lambda f: npz(f, pcs=X, sample_labels=np.array([b"\xff", b"\xff", b"1", b"1"])),
        {},
        r"sample_labels holds b'\\xff': expected texts in UTF-8",
    ),
    "NaN in a sparse X": (
        lambda f: sparse(f, np.nan),
        {"components": 2},
        "X is not finite: expected finite numbers",
    ),
    "a sparse X of zeros": (lambda f: sparse(f, 0), {"components": 2}, "X is 0 in all cells"),
    "no file": (lambda f: f / "none.npz", {}, "none.npz does not exist"),
    "another suffix": (
        lambda f: text(f, "c.txt", "1"),
        {},
        r"ends in '.txt': expected one of .h5ad, .zarr, .npy, .npz, .csv, .csv.gz, .tsv, ",
    ),
    "no npz inside": (lambda f: text(f, "c.npz", "hello"), {}, "c.npz cannot be read"),
    "no parquet inside": (lambda f: text(f, "c.parquet", "hello"), {}, "c.parquet cannot be read"),
    "no h5ad inside": (lambda f: text(f, "c.h5ad", "hello"), {}, "c.h5ad cannot be read"),
    "a lonely data.npy": (
        lambda f: (np.save(f / "data.npy", X), f / "data.npy")[1],
        {},
        "sample_labels.npy does not exist: expected the labels beside data.npy",
    ),
    "a fraction of 1": (
        lambda f: npz(f, pcs=X, sample_labels=TWO),
        {"test_fraction": 1},
        "test_fraction is 1.0: expected 0 or more, below 1",
    ),
    "a constant component": (
        lambda f: npz(f, pcs=X, sample_labels=TWO),
        {"standardize": "component"},
        "component 0 is constant",
    ),
    "an unknown way to standardise": (
        lambda f: npz(f, pcs=X, sample_labels=TWO),
        {"standardize": "components"},
        "unknown standardize 'components': did you mean component",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, name):
    make, options, line = BAD[name]
    source = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PopdynError, match=line) as error:
        import_data(source, out=tmp_path / "out.zarr", **options)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_exports_refuse(tmp_path):
    tree = make_tree(np.ones((2, 3, 2)), np.ones((2, 0, 2)), [0, 1])
    with pytest.raises(PopdynError, match=r"ends in '.mat': expected one of .h5ad, .npz"):
        export(tree, tmp_path / "a.mat")
    with pytest.raises(PopdynError, match="does not exist"):
        export(tmp_path / "none.zarr", tmp_path / "a.npz")
    (tmp_path / "a.npz").write_text("mine")
    with pytest.raises(PopdynError, match="exists: expected a new name"):
        export(tree, tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_text() == "mine"
    with pytest.raises(PopdynError, match=r"is no export of popdyn's as it was written"):
        export(tree, tmp_path / "a.npz", overwrite=True)
    assert (tmp_path / "a.npz").read_text() == "mine"
    (tmp_path / "b").mkdir()
    (tmp_path / "b/data.npy").write_text("mine")
    with pytest.raises(PopdynError, match=r"is no export of popdyn's: it has no popdyn\.json"):
        export(tree, tmp_path / "b", overwrite=True)
    assert (tmp_path / "b/data.npy").read_text() == "mine"
    with pytest.raises(PopdynError, match="unknown group 'val'"):
        export(tree, tmp_path / "c.npz", group="val")
    with pytest.raises(PopdynError, match="units is 'mm'"):
        export(tree, tmp_path / "c.npz", units="mm")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b"]
