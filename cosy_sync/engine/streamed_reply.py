"""The reply of a stream: its sound so far, and how long the service may take for more."""

from __future__ import annotations

from ..clock import Clock
from ..errors import ReplyTimeout
from ..wires.base import StreamReader
from .batch import Batch
from .ports import ReplyStream

__all__ = ["StreamedReply"]


class StreamedReply:
    """What one thread at a time reads.

    The deadline bounds the time until the first sound. Afterwards it bounds how far the service
    may fall behind: all the time that was spent waiting for it, less the sound that it gave. What
    the listener takes between two reads does not count.
    """

    def __init__(self, batch: Batch, clock: Clock) -> None:
        self._batch = batch
        self._clock = clock
        # Set when the text is sent; the reply when its head is there.
        self.reader: StreamReader
        self.reply: ReplyStream | None = None
        # When the text was sent, known with the first sound; the seconds in all reads since.
        self.sent = self.waited = 0.0
        # The sound, and its bytes.
        self.pieces: list[bytes] = []
        self.size = 0
        # The reply is at its end.
        self._complete = False

    def pull(self) -> bytes:
        """Wait for the next sound and keep it; b"" at its end. Raises what broke it."""
        reader = self.reader
        sound = b""
        while not sound and not self._complete:
            data = self._receive()
            sound = reader.feed(data) if data else reader.end()
            self._complete = not data
        if sound:
            self.pieces.append(sound)
            self.size += len(sound)
        return sound

    def _receive(self) -> bytes:
        assert self.reply is not None
        clock = self._clock
        started = clock.now()
        if not self.pieces:
            return self.reply.read(self._batch.deadline.remaining(started))
        left = self._patience()
        try:
            if left <= 0:
                raise ReplyTimeout("the sound goes on, and its time is over", phase="idle")
            return self.reply.read(left)
        except ReplyTimeout as error:
            if clock.now() - started >= left:
                raise self._batch.deadline.behind(self._seconds) from error
            raise
        finally:
            self.waited += clock.now() - started

    def _patience(self) -> float:
        """Return how many seconds more the service may take; see the class."""
        deadline = self._batch.deadline
        queued = self.sent - deadline.started
        return deadline.seconds + self._seconds - queued - self.waited

    @property
    def _seconds(self) -> float:
        return self.size / (2 * self.reader.sample_rate)
