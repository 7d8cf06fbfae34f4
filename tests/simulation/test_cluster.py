"""Blocks on other processes: the same bits, a killed worker, and clear lines."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.simulation import simulate

ENERGY = FreeEnergy(lambda x: 0.1 * x.square().sum(-1).square(), diffusivity=0.2)
OPTIONS = {"particles": 4000, "test_particles": 1000, "snapshots": 3, "block": 250}


@pytest.fixture(scope="module")
def cluster():
    """A real cluster of two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def in_memory():
    return simulate(ENERGY, **OPTIONS)


def same(a, b):
    return all(np.array_equal(a[g]["x"].values, b[g]["x"].values) for g in ("train", "test"))


def test_a_cluster_gives_the_same_bits_as_one_process(cluster, in_memory, tmp_path):
    address = cluster.scheduler_address
    assert same(simulate(ENERGY, scheduler=address, **OPTIONS), in_memory)
    stored = simulate(ENERGY, scheduler=address, out=tmp_path / "x.zarr", **OPTIONS)
    assert same(stored, in_memory)


@pytest.mark.slow
def test_a_killed_worker_costs_its_block_and_nothing_else(cluster, tmp_path):
    from distributed import Client

    options = {**OPTIONS, "step": 0.00005}
    with Client(cluster.scheduler_address) as client:
        client.wait_for_workers(2)
        victim = next(iter(client.run(os.getpid).values()))
    killed = []

    def kill_in_mid_run():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            written = len(list((tmp_path / "x.zarr.popdyn").rglob("c/*/*/0")))
            if written >= 4:
                os.kill(victim, signal.SIGKILL)
                killed.append(written)
                return
            time.sleep(0.005)

    killer = threading.Thread(target=kill_in_mid_run)
    killer.start()
    data = simulate(ENERGY, scheduler=cluster.scheduler_address, out=tmp_path / "x.zarr", **options)
    killer.join()
    assert killed
    assert killed[0] < 60  # of the 16 + 4 blocks' files in 3 snapshots
    assert same(data, simulate(ENERGY, **options))


def test_a_mistake_on_a_worker_is_the_same_line_as_here(cluster):
    energy = FreeEnergy("wavy_plateau")
    options = {"particles": 200, "dt": 0.1, "step": 0.1}
    with pytest.raises(PopdynError) as here:
        simulate(energy, **options)
    with pytest.raises(PopdynError) as there:
        simulate(energy, scheduler=cluster.scheduler_address, **options)
    assert str(there.value) == str(here.value)


def test_local_processes_give_the_same_bits(in_memory):
    assert same(simulate(ENERGY, workers=2, **OPTIONS), in_memory)


def test_a_worker_with_another_version_is_refused(tmp_path):
    from distributed import LocalCluster

    fake = tmp_path / "popdyn_jko-99.0.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: popdyn-jko\nVersion: 99.0\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as cluster:
        worker = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
            + ["--no-nanny", "--no-dashboard", "--nthreads", "1"],
            cwd=tmp_path,  # python -m looks there first
            env=os.environ | {"PYTHONPATH": path},
            stderr=subprocess.DEVNULL,
        )
        try:
            with pytest.raises(PopdynError, match=r"worker .* has popdyn 99\.0: expected "):
                simulate(ENERGY, scheduler=cluster.scheduler_address, **OPTIONS)
        finally:
            worker.terminate()
            worker.wait()


@pytest.mark.slow
def test_an_unreachable_scheduler_is_one_line():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(PopdynError, match="cannot be reached") as caught:
        simulate(ENERGY, scheduler=f"tcp://127.0.0.1:{port}", **OPTIONS)
    assert "\n" not in str(caught.value)
    with pytest.raises(PopdynError, match="cannot be reached"):
        simulate(ENERGY, scheduler="nowhere", **OPTIONS)


@pytest.mark.parametrize(
    ("victim", "line"),
    [
        pytest.param("worker", "has had no worker for 30 s", marks=pytest.mark.slow),
        pytest.param("scheduler", "the scheduler was lost", marks=pytest.mark.slow),
    ],
)
def test_a_cluster_that_dies_is_one_line(victim, line, tmp_path):
    command = [sys.executable, "-m"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    port = address.rsplit(":", 1)[1]
    parts = {
        "scheduler": subprocess.Popen(
            [*command, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port]
            + ["--no-dashboard"],
            cwd=tmp_path,
            **quiet,
        ),
        "worker": subprocess.Popen(
            [*command, "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
            + ["--nthreads", "1"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=tmp_path,
            **quiet,
        ),
    }
    killer = threading.Timer(25.0, parts[victim].kill)
    killer.start()
    try:
        time.sleep(10)
        with pytest.raises(PopdynError, match=line):
            simulate(ENERGY, scheduler=address, **{**OPTIONS, "step": 1e-6})
    finally:
        killer.cancel()
        for part in parts.values():
            part.kill()
            part.wait()
