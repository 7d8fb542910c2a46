"""Sound as the server carries it: pieces of bytes, WAV headers, media types."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

# A view costs no copy: a large reply to a slow reader then holds no memory of its own.
Piece = bytes | memoryview

SAMPLE_BYTES = 2


@dataclass(frozen=True, slots=True)
class Clip:
    """Bytes of one text's audio, in pieces that are sent one after the other."""

    pieces: tuple[Piece, ...]
    size: int

    @classmethod
    def of(cls, *pieces: Piece) -> Clip:
        """Make a clip of these pieces."""
        return cls(pieces, sum(map(len, pieces)))

    @property
    def data(self) -> bytes:
        """All bytes in one, as a copy."""
        return b"".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Failure:
    """One text that got no audio, and why."""

    code: str
    message: str


@lru_cache(maxsize=1024)
def wav_header(data_bytes: int, sample_rate: int) -> bytes:
    """Write the 44 bytes that stand before mono PCM16LE data.

    Args:
        data_bytes: length that the header claims, in bytes.
        sample_rate: in Hz.
    """
    rates = (sample_rate, sample_rate * SAMPLE_BYTES, SAMPLE_BYTES, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", 36 + data_bytes, b"WAVE")
        + struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, *rates)
        + struct.pack("<4sI", b"data", data_bytes)
    )


def encode_clip(pcm: Clip, audio_format: str, sample_rate: int) -> Clip:
    """Put PCM into the asked format; `pcm` stays as it is."""
    if audio_format == "pcm":
        return pcm
    return Clip((wav_header(pcm.size, sample_rate), *pcm.pieces), pcm.size + 44)


def media_type(audio_format: str, sample_rate: int) -> str:
    """Name the content type of a format.

    PCM is little-endian (PCM16LE), although RFC 2586 defines L16 as big-endian: no registered
    type says little-endian, and every CosyVoice runtime sends it.
    """
    if audio_format == "wav":
        return "audio/wav"
    return f"audio/L16; rate={sample_rate}; channels=1"
