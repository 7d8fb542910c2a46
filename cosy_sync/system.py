"""What the operating system and the process must offer, and how its absence is told."""

from __future__ import annotations

import os
import select
import sys

from .errors import ConfigError

__all__ = ["ENDING", "check_waiting"]

# Why a client that nobody closed speaks no more.
ENDING = (
    "the program is ending, and Python stops all threads before it runs atexit functions; speak "
    "before that, at the end of the main program"
)

if not hasattr(os, "register_at_fork"):
    raise ImportError(
        "cosy_sync runs on Linux, macOS and other POSIX systems only; on Windows use it in WSL "
        "(Windows Subsystem for Linux)"
    )


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


# gevent's patches do not reach what a module has imported before them.
_WAS_PATCHED = _is_patched()


def check_waiting() -> None:
    """Raise ConfigError where a process has no way to wait for a socket, or for a greenlet."""
    if _is_patched() and not _WAS_PATCHED:
        raise ConfigError(
            "gevent: cosy_sync was imported before monkey.patch_all(), so a call that waits would "
            "stop every greenlet for good; patch first. gunicorn's gevent worker patches too late "
            "under --preload: leave that out, or patch at the top of gunicorn.conf.py"
        )
    if hasattr(select, "poll"):
        return
    if "eventlet" in sys.modules:
        raise ConfigError(
            "eventlet: its monkey_patch() takes select.poll away, without which cosy_sync cannot "
            "wait for replies; use gevent (monkey.patch_all()) or plain threads, or leave `select` "
            "out: monkey_patch(select=False, socket=False, thread=False)"
        )
    raise ConfigError("select.poll: this system has none, and cosy_sync waits for replies by it")
