"""A bench folder is sound, or put right and said; nothing of the user's in it is touched."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from popdyn.base.errors import PopdynError
from popdyn.base.files import MANIFEST, Target, files_below, write_manifest
from popdyn.benchmark import bench, check_bench
from popdyn.learners import load_run

QUICK = {"learners": ("zero", "oracle"), "entries": ("bowl", "still")}


@pytest.fixture(scope="module")
def finished(small_suite, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    return bench(small_suite, out, **QUICK), out


@pytest.fixture
def copied(finished, tmp_path):
    """A finished bench of its own, with its results."""
    out = tmp_path / "out"
    shutil.copytree(finished[1], out)
    return finished[0], out


def contents(folder):
    """Every file below a folder with a digest, hidden ones included."""
    files = (f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).digest() for f in files}


def unclocked(rows):
    return [{k: v for k, v in r.items() if k not in ("seconds", "peak_memory_mb")} for r in rows]


def test_a_finished_bench_is_sound(finished):
    assert check_bench(finished[1]) == []
    assert not list(finished[1].parent.glob("*.popdyn"))
    with pytest.raises(PopdynError, match="no bench of popdyn's"):
        check_bench(finished[1].parent)


def test_an_edited_score_is_named_and_its_cell_alone_run_again(small_suite, copied):
    results, out = copied
    file = out / "cells" / "bowl-zero-seed0" / "cell.json"
    cell = json.loads(file.read_text())
    cell["row"]["scores"]["gradient"]["potential"]["skill"] = 0.99
    file.write_text(json.dumps(cell))
    assert [b.file for b in check_bench(out)] == ["cells/bowl-zero-seed0/cell.json"]
    others = [f for f in out.glob("cells/*/cell.json") if f != file]
    stamps = {f: f.stat().st_mtime_ns for f in others}
    said = []
    again = bench(small_suite, out, say=said.append, **QUICK)
    assert unclocked(again["rows"]) == unclocked(results["rows"])
    assert len(said) == 1
    assert "bowl-zero-seed0/cell.json' was changed" in said[0]
    assert json.loads(file.with_name("cell.json.aside-1").read_text()) == cell
    assert {f: f.stat().st_mtime_ns for f in others} == stamps
    assert check_bench(out) == []
    # What was put aside may be somebody's work: it is not swept away with the rest.
    with pytest.raises(PopdynError, match=r"cell\.json\.aside-1"):
        bench(small_suite, out, overwrite=True, **QUICK)


@pytest.mark.slow
def test_what_is_cut_or_strange_is_named_and_the_bench_goes_on(small_suite, copied):
    results, out = copied
    cells, references = out / "cells", out / "references"
    before = {f: f.read_bytes() for f in cells.glob("*/cell.json")}
    cut = cells / "bowl-zero-seed0" / "cell.json"
    weights = cells / "bowl-oracle-seed0" / "run" / "run.json"
    damaged = [cut, weights, references / "bowl-seed0.json", out / "suite.json", out / MANIFEST]
    for file in damaged:
        file.write_bytes(file.read_bytes()[:25])
    (out / "report.html").write_bytes(b"\xff\xfe\x00 no UTF-8")
    chunk = next(f for f in (out / "stores" / "still-seed0.zarr").rglob("c/*/*/*") if f.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    mine = [
        out / ".DS_Store",
        cells / ".DS_Store",
        out / ".suite.json.4711",
        cells / ".mine" / "notes.txt",
        out / "notes.txt.aside-9",
    ]
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    found = {b.file for b in check_bench_again(out)}
    assert {"cells/bowl-zero-seed0/cell.json", "references/bowl-seed0.json"} <= found
    said = []
    again = bench(small_suite, out, say=said.append, **QUICK)
    assert unclocked(again["rows"]) == unclocked(results["rows"])
    for file in (*damaged, out / "report.html", out / "stores" / "still-seed0.zarr"):
        named = file.parent if file == weights else file
        lines = [line for line in said if str(named) in line]
        assert len(lines) == 1, (named, said)
        assert "\n" not in lines[0]
    # A finished cell is never replaced by a failure, nor run again for the sake of another file.
    touched = (cut, cells / "bowl-oracle-seed0" / "cell.json")
    assert all(f.read_bytes() == old for f, old in before.items() if f not in touched)
    assert not list(out.rglob("*failure.json"))
    assert all(file.read_text() == "mine" for file in mine)
    assert check_bench(out) == []
    said.clear()
    assert bench(small_suite, out, say=said.append, **QUICK) == again
    assert said == []


def check_bench_again(out):
    """Check a bench whose mark is cut, with the mark of another."""
    file = out / MANIFEST
    cut = file.read_bytes()
    write_manifest(out, "bench", format=2, files=())
    try:
        return check_bench(out)
    finally:
        file.write_bytes(cut)


def test_every_damage_is_found(copied):
    """Bytes flipped, files cut, deleted, or swapped for those of another cell."""
    _, out = copied
    rng = random.Random(0)
    files = sorted(files_below(out))
    missed = []
    for kind in ("flip", "cut", "delete", "swap") * 8:
        file = out / rng.choice(files)
        old = file.read_bytes()
        if kind == "flip":
            at = rng.randrange(len(old))
            file.write_bytes(old[:at] + bytes([old[at] ^ 1 << rng.randrange(8)]) + old[at + 1 :])
        elif kind == "cut":
            file.write_bytes(old[: rng.randrange(len(old))])
        elif kind == "delete":
            file.unlink()
        else:
            other = rng.choice([f for f in files if (out / f).suffix == file.suffix])
            file.write_bytes((out / other).read_bytes())
        if not _is_found(out) and not _is_harmless(file, old):
            missed.append((kind, file))
        file.write_bytes(old)
    assert missed == []
    assert check_bench(out) == []


def _is_found(out):
    try:
        return bool(check_bench(out))
    except PopdynError:
        return True


def _is_harmless(file, old):
    """Whether a file says what it said: white space in JSON, or another order of keys."""
    if not file.exists():
        return False
    new = file.read_bytes()
    return new == old or (file.suffix == ".json" and json.loads(new) == json.loads(old))


@pytest.mark.parametrize("layout", ["anybody's suite.json", "their file", "their hidden folder"])
def test_overwrite_takes_only_what_is_popdyns(small_suite, copied, tmp_path, layout):
    out = copied[1]
    if layout == "anybody's suite.json":
        shutil.rmtree(out)
        (out / "stores").mkdir(parents=True)
        (out / "suite.json").write_text('{"tests": ["a"]}')
        (out / "stores" / "berlin.csv").write_text("1,2")
    elif layout == "their file":
        (out / "references" / "thesis.json").write_text('{"years": 4}')
    else:
        (out / "cells" / ".mine").mkdir()
        (out / "cells" / ".mine" / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(PopdynError, match=r"holds .(stores|references/thesis|cells/\.mine/notes)"):
        bench(small_suite, out, overwrite=True, **QUICK)
    assert contents(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


@pytest.mark.slow
def test_overwrite_keeps_the_old_results_until_the_new_are_whole(
    start_popdyn, small_suite, copied, tmp_path
):
    _, out = copied
    before = contents(out)
    other = tmp_path / "other.toml"
    other.write_text(small_suite.read_text().replace('"small"', '"other"'))
    with pytest.raises(PopdynError, match="holds results of the suite 'small'"):
        bench(other, out, **QUICK)
    process = start_popdyn(
        "bench", other, "--out", out, "--overwrite",
        "--learners", "zero,oracle", "--entries", "bowl,still",
    )  # fmt: skip
    new = tmp_path / "out.popdyn" / "new"
    wait_for(lambda: list(new.glob("cells/*/cell.json")), process)
    with pytest.raises(PopdynError, match="written by another process"):
        bench(small_suite, out, overwrite=True, **QUICK)
    process.kill()
    process.wait()
    assert contents(out) == before
    stamp = next(new.glob("cells/*/cell.json")).stat().st_mtime_ns
    results = bench(other, out, overwrite=True, **QUICK)
    assert results["suite"] == "other"
    assert check_bench(out) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.toml", "out"]
    assert stamp in {f.stat().st_mtime_ns for f in out.glob("cells/*/cell.json")}
    run = load_run(out / "cells" / "bowl-zero-seed0" / "run")
    assert run.config["data"][0]["path"] == str((out / "stores" / "bowl-seed0.zarr").resolve())


def test_two_at_once_is_refused(small_suite, copied):
    _, out = copied
    before = contents(out)
    for overwrite in (False, True):
        with Target(out, "bench", in_place=True, owned=lambda path: ()):  # noqa: SIM117
            with pytest.raises(PopdynError, match="written by another process"):
                bench(small_suite, out, overwrite=overwrite, **QUICK)
    assert contents(out) == before


def wait_for(condition, process=None, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ours(mark):
    """Every living process with a mark in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("POPDYN_TEST_MARK") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"])
def test_a_kill_leaves_no_process_and_is_gone_on_with(
    start_popdyn, small_suite, finished, tmp_path, name
):
    out, mark = tmp_path / "out", f"{os.getpid()}-{name}"
    process = start_popdyn(
        "bench", small_suite, "--out", out, "--workers", 2,
        "--learners", "zero,oracle", "--entries", "bowl,still",
        POPDYN_TEST_MARK=mark, POPDYN_TEST_SESSION="own",
    )  # fmt: skip
    wait_for(lambda: len(ours(mark)) > 2, process)
    wait_for(lambda: list(out.glob("cells/*/cell.json")), process)
    process.send_signal(getattr(signal, name))
    process.wait(timeout=60)
    wait_for(lambda: not ours(mark), seconds=5)
    done = {f: f.read_bytes() for f in out.glob("cells/*/cell.json")}
    said = []
    results = bench(small_suite, out, say=said.append, **QUICK)
    assert said == []
    assert unclocked(results["rows"]) == unclocked(finished[0]["rows"])
    assert all(file.read_bytes() == old for file, old in done.items())
    assert check_bench(out) == []


@pytest.mark.slow
def test_a_task_that_dies_is_a_row(small_suite, tmp_path):
    out, mark = tmp_path / "out", f"{os.getpid()}-child"
    command = [sys.executable, "-m", "popdyn", "bench", small_suite, "--out", out]
    command += ["--learners", "ijkonet", "--entries", "bowl", "--option", "ijkonet.steps=1000000"]
    command += ["--option", "ijkonet.model=network"]
    process = subprocess.Popen(
        list(map(str, command)),
        env=os.environ | {"POPDYN_TEST_MARK": mark},
        stderr=subprocess.PIPE,
        text=True,
    )
    # The command, its helper, and the copy of it that trains.
    wait_for(lambda: list(out.glob("cells/*/run.popdyn")), process)
    youngest = max(ours(mark), key=lambda p: (p.create_time(), p.pid))
    assert youngest.pid != process.pid
    youngest.kill()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "SIGKILL: out of memory?" in said.splitlines()[-1]
    assert json.loads((out / "results.json").read_text())["rows"][0]["status"] == "failed"


@pytest.mark.slow
def test_a_script_runs_once(small_suite, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import popdyn.benchmark
            print("once")
            r = popdyn.benchmark.bench({str(small_suite)!r}, "out", learners=["zero"], workers=2)
            print([row["status"] for row in r["rows"]])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["once", "['ok', 'ok']"]
    assert done.stderr == ""


@pytest.mark.slow
def test_a_kill_between_the_first_two_files_blocks_nothing(small_suite, finished, tmp_path):
    """`suite.json` stands alone where a process died before it wrote the mark."""
    results, whole = finished
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(whole / "suite.json", out)
    assert unclocked(bench(small_suite, out, **QUICK)["rows"]) == unclocked(results["rows"])
    assert check_bench(out) == []
    # Anybody's file of that name is another matter, and popdyn's own beside a stranger's, too.
    for name, text in (("suite.json", '{"tests": []}'), ("notes.txt", "mine")):
        mine = tmp_path / name.split(".")[0]
        mine.mkdir()
        shutil.copy(whole / "suite.json", mine)
        (mine / name).write_text(text)
        before = contents(mine)
        with pytest.raises(PopdynError, match="no bench of popdyn's"):
            bench(small_suite, mine, **QUICK)
        assert contents(mine) == before
