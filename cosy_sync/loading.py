"""Imports in the middle of a program, where Ctrl-C may come."""

from __future__ import annotations

import contextlib
import importlib
import sys

from .atomic import on_main_thread, run_aside

__all__ = ["FIRST_TEXT", "load"]

# What a client's first text imports beside `core`: some 60 ms. A web host loads all of it before it
# forks, or the first visitors of each process would wait for it.
FIRST_TEXT = ("cosy_sync.net", "backoff", "encodings.idna")


def load(*names: str) -> None:
    """Import modules ahead of the `import` that uses them; that one raises what goes wrong.

    Ctrl-C in an import on the main thread can leave the interpreter's import lock taken, and every
    other thread that imports would wait for ever. So another thread imports; this one waits for it.
    """
    if not on_main_thread():
        return
    if all(name in sys.modules for name in names):
        return

    def work() -> None:
        for name in names:
            with contextlib.suppress(BaseException):
                importlib.import_module(name)

    with contextlib.suppress(RuntimeError):  # out of threads
        # The end of the program waits for it: nothing can be imported afterwards.
        run_aside(work, "cosy-import", daemon=False)
