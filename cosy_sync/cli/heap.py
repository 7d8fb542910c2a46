"""How this process's allocator treats large blocks."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

__all__ = ["give_back_large_blocks"]

_M_MMAP_THRESHOLD = -3
_BYTES = 128 << 10


def give_back_large_blocks() -> None:
    """Let glibc return blocks above 128 KiB to the system when they are freed.

    It begins so, and stops with the first one that is freed: replies of many threads then lie
    between small blocks in its arenas, and a process that speaks for hours grows by megabytes. Not
    where the variable MALLOC_MMAP_THRESHOLD_ says otherwise, nor with another C library.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    with suppress(AttributeError, OSError, TypeError):  # TypeError: Windows has no None
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _BYTES)
