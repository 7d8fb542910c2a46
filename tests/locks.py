"""Watches the package's locks: what happens while a thread holds one of them.

Under a lock nothing may be done that takes time or calls back: no I/O, no user code, no other lock.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from cosy_sync.atomic import Flag

_real_lock = threading.Lock
_held = threading.local()
# What was done under a lock, in words, with the place of the lock.
_found: list[str] = []

# What Python's audit tells of: files, sockets, name look-ups, modules, threads, processes.
_IO = ("open", "import", "socket.", "os.", "subprocess.", "_thread.start", "shutil.", "ssl.")


def check(what: str) -> None:
    """Note that this is done now, if the thread holds a lock of the package."""
    for lock in getattr(_held, "locks", ()):
        _found.append(f"{what} under the lock of {lock.name}, at {_place()}")


def _checked(do: Callable[[Any], None]) -> Callable[[Any], None]:
    def checked(event: threading.Event) -> None:
        check("setting an Event")
        do(event)

    return checked


def _place() -> str:
    """Return the line of the package that came here, else of the test."""
    frame = sys._getframe(2)
    while frame.f_back and not frame.f_globals.get("__name__", "").startswith("cosy_sync."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class WatchedLock:
    """A lock of the package. Taken by `with`, it guards something; else it is a gate or a flag."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = _real_lock()

    def __enter__(self) -> bool:
        check(f"taking the lock of {self.name}")
        self._lock.acquire()
        _held.locks = [*getattr(_held, "locks", ()), self]
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _held.locks = [lock for lock in _held.locks if lock is not self]
        self._lock.release()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        if blocking and timeout != 0:
            check(f"waiting at a gate of {self.name}")
            return self._lock.acquire(timeout=timeout)
        return False

    def release(self) -> None:
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()


def _make_lock() -> Any:
    name = sys._getframe(1).f_globals.get("__name__", "")
    return WatchedLock(name) if name.startswith("cosy_sync.") else _real_lock()


def _audit(event: str, _: object) -> None:
    if getattr(_held, "locks", None) and event.startswith(_IO):
        check(event)


_audited = False


@contextlib.contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Watch every lock that the package makes meanwhile, and those of its modules.

    Yields what was found. The collector rests: a finaliser of something else might come between.
    """
    global _audited
    # A hook stays for ever; it does nothing where no lock is watched. Not beside a tracer: Python
    # refuses to trace a thread that starts while the hook is told of another's tracing.
    if not _audited and "coverage" not in sys.modules:
        sys.addaudithook(_audit)
        _audited = True
    _found.clear()
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Lock", _make_lock)
        for name, module in list(sys.modules.items()):
            if name.startswith("cosy_sync.") and hasattr(module, "_lock"):
                patch.setattr(module, "_lock", WatchedLock(name))
        for kind in (threading.Event, Flag):
            patch.setattr(kind, "set", _checked(kind.set))
        collects = gc.isenabled()
        gc.disable()
        try:
            yield _found
        finally:
            if collects:
                gc.enable()
