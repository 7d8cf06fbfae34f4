"""A process that has imported popdyn and forks for every command: seconds less for each of many.

What it forks is a process of its own, with the folder, the variables and the streams that it is
given, in which ``python -m popdyn`` runs as in a fresh one; only the imports are there already.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

IMPORTED = ("learners", "scores", "plots", "benchmark", "estimation", "cli.train", "cli.simulate")


class Nursery:
    """Runs commands of popdyn in processes that are forked for them."""

    def __init__(self, **env):
        env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | env
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def start(self, arguments, cwd, env, folder):
        """Return a process that runs a command, with its streams in files of a folder."""
        streams = [str(Path(folder) / name) for name in ("stdout", "stderr")]
        order = {"arguments": list(map(str, arguments)), "cwd": str(cwd), "env": dict(env)}
        return Command(self, self.ask("start", **order, streams=streams), streams)

    def ask(self, what, **order):
        """Return the answer to an order."""
        self.process.stdin.write(json.dumps({"what": what} | order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that forks has died"
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Command:
    """A command that was started, with what of ``subprocess.Popen`` is needed of it."""

    def __init__(self, nursery, pid, streams):
        self.nursery, self.pid, self.streams, self.returncode = nursery, pid, streams, None

    def poll(self):
        if self.returncode is None:
            self.returncode = self.nursery.ask("poll", pid=self.pid)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout=120):
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                self.kill()
                raise subprocess.TimeoutExpired("popdyn", timeout)
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout=120):
        """Return what it printed on standard output and on standard error."""
        self.wait(timeout)
        return tuple(Path(path).read_bytes().decode() for path in self.streams)


def _child(order):
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for number, path in enumerate(order["streams"], 1):
        stream = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, number)
        os.close(stream)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if order["env"].get("POPDYN_TEST_SESSION"):
        os.setsid()
    sys.argv = ["popdyn", *order["arguments"]]
    sys.path[0] = order["cwd"]  # as -m has it
    runpy.run_module("popdyn", run_name="__main__", alter_sys=True)


def _status(end):
    """Return what sys.exit was called with as an exit status."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    print(end.code, file=sys.stderr)
    return 1


def _serve():
    import importlib

    import torch

    torch.set_num_threads(1)
    for name in IMPORTED:
        importlib.import_module(f"popdyn.{name}")
    for line in sys.stdin:
        order = json.loads(line)
        if order["what"] == "poll":
            done, status = os.waitpid(order["pid"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if done else None), flush=True)
            continue
        child = os.fork()
        if not child:
            status = 1
            try:
                _child(order)
                status = 0
            except SystemExit as end:
                status = _status(end)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                os._exit(status)
        print(child, flush=True)


if __name__ == "__main__":
    _serve()
