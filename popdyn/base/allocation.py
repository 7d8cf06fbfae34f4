"""How the C library hands out memory: what is freed is kept for the next array."""

from __future__ import annotations

import ctypes
import functools

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>
KEPT = 256 << 20  # bytes at the end of the heap that stay when they are free
OF_THEIR_OWN = 32 << 20  # bytes of an array from which it is mapped, and given back, on its own


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees, but for large arrays and a free end of over 256 MiB.

    As long as glibc has not adapted to the sizes in use it returns an array of some megabytes to
    the system as soon as that is freed, and the next one is mapped anew and zeroed page by page:
    an elementwise product of 2500 × 250 numbers took ten times as long. Nothing happens where the
    C library is another one. It is set for the whole process: only the command line and helper
    processes call it, whose process is their own.

    References:
        mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, OF_THEIR_OWN)
    mallopt(M_TRIM_THRESHOLD, KEPT)
