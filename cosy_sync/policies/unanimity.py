"""Whether all requests of a call are refused alike, so that the rest need not be sent."""

from __future__ import annotations

import threading

from ..errors import CosyError

__all__ = ["Unanimity"]

# Batches refused alike, with nothing accepted, and in a row after something was: from then on
# single texts are sent to find out.
_DOUBTFUL, _DOUBTFUL_AGAIN = 3, 20
# Single texts refused alike that are enough, whatever is still in flight.
_CERTAIN = 40


class Unanimity:
    """The refusals of one call, told apart by a word for their kind.

    A text that a service dislikes is refused alone; a wrong key, voice or model refuses every
    text, and a call need not send all of them to know. But a refusal comes sooner than sound:
    what was in flight at the first refusal is waited for, as it may yet be accepted.
    """

    __slots__ = (
        *("_batches", "_begun", "_first", "_kind", "_lock", "_open", "_run", "_singles"),
        *("accepted", "verdict"),
    )

    def __init__(self) -> None:
        # The error that every further text would end with.
        self.verdict: CosyError | None = None
        # Something was accepted. Written under the lock, like everything below.
        self.accepted = False
        self._lock = threading.Lock()
        self._begun = 0
        self._open: set[int] = set()  # numbers of the requests in flight
        self._kind = ""
        self._first = 0  # requests begun before the first refusal of this kind came
        self._run = self._singles = self._batches = 0

    @property
    def doubtful(self) -> bool:
        """Return whether single texts should be sent, as batches were refused alike."""
        return self._batches >= (_DOUBTFUL_AGAIN if self.accepted else _DOUBTFUL)

    @property
    def refusals(self) -> int:
        """Return how many requests in a row were refused alike."""
        return self._run

    def begin(self) -> int:
        """Note that a request is sent now; return its number."""
        if self.accepted:
            return 0
        with self._lock:
            self._begun += 1
            self._open.add(self._begun)
            return self._begun

    def accept(self) -> None:
        """Note that a request was answered with sound."""
        if self.accepted and not self._run:  # almost always
            return
        with self._lock:
            self.accepted = True
            self._open.clear()
            self._run = self._singles = self._batches = 0

    def end(self, number: int) -> int:
        """Note that a request ended without sound; return the number of the latest one begun."""
        if not number or self.accepted:
            return 0
        with self._lock:
            self._open.discard(number)
            return self._begun

    def awaits(self, begun: int) -> bool:
        """Return whether a request up to that number may still be answered with sound."""
        with self._lock:
            undecided = not self.accepted and self.verdict is None
            return undecided and any(number <= begun for number in self._open)

    def refuse(self, begun: int, texts: int, kind: str, *, enough: int, later: int | None) -> bool:
        """Note a refusal; return whether every further text would be refused like it.

        Args:
            begun: What `end` returned for the request, 0 where it has no number.
            texts: How many the request had.
            kind: Tells refusals apart.
            enough: Single texts refused alike, with nothing accepted, that are enough.
            later: Those in a row that are enough after others were accepted; None: none are.
        """
        with self._lock:
            if kind != self._kind:
                self._kind, self._first = kind, begun
                self._run = self._singles = self._batches = 0
            self._run += 1
            if texts == 1:
                self._singles += 1
            else:
                self._batches += 1
            if self.accepted:
                return later is not None and self._singles >= later
            if self._singles < enough:
                return False
            return self._singles >= _CERTAIN or all(each > self._first for each in self._open)
