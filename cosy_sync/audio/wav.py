"""WAV files: where the samples lie and how they are to be played."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import BadAudioError

__all__ = ["WavInfo", "parse_wav"]

# The header that nearly every service writes, RIFF, an fmt chunk of 16 bytes, then the samples; and
# the first of these.
_CANONICAL = struct.Struct("<4sI8sIHHIIHH4sI4s")
_FMT = struct.Struct("<HHIIHH")
_CHUNK = struct.Struct("<4sI")

_PCM = 1
_EXTENSIBLE = 0xFFFE
# KSDATAFORMAT_SUBTYPE_PCM, where WAVE_FORMAT_EXTENSIBLE keeps the real format.
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
_GUID_AT = 24

# Writers that cannot seek back put 0xFFFFFFFF (ffmpeg), 0x7FFFFFFF or 0x7FFFF000 (sox) less
# a few header bytes: no speech is 2 GiB long, so all of it means "until the end".
_ENDLESS = 0x7FFF_0000
_MAX_CHANNELS = 8
_MAX_CHUNKS = 1_000
_RATES = range(8_000, 192_001)


class WavInfo(NamedTuple):
    """How to play a WAV file: Hz, channels, and the samples' place in bytes."""

    sample_rate: int
    channels: int
    pcm_start: int
    pcm_size: int


def parse_wav(data: bytes | memoryview) -> WavInfo:
    """Find the 16-bit samples of a WAV file.

    Raises BadAudioError: `not_audio` (no WAV file), `header` (one that cannot be played or does
    not fit its bytes), `cut` (ends too early), `odd` (half a sample at the end), `empty`.
    """
    if len(data) >= _CANONICAL.size:
        head = _CANONICAL.unpack_from(data)
        rate, channels, size = head[6], head[5], head[11]
        if (
            size == len(data) - 44
            and head[0] == b"RIFF"
            and head[2:5] == (b"WAVEfmt ", 16, _PCM)
            and head[10] == b"data"
            and head[8:10] == (2 * channels, 16)
            and 0 < channels <= _MAX_CHANNELS
            and rate in _RATES
            and size % (2 * channels) == 0
            and head[12] != b"RIFF"
        ):
            return WavInfo(rate, channels, 44, size)
    return _parse_chunks(data)


def _parse_chunks(data: bytes | memoryview) -> WavInfo:
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise _bad("not_audio", f"expected a WAV file, got {len(data)} bytes that are none")
    layout: tuple[int, int] | None = None
    place: tuple[int, int] | None = None
    at = 12
    # Bounded, since a body full of empty chunks would keep the walk busy for minutes.
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            break
        name, size = _CHUNK.unpack_from(data, at)
        if place is not None:
            _check_after_samples(name)
        if name == b"fmt ":
            layout = _parse_fmt(data, at + 8, size)
        elif name == b"data":
            size = _samples_size(data, at + 8, size)
            place = (at + 8, size)
        at += 8 + size + (size & 1)
    return _joined(data, layout, place)


def _joined(
    data: bytes | memoryview, layout: tuple[int, int] | None, place: tuple[int, int] | None
) -> WavInfo:
    if place is None:
        raise _bad("cut", "the WAV file ends before its samples")
    if layout is None:
        raise _bad("header", "the WAV file does not say how its samples are to be played")
    (rate, channels), (start, size) = layout, place
    if data[start : start + 4] == b"RIFF" and data[start + 8 : start + 12] == b"WAVE":
        raise _bad("header", "a second WAV header stands where the samples should begin")
    if size == 0:
        raise _bad("empty", "the WAV file has a header but no samples")
    if size % (2 * channels):
        raise _bad("odd", f"{size} bytes are no whole number of {16 * channels}-bit frames")
    return WavInfo(rate, channels, start, size)


def _parse_fmt(data: bytes | memoryview, start: int, size: int) -> tuple[int, int]:
    if start + 16 > len(data):
        raise _bad("cut", "the WAV file ends inside its header")
    if size < 16:
        raise _bad("header", f"the WAV file's fmt chunk has {size} bytes instead of 16")
    code, channels, rate, _, frame, bits = _FMT.unpack_from(data, start)
    if code == _EXTENSIBLE and data[start + _GUID_AT : start + 40] == _PCM_GUID and size >= 40:
        code = _PCM
    if code != _PCM or bits != 16:
        raise _bad("header", f"expected 16-bit PCM, got WAV format {code} with {bits} bits")
    if not 0 < channels <= _MAX_CHANNELS or frame != 2 * channels or rate not in _RATES:
        raise _bad(
            "header",
            f"the WAV file claims {rate} Hz, {channels} channels and {frame} bytes a frame",
        )
    return rate, channels


def _samples_size(data: bytes | memoryview, start: int, size: int) -> int:
    there = len(data) - start
    if size >= _ENDLESS or (size == 0 and not _riff_is_whole(data)):
        return there
    if size > there:
        raise _bad("cut", f"the WAV file ends after {there} of {size} bytes of samples")
    return size


def _riff_is_whole(data: bytes | memoryview) -> bool:
    # An honest RIFF size beside a data size of 0: the file really holds no samples.
    return int.from_bytes(data[4:8], "little") == len(data) - 8


def _check_after_samples(name: bytes) -> None:
    # A header with the size of the first piece only, or whole files one after the other, would
    # play as the beginning of the speech: what follows the samples must be a chunk of another kind.
    if name in (b"RIFF", b"data") or not (name.isascii() and name.decode("ascii").isprintable()):
        raise _bad("header", "the WAV file goes on after the samples that its header announces")


def _bad(reason: str, message: str) -> BadAudioError:
    return BadAudioError(f"{message}; the service must send whole 16-bit WAV files", reason=reason)
