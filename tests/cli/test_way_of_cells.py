"""An AnnData as scanpy leaves it, all the way: import, train, score, predict, export, figures."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from click.testing import CliRunner

from popdyn.base.errors import PopdynError
from popdyn.cli import group
from popdyn.learners import load_run
from popdyn.snapshots import counts, open_snapshots, positions, times, validate

CELLS, WIDE, USED = 150, 6, 3
DAYS = ["d0", "d1", "d3", "d10"]  # text does not sort as time does
TIMES = [0.0, 1.0, 3.0, 10.0]


@pytest.fixture(scope="module")
def adata():
    """Counts, barcodes, a categorical day, PCA and UMAP: four days of cells that drift apart."""
    rng = np.random.default_rng(0)
    n = CELLS * len(DAYS)
    day = rng.permutation(np.repeat(np.arange(len(DAYS)), CELLS))
    pca = rng.normal(size=(n, WIDE)) * [4, 3, 2, 1, 1, 1] + np.outer(day, [3, -1, 0, 0, 0, 0])
    return anndata.AnnData(
        X=scipy.sparse.csr_matrix(rng.poisson(0.3, size=(n, 20)).astype(np.float32)),
        obs=pd.DataFrame(
            {
                "day": pd.Categorical([DAYS[k] for k in day]),
                "leiden": pd.Categorical(rng.choice(["0", "1"], n)),
            },
            index=[f"ACGT{i:04d}-1" for i in range(n)],
        ),
        var=pd.DataFrame({"highly_variable": True}, index=[f"gene{i}" for i in range(20)]),
        obsm={"X_pca": pca.astype(np.float32), "X_umap": pca[:, :2]},
        uns={"pca": {"variance_ratio": np.ones(WIDE)}},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, adata):
    """The folder of a run on those cells, day 3 held out."""
    folder = tmp_path_factory.mktemp("cells")
    adata.write_h5ad(folder / "cells.h5ad")
    time_map = ",".join(f"{day}={t:g}" for day, t in zip(DAYS, TIMES, strict=True))
    keys = ("--obs-key", "day", "--obsm-key", "X_pca", "--components", USED)
    for command in (
        ("import", folder / "cells.h5ad", *keys, "--time-map", time_map)
        + ("--standardize", "component", "--out", folder / "cells.zarr"),
        ("train", folder / "cells.zarr", "--out", folder / "run", "--hold-out", "2")
        + ("--learner", "weak_form", "--learn", "potential", "--diffusivity", "0.02"),
    ):
        done = CliRunner().invoke(group, [str(part) for part in command])
        assert done.exit_code == 0, done.output
    return folder


class Done:
    """How a command ended, in this process."""

    def __init__(self, result):
        error = result.exception
        known = isinstance(error, (PopdynError, SystemExit, type(None)))
        self.code = result.exit_code if known else -1
        self.err = f"{result.output}\n{error}"
        self.out = result.stdout


@pytest.fixture
def popdyn(trained, monkeypatch):
    """Run ``popdyn`` in that folder."""
    monkeypatch.chdir(trained)
    return lambda *line: Done(CliRunner().invoke(group, [str(part) for part in line]))


def test_what_the_import_left_out_is_nan_in_the_file_it_came_from(popdyn, trained, adata):
    some = adata.copy()
    some.obs["day"] = some.obs["day"].astype(object)
    left_out = np.arange(len(some)) % 7 == 0
    some.obs.loc[left_out, "day"] = None
    some.write_h5ad(trained / "some.h5ad")
    imported = ("import", "some.h5ad", "--obs-key", "day", "--obsm-key", "X_pca")
    more = ("--components", USED, "--drop-missing", "--out", "some.zarr")
    assert (done := popdyn(*imported, *more)).code == 0, done.err
    assert (done := popdyn("train", "some.zarr", "--learner", "zero", "--out", "none")).code == 0
    done = popdyn("export", "none", "--to-h5ad", "back.h5ad", "--into", "some.h5ad")
    assert done.code == 0, done.err
    found = anndata.read_h5ad(trained / "back.h5ad")
    missing = np.isnan(found.obs["popdyn_potential"].to_numpy())
    np.testing.assert_array_equal(missing, left_out)
    velocity = found.obsm["velocity_pca"][:, :USED]
    np.testing.assert_array_equal(np.isnan(velocity).all(1), left_out)
    assert not np.isnan(velocity[~left_out]).any()


def test_all_the_way_and_back_into_the_file(popdyn, trained, adata):
    scored = popdyn("score", "run", "--points", "100", "--json")
    assert scored.code == 0, scored.err
    assert json.loads(scored.out)["distribution"]["times"] == [3.0]
    done = popdyn("predict", "run", "--times", "3", "--out", "predicted.zarr", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["particles"] == [CELLS]
    assert not validate(trained / "predicted.zarr")
    done = popdyn("export", "run", "--to-h5ad", "learned.h5ad", "--into", "cells.h5ad")
    assert done.code == 0, done.err

    found = anndata.read_h5ad(trained / "learned.h5ad")
    # Nothing that was there is lost or moved.
    assert found.obs_names.equals(adata.obs_names)
    assert found.var_names.equals(adata.var_names)
    assert (found.X != adata.X).nnz == 0
    np.testing.assert_array_equal(found.obsm["X_umap"], adata.obsm["X_umap"])
    assert (found.obs["leiden"] == adata.obs["leiden"]).all()

    # What was learned, at every cell, as the energy itself gives it.
    run, data = load_run(trained / "run"), open_snapshots(trained / "cells.zarr")
    record = data.attrs["standardize"]
    mean, scale = np.array(record["mean"]), np.array(record["scale"])
    x = ((adata.obsm["X_pca"][:, :USED] - mean) / scale).astype(np.float32)
    at = np.array(TIMES)[[DAYS.index(day) for day in adata.obs["day"]]]
    for t in TIMES:
        here = at == t
        force = run.energy.force(x[here], t=t) * scale
        np.testing.assert_allclose(
            found.obsm["velocity_pca"][here, :USED], force, rtol=1e-3, atol=1e-4
        )
        value = run.energy.potential(x[here], t)
        np.testing.assert_allclose(found.obs["popdyn_potential"][here], value, rtol=1e-3, atol=1e-4)
    # One shape for positions and velocity; what was not modelled is NaN, not 0.
    assert found.obsm["velocity_pca"].shape == found.obsm["X_pca"].shape
    assert np.isnan(found.obsm["velocity_pca"][:, USED:]).all()
    np.testing.assert_array_equal(found.obs["popdyn_held_out"], at == 3.0)

    # The prediction is the one of `popdyn predict`, in the units of the file.
    ahead = open_snapshots(trained / "predicted.zarr")
    predicted = found.uns["popdyn_predicted"]
    np.testing.assert_allclose(
        predicted["X_pca"], positions(ahead, 0) * scale + mean, rtol=1e-4, atol=1e-4
    )
    assert set(predicted["time"]) == {3.0}


def test_prediction_from_the_first_snapshot_is_another_one(popdyn, trained):
    for name in ("previous", "first"):
        out = ("--out", f"{name}.zarr")
        done = popdyn("predict", "run", "--times", "1.5,10", "--from", name, *out)
        assert done.code == 0, done.err
        assert times(open_snapshots(trained / f"{name}.zarr")).tolist() == [1.5, 10.0]
    previous, first = (open_snapshots(trained / f"{n}.zarr") for n in ("previous", "first"))
    data = open_snapshots(trained / "cells.zarr")
    assert counts(first).tolist() == [CELLS, CELLS]
    # At an observed time the snapshot before it is that time's own.
    own = np.concatenate([positions(data, 3, part) for part in ("train", "test")])
    np.testing.assert_array_equal(positions(previous, 1), own)
    assert np.abs(positions(first, 1) - own).max() > 0.1


def test_figures_of_cells(popdyn, trained):
    only = ("cells", "prediction", "force", "landscape", "trajectories")
    flags = [part for name in only for part in ("--only", name)]
    done = popdyn("plot", "run", "--out", "figures", "--plane", "1,2", *flags)
    assert done.code == 0, done.err
    assert sorted(p.stem for p in (trained / "figures").iterdir()) == sorted(only)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run",), 2, ("--out", "--to-h5ad")),
        (("run", "--to-h5ad", "a.npz"), 2, ("a.npz", ".h5ad")),
        (("run", "--to-h5ad", "a.h5ad", "--into", "other.h5ad"), 1, ("10 cells", "600")),
        (("run", "--to-h5ad", "a.h5ad", "--into", "none.h5ad"), 1, ("none.h5ad",)),
        (("run", "--out", "a.npz", "--into", "cells.h5ad"), 1, ("into", ".h5ad")),
        (("cells.zarr", "--to-h5ad", "a.h5ad", "--into", "cells.h5ad"), 1, ("--into", "run")),
    ],
)
def test_exports_that_cannot_be(popdyn, trained, arguments, code, words):
    anndata.AnnData(
        obsm={"X_pca": np.zeros((10, WIDE))}, obs=pd.DataFrame(index=list("0123456789"))
    ).write_h5ad(trained / "other.h5ad")
    done = popdyn("export", *arguments)
    assert done.code == code, done.err
    for word in words:
        assert word in done.err
    assert not (trained / "a.h5ad").exists()
