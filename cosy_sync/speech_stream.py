"""What a listener holds: the sound of one text, while it is still being spoken."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from .models import PLAIN_FORMATS, Audio, Timing

if TYPE_CHECKING:
    from typing_extensions import Self

    from .engine.audio_stream import AudioStream

__all__ = ["SpeechStream"]


class SpeechStream(Iterator[bytes]):
    """The sound of one text as it comes: chunks of samples, signed 16-bit little-endian, mono.

    Each chunk holds whole samples, as many as came. Read it to its end, close it, or use it in a
    `with` block: until then it holds a connection. One thread at a time may read.
    """

    def __init__(
        self,
        speech: AudioStream,
        format: str,
        quality: float | None = None,
        owner: object = None,
    ) -> None:
        self._speech = speech
        # The client: as long as its sound is read, it stays.
        self._owner = owner
        self._format, self._quality = format, quality

    @property
    def sample_rate(self) -> int:
        """Return the Hz of the sound."""
        return self._speech.sample_rate

    @property
    def timing(self) -> Timing:
        """Return the times so far; `first_audio` holds from the beginning."""
        return self._speech.timing

    def __next__(self) -> bytes:
        """Return the next chunk. Waits for the service.

        Raises what broke the sound; `partial` of the error has all of it that came. The end of the
        sound raises BadAudioError when the whole cannot be the speech of its text.
        """
        sound = self._speech.read()
        if not sound:
            raise StopIteration
        return sound

    def audio(self) -> Audio:
        """Read the rest and return it: all of the sound, where nothing was read before; where
        nothing is left, an empty WAV file.

        Waits and raises like reading.
        """
        data = b"".join(self)
        rest = Audio(data, "pcm", self.sample_rate, 1, 0, len(data), self.timing)
        if not data and self._format not in PLAIN_FORMATS:
            return rest.as_format("wav")  # encoders take no file of no sound
        return rest.as_format(self._format, self._quality)

    def close(self) -> None:
        """End it: the service is told, as far as its protocol allows, and nothing more comes.

        From another thread than the one that reads, it takes effect with the next chunk.
        """
        self._speech.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._speech.abandon():
            warnings.warn(
                "a SpeechStream was dropped before its end; use it in a `with` block",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        return f"<SpeechStream {self.sample_rate} Hz, {self._speech.state}>"
