"""The process that popdyn is called in: its settings of torch are neither minded nor changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

__all__ = ["usual_torch"]


@contextmanager
def usual_torch() -> Iterator[None]:
    """Have torch as it comes: float32, gradients recorded, on the CPU; and give back what was.

    A host may have set another default dtype or device, or have called from within ``no_grad`` or
    ``inference_mode``.

    Example:
        >>> torch.set_default_dtype(torch.float64)
        >>> with usual_torch(), torch.no_grad():
        ...     print(torch.zeros(1).dtype)
        torch.float32
        >>> print(torch.zeros(1).dtype)
        torch.float64
        >>> torch.set_default_dtype(torch.float32)
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    # A mode that names a device slows every call down: only where there is another one.
    place = nullcontext() if device.type == "cpu" else torch.device("cpu")
    with torch.inference_mode(False), torch.enable_grad(), place:
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
