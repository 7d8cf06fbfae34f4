"""Helper processes: fresh interpreters that work for this one, and end when it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import cloudpickle

from popdyn.base.allocation import keep_freed_memory
from popdyn.base.cluster import run_on_cluster
from popdyn.base.errors import PopdynError

__all__ = ["Helper", "HelperDiedError", "die_with_parent", "run_all"]

MAX_DEATHS = 3  # of helpers on one and the same task, as Dask allows its workers
POLL_SECONDS = 1.0
PR_SET_PDEATHSIG = 1  # Linux's <sys/prctl.h>
# Sent to the whole group of processes, and answered by the parent.
GROUP_SIGNALS = {getattr(signal, n) for n in ("SIGINT", "SIGHUP") if hasattr(signal, n)}
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class HelperDiedError(PopdynError):
    """A helper ended before it answered: by a signal, out of memory, or by an exit of its own.

    Attributes:
        status: Its exit status, negative for a signal.
    """

    def __init__(self, status: int) -> None:
        how = f"exit status {status}"
        if status < 0:
            try:
                how = signal.Signals(-status).name
            except ValueError:
                how = f"signal {-status}"
        super().__init__(f"a helper process ended before its work was done ({how})")
        self.status = status

    def __reduce__(self) -> Any:
        return type(self), (self.status,)


class Helper:
    """A fresh interpreter that calls one function again and again.

    It does not import the caller's main module, so a script needs no ``if __name__ ==
    "__main__":``; what that module defines travels by value. It computes on one thread, what it
    prints goes to standard error, an interrupt at the keyboard is left to this process, and it ends
    when this process ends, however that happens. Start it in a thread that lives as long as it is
    used: Linux takes the end of the starting thread for that of its process.

    Args:
        function: What it calls; anything that cloudpickle takes, or what ``cloudpickle.dumps`` made
            of it.
        environment: Further environment variables.

    Example:
        >>> with Helper(divmod) as helper:
        ...     helper.call(7, 2)
        (3, 1)
    """

    def __init__(
        self,
        function: Callable[..., Any] | bytes,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.connection, theirs = Pipe()
        number = theirs.fileno()
        path = [entry for entry in sys.path if isinstance(entry, str)]
        code = (
            f"import sys; sys.path[:] = {path!r}; "
            f"from popdyn.base.processes import _serve; _serve({number}, {os.getpid()})"
        )
        with theirs, _group_signals_held():
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=2 if _is_open(2) else subprocess.DEVNULL,
                pass_fds=[number],
                env={**os.environ, **ONE_THREAD, **(environment or {})},
            )
        self._send(function if isinstance(function, bytes) else cloudpickle.dumps(function))

    def call(self, *arguments: Any) -> Any:
        """Return the function's value.

        Raises:
            HelperDiedError: If the helper ends before.
            BaseException: What the function raises.
        """
        self.submit(arguments)
        return self.result()

    def submit(self, arguments: tuple[Any, ...] | bytes) -> None:
        """Hand over the arguments of a call, or what ``cloudpickle.dumps`` made of them."""
        self._send(arguments if isinstance(arguments, bytes) else cloudpickle.dumps(arguments))

    def result(self) -> Any:
        """Wait for the value of the call that was submitted; raises as :meth:`call` does."""
        try:
            good, value = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            raise HelperDiedError(self.process.wait()) from None
        if not good:
            raise value
        return value

    def close(self) -> None:
        """End the helper, whatever it is doing."""
        self.connection.close()
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it is dead, which result() says
            self.connection.send_bytes(message)


def run_all(
    function: Callable[..., Any],
    tasks: Iterable[tuple[Any, ...]],
    workers: int = 1,
    scheduler: str | None = None,
    *,
    lost: Callable[[Exception], Any] | None = None,
    helpers: list[Helper] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call a function for every task; yield each task's index and value as it ends.

    One worker is this process itself. A task whose helper dies is given to another one, as long as
    it has not cost ``MAX_DEATHS`` of them.

    Args:
        function: What is called.
        tasks: Its arguments; the next ones are asked for when a worker is free.
        workers: Processes that work; this one waits for them.
        scheduler: Address of a Dask scheduler instead.
        lost: Makes the value of a task whose helper died. Then no task is tried again, and even
            one worker is another process.
        helpers: Idle ones of an earlier call with the same function, and afterwards those of this
            one, which the caller closes. None: they end with the call.

    Raises:
        PopdynError: If there is no worker, or a task kills whoever tries it.
        BaseException: What the function raises; nothing is begun after it.
    """
    if workers < 1:
        raise PopdynError(f"workers is {workers}: expected 1 or more")
    if scheduler is not None:
        yield from run_on_cluster(function, tasks, scheduler, lost)
        return
    if workers == 1 and lost is None:
        for i, arguments in enumerate(tasks):
            yield i, function(*arguments)
        return
    pickled = cloudpickle.dumps(function)
    queue = enumerate(tasks)
    again: list[tuple[int, bytes, int]] = []  # index, arguments, helpers that it has cost
    busy: dict[Connection, tuple[Helper, tuple[int, bytes, int]]] = {}
    idle = [] if helpers is None else helpers
    try:
        while True:
            while len(busy) < workers:
                following = again.pop() if again else _pickled(next(queue, None))
                if following is None:
                    break
                helper = idle.pop() if idle else Helper(pickled)
                busy[helper.connection] = (helper, following)
                helper.submit(following[1])
            if not busy:
                return
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                helper, (i, message, deaths) = busy.pop(ready)
                idle.append(helper)
                try:
                    value = helper.result()
                except HelperDiedError as error:
                    idle.remove(helper)
                    helper.close()
                    if lost is not None:
                        yield i, lost(error)
                        continue
                    if deaths + 1 == MAX_DEATHS:
                        raise PopdynError(
                            f"{MAX_DEATHS} helper processes died at the same task; the last one: "
                            f"{error}; expected more free memory, or fewer workers"
                        ) from None
                    again.append((i, message, deaths + 1))
                else:
                    yield i, value
    finally:
        ending = [helper for helper, _ in busy.values()] + (idle if helpers is None else [])
        for helper in ending:
            helper.close()


def _pickled(task: tuple[int, tuple[Any, ...]] | None) -> tuple[int, bytes, int] | None:
    return None if task is None else (task[0], cloudpickle.dumps(task[1]), 0)


@contextlib.contextmanager
def _group_signals_held() -> Iterator[None]:
    """Hold back the group's signals: a process begun here has them so until it can ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def die_with_parent(parent: int | None = None) -> None:
    """Let this process end as soon as its parent ends, be it by SIGKILL.

    Args:
        parent: Process id of the parent, known before this process began; the present one if None.
    """
    expected = os.getppid() if parent is None else parent
    with contextlib.suppress(AttributeError, OSError, TypeError):
        # A thread has to wait for Python's lock, the kernel has not.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(number: int, parent: int) -> NoReturn:
    """Answer calls until the other end is closed: the main function of a helper."""
    die_with_parent(parent)
    keep_freed_memory()
    for ignored in GROUP_SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    connection = Connection(number)
    function: Callable[..., Any] | None = None
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        try:
            if function is None:
                function = pickle.loads(message)
                continue
            answer = cloudpickle.dumps((True, function(*pickle.loads(message))))
        except BaseException as error:
            if function is None:
                function = _raiser(_portable(error))
                continue
            answer = cloudpickle.dumps((False, _portable(error)))
        try:
            connection.send_bytes(answer)
        except OSError:
            os._exit(0)


def _raiser(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: Any) -> NoReturn:
        raise error

    return fail


def _portable(error: BaseException) -> BaseException:
    """Return an error that survives the way to another process, with its traceback as a note."""
    if type(error) is PopdynError:  # a line for the user, who made the mistake
        return PopdynError(*error.args)
    where = "".join(traceback.format_exception(error))
    try:
        out: BaseException = pickle.loads(cloudpickle.dumps(error))
    except Exception:
        out = RuntimeError(f"{type(error).__name__}: {error}")
    out.add_note(f"\nIn a helper process:\n{where}")
    return out


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
