"""Ctrl-C at any line of ours, or inside what we call of threading."""

import linecache
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType

import cosy_sync
from cosy_sync import CosyError


def interrupt_at(
    number: int, work: Callable[[], object], *, only: Callable[..., object] | None = None
) -> bool:
    """Do the work, with Ctrl-C before the n-th line of ours, or of `only` this function; return
    whether it had as many."""
    home = os.path.dirname(cosy_sync.__file__)
    code_of = getattr(only, "__code__", None)
    lines = 0

    def trace(frame: FrameType, event: str, arg: object) -> object:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(home):
            return None
        if event != "line" or (code_of is not None and frame.f_code is not code_of):
            return trace
        # Python itself sees to it that no signal comes between a block and its __exit__.
        code = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if not code.lstrip().startswith("with "):
            lines += 1
            if lines == number:
                raise KeyboardInterrupt
        return trace

    _work_under(trace, work)
    return lines >= number


def _work_under(
    trace: Callable[[FrameType, str, object], object], work: Callable[[], object]
) -> None:
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except (KeyboardInterrupt, CosyError):
        pass
    finally:
        sys.settrace(before)


def interrupt_entry(number: int, work: Callable[[], object]) -> bool:
    """Do the work, with Ctrl-C when threading has taken the n-th lock for a `with`; as above.

    There a signal may come: after the lock was taken, and before the block has begun.
    """
    entries = 0

    def trace(frame: FrameType, event: str, arg: object) -> object:
        nonlocal entries
        code = frame.f_code
        if code.co_filename != threading.__file__ or code.co_name != "__enter__":
            return None
        if event == "return":
            entries += 1
            if entries == number:
                raise KeyboardInterrupt
        return trace

    _work_under(trace, work)
    return entries >= number
