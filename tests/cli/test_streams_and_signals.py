"""Commands whose streams are closed or ASCII's alone, and whose terminal goes away."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import popdyn

POPDYN = [sys.executable, "-m", "popdyn"]


@pytest.mark.parametrize(
    "command", [pytest.param(["list"], marks=pytest.mark.slow), ["list", "potentials"], ["--help"]]
)
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(command, closed):
    line = " ".join([*POPDYN, *command, closed])
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves():
    line = f"{' '.join(POPDYN)} list potentials | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_an_ascii_locale(tmp_path):
    store = tmp_path / "a.zarr"
    popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=40, out=store)
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command in (
        ["list", "potentials"],
        ["train", store, "--learn", "potential", "--out", "run"],
    ):
        done = subprocess.run(
            [*POPDYN, *command], env=environment, cwd=tmp_path, capture_output=True
        )
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [*POPDYN, "inspect", "--json", store], env=environment, cwd=tmp_path, capture_output=True
    )
    json.loads(done.stdout.decode("ascii"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_terminal_that_goes_away_leaves_a_checkpoint(number, start_popdyn, tmp_path):
    store, run = tmp_path / "a.zarr", tmp_path / "run"
    checkpoint = tmp_path / "run.popdyn/new/checkpoint.safetensors"
    popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=300, out=store)
    process = start_popdyn("train", store, "--out", run, "--model", "network", "--steps", "100000")
    for _ in range(600):  # of the first checkpoint, after 10 s, when the steps are under way
        if checkpoint.exists():
            break
        time.sleep(0.1)
    checkpoint.unlink()
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1
    assert text.strip() == "popdyn: error: interrupted; what was already written is kept"
    assert checkpoint.exists()


def test_nohup_is_minded(tmp_path):
    code = "import signal; from popdyn.cli import main; main()"
    command = ["nohup", sys.executable, "-c", code, "list", "suites"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
