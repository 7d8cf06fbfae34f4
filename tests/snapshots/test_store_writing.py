"""Writing stores: round trips, layouts, resuming, two writers, and kill -9 at random moments."""

import json
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.snapshots import (
    StoreWriter,
    block_rows,
    make_tree,
    open_snapshots,
    positions,
    validate,
    write,
)
from popdyn.snapshots.layout import Layout


def tree_of(counts, d=2, seed=0, **attrs):
    generator = np.random.default_rng(seed)
    train = [generator.normal(size=(n, d)) for n in counts]
    test = [generator.normal(size=(n // 3, d)) for n in counts]
    return make_tree(train, test, np.arange(len(counts)) / 8, attrs)


def contents(store):
    """All files of a store; of root document and digests what is not stamped with a time."""
    files = {
        p.relative_to(store).as_posix(): p.read_bytes() for p in store.rglob("*") if p.is_file()
    }
    root = json.loads(files.pop("zarr.json"))
    root["attributes"].pop("history")
    manifest = json.loads(files.pop("popdyn.json"))
    manifest["files"].pop("zarr.json")
    manifest.pop("digest")
    return files, root, manifest


@pytest.mark.parametrize(
    "layout",
    [{}, {"chunk_rows": 40}, {"chunk_rows": 40, "shard_rows": 120}, {"shard_rows": 90}],
    ids=["default", "chunks", "shards", "blocks"],
)
@pytest.mark.parametrize("counts", [(300, 300, 300), (300, 7, 120)], ids=["equal", "ragged"])
def test_round_trip_in_every_layout(tmp_path, layout, counts):
    tree = tree_of(counts, energy=None, scheme="heun", step=[0.1, 0.2])
    write(tree, tmp_path / "a.zarr", **layout)
    back = open_snapshots(tmp_path / "a.zarr")
    assert back.identical(tree)
    assert xr.open_datatree(tmp_path / "a.zarr", engine="zarr").equals(tree)
    assert validate(tmp_path / "a.zarr") == []
    assert sorted(os.listdir(tmp_path)) == ["a.zarr"]


def test_an_empty_test_group_and_further_groups(tmp_path):
    tree = make_tree([np.ones((4, 2))] * 2, [np.ones((0, 2))] * 2, [0, 1])
    density = xr.Dataset({"density": (("time", "x"), np.arange(6.0).reshape(2, 3))})
    tree["reference"] = xr.DataTree(density)
    write(tree, tmp_path / "a.zarr")
    back = open_snapshots(tmp_path / "a.zarr")
    assert back.identical(tree)
    assert positions(back, 0, "test").shape == (0, 2)
    assert validate(tmp_path / "a.zarr") == []


def test_lazy_reading_reads_only_the_rows_asked_for(tmp_path):
    tree = tree_of((300, 300))
    write(tree, tmp_path / "a.zarr", chunk_rows=100)
    back = open_snapshots(tmp_path / "a.zarr")
    # Everything but the one chunk that is read is gone.
    for chunk in (tmp_path / "a.zarr/train/x/c").rglob("0"):
        if chunk.is_file() and chunk.parts[-3:] != ("1", "2", "0"):
            chunk.unlink()
    np.testing.assert_array_equal(positions(back, 1, start=250), positions(tree, 1)[250:])
    with pytest.raises(PopdynError, match="train/x/c/1/1/0 is missing"):
        positions(back, 1, start=150)


def test_a_store_can_be_rewritten_onto_itself(tmp_path):
    tree = tree_of((50, 60))
    write(tree, tmp_path / "a.zarr")
    write(open_snapshots(tmp_path / "a.zarr"), tmp_path / "a.zarr", overwrite=True, chunk_rows=7)
    assert open_snapshots(tmp_path / "a.zarr").identical(tree)


def test_existing_names_are_left_alone(tmp_path):
    tree = tree_of((50, 60))
    write(tree, tmp_path / "a.zarr")
    with pytest.raises(PopdynError, match="exists: expected a new name, or --overwrite"):
        write(tree_of((5, 6)), tmp_path / "a.zarr")
    assert open_snapshots(tmp_path / "a.zarr").identical(tree)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("all of it")
    with pytest.raises(PopdynError, match="is no store"):
        write(tree, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine/thesis.tex").read_text() == "all of it"


def test_a_block_is_checked(tmp_path):
    counts = {"train": [3, 3], "test": [0, 0]}
    writer = StoreWriter(tmp_path / "a.zarr", times=[0, 1], counts=counts, dimension=2)
    writer.__enter__()
    first, _ = writer.pending()
    with pytest.raises(PopdynError, match=r"shape \(2, 2\): expected \(3, 2\)"):
        writer.write(first, np.zeros((2, 2)))
    with pytest.raises(PopdynError, match="inf at row 1, component 0"):
        writer.write(first, [[0, 0], [np.inf, 0], [0, 0]])
    writer.write(first, np.zeros((3, 2)))
    with pytest.raises(PopdynError, match="1 blocks are not written"):
        writer.__exit__(None, None, None)
    with pytest.raises(PopdynError, match="is unfinished"):
        open_snapshots(tmp_path / "a.zarr")
    with pytest.raises(PopdynError, match="is unfinished"):
        open_snapshots(tmp_path / "a.zarr.popdyn/new.zarr")


def writer_of(path, seed=0, **options):
    counts = {"train": [300, 150, 300], "test": [100, 100, 10]}
    return StoreWriter(
        path,
        times=[0, 1, 2],
        counts=counts,
        dimension=2,
        attrs={"seed": seed},
        chunk_rows=50,
        shard_rows=100,
        **options,
    )


def block_of(block):
    generator = np.random.default_rng([ord(block.group[1]), block.k, block.start])
    return generator.normal(size=(block.stop - block.start, 2))


def write_all(path, blocks, worker):
    for block in blocks:
        worker.write(block, block_of(block))


def test_blocks_in_any_order_and_from_other_processes(tmp_path):
    for name, order in (("a", 1), ("b", -1)):
        with writer_of(tmp_path / f"{name}.zarr") as writer:
            for block in writer.pending()[::order]:
                writer.write(block, block_of(block))
    context = multiprocessing.get_context("spawn")
    with writer_of(tmp_path / "c.zarr") as writer:
        blocks = writer.pending()
        assert writer.block_rows == {"train": 100, "test": 100}
        processes = [
            context.Process(target=write_all, args=(tmp_path, blocks[i::2], writer.workers))
            for i in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    a, b, c = (contents(tmp_path / f"{name}.zarr") for name in "abc")
    assert a == b == c
    assert validate(tmp_path / "c.zarr") == []


def interrupted(path, blocks, **options):
    class StopError(Exception):
        pass

    try:
        with writer_of(path, **options) as writer:
            for block in writer.pending()[:blocks]:
                writer.write(block, block_of(block))
            raise StopError
    except StopError:
        pass


def test_resuming_keeps_whole_blocks_and_redoes_damaged_ones(tmp_path):
    with writer_of(tmp_path / "a.zarr") as writer:
        everything = writer.pending()
        for block in everything:
            writer.write(block, block_of(block))
    interrupted(tmp_path / "b.zarr", 4)
    store = tmp_path / "b.zarr.popdyn/new.zarr"
    half = store / "train/x/c/0/1/0"
    half.write_bytes(half.read_bytes()[:-40])
    (store / "train/x/c/0/2/0.123.partial").write_bytes(b"half of it")
    with writer_of(tmp_path / "b.zarr") as writer:
        assert writer.pending() == [everything[1], *everything[4:]]
        # What a worker leaves that is killed while this process lives.
        (store / "train/x/c/0/0/0.456.partial").write_bytes(b"half of it")
        for block in writer.pending():
            writer.write(block, block_of(block))
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "b.zarr"]


def test_litter_of_file_systems_does_not_stop_resuming(tmp_path):
    interrupted(tmp_path / "a.zarr", 4)
    for name in (".DS_Store", "train/x/c/._0", "train/x/c/0/.nfs01", "test/Thumbs.db"):
        (tmp_path / "a.zarr.popdyn/new.zarr" / name).write_bytes(b"?")
    with writer_of(tmp_path / "a.zarr") as writer:
        assert len(writer.pending()) == 7
        write_all(tmp_path, writer.pending(), writer.workers)
    assert validate(tmp_path / "a.zarr") == []
    assert positions(open_snapshots(tmp_path / "a.zarr"), 2).shape == (300, 2)


def test_resuming_with_another_configuration_says_what_differs(tmp_path):
    interrupted(tmp_path / "a.zarr", 2)
    with (
        pytest.raises(PopdynError, match="was begun with seed 0, this is 1"),
        writer_of(tmp_path / "a.zarr", seed=1),
    ):
        pass
    with (
        pytest.raises(PopdynError, match='was begun with fingerprint null, this is "f"'),
        writer_of(tmp_path / "a.zarr", fingerprint="f"),
    ):
        pass
    with writer_of(tmp_path / "a.zarr", seed=1, overwrite=True) as writer:
        assert len(writer.pending()) == 11
        write_all(tmp_path, writer.pending(), writer.workers)
    assert open_snapshots(tmp_path / "a.zarr").attrs["seed"] == 1


def test_overwriting_leaves_the_old_store_until_the_end(tmp_path):
    tree = tree_of((50, 60))
    write(tree, tmp_path / "a.zarr")
    interrupted(tmp_path / "a.zarr", 3, overwrite=True)
    assert open_snapshots(tmp_path / "a.zarr").identical(tree)
    with writer_of(tmp_path / "a.zarr", overwrite=True) as writer:
        assert len(writer.pending()) == 8
        write_all(tmp_path, writer.pending(), writer.workers)
    assert positions(open_snapshots(tmp_path / "a.zarr"), 0).shape == (300, 2)
    assert sorted(os.listdir(tmp_path)) == ["a.zarr"]


def test_a_process_that_died_between_the_two_renames_loses_nothing(tmp_path):
    tree = tree_of((50, 60))
    write(tree, tmp_path / "a.zarr")
    interrupted(tmp_path / "a.zarr", 1, overwrite=True)
    (tmp_path / "a.zarr").rename(tmp_path / "a.zarr.popdyn/old.zarr")
    with pytest.raises(PopdynError, match=r"was being replaced, the old one is .*old\.zarr"):
        open_snapshots(tmp_path / "a.zarr")
    with pytest.raises(PopdynError, match="exists"):
        write(tree_of((5, 6)), tmp_path / "a.zarr")
    assert open_snapshots(tmp_path / "a.zarr").identical(tree)


def test_two_processes_and_one_name(tmp_path):
    hold = f"""
import sys
from popdyn.snapshots import StoreWriter
with StoreWriter({str(tmp_path / "a.zarr")!r}, times=[0, 1], dimension=1,
                 counts={{"train": [1, 1], "test": [0, 0]}}) as writer:
    print("in", flush=True)
    sys.stdin.readline()
    for block in writer.pending():
        writer.write(block, [[1.0]])
"""
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "in\n"
        with pytest.raises(PopdynError, match="is being written by another process"):
            write(tree_of((5, 6)), tmp_path / "a.zarr")
        first.communicate("go on\n")
    assert first.returncode == 0
    assert positions(open_snapshots(tmp_path / "a.zarr"), 0).tolist() == [[1.0]]
    assert sorted(os.listdir(tmp_path)) == ["a.zarr"]


# Imports once, then forks: each child writes, and is killed or not. The parent never starts zarr.
KILLER = """
import os, random, signal, sys, time
import numpy as np
from pathlib import Path
from popdyn.snapshots import StoreWriter

folder, old, kills = Path(sys.argv[1]), sys.argv[2] == "overwrite", int(sys.argv[3])

def child(name):
    reader, told = os.pipe()
    pid = os.fork()
    if pid:
        os.close(told)
        return pid, reader
    try:
        os.close(reader)
        with StoreWriter(folder / name, times=[0, 1, 2, 3], dimension=2, chunk_rows=200,
                         counts={"train": [4000, 4000, 2000, 4000], "test": [200] * 4},
                         shard_rows=400, overwrite=old, attrs={"seed": 5}) as writer:
            left = writer.pending()
            with (folder / (name + ".log")).open("a") as log:
                log.write(f"{len(left)}\\n")
            for block in left:
                noise = np.random.default_rng([5, block.k, block.start, block.group == "test"])
                writer.write(block, noise.normal(size=(block.stop - block.start, 2)))
                os.write(told, b".")
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)

def finish(name):
    pid, reader = child(name)
    ended = os.waitpid(pid, 0)[1]
    os.close(reader)
    return ended == 0

assert finish("whole")
random.seed(7)
for i in range(kills):
    pid, reader = child(f"killed{i}")
    for _ in range(random.randrange(40)):
        os.read(reader, 1)
    time.sleep(random.random() * 0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reader)
    if old:
        os.system(f"mkdir {folder}/after{i}; cp -r {folder}/killed{i} {folder}/after{i}/copy")
    # Without leave to overwrite, the one error is that a late kill met a finished store.
    assert finish(f"killed{i}") or (folder / f"killed{i}").exists()
"""


def killed(folder, how, times):
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(folder), how, str(times)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_killed_at_ten_random_moments_then_resumed_is_bit_equal(tmp_path):
    killed(tmp_path, "fresh", 10)
    whole = contents(tmp_path / "whole")
    resumed = 0
    for i in range(10):
        assert contents(tmp_path / f"killed{i}") == whole
        assert not (tmp_path / f"killed{i}.popdyn").exists()
        left = [int(n) for n in (tmp_path / f"killed{i}.log").read_text().split()]
        resumed += len(left) > 1 and 0 < left[-1] < left[0]
    assert resumed >= 5, "the kills missed the writing"


def test_killed_while_overwriting_leaves_the_old_store_or_the_new(tmp_path):
    old = tree_of((50, 60))
    for name in ("whole", *(f"killed{i}" for i in range(4))):
        write(old, tmp_path / name)
    killed(tmp_path, "overwrite", 4)
    for i in range(4):
        after = open_snapshots(tmp_path / f"after{i}/copy")
        assert after.identical(old) or after.attrs["seed"] == 5
        assert contents(tmp_path / f"killed{i}") == contents(tmp_path / "whole")


def test_layouts_have_equal_pieces_and_whole_shards():
    for counts, d in (((10_000,), 2), ((10**6 + 1,), 2), ((10**8,), 2), ((70_000, 3), 50)):
        layout = Layout.choose(counts, d)
        assert layout.block_rows % layout.chunk_rows == 0
        assert 4 * d * layout.chunk_rows <= 2**21
        pieces = -(-layout.rows // layout.chunk_rows)
        padding = pieces * layout.chunk_rows - layout.rows
        assert padding < 0.05 * layout.rows + pieces
    assert block_rows(10_000, 2) == 10_000
    with pytest.raises(PopdynError, match="shard_rows is 100: expected a multiple of the 30"):
        Layout.choose([1000], 2, chunk_rows=30, shard_rows=100)
    with pytest.raises(PopdynError, match="chunk_rows is 0"):
        Layout.choose([1000], 2, chunk_rows=0)


def test_attributes_must_be_json(tmp_path):
    with pytest.raises(PopdynError, match="attribute 'note' is no JSON"):
        write(tree_of((5, 6), note=float("nan")), tmp_path / "a.zarr")
    assert os.listdir(tmp_path) == []
