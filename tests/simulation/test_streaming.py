"""Streaming to a store: the same bits as in memory, restarts, and a full disk."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.simulation import simulate
from popdyn.snapshots import open_snapshots, validate

ENERGY = FreeEnergy("double_well", diffusivity=0.2)
OPTIONS = {"particles": [900, 1000, 1000], "snapshots": 3, "test_particles": 450, "block": 200}


def assert_equal(a, b):
    for group in ("train", "test"):
        assert np.array_equal(a[group]["x"].values, b[group]["x"].values, equal_nan=True)
        assert np.array_equal(a[group]["count"].values, b[group]["count"].values)


@pytest.mark.parametrize("paired", [False, True])
def test_a_store_holds_what_memory_would(tmp_path, paired):
    options = {**OPTIONS, "paired": paired, "noise": 0.1}
    if paired:
        options["particles"] = 1000
    stored = simulate(ENERGY, out=tmp_path / "x.zarr", **options)
    assert_equal(stored, simulate(ENERGY, **options))
    assert validate(tmp_path / "x.zarr") == []
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_extras_are_stored_with_the_particles(tmp_path):
    options = {**OPTIONS, "particles": 500, "dim": 1, "initial": "gaussian", "dt": 0.1}
    simulate(ENERGY, out=tmp_path / "x.zarr", check_step=True, reference=True, **options)
    data = open_snapshots(tmp_path / "x.zarr")
    memory = simulate(ENERGY, check_step=True, reference=True, **options)
    assert data.attrs["step_check"] == memory.attrs["step_check"]
    assert data["reference"].attrs == memory["reference"].attrs
    np.testing.assert_array_equal(data["reference"]["density"], memory["reference"]["density"])


def test_an_existing_store_is_kept_unless_overwritten(tmp_path):
    path = tmp_path / "x.zarr"
    simulate(ENERGY, out=path, particles=10)
    with pytest.raises(PopdynError, match="exists"):
        simulate(ENERGY, out=path, particles=20)
    assert open_snapshots(path)["train"].sizes["particle"] == 10
    simulate(ENERGY, out=path, particles=20, overwrite=True)
    assert open_snapshots(path)["train"].sizes["particle"] == 20


def test_an_explosion_leaves_nothing_behind(tmp_path):
    with pytest.raises(PopdynError, match="is unstable at time 0"):
        simulate(
            FreeEnergy("wavy_plateau"), particles=50, dt=0.1, step=0.1, out=tmp_path / "x.zarr"
        )
    assert not list(tmp_path.iterdir())


SCRIPT = """
import sys, popdyn
if __name__ == "__main__":
    energy = popdyn.FreeEnergy("double_well", diffusivity=0.2)
    popdyn.simulate(energy, particles=60_000, test_particles=0, snapshots=3, block=1000,
                    step=0.0005, out=sys.argv[1])
"""


def chunk_files(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("0") if "/c/" in str(p) and p.is_file()}


def test_a_killed_simulation_resumes_where_it_was(tmp_path):
    path = tmp_path / "x.zarr"
    # the thread count is part of what decides the bits, and so of the command
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, path], env=environment)
    deadline = time.monotonic() + 60
    while len(chunk_files(tmp_path / "x.zarr.popdyn")) < 20 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = chunk_files(tmp_path / "x.zarr.popdyn")
    assert 20 <= len(before) < 180
    with pytest.raises(PopdynError, match="is unfinished, in"):
        open_snapshots(path)
    options = {"particles": 60_000, "test_particles": 0, "snapshots": 3, "block": 1000}
    with pytest.raises(PopdynError, match="was begun with seed 0, this is 1"):
        simulate(ENERGY, out=path, seed=1, step=0.0005, **options)
    other = FreeEnergy(lambda x: x.square().sum(-1), diffusivity=0.2)
    with pytest.raises(PopdynError, match="was begun with"):
        simulate(other, out=path, step=0.0005, **options)
    data = simulate(ENERGY, out=path, step=0.0005, **options)
    after = chunk_files(path)
    kept = [
        p
        for p in before
        if after[path / p.relative_to(tmp_path / "x.zarr.popdyn/new.zarr")] == before[p]
    ]
    assert len(kept) == len(before)
    assert_equal(data, simulate(ENERGY, step=0.0005, **options))


def test_another_callable_does_not_resume_a_store(tmp_path):
    calls = {"left": 6}

    def failing(x):
        if len(x) > 64:  # a block, not the probe
            calls["left"] -= 1
            if calls["left"] == 0:
                raise RuntimeError("interrupted")
        return x.square().sum(-1)

    path = tmp_path / "x.zarr"
    options = {"particles": 400, "block": 100, "snapshots": 2, "scheme": "one_step"}
    with pytest.raises(RuntimeError, match="interrupted"):
        simulate(FreeEnergy(failing), out=path, **options)

    def failing(x):  # the same name
        return 2 * x.square().sum(-1)

    with pytest.raises(PopdynError, match="fingerprint"):
        simulate(FreeEnergy(failing), out=path, **options)


FULL_DISK = """
import subprocess, sys
from pathlib import Path
import popdyn
from popdyn.snapshots import validate

disk = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", disk], check=True)
path = Path(disk) / "x.zarr"
options = dict(particles=60_000, test_particles=0, block=10_000)
try:
    popdyn.simulate(popdyn.FreeEnergy("quadratic"), out=path, **options)
except popdyn.PopdynError as error:
    print(error)
print(path.exists(), len([p for p in path.with_name("x.zarr.popdyn").rglob("c/*/*/0")]))
subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
stored = popdyn.simulate(popdyn.FreeEnergy("quadratic"), out=path, **options)
memory = popdyn.simulate(popdyn.FreeEnergy("quadratic"), **options)
print(validate(path), bool((stored["train"]["x"].values == memory["train"]["x"].values).all()))
"""


def test_a_full_disk_is_one_line_and_a_restart_resumes(tmp_path):
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    command = ["unshare", "-rm", sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line, unfinished, finished = done.stdout.splitlines()
    assert line.startswith("no space left on the disk of")
    assert line.endswith("the same command resumes there")
    assert unfinished.split()[0] == "False"
    assert int(unfinished.split()[1]) > 0
    assert finished == "[] True"
