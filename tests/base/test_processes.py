"""Helper processes in real scripts: nothing runs twice, nothing lives on."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from popdyn.base.errors import PopdynError
from popdyn.base.processes import Helper, HelperDiedError, run_all

SIMULATE = """
import popdyn
print("the script runs")
energy = popdyn.FreeEnergy(lambda x: x.square().sum(-1))  # of a script: it travels by value
options = {"particles": 60, "test_particles": 0, "snapshots": 3, "block": 20}
here, there = (popdyn.simulate(energy, workers=w, **options) for w in (1, 2))
print((here["train"]["x"].values == there["train"]["x"].values).all())
"""
FIT = """
import psutil, torch, numpy as np, popdyn
print("the script runs")
data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=200, test_particles=0)
x = np.ones((1, 2))
alone = popdyn.fit(data, ensemble=2)
print(len(psutil.Process().children()))
helped = popdyn.fit(data, ensemble=2, workers=2)
print((alone.energy.potential_gradient(x) == helped.energy.potential_gradient(x)).all())
"""
SLEEP = """
import sys, time
from popdyn.base.processes import run_all
def work(seconds):
    print(seconds, flush=True)  # to standard error
    time.sleep(seconds)
list(run_all(work, [(60,), (60,)], workers=2))
"""


def run(code, folder):
    (folder / "script.py").write_text(code)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.slow
def test_a_plain_script_simulates_with_workers(tmp_path):
    assert run(SIMULATE, tmp_path) == ["the script runs", "True"]


@pytest.mark.slow
def test_a_plain_script_fits_an_ensemble_with_and_without_workers(tmp_path):
    assert run(FIT, tmp_path) == ["the script runs", "0", "True"]


def asleep(folder):
    """Start a script whose two helpers sleep; return it and them."""
    (folder / "script.py").write_text(SLEEP)
    parent = subprocess.Popen(
        [sys.executable, "script.py"], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    assert parent.stderr is not None
    for _ in range(2):
        assert parent.stderr.readline() == "60\n"
    helpers = psutil.Process(parent.pid).children(recursive=True)
    assert len(helpers) == 2
    return parent, helpers


def test_helpers_end_with_a_parent_that_is_killed(tmp_path):
    parent, helpers = asleep(tmp_path)
    parent.kill()
    parent.wait()
    parent.stderr.close()
    _, alive = psutil.wait_procs(helpers, timeout=5)
    assert not alive


def test_a_task_outlives_its_helper_and_one_that_kills_is_named(tmp_path):
    mark = tmp_path / "died"

    def work(i):
        if i == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return i * i

    assert sorted(run_all(work, [(i,) for i in range(4)], 2)) == [(i, i * i) for i in range(4)]
    with pytest.raises(PopdynError, match=r"3 helper processes died .* \(exit status 7\)"):
        list(run_all(os._exit, [(7,)], 2))


def test_an_error_comes_back_as_itself():
    def fail():
        raise PopdynError("one line")

    with pytest.raises(PopdynError, match=r"^one line$"):
        list(run_all(fail, [()], 2))
    with Helper(os._exit) as helper, pytest.raises(HelperDiedError, match="exit status 3"):
        helper.call(3)


def test_an_interrupt_leaves_no_helper(tmp_path):
    parent, helpers = asleep(tmp_path)
    parent.send_signal(signal.SIGINT)
    parent.wait(20)
    parent.stderr.close()
    time.sleep(0.1)
    assert not psutil.wait_procs(helpers, timeout=5)[1]


def die_or_say_who(dies):
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_a_group_interrupted_while_a_helper_starts_is_its_parents_affair(capfd):
    for number in (signal.SIGINT, signal.SIGHUP):
        with Helper(divmod) as helper:
            for _ in range(10):  # its imports take longer
                helper.process.send_signal(number)
                time.sleep(0.02)
            assert helper.call(7, 2) == (3, 1)
    assert capfd.readouterr().err == ""


def test_a_lost_task_is_a_value_where_that_is_asked_for():
    """It is not tried again, and one worker is then another process, too."""
    deaths = []

    def lost(error):
        deaths.append(error)
        return error.status

    found = dict(run_all(die_or_say_who, [(True,), (False,)], lost=lost))
    assert found[0] == -signal.SIGKILL
    assert found[1] != os.getpid()
    assert len(deaths) == 1


def test_helpers_that_are_kept_work_again_and_are_the_callers_to_close():
    kept = []
    first = dict(run_all(die_or_say_who, [(False,)] * 4, 2, helpers=kept))
    again = dict(run_all(die_or_say_who, [(False,)] * 4, 2, helpers=kept))
    assert set(again.values()) <= set(first.values()) == {h.process.pid for h in kept}
    for helper in kept:
        assert helper.process.poll() is None
        helper.close()
