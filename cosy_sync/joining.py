"""Sounds one after the other: joined with silence between them, or trimmed of it."""

from __future__ import annotations

import io
import os
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from .errors import ConfigError
from .models import Audio, Word, wav_header

__all__ = [
    "MOST_WAV",
    "SoundBuffer",
    "as_wav",
    "join",
    "shift_words",
    "silence",
    "silent_blocks",
    "trim",
]

# Bytes of samples that the sizes in the header of a WAV file can say.
MOST_WAV = 2**32 - 1 - 44
# Peak, of 32 768, up to which a frame counts as silent; and the seconds of silence that are left,
# since a sound that begins at its first loud sample begins with a click.
_QUIET = 200
_LEFT = 0.02
_FRAME = 0.005


def join(audios: Iterable[Audio], gap: float = 0.0) -> Audio:
    """Join sounds sample by sample, with so many seconds of silence between two.

    The result is a WAV file. Raises ConfigError for none at all, and where rates or numbers of
    channels differ: resample them first.
    """
    given = [] if isinstance(audios, Audio) else list(audios)
    if not given or not all(isinstance(audio, Audio) for audio in given):
        raise ConfigError("join: expected a list of Audio, at least one")
    if not (isinstance(gap, (int, float)) and 0 <= gap <= 3600):
        raise ConfigError(f"join: the gap must be 0 to 3600 seconds, got {gap!r}")
    first = given[0]
    layout = (first.sample_rate, first.channels)
    pause = silence(gap, *layout)
    sounds: list[bytes | memoryview] = []
    for place, audio in enumerate(given):
        if (audio.sample_rate, audio.channels) != layout:
            rates = audio.sample_rate != first.sample_rate
            raise ConfigError(
                f"join: audio {place} has {audio.sample_rate} Hz and {audio.channels} channels, "
                f"the first one {first.sample_rate} Hz and {first.channels}"
                + ("; bring them to one rate: audio.resample(...)" if rates else "")
            )
        sounds += [pause, audio.pcm()] if place else [audio.pcm()]
    return as_wav(sounds, *layout)


class SoundBuffer:
    """A WAV file in memory that grows by 16-bit samples; they are copied once, as they come.

    It has the rate of the first samples; without any, the given one.
    """

    def __init__(self, sample_rate: int) -> None:
        self._layout = (sample_rate, 1)
        # Its bytes grow in place, and are the result's own in the end.
        self._file = io.BytesIO(wav_header(sample_rate, 1, 0))
        self._start = self._file.seek(0, os.SEEK_END)

    def check_room(self, size: int) -> None:
        """Raise ConfigError where so many bytes more are more than a WAV file can hold."""
        if self._file.tell() + size > self._start + MOST_WAV:
            raise _too_long()

    def write(self, pcm: bytes | memoryview, sample_rate: int, channels: int = 1) -> None:
        """Add samples; see check_room."""
        self._layout = (sample_rate, channels)
        self._file.write(pcm)

    def read(self, begin: int, end: int) -> bytes:
        """Return the samples from one byte of theirs to another."""
        self._file.seek(self._start + begin)
        return self._file.read(end - begin)

    def audio(self) -> Audio:
        """Return the whole; nothing may be written afterwards."""
        size = self._file.seek(0, os.SEEK_END) - self._start
        self._file.seek(0)
        self._file.write(wav_header(*self._layout, size))
        return Audio(self._file.getvalue(), "wav", *self._layout, self._start, size)


def as_wav(sounds: Sequence[bytes | memoryview], sample_rate: int, channels: int = 1) -> Audio:
    """Return 16-bit samples, one piece after the other, as a WAV file."""
    size = sum(map(len, sounds))
    if size > MOST_WAV:
        raise _too_long()
    data = b"".join((wav_header(sample_rate, channels, size), *sounds))
    return Audio(data, "wav", sample_rate, channels, len(data) - size, size)


def silence(seconds: float, sample_rate: int, channels: int = 1) -> bytes:
    """Return so many seconds of silence as 16-bit samples."""
    return bytes(2 * channels * round(seconds * sample_rate))


@lru_cache(maxsize=8)
def silent_blocks(seconds: float, sample_rate: int, channels: int = 1) -> tuple[bytes, ...]:
    """Return the same as pieces, most of them one and the same: hours of it take no memory.

    A narration has few kinds of pauses: they are made once.
    """
    whole, rest = divmod(round(seconds * sample_rate), sample_rate)
    blocks = (bytes(2 * channels * sample_rate),) * whole if whole else ()
    return (*blocks, bytes(2 * channels * rest)) if rest else blocks


def trim(audio: Audio) -> Audio:
    """Return a sound without the silence at its ends, but for 20 ms; one of silence only stays."""
    pcm = audio.pcm()
    frame = max(1, round(_FRAME * audio.sample_rate)) * 2 * audio.channels
    starts = range(0, len(pcm), frame)
    first = next((start for start in starts if _is_loud(pcm[start : start + frame])), None)
    if first is None:
        return audio
    last = next(start for start in reversed(starts) if _is_loud(pcm[start : start + frame]))
    left = round(_LEFT * audio.sample_rate) * 2 * audio.channels
    begin = max(0, first - left)
    kept = as_wav([pcm[begin : last + frame + left]], audio.sample_rate, audio.channels)
    gone = begin / (2 * audio.channels) / audio.sample_rate
    return replace(kept, timing=audio.timing, words=shift_words(audio.words, -gone))


def shift_words(words: Sequence[Word], seconds: float) -> tuple[Word, ...]:
    """Return words that are heard so much later."""
    return tuple(Word(word.text, word.start + seconds, word.end + seconds) for word in words)


def _too_long() -> ConfigError:
    return ConfigError(
        "join: a WAV file holds at most 4 GiB; narrate a longer text to='x.flac' or .mp3"
    )


def _is_loud(frame: bytes) -> bool:
    samples = array("h", frame)
    if sys.byteorder == "big":
        samples.byteswap()
    return max(samples) > _QUIET or min(samples) < -_QUIET
