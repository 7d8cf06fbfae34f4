"""Damage: flipped bytes, lost chunks, truncated files. Nothing is read as a fill value."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.snapshots import make_tree, open_snapshots, positions, validate, write


@pytest.fixture(scope="module", params=["chunks", "shards"])
def store(request, tmp_path_factory):
    generator = np.random.default_rng(0)
    train = [generator.normal(size=(n, 2)) for n in (120, 50, 80)]
    test = [generator.normal(size=(n, 2)) for n in (20, 20, 5)]
    tree = make_tree(train, test, [0, 0.5, 2], {"dynamics": None, "title": "ünïcode"})
    tree["origin"] = xr.DataTree(xr.Dataset({"row": ("cell", np.arange(40))}))
    path = tmp_path_factory.mktemp("damage") / "a.zarr"
    write(tree, path, chunk_rows=20, shard_rows=40 if request.param == "shards" else None)
    assert validate(path) == []
    return path


def files_of(store):
    return sorted(p for p in store.rglob("*") if p.is_file())


def read_all(store):
    """Every value of every array, through the ordinary readers."""
    data = open_snapshots(store)
    for group in ("train", "test"):
        for k in range(3):
            positions(data, k, group)
    return data.load()


def test_random_flips_are_all_reported(store):
    """Sixty in each of the two layouts."""
    random.seed(12)
    files = files_of(store)
    sizes = [f.stat().st_size for f in files]
    for i in range(60):
        # Half of them anywhere by size, half in any file: chunks of padding are small.
        file = random.choices(files, sizes)[0] if i % 2 else random.choice(files)
        whole = file.read_bytes()
        flipped = bytearray(whole)
        place = random.randrange(len(flipped))
        flipped[place] ^= 1 << random.randrange(8)
        file.write_bytes(flipped)
        name = file.relative_to(store).as_posix()
        breaches = validate(store)
        assert any(b.node == name for b in breaches), f"byte {place} of {name}: {breaches}"
        with pytest.raises(PopdynError, match=name) as error:
            read_all(store)
        assert "\n" not in str(error.value)
        file.write_bytes(whole)
    assert validate(store) == []


def test_a_chunk_that_holds_nothing_is_reported(store):
    for file in store.rglob("zarr.json"):
        whole = file.read_text()
        document = json.loads(whole)
        if document["node_type"] == "array":
            shape = document["chunk_grid"]["configuration"]["chunk_shape"]
            shape[-1] = 0
            file.write_text(json.dumps(document))
            name = file.relative_to(store).as_posix()
            assert name in {b.node for b in validate(store)}
            with pytest.raises(PopdynError, match=name):
                read_all(store)
        file.write_text(whole)
    assert validate(store) == []


def test_every_lost_file_is_reported(store):
    for file in files_of(store):
        whole = file.read_bytes()
        file.unlink()
        name = file.relative_to(store).as_posix()
        found = {b.node for b in validate(store)}
        # Of a store without its root there is nothing else to say.
        assert name in found or name.removesuffix("/zarr.json") in found or found == {"/"}
        with pytest.raises(PopdynError):
            open_snapshots(store)
        file.write_bytes(whole)
    assert validate(store) == []


@pytest.mark.parametrize(
    "kept",
    [pytest.param(0.0, marks=pytest.mark.slow), 0.5, pytest.param(0.99, marks=pytest.mark.slow)],
)
def test_half_written_files_are_reported(store, kept):
    for file in files_of(store):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(kept * len(whole))])
        assert validate(store) != []
        with pytest.raises(PopdynError):
            read_all(store)
        file.write_bytes(whole)


def test_a_chunk_lost_after_opening_is_not_read_as_nan(store):
    data = open_snapshots(store)
    chunk = store / "train/x/c/0/1/0"
    whole = chunk.read_bytes()
    chunk.unlink()
    # zarr reads it without a word, and so does xarray.
    assert np.isnan(xr.open_datatree(store, engine="zarr")["train"]["x"].values[0]).any()
    with pytest.raises(PopdynError, match="train/x/c/0/1/0 is missing: expected every chunk"):
        data["train"]["x"].values  # noqa: B018
    with pytest.raises(PopdynError, match="train/x/c/0/1/0 is missing"):
        data["train"]["x"][:, ::30, 0].mean().load()
    chunk.write_bytes(whole)


def test_a_chunk_in_the_wrong_place_is_found(store, tmp_path):
    """Whole as they are: of another store, another time, the other group."""
    other = tmp_path / "b.zarr"
    data = open_snapshots(store)
    twin = make_tree(
        *([np.ones((n, 2)) for n in data[g]["count"].values] for g in ("train", "test")),
        data["train"]["time"].values,
    )
    sharded = not (store / "train/x/c/0/3").exists()
    write(twin, other, chunk_rows=20, shard_rows=40 if sharded else None)
    for name, source in {
        "train/x/c/0/0/0": other / "train/x/c/0/0/0",
        "train/x/c/0/1/0": store / "train/x/c/1/0/0",
        "test/x/c/0/0/0": store / "train/x/c/0/0/0",
        "train/count/c/0": store / "test/count/c/0",
    }.items():
        kept = (store / name).read_bytes()
        (store / name).write_bytes(source.read_bytes())
        assert {b.rule for b in validate(store) if b.node == name} & {"digest", "checksum"}
        with pytest.raises(PopdynError, match=rf"{name} is damaged .*: expected .* as written"):
            read_all(store)
        (store / name).write_bytes(kept)
    assert validate(store) == []


def test_litter_of_file_systems_is_not_counted(store):
    litter = [store / n for n in (".DS_Store", "train/._x", "train/x/c/.nfs0001", "test/Thumbs.db")]
    for file in litter:
        file.write_bytes(b"?")
    assert validate(store) == []
    read_all(store)
    for file in litter:
        file.unlink()


def test_a_store_that_is_replaced_is_not_read_as_two(tmp_path):
    """Neither its rest, nor what was read already, comes from the new one."""
    path = tmp_path / "a.zarr"
    write(make_tree([np.zeros((90, 2))] * 2, [np.zeros((9, 2))] * 2, [0, 1]), path, chunk_rows=30)
    data = open_snapshots(path)
    positions(data, 0, stop=30)
    new = make_tree([np.ones((90, 2))] * 2, [np.ones((9, 2))] * 2, [0, 1])
    write(new, path, overwrite=True, chunk_rows=30)
    for k, start in ((0, 0), (0, 30), (1, 0)):
        with pytest.raises(PopdynError, match="was replaced while it was read: open it again"):
            positions(data, k, start=start, stop=start + 30)
    assert positions(open_snapshots(path), 0).sum() == 180


@pytest.fixture
def old_store(tmp_path):
    """A store that the first version wrote."""
    shutil.unpack_archive(Path(__file__).parent / "format_1.zip", tmp_path)
    return tmp_path / "shards.zarr"


def test_format_1_is_read_and_replaced(old_store):
    assert validate(old_store) == []
    data = open_snapshots(old_store)
    expected = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    np.testing.assert_array_equal(positions(data, 0), expected)
    assert data["origin"]["row"].values.tolist() == [0, 1, 2, 3, 4]
    (old_store / "notes.txt").write_text("mine")
    with pytest.raises(PopdynError, match=r"holds 'notes\.txt', which popdyn did not write"):
        write(data, old_store, overwrite=True)
    (old_store / "notes.txt").unlink()
    tree = data.load()
    write(tree, old_store, overwrite=True)
    assert validate(old_store) == []
    assert open_snapshots(old_store).identical(tree)


def test_damage_to_format_1_is_found(old_store):
    for name in ("zarr.json", "train/x/zarr.json", "train/x/c/1/0/0"):
        whole = (old_store / name).read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        (old_store / name).write_bytes(flipped)
        assert any(b.node == name for b in validate(old_store))
        with pytest.raises(PopdynError, match=name):
            read_all(old_store)
        (old_store / name).write_bytes(whole)


def test_what_is_no_store(store, tmp_path):
    with pytest.raises(PopdynError, match="does not exist"):
        open_snapshots(tmp_path / "none")
    with pytest.raises(PopdynError, match="is no store: expected a folder written by popdyn"):
        open_snapshots(tmp_path)
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(tmp_path / "b.zarr", consolidated=False)
    with pytest.raises(PopdynError, match="is no snapshot store"):
        open_snapshots(tmp_path / "b.zarr")
