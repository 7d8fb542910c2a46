"""Checked audio in the format of a client's setting: encoded when nothing else is held."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from ..errors import ClosedError, CosyError
from ..models import PLAIN_FORMATS, Audio
from ..threads import leave
from ..threads.workers import Executor
from ..user_code import unexpected
from .batch import Batch

__all__ = ["Encoding", "plain_format"]

_Result = Audio | CosyError


def plain_format(format: str) -> str:
    """Return in which format audio is checked that becomes one of this format."""
    return format if format in PLAIN_FORMATS else "wav"


@dataclass(frozen=True)
class Encoding:
    """A format to encode in. It runs where an attempt was made, on a worker or a caller's own
    thread, once the attempt has ended: with no connection, no place and no slot.

    Encoders run without the interpreter's lock, so batches are encoded side by side, and so are the
    texts of one batch: the helpers take what the batch's own thread has not begun.
    """

    format: str
    quality: float | None
    # None where all is to be done on the caller's thread.
    helpers: Executor | None = None

    def encode(self, batch: Batch, results: Sequence[_Result]) -> Sequence[_Result]:
        """Return the results encoded; an error in place of audio that cannot be."""
        leave()
        todo = deque(enumerate(results))
        done: SimpleQueue[tuple[int, _Result]] = SimpleQueue()

        def work() -> None:
            while True:
                try:
                    place, result = todo.popleft()
                except IndexError:
                    return
                done.put((place, self._encode(result)))

        if self.helpers is not None:
            with contextlib.suppress(ClosedError):
                for _ in range(min(len(results), _cores()) - 1):
                    self.helpers.submit(work)
        work()
        # Waits for no helper but those that are in the middle of a text.
        encoded = [result for _, result in sorted((done.get() for _ in results), key=_place)]
        if batch.reorder is not None:
            batch.reorder.change(sum(map(_size, encoded)) - sum(map(_size, results)))
        return encoded

    def _encode(self, result: _Result) -> _Result:
        if not isinstance(result, Audio):
            return result
        try:
            return result.as_format(self.format, self.quality)
        except CosyError as error:
            return error
        except Exception as error:
            return unexpected(error)


def _place(entry: tuple[int, _Result]) -> int:
    return entry[0]


def _size(result: _Result) -> int:
    return len(result.data) if isinstance(result, Audio) else 0


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
