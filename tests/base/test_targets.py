"""What may be written where: nothing of the user's is removed, whatever the command or kill."""

import asyncio
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from zarr.core.sync import _get_loop

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.base.files import (
    Target,
    check_manifest,
    extra_files,
    files_below,
    read_manifest,
    tidy,
    write_manifest,
    write_text,
    written,
)
from popdyn.snapshots import export


def everything(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def make(path, text="whole", **options):
    with Target(path, "run", **options) as target:
        target.place.mkdir(exist_ok=True)
        write_text(target.place / "a.txt", text)
        write_manifest(target.place, "run")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(here, match, path, **options):
    """A target is refused in one line, and nothing has changed."""
    before = everything(here)
    with pytest.raises(PopdynError, match=match) as error:
        make(path, **options)
    assert "\n" not in str(error.value)
    assert everything(here) == before


STRANGERS = ["config.json", "suite.json", "zarr.json", "data.npy", "popdyn.json", ".hidden/x"]


@pytest.mark.parametrize("name", STRANGERS)
def test_a_folder_of_the_user_is_never_replaced(here, name):
    file = here / "web" / name
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    refused(here, "exists: expected a new name, or --overwrite", "web")
    refused(here, "'web.*(is no run of popdyn's|is damaged)", "web", overwrite=True)


def test_what_has_another_mark_or_a_strange_file_is_not_replaced(here):
    make("a")
    write_manifest(here / "a", "bench")
    refused(here, "is a bench of popdyn's: expected a run", "a", overwrite=True)
    write_manifest(here / "a", "run")
    (here / "a/sub").mkdir()
    (here / "a/sub/notes.txt").write_text("mine")
    refused(here, r"holds 'sub/notes\.txt', which popdyn did not write", "a", overwrite=True)
    (here / "a/sub/notes.txt").rename(here / "a/sub/.DS_Store")
    make("a", "new", overwrite=True)
    assert files_below(here / "a") == {"a.txt", "popdyn.json"}
    assert sorted(os.listdir(here)) == ["a"]


@pytest.mark.parametrize("path", [".", "..", "../..", "/", "../{name}", "up"])
def test_the_working_folder_and_what_holds_it_are_not_replaced(here, monkeypatch, path):
    (here / "up/inner").mkdir(parents=True)
    write_text(here / "up/a.txt", "x")
    write_manifest(here / "up", "run")
    if path == "up":
        path = here / "up"
        monkeypatch.chdir(here / "up/inner")
    else:
        path = path.format(name=here.name)
    refused(here, "is no name|holds the working folder", path, overwrite=True)


@pytest.mark.parametrize("path", ["s3://bucket/a", "file:///tmp/a", "s3:/bucket/a"])
def test_a_url_is_refused(here, path):
    refused(here, "is a URL: expected a local path", path)
    assert os.listdir(here) == []


def test_what_is_read_is_not_replaced_by_any_name(here):
    make("run")
    (here / "link").symlink_to(here / "run")
    (here / "other").symlink_to(here)
    for read in ("run", "link", "run/a.txt", "other/run"):
        for path in ("run", "other/run"):
            refused(here, "overlaps with .* which is read", path, overwrite=True, reads=[read])
    refused(here, "overlaps with", "run/inside", reads=["link"])
    refused(here, "is a link", "link", overwrite=True)


def test_a_file_in_the_way_is_named(here):
    (here / "file").write_text("mine")
    refused(here, "cannot be written: 'file' is no folder", "file/a/b")
    refused(here, "is no run of popdyn's", "file", overwrite=True)


def test_siblings_of_the_user_stay(here):
    names = ("a.lock", "a.partial", "a.replaced", "a.new", "a.part", "a.old", ".a.popdyn", "a.tmp")
    for name in names:
        (here / name).write_text("mine")
    before = everything(here)
    make("a")
    make("a", overwrite=True)
    assert {p: c for p, c in everything(here).items() if p.parent == here} == before
    (here / "b.popdyn").mkdir()
    (here / "b.popdyn/thesis.tex").write_text("mine")
    (here / "c.popdyn").write_text("mine")
    for name in "bc":
        refused(here, f"'{name}.popdyn' is in the way and none of popdyn's", name)


def test_an_empty_thing_in_a_workshop_without_a_mark_is_in_nobodys_way(here):
    # A thread of a process that dies may make a folder again after the mark is gone.
    (here / "a.popdyn/new").mkdir(parents=True)
    make("a")
    assert not (here / "a.popdyn").exists()
    (here / "b.popdyn/new").mkdir(parents=True)
    (here / "b.popdyn/new/mine.txt").write_text("mine")
    refused(here, "'b.popdyn' is in the way and none of popdyn's", "b")


@pytest.mark.parametrize("left", [("popdyn.json", "lock"), ("lock",)])
def test_what_a_dead_process_left_beside_a_whole_thing_is_taken_down(here, left):
    make("a")
    (here / "a.popdyn").mkdir()
    for name in left:
        (here / "a.popdyn" / name).touch()
    (here / "a.popdyn/mine.txt").write_text("mine")
    tidy("a")
    assert (here / "a.popdyn/mine.txt").exists()
    (here / "a.popdyn/mine.txt").unlink()
    tidy("a")
    assert not (here / "a.popdyn").exists()


def test_a_file_of_the_user_in_the_workshop_stays(here):
    with Target("a", "run") as target:
        target.place.mkdir()
        write_text(here / "a.popdyn/mine.txt", "mine")
        write_manifest(target.place, "run")
    assert (here / "a.popdyn/mine.txt").read_text() == "mine"
    make("a", overwrite=True)
    assert (here / "a.popdyn/mine.txt").read_text() == "mine"


def test_an_error_leaves_the_old_one_and_no_folder(here):
    make("a/b/c", "old")

    def failing(path, **options):
        with Target(path, "run", **options) as target:
            target.place.mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        failing("a/b/c", overwrite=True)
    with pytest.raises(KeyError):
        failing("x/y/z")
    assert (here / "a/b/c/a.txt").read_text() == "old"
    assert os.listdir(here) == ["a"]
    assert os.listdir(here / "a/b") == ["c"]


def test_what_a_thread_of_zarrs_still_writes_leaves_no_folder(here):
    make(here / "new")

    async def write_on(place):
        await asyncio.sleep(0.3)
        (place / "c").mkdir(parents=True, exist_ok=True)
        (place / "c" / "0").write_bytes(b"a chunk")

    def interrupted():
        with Target(here / "new", "run", overwrite=True) as target:
            asyncio.run_coroutine_threadsafe(write_on(target.place), _get_loop())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    time.sleep(0.5)
    assert [p.name for p in here.iterdir()] == ["new"]
    make(here / "new", "again", overwrite=True)


def test_what_comes_in_the_meantime_is_the_users(here):
    make("a", "old")

    def late():
        with Target("a", "run", overwrite=True) as target:
            target.place.mkdir()
            (here / "a/notes.txt").write_text("mine")

    with pytest.raises(PopdynError, match="which popdyn did not write"):
        late()
    assert (here / "a/notes.txt").read_text() == "mine"
    assert (here / "a/a.txt").read_text() == "old"


DYING = """
import os, sys
from pathlib import Path
from popdyn.base.files import Target, write_manifest, write_text, written
path, moment = Path(sys.argv[1]), sys.argv[2]
rename, replace = Path.rename, os.replace
def die(*_): os._exit(9)
with Target(path, "run", overwrite=True, keep=True) as target:
    if moment == "half":
        with written(target.place.with_name("figure.png")) as beside:
            beside.write_text("half a file, beside what is made")
            die()
    target.place.mkdir()
    write_text(target.place / "a.txt", "new")
    if moment == "writing":
        die()
    write_manifest(target.place, "run")
    if moment == "before":
        Path.rename = die
    if moment == "between":
        os.replace = die
    if moment == "after":
        import popdyn.base.files
        popdyn.base.files._remove = die
"""


@pytest.mark.parametrize("moment", ["half", "writing", "before", "between", "after"])
def test_a_death_at_any_moment_loses_nothing(here, moment):
    make("a", "old")
    done = subprocess.run([sys.executable, "-c", DYING, "a", moment], cwd=here)
    assert done.returncode == 9
    there = here / ("a.popdyn/old" if moment == "between" else "a")
    assert (there / "a.txt").read_text() == ("new" if moment == "after" else "old")
    if moment == "between":
        with pytest.raises(PopdynError, match="exists"):  # the old one is back
            make("a")
        assert (here / "a/a.txt").read_text() == "old"
    with Target("a", "run", overwrite=True, keep=True) as target:
        assert target.resumed == (moment not in ("after", "half"))
        target.drop()
        target.place.mkdir()
        write_text(target.place / "a.txt", "third")
        write_manifest(target.place, "run")
    assert (here / "a/a.txt").read_text() == "third"
    assert os.listdir(here) == ["a"]


HOLDING = """
import sys
from popdyn.base.files import Target
with Target(sys.argv[1], "run", keep=True) as target:
    target.place.mkdir()
    print("in", flush=True)
    sys.stdin.readline()
"""


def test_one_writer_at_a_time_and_a_killed_one_gives_the_lock_up(here):
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDING, "a"],
        cwd=here,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with first:
        assert first.stdout.readline() == "in\n"
        refused(here, "is being written by another process", "a")
        first.kill()
    make("a")
    assert os.listdir(here) == ["a"]


CROWD = """
import sys
from popdyn.base.errors import PopdynError
from popdyn.base.files import Target, write_manifest
done = 0
for i in range(150):
    try:
        with Target("a", "run", overwrite=True) as target:
            target.place.mkdir()
            write_manifest(target.place, "run")
            done += 1
    except PopdynError as error:
        assert "by another process" in str(error), error
print(done)
"""


def test_a_crowd_of_writers_never_meets(here):
    crowd = [
        subprocess.Popen([sys.executable, "-c", CROWD], cwd=here, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    done = [int(process.communicate(timeout=100)[0]) for process in crowd]
    assert [process.returncode for process in crowd] == [0, 0, 0]
    assert max(done) > 0
    make("a", overwrite=True)
    assert os.listdir(here) == ["a"]


def test_a_folder_that_is_gone_on_with(here):
    for _ in range(2):
        with Target("a", "bench", in_place=True) as target:
            assert target.place == target.path
            target.place.mkdir(exist_ok=True)
            write_manifest(target.place, "bench")
    (here / "b").mkdir()
    (here / "b/x").write_text("mine")
    before = everything(here)
    with pytest.raises(PopdynError, match="is no bench"), Target("b", "bench", in_place=True):
        pass
    assert everything(here) == before


def test_manifests_find_what_is_missing_changed_and_strange(here):
    make("a")
    assert check_manifest("a", "run") == []
    assert extra_files("a", "run") == []
    (here / "a/a.txt").write_text("other")
    (breach,) = check_manifest("a", "run")
    assert str(breach).startswith("a.txt has the digest")
    (here / "a/a.txt").rename(here / "a/b.txt")
    assert [str(b) for b in check_manifest("a", "run")] == ["a.txt is missing"]
    assert extra_files("a", "run") == ["b.txt"]
    whole = (here / "a/popdyn.json").read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        (here / "a/popdyn.json").write_bytes(flipped)
        with pytest.raises(PopdynError, match=r"is damaged|expected a run|expected 1"):
            read_manifest("a", "run")


# A limit on the size of a file stands in for a full disk: the same error at the same call.
FULL = """
import resource, sys
from click.testing import CliRunner
from popdyn.cli import group
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
group.main(sys.argv[1:], standalone_mode=False)
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_figure_or_none(here):
    energy = popdyn.FreeEnergy("quadratic")
    data = popdyn.simulate(energy, particles=100, snapshots=2, out="st.zarr", seed=0)
    popdyn.fit(data, "oracle", out="run", source="st.zarr")
    line = ["plot", "run", "--out", "figures", "--only", "cells"]
    done = subprocess.run([sys.executable, "-c", FULL, *line], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert sorted(os.listdir(here)) == ["run", "st.zarr"]
    subprocess.run([sys.executable, "-m", "popdyn", *line], check=True)
    whole = (here / "figures/cells.png").read_bytes()
    line.append("--overwrite")
    done = subprocess.run([sys.executable, "-c", FULL, *line], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert os.listdir(here / "figures") == ["cells.png"]
    assert (here / "figures/cells.png").read_bytes() == whole
    (here / "figures/cells.png").write_bytes(b"a photograph")
    done = subprocess.run(
        [sys.executable, "-m", "popdyn", *line], capture_output=True, text=True, check=False
    )
    assert "is no figure of popdyn's: it is not replaced, expected another --out" in done.stderr
    assert (here / "figures/cells.png").read_bytes() == b"a photograph"


def test_a_file_is_written_whole_or_not_at_all(here):
    file = here / "a.txt"
    write_text(file, "old")

    def failing():
        with written(file) as beside:
            beside.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert everything(here) == {file: b"old"}


def test_exports_that_the_user_worked_on_stay(here):
    import anndata

    tree = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=30, seed=0)
    for name in ("a.npz", "a.h5ad", "a"):
        export(tree, name)
        export(tree, name, overwrite=True)
    cells = anndata.read_h5ad("a.h5ad")
    cells.obs["cluster"] = "mine"
    cells.write_h5ad("a.h5ad")
    np.savez("a.npz", **np.load("a.npz"), mine=1)
    (here / "a/notes.txt").write_text("mine")
    before = everything(here)
    for name in ("a.npz", "a.h5ad", "a"):
        with pytest.raises(PopdynError, match=r"as it was written|popdyn did not write"):
            export(tree, name, overwrite=True)
    assert everything(here) == before
