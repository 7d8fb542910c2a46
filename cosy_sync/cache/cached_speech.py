"""Streams through the cache: sound that is known at once, and sound that is kept at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..models import Audio, Timing

if TYPE_CHECKING:
    from ..engine.audio_stream import AudioStream

__all__ = ["KeptSpeech", "KnownSpeech"]

# Bytes of sound up to which a stream is kept.
_MOST = 64 << 20


class KnownSpeech:
    """The speech of a text that was found: all of its sound is one chunk."""

    def __init__(self, audio: Audio, started: float) -> None:
        self.sample_rate = audio.sample_rate
        self.timing = Timing(
            started=started,
            queued=0.0,
            connect=0.0,
            first_byte=0.0,
            total=0.0,
            attempts=0,
            endpoint="",
            request_id="",
        )
        self._sound = audio.pcm()
        self.state = "open"

    def read(self) -> bytes:
        """Return the sound, and nothing from then on."""
        sound, self._sound = self._sound, b""
        self.state = "at its end" if not sound else self.state
        return sound

    def close(self) -> None:
        """Return nothing more."""
        self._sound, self.state = b"", "closed"

    def abandon(self) -> bool:
        """Return whether it was left in the middle: it holds nothing that matters."""
        return False


class KeptSpeech:
    """A stream whose sound is kept, once all of it came and was checked.

    `keep` gets all of the sound and its rate.
    """

    def __init__(self, speech: AudioStream, keep: Callable[[bytes, int], None]) -> None:
        self._speech, self._keep = speech, keep
        self._chunks: list[bytes] | None = []
        self._size = 0

    @property
    def sample_rate(self) -> int:
        """Return the Hz of the sound."""
        return self._speech.sample_rate

    @property
    def timing(self) -> Timing:
        """Return the times so far."""
        return self._speech.timing

    @property
    def state(self) -> str:
        """Return how far it is."""
        return self._speech.state

    def read(self) -> bytes:
        """Return the next chunk, and nothing at the end. Raises what broke the sound."""
        try:
            sound = self._speech.read()
        except BaseException:
            self._chunks = None
            raise
        chunks = self._chunks
        if chunks is not None:
            self._size += len(sound)
            if sound and self._size <= _MOST:
                chunks.append(bytes(sound))
                return sound
            self._chunks = None
            if not sound and chunks:
                self._keep(b"".join(chunks), self.sample_rate)
        return sound

    def close(self) -> None:
        """End it: what was not read is not kept."""
        self._chunks = None
        self._speech.close()

    def abandon(self) -> bool:
        """Return whether it was left in the middle."""
        self._chunks = None
        return self._speech.abandon()
