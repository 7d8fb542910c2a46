"""Entries as bytes: a magic number, a checksum, a head in JSON, and the audio as it is."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, NamedTuple

from ..errors import CosyError
from ..models import Audio, Word

__all__ = ["Found", "decode", "encode"]

# Magic number with the format's version, CRC-32 of all that follows it, bytes of the head.
_FRAME = struct.Struct(">4sII")
_MAGIC = b"CSC1"
_SUMMED = 8  # where the checksum's bytes begin


class Found(NamedTuple):
    """What was kept of a text: its audio, or the error with which the service refused it.

    `until`: the instant in Unix seconds up to which it is fresh.
    """

    result: Audio | CosyError
    until: float


def encode(digest: str, result: Audio | CosyError, until: float) -> bytes:
    """Return the bytes of an entry. The audio's timing stays behind."""
    head: dict[str, Any] = {"digest": digest, "until": until}
    data = b""
    if isinstance(result, Audio):
        head["sound"] = [
            result.format,
            result.sample_rate,
            result.channels,
            result.pcm_start,
            result.pcm_size,
        ]
        head["words"] = [list(word) for word in result.words]
        data = bytes(result.data)
    else:
        head["error"] = result.to_dict()
    line = json.dumps(head).encode("ascii")
    rest = struct.pack(">I", len(line)) + line + data
    return _MAGIC + struct.pack(">I", zlib.crc32(rest)) + rest


def decode(digest: str, data: bytes) -> Found:
    """Return what an entry holds. Raises ValueError for bytes that are not what was put there."""
    if not isinstance(data, bytes) or len(data) < _FRAME.size:
        raise ValueError("no entry")
    magic, checksum, size = _FRAME.unpack_from(data)
    if magic != _MAGIC or zlib.crc32(memoryview(data)[_SUMMED:]) != checksum:
        raise ValueError("a torn entry, or none of this version")
    begin = _FRAME.size + size
    head = json.loads(data[_FRAME.size : begin])
    if head["digest"] != digest:
        raise ValueError("another text's entry")
    if "error" in head:
        return Found(CosyError.from_dict(head["error"]), head["until"])
    format, rate, channels, start, length = head["sound"]
    words = tuple(Word(*word) for word in head["words"])
    sound = data[begin:]
    audio = Audio(sound, format, rate, channels, start, length, words=words, from_cache=True)
    return Found(audio, head["until"])
