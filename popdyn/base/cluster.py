"""Tasks on a Dask cluster whose workers run what runs here."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import cloudpickle

from popdyn.base.errors import PopdynError

__all__ = ["run_on_cluster", "versions"]

CONNECT_SECONDS = 10
FIRST_WORKER_SECONDS = 60
NO_WORKER_SECONDS = 30
POLL_SECONDS = 2
LOST = "the scheduler was lost: expected one that outlives the work; what is written is kept"


def _asker() -> Callable[[], dict[str, str]]:
    def versions() -> dict[str, str]:
        """Return the versions of popdyn and of what decides the bits it makes."""
        from importlib.metadata import PackageNotFoundError, version

        found = {}
        for name in ("popdyn", "numpy", "torch", "xarray", "zarr"):
            try:
                found[name] = version("popdyn-jko" if name == "popdyn" else name)
            except PackageNotFoundError:
                found[name] = "unknown"
        return found

    return versions


# Made in a function, so that it travels by value: a worker may have no popdyn, or an old one.
versions = _asker()


def run_on_cluster(
    function: Callable[..., Any],
    tasks: Iterable[tuple[Any, ...]],
    scheduler: str,
    lost: Callable[[Exception], Any] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call a function for every task on a cluster; yield each task's index and value as it ends.

    Args:
        function: What is called.
        tasks: Its arguments.
        scheduler: Address of a Dask scheduler.
        lost: Makes the value of a task that killed every worker that tried it; an error if None.

    Raises:
        PopdynError: If the scheduler cannot be reached or is lost, a worker runs other versions,
            there is none for ``NO_WORKER_SECONDS``, or a task kills whoever tries it.
        Exception: What the function raises.
    """
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    with _quiet(), _client(scheduler) as client:
        # A task and not scattered data, which dies with the worker that holds it.
        shared = client.submit(bytes, cloudpickle.dumps(function), pure=False)
        expected = versions()
        pending = {
            client.submit(_call, shared, cloudpickle.dumps(task), expected, pure=False): i
            for i, task in enumerate(tasks)
        }
        for future in _answered(client, list(pending)):
            i = pending.pop(future)
            try:
                value = future.result()
            except (FutureCancelledError, CommClosedError):
                raise PopdynError(LOST) from None
            except KilledWorker as error:
                if lost is None:
                    raise PopdynError(
                        f"task {i} killed every worker that tried it: expected workers with more "
                        "memory, or smaller blocks"
                    ) from None
                value = lost(error)
            future.release()
            yield i, value


def _call(function: bytes, arguments: bytes, expected: dict[str, str]) -> Any:
    # A worker that joined late was not asked for its versions before.
    _compare(versions(), expected, "a worker")
    return pickle.loads(function)(*pickle.loads(arguments))


def _answered(client: Any, futures: list[Any]) -> Iterator[Any]:
    """Yield futures as they end."""
    from distributed import wait

    last = time.monotonic()
    while futures:
        try:
            done = wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            if client.status != "running":
                raise PopdynError(LOST) from None
            if client.scheduler_info(n_workers=-1)["workers"]:
                last = time.monotonic()
            elif time.monotonic() - last > NO_WORKER_SECONDS:
                raise PopdynError(
                    f"the scheduler has had no worker for {NO_WORKER_SECONDS} s: expected at least "
                    "one; what is written is kept"
                ) from None
            continue
        except CancelledError:
            raise PopdynError(LOST) from None
        last = time.monotonic()
        futures = [future for future in futures if future not in done]
        yield from done


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PopdynError(
            f"scheduler '{scheduler}' cannot be reached, no Dask scheduler answers there ({line}): "
            "expected an address such as tcp://host:8786"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
        except TimeoutError:
            raise PopdynError(
                f"scheduler '{scheduler}' has no workers after {FIRST_WORKER_SECONDS} s: expected "
                "at least one"
            ) from None
        for address, found in client.run(versions).items():
            _compare(found, versions(), f"worker {address}")
        yield client


def _compare(found: dict[str, str], expected: dict[str, str], who: str) -> None:
    for name, wanted in expected.items():
        if found.get(name) != wanted:
            raise PopdynError(
                f"{who} has {name} {found.get(name)}: expected {wanted} as here, or the arrays "
                "would depend on who made them"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the cluster's own log of lost workers and closed connections off the terminal."""
    names = ("distributed", "tornado", "asyncio")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
