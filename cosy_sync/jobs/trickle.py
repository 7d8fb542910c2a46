"""Reads an input that may have no end, and whose next line may be far."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from types import TracebackType

from cosy_sync.jobs.inputs import JobText

__all__ = ["Trickle"]

# Seconds for which the next text may be waited for while others are being spoken.
_PAUSE = 0.1


class Trickle:
    """Yields lists of the texts at hand, at most so many; empty ones while there are none.

    A thread reads them: what was spoken is not to wait for a line that comes in an hour. What the
    source raises goes on here, after what came before. The thread ends with the source; at the
    end of the `with` block it may wait for a line, and is left behind.
    """

    def __init__(self, texts: Iterable[JobText], most: int) -> None:
        self._texts = texts
        self._most = most
        # None: there are no more.
        self._read: Queue[JobText | Exception | None] = Queue(most)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cosy-input", daemon=True)

    def __enter__(self) -> Iterator[list[JobText]]:
        self._thread.start()
        return self._chunks()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()

    def _chunks(self) -> Iterator[list[JobText]]:
        while True:
            chunk: list[JobText] = []
            wait = _PAUSE
            while len(chunk) < self._most:
                try:
                    text = self._read.get(timeout=wait) if wait else self._read.get_nowait()
                except Empty:
                    break
                if not isinstance(text, JobText):
                    if chunk:
                        yield chunk
                    if text is not None:
                        raise text
                    return
                chunk.append(text)
                wait = 0.0
            yield chunk

    def _run(self) -> None:
        try:
            for text in self._texts:
                self._hand_on(text)
                if self._ended.is_set():
                    return
            self._hand_on(None)
        except Exception as error:
            self._hand_on(error)

    def _hand_on(self, text: JobText | Exception | None) -> None:
        while not self._ended.is_set():
            try:
                self._read.put(text, timeout=_PAUSE)
            except Full:
                continue
            return
