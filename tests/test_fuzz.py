"""``scripts/fuzz``: it finds what is planted, and a few tries of every kind pass."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fuzz.py"


def fuzz(tmp_path, *arguments):
    """Run the script; return its status and its JSON."""
    command = [sys.executable, str(SCRIPT), "--json", "--folder", str(tmp_path), *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["kinds"]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("input", ("tables", "command lines")),
        *(
            pytest.param(kind, rows, marks=pytest.mark.slow)
            for kind, rows in (
                ("removal", ("simulate", "train", "export to a folder", "plot")),
                ("damage", ("store", "run: features", "run: unfinished")),
                ("kill", ("export to .npz --overwrite", "import --overwrite", "train")),
            )
        ),
        pytest.param(
            "input", ("populations", "names and titles"), marks=pytest.mark.slow, id="input: others"
        ),
    ],
)
def test_a_few_tries_of_each_kind(kind, rows, tmp_path):
    """The rows that need neither a bench nor processes of their own: a second each."""
    chosen = [word for row in rows for word in ("--row", row)]
    status, (page,) = fuzz(tmp_path, "--only", kind, "--tries", "1", *chosen)
    said = [
        f"{f['number']}: {f['outcome']}: {f['command']}: {f['detail']}" for f in page["failures"]
    ]
    assert (status, said) == (0, [])
    assert sorted(page["rows"]) == sorted(rows)
    assert all(sum(row.values()) == 1 for row in page["rows"].values())


@pytest.mark.slow
def test_a_try_is_the_same_again(tmp_path):
    pages = [fuzz(tmp_path, "--only", "input:13", "--only", "input:29")[1] for _ in range(2)]
    for (page,) in pages:
        page.pop("seconds")
        assert page["tries"] == 2
    assert pages[0] == pages[1]


PLANTED = """
import sys
sys.path[:0] = [{scripts!r}]
import fuzzing.children as children, pathlib, os, signal, time, json
here = pathlib.Path({here!r})
children.warm_up()
children.adopt_orphans()

def loud():
    raise ValueError("planted")

def helper():
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)

def write():
    for i in range(5):
        (here / str(i)).write_text("x")

children.GRACE = 0.3
said = children.call(loud, cwd=here)
left = children.call(helper, cwd=here).left
stopped = children.call(write, cwd=here, kill=children.Kill(signal.SIGKILL, event=2))
hung = children.call(lambda: time.sleep(60), cwd=here, timeout=0.2)
print(json.dumps([said.last_line, len(left), stopped.code, stopped.killed, hung.code,
                  sorted(p.name for p in here.iterdir())]))
"""


@pytest.mark.slow
def test_children_are_watched(tmp_path):
    """A traceback, a helper that stays, a kill before the third change, and a hang are seen."""
    code = PLANTED.format(scripts=str(SCRIPT.parent), here=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    said, left, status, killed, hung, files = json.loads(done.stdout)
    assert said == "ValueError: planted"
    assert left == 1
    assert (status, killed) == (-9, True)
    assert hung is None
    assert files == ["0", "1"]


@pytest.mark.parametrize(
    ("before", "after", "failed"),
    [("mine", "mine", False), ("mine", "other", True), ("mine", None, True)],
)
def test_a_lost_file_counts(before, after, failed, tmp_path, monkeypatch):
    """The comparison that the whole of ``removal`` rests on."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from fuzzing.content import files_below

    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "x"
    file.write_text(before)
    old = files_below(tmp_path)
    file.unlink()
    if after is not None:
        file.write_text(after)
    new = files_below(tmp_path)
    assert any(new.get(path) != what for path, what in old.items()) == failed
