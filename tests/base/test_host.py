"""A host with settings of its own: popdyn neither minds nor changes them."""

import contextlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import popdyn
from popdyn.base.host import one_blas_thread
from popdyn.learners.jko import inner

OPTIONS = {"particles": 60, "test_particles": 20, "snapshots": 3, "seed": 0}


@contextlib.contextmanager
def double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def work():
    energy = popdyn.FreeEnergy(lambda x: x.square().sum(-1), "gaussian_repulsion", 0.1)
    data = popdyn.simulate(energy, **OPTIONS)
    ahead = popdyn.predict(energy, data, [0.03])
    x = data["train"]["x"].values[0]
    return [
        *(data[group]["x"].values for group in ("train", "test")),
        ahead["train"]["x"].values,
        energy.potential_gradient(x),
        energy.force(x),
    ]


@pytest.mark.parametrize("setting", [double, torch.no_grad, torch.inference_mode])
def test_the_hosts_settings_change_nothing(setting):
    usual = work()
    with setting():
        there = work()
    for a, b in zip(usual, there, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_fit_leaves_the_allocator_alone():
    # glibc maps an array of 4 MB on its own as long as nobody raised its threshold.
    code = """
import popdyn
import popdyn.base.allocation as allocation
data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50)
popdyn.fit(data, learner="zero")
print(allocation.keep_freed_memory.cache_info().currsize)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


def test_an_inner_solver_that_is_added_is_the_one_that_runs(monkeypatch):
    solved = []

    class Mine(inner.Simulate):
        def solve(self, *arguments):
            solved.append(self)
            return super().solve(*arguments)

    monkeypatch.setitem(inner.INNERS, "mine", lambda data, options, maps, noise: Mine(noise))
    data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=100, seed=0)
    popdyn.fit(data, inner="mine", steps=5)
    assert solved


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_solve_in_a_thread_beside_another_leaves_the_number_of_blas_threads():
    inside, go = threading.Event(), threading.Event()

    def beside():
        with one_blas_thread():
            inside.set()
            assert go.wait(10)

    with threadpool_limits(2, user_api="blas"):
        other = threading.Thread(target=beside)
        with one_blas_thread():
            assert blas_threads() == {1}
            other.start()
            assert inside.wait(10)
        go.set()  # the other one leaves after the one that it has met
        other.join()
        assert blas_threads() == {2}
