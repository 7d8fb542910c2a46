"""The memory that a reply's body is read into."""

from __future__ import annotations

import contextlib
import mmap

from .scarcity import out_of_memory

__all__ = ["new_buffer"]

# Bytes from which a body gets a mapping of its own.
_MAPPED = 1 << 19
# What asks for large pages, where the system has them, and the bytes of one.
_LARGE_PAGES: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
_LARGE_PAGE = 1 << 21
# What asks for all pages at once, where the system can: one by one they cost twice as much.
_AT_ONCE: int = getattr(mmap, "MAP_POPULATE", 0)


def new_buffer(length: int) -> bytearray | mmap.mmap:
    """Return so many bytes to write to.

    Large heap blocks stay with the arena of the thread that freed them, and the arenas of fifty
    threads add up; a mapping of its own goes back to the system. In large pages it costs a third of
    the page faults' time; as those come when they are written to, a reply that only announces its
    size takes none. Raises ResourceError where there is no memory.
    """
    try:
        return bytearray(length) if length < _MAPPED else _new_mapping(length)
    except (MemoryError, OSError) as error:
        raise out_of_memory(length) from error


def _new_mapping(length: int) -> mmap.mmap:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    if length < _LARGE_PAGE:
        return mmap.mmap(-1, length, flags=flags | _AT_ONCE)
    mapping = mmap.mmap(-1, length, flags=flags)
    if _LARGE_PAGES is not None:
        with contextlib.suppress(OSError):
            mapping.madvise(_LARGE_PAGES)
    return mapping
