"""The process that popdyn is a guest in: its settings are neither minded nor left changed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import torch
from threadpoolctl import threadpool_limits

__all__ = ["one_blas_thread", "usual_torch"]


@contextlib.contextmanager
def usual_torch(threads: int | None = None) -> Iterator[None]:
    """Give torch and NumPy the settings that popdyn counts on, and the caller's back afterwards.

    Inside, as in a fresh process, new tensors are float32 on the CPU, autograd records, nothing is
    cast on the way, and a floating-point error is a warning. Public functions are decorated with
    it.

    Args:
        threads: Threads of torch; as many as before if None.

    Example:
        >>> with torch.no_grad(), usual_torch():
        ...     torch.is_grad_enabled()
        True
    """
    dtype, before = torch.get_default_dtype(), torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        # What is right already stays untouched: these two are shared with the host's threads.
        if dtype != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if threads is not None and threads != before:
            stack.callback(torch.set_num_threads, before)
            torch.set_num_threads(threads)
        yield


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Give NumPy's and SciPy's products one thread, and the process its own number afterwards.

    Many small matrices cost twice the time where two threads share them out. The number belongs to
    the process, and two threads that each gave back what they found could leave it changed: only
    the main thread sets it.

    Example:
        >>> with one_blas_thread():
        ...     _ = np.eye(3) @ np.eye(3)
    """
    if threading.current_thread() is threading.main_thread():
        with threadpool_limits(1, user_api="blas"):
            yield
    else:
        yield
