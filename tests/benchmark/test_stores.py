"""Stores of a suite: made once, known again, and told apart by their content."""

import shutil

import numpy as np
import pytest

from popdyn.base.errors import PopdynError
from popdyn.benchmark import Entry, Suite, bench, check_bench, make_store, make_suite
from popdyn.benchmark.stores import definition, store_digest
from popdyn.learners import load_run
from popdyn.snapshots import counts, make_tree, open_snapshots, positions, validate

SMALL = {"particles": 40, "snapshots": 3}


def entry(**changes):
    given = {"name": "a", "energy": {"potential": "quadratic"}, "simulation": SMALL} | changes
    return Entry(**given)


def test_a_store_is_made_once_and_known_again(tmp_path):
    path = tmp_path / "a.zarr"
    assert make_store(entry(), path)
    stamp = (path / "zarr.json").stat().st_mtime_ns
    assert not make_store(entry(), path)
    assert (path / "zarr.json").stat().st_mtime_ns == stamp
    assert validate(path) == []
    for other, seed in ((entry(), 1), (entry(simulation=SMALL | {"particles": 41}), 0)):
        with pytest.raises(PopdynError, match="not made from the present definition"):
            make_store(other, path, seed=seed)
    assert make_store(entry(), path, seed=1, overwrite=True)


def test_a_definition_follows_what_is_simulated_and_nothing_else():
    same = [entry(), entry(summary="words"), entry(group="b"), entry(fit={"learn": ["x"]})]
    assert len({definition(e, 0) for e in same}) == 1
    other = [entry(simulation=SMALL | {"dt": 0.2}), entry(energy={"potential": "flat"})]
    assert len({definition(e, 0) for e in (*same, *other)} | {definition(same[0], 1)}) == 4


def test_a_digest_follows_particles_times_and_truth():
    x = np.random.default_rng(0).normal(size=(2, 20, 2)).astype(np.float32)

    def digest(train=x, test=x, t=(0.0, 1.0), **attrs):
        return store_digest(make_tree(train, test, t, attrs))

    moved = x.copy()
    moved[1, 19, 1] = np.nextafter(moved[1, 19, 1], np.float32(9))
    truth = {"potential": {"name": "flat", "params": {}}, "interaction": None, "diffusivity": 0.0}
    found = [
        digest(),
        digest(moved),
        digest(test=moved),
        digest(t=(0.0, 2.0)),
        digest(energy=truth),
    ]
    assert len(set(found)) == 5
    assert digest(title="words", history="now") == digest()


def test_a_whole_suite_skips_what_is_there(tmp_path):
    (tmp_path / "suite.toml").write_text(
        'name = "s"\nsummary = "t"\n[defaults]\nparticles = 30\nsnapshots = 2\n'
        '[[entry]]\nname = "a"\npotential = "quadratic"\n'
        '[[entry]]\nname = "b"\npotential = "flat"\n'
    )
    said = []
    out = tmp_path / "data"
    make_suite(tmp_path, out, entries=("b",), report=lambda path, made: said.append(made))
    paths = make_suite(tmp_path, out, report=lambda path, made: said.append((path.name, made)))
    assert said == [True, ("a.zarr", True), ("b.zarr", False)]
    assert paths == [out / "a.zarr", out / "b.zarr"]
    assert open_snapshots(paths[0]).attrs["dynamics"]["potential"]["name"] == "quadratic"


def test_an_imported_entry(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    cells, labels = rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 3
    np.savez(tmp_path / "cells.npz", pcs=cells, sample_labels=labels)
    source = {"file": "cells.npz", "origin": "cells of mine", "test_fraction": 0.25}
    real = Entry("real", source=source)
    with pytest.raises(PopdynError, match=r"cells.npz.*POPDYN_DATA.*cells of mine"):
        make_store(real, tmp_path / "x.zarr")
    monkeypatch.setenv("POPDYN_DATA", str(tmp_path))
    assert make_store(real, tmp_path / "x.zarr")
    data = open_snapshots(tmp_path / "x.zarr")
    assert counts(data).tolist() == [15, 15, 15]
    assert counts(data, "test").tolist() == [5, 5, 5]
    assert data.attrs["dynamics"] is None
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POPDYN_DATA")
    assert not make_store(real, tmp_path / "x.zarr")  # found in the working directory, same cells
    assert make_store(real, tmp_path / "y.zarr", seed=1)
    other = open_snapshots(tmp_path / "y.zarr")
    assert not np.array_equal(positions(other, 0), positions(data, 0))  # another split


def test_a_bench_of_cells_whose_energy_nobody_knows(tmp_path, monkeypatch):
    cells = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
    np.savez(tmp_path / "cells.npz", pcs=cells, sample_labels=np.arange(90) % 3)
    (tmp_path / "suite.toml").write_text(
        'name = "mine"\nsummary = "Cells."\n[[entry]]\nname = "a"\nhold_out = [1]\n'
        'import = { file = "cells.npz" }\n'
    )
    monkeypatch.setenv("POPDYN_DATA", str(tmp_path))
    results = bench(tmp_path / "suite.toml", tmp_path / "out", learners=("zero",))
    assert [row["status"] for row in results["rows"]] == ["ok"]
    assert (tmp_path / "out" / "report.html").exists()


def test_a_learner_sees_every_start_of_an_entry(tmp_path):
    start = {"initial_params": {"mean": [3.0, 0.0], "std": 0.2}}
    settings = {"particles": 60, "snapshots": 3, "dt": 0.2, "initial": "gaussian"}
    suite = Suite("mine", "two starts", (entry(simulation=settings, starts=(start,)),))
    first, second = (open_snapshots(path) for path in make_suite(suite, tmp_path / "made"))
    assert abs(positions(first, 0).mean(0)[0]) < 1.0
    assert positions(second, 0).mean(0)[0] > 2.5
    out = tmp_path / "out"
    found = bench(suite, out, learners="weak_form", points=20)
    assert [row["status"] for row in found["rows"]] == ["ok"]
    stores = [f"a-seed0{start}.zarr" for start in ("", ".start2")]
    config = load_run(out / "cells" / "a-weak_form-seed0" / "run").config
    assert all(name in str(config) for name in stores)
    assert check_bench(out) == []
    shutil.rmtree(out / "stores" / stores[1])
    assert [str(b) for b in check_bench(out)] == [f"stores/{stores[1]} is missing"]
