"""Commands in forked children: imported once, watched, killed where they are told to be."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Kill", "Outcome", "adopt_orphans", "ask", "call", "popdyn", "warm_up"]

ROOMS = (
    *("popdyn.cli", "popdyn.dynamics", "popdyn.learners", "popdyn.scores", "popdyn.simulation"),
    *("popdyn.snapshots", "popdyn.plots", "popdyn.benchmark", "popdyn.learners.export"),
    *("anndata", "matplotlib.pyplot", "matplotlib.animation", "sklearn.decomposition"),
    *("sklearn.mixture", "ot", "torchsde", "pandas", "pyarrow.parquet", "rich.progress"),
)
COMMANDS = (
    *("simulate", "import_", "export", "validate", "inspect", "train", "score", "predict"),
    *("landscape", "plot", "bench", "list_"),
)
TIMEOUT = 60.0
"""Seconds after which a command hangs."""
GRACE = 5.0
"""Seconds in which the helpers of a dead command must be gone."""
STOP = 20.0
"""Seconds in which a command that is asked to stop must have written its checkpoint."""
MEMORY = 10 << 30
"""Bytes of addresses a child may have: a size that nobody checked must not take the machine."""
READY = "ready"
PR_SET_CHILD_SUBREAPER = 36
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
REMOVING = ("os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree")
CHANGING = (*REMOVING, "open", "os.mkdir", "os.link", "os.symlink")


@dataclass(frozen=True)
class Kill:
    """When a child is sent a signal.

    Attributes:
        number: The signal.
        event: Before this change of a file (0 is the first), counted where Python makes it.
        removing: Whether only renames and removals count.
        after: Seconds after the start, where ``event`` is None.
        group: Whether the whole process group gets it, as from a terminal.
    """

    number: int
    event: int | None = None
    removing: bool = False
    after: float = 0.0
    group: bool = False

    def __str__(self) -> str:
        what = "removal" if self.removing else "change"
        when = f"after {self.after:.3f} s" if self.event is None else f"at {what} {self.event}"
        return f"{signal.Signals(self.number).name} {when}" + (", the group" if self.group else "")


@dataclass
class Outcome:
    """How a child ended.

    Attributes:
        code: Exit status, negative for a signal; None where it did not end in time.
        out: Standard output.
        err: Standard error.
        seconds: Wall time.
        killed: Whether the signal was sent.
        left: Processes that were still alive after :data:`GRACE` seconds.
        changes: Changes of files, and of these the renames and removals.
        answer: What the function returned, where it was asked.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    killed: bool = False
    left: list[str] = field(default_factory=list)
    changes: tuple[int, int] = (0, 0)
    answer: Any = None

    @property
    def last_line(self) -> str:
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else ""


def warm_up() -> None:
    """Import everything that a command may need; start no thread."""
    import torch

    torch.set_num_threads(1)
    for name in (*ROOMS, *(f"popdyn.cli.{command}" for command in COMMANDS)):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # children write to fewer shared pages


def adopt_orphans() -> None:
    """Make this process the parent of every process whose own one died below it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def popdyn(
    *arguments: object,
    cwd: Path,
    timeout: float = TIMEOUT,
    kill: Kill | None = None,
    before: Callable[[], None] | None = None,
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Run ``popdyn ARGUMENTS`` as a process of its own would."""
    words = [str(a) for a in arguments]

    def run() -> None:
        import click

        from popdyn.cli import main

        # A file is no terminal, and click takes control characters out: here they must be seen.
        click.utils.should_strip_ansi = lambda *_, **__: False  # type: ignore[attr-defined]
        if before is not None:
            before()
        sys.argv = ["popdyn", *words]
        main()

    return call(run, cwd=cwd, timeout=timeout, kill=kill, environment=environment)


def ask(
    function: Callable[..., Any], *arguments: Any, cwd: Path, timeout: float = TIMEOUT
) -> Outcome:
    """Return a child's outcome with a function's answer; an error of popdyn's own is one line."""

    def run() -> Any:
        from popdyn.base.errors import PopdynError

        try:
            return function(*arguments)
        except PopdynError as error:
            print(f"popdyn: error: {error}", file=sys.stderr)
            sys.exit(1)

    return call(run, cwd=cwd, timeout=timeout)


def call(
    function: Callable[[], Any],
    *,
    cwd: Path,
    timeout: float = TIMEOUT,
    kill: Kill | None = None,
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Run a function in a forked child and wait for its end, and for that of its helpers."""
    sys.stdout.flush()
    sys.stderr.flush()
    # No TemporaryDirectory: a child that ends as an interpreter does would remove it.
    said = Path(tempfile.mkdtemp(prefix="fuzz_said_"))
    try:
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                _child(function, said, cwd, kill, environment or {})
            finally:  # a signal between its own ways out: not this function's end twice
                os._exit(128 + signal.SIGINT)
        # The clock of a kill begins with the command: a busy machine may take a while to fork.
        while kill is not None and not (said / READY).exists():
            time.sleep(0.002)
        code, killed = _wait(pid, time.monotonic(), timeout, kill)
        seconds = time.monotonic() - begin
        left = _left_over()
        report = _read_json(said / "report")
        return Outcome(
            code,
            *((said / name).read_text(errors="replace") for name in ("out", "err")),
            seconds,
            killed or (said / "killed").exists(),
            left,
            tuple(report.get("changes", (0, 0))),  # type: ignore[arg-type]
            report.get("answer"),
        )
    finally:
        shutil.rmtree(said)


def _read_json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.read_text()))
    return {}


def _child(
    function: Callable[[], Any],
    said: Path,
    cwd: Path,
    kill: Kill | None,
    environment: dict[str, str],
) -> None:
    """Be the command: never returns."""
    code = 1
    changes = [0, 0]
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    try:
        os.setsid()
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for name, target in (("out", 1), ("err", 2)):
            os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), target)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.environ |= {"COLUMNS": "200", "PYTHONWARNINGS": "ignore", **environment}
        os.chdir(cwd)
        # A helper imports the main module of its parent: here as where popdyn itself is that.
        sys.modules["__main__"] = type(sys)("__main__")
        os.close(os.open(said / READY, os.O_WRONLY | os.O_CREAT))
        _count(changes, said, kill)
        answer = function()
        code = 0
        _report(said, changes, answer)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    # What an interpreter prints that is interrupted at its very end is not popdyn's.
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
    try:
        # What the interpreter does at its end, less the rest of this program.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        code = code or 1
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        if not (said / "report").exists():
            _report(said, changes, None)
        os._exit(code & 255)


def _report(said: Path, changes: Sequence[int], answer: Any) -> None:
    seen = list(changes)
    (said / "report").write_text(json.dumps({"changes": seen, "answer": answer}))


def _count(changes: list[int], said: Path, kill: Kill | None) -> None:
    """Count the changes of files, and send the signal before the one that is asked for."""
    own = f"{said}{os.sep}"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGING:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = any(c in str(mode) for c in "wxa+") if mode else bool(flags & WRITING)
            if not writes or isinstance(path, int) or str(path) == os.devnull:
                return
        if str(arguments[0]).startswith((own, "/proc", "/dev")):
            return
        now = list(changes)
        changes[0] += 1
        changes[1] += event in REMOVING
        if kill is None or kill.event is None or (kill.removing and event not in REMOVING):
            return
        if now[kill.removing] == kill.event:
            os.close(os.open(said / "killed", os.O_WRONLY | os.O_CREAT))
            os.kill(0 if kill.group else os.getpid(), kill.number)

    sys.addaudithook(hook)


def _wait(pid: int, begin: float, timeout: float, kill: Kill | None) -> tuple[int | None, bool]:
    """Return the exit status, and whether a signal was sent by the clock."""
    sent = False
    deadline = begin + timeout
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), sent
        now = time.monotonic()
        if kill is not None and kill.event is None and not sent and now >= begin + kill.after:
            sent = True
            deadline = min(deadline, now + STOP)
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if kill.group else os.kill)(pid, kill.number)
        if now > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None, sent
        time.sleep(0.002 if now - begin < 0.2 else 0.01)


def _left_over() -> list[str]:
    """Wait until everything below this process is gone; end what is not, and return its names."""
    deadline = time.monotonic() + GRACE
    while True:
        alive = list(_descendants())
        if not alive or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    names = []
    for process in alive:
        with contextlib.suppress(psutil.Error):
            names.append(" ".join(process.cmdline())[:120] or process.name())
            process.kill()
    while alive:
        alive = list(_descendants())
        time.sleep(0.01)
    return names


def _descendants() -> Iterator[psutil.Process]:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process
            elif process.ppid() == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
