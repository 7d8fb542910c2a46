"""WAV files: where the samples lie and how they are to be played."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..riff import RIFF_NAMES, SampleFormat, WavHeader, bad_wav, read_header, to_pcm16, walk_chunks

__all__ = ["PLAIN_HEADER", "Samples", "WavInfo", "find_plain", "find_samples", "parse_wav"]

# The header that nearly every service writes, RIFF, an fmt chunk of 16 bytes, then the samples; and
# the first of these.
_CANONICAL = struct.Struct("<4sI8sIHHIIHH4sI4s")
# Bytes of it before the samples.
PLAIN_HEADER = 44
_PCM = 1
_MAX_CHANNELS = 8
_RATES = range(8_000, 192_001)


class WavInfo(NamedTuple):
    """How to play a WAV file: Hz, channels, and the samples' place in bytes."""

    sample_rate: int
    channels: int
    pcm_start: int
    pcm_size: int


class Samples(NamedTuple):
    """The samples of a WAV file: what they are, and their place in bytes.

    `is_plain`: they are PCM of 16 bits, and the header is true and simple, so that every reader
    finds the same ones.
    """

    format: SampleFormat
    start: int
    size: int
    is_plain: bool

    def pcm16(self, data: bytes | memoryview) -> bytes:
        """Return them out of the file as signed 16-bit little-endian. Raises BadAudioError."""
        return to_pcm16(data[self.start : self.start + self.size], self.format)


def parse_wav(data: bytes | memoryview) -> WavInfo:
    """Find the 16-bit samples of a WAV file.

    Raises BadAudioError like `find_samples`; `header` also for other samples.
    """
    layout, start, size, _ = find_samples(data)
    if not layout.is_pcm16:
        raise bad_wav("header", f"expected 16-bit PCM, got {8 * layout.width} bits")
    return WavInfo(layout.sample_rate, layout.channels, start, size)


def find_samples(data: bytes | memoryview) -> Samples:
    """Find the samples of a WAV file.

    Raises BadAudioError: `not_audio` (no WAV file), `header` (one that cannot be played or does
    not fit its bytes), `cut` (ends too early), `odd` (half a sample at the end), `empty`.
    """
    plain = find_plain(data)
    if plain is not None:
        rate, channels, size = plain
        return Samples(SampleFormat(rate, channels), PLAIN_HEADER, size, True)
    return _parse_chunks(data)


def find_plain(data: bytes | memoryview) -> tuple[int, int, int] | None:
    """Return Hz, channels and the samples' bytes of a file with the usual header, and a true one;
    None for any other."""
    if len(data) >= _CANONICAL.size:
        head = _CANONICAL.unpack_from(data)
        rate, channels, size = head[6], head[5], head[11]
        if (
            size == len(data) - PLAIN_HEADER
            and head[:2] == (b"RIFF", size + 36)
            and head[2:5] == (b"WAVEfmt ", 16, _PCM)
            and head[10] == b"data"
            and head[8:10] == (2 * channels, 16)
            and 0 < channels <= _MAX_CHANNELS
            and rate in _RATES
            and size % (2 * channels) == 0
            and head[12] != b"RIFF"
        ):
            return rate, channels, size
    return None


def _parse_chunks(data: bytes | memoryview) -> Samples:
    if data[:4] not in RIFF_NAMES or data[8:12] != b"WAVE":
        raise bad_wav("not_audio", f"expected a WAV file, got {len(data)} bytes that are none")
    header = read_header(data)
    if header is None:
        raise bad_wav("cut", "the WAV file ends before its samples")
    layout, start = header.format, header.start
    size = _true_size(data, header)
    behind = start + size + (size & 1)
    _check_behind(data, behind)
    if data[start : start + 4] == b"RIFF" and data[start + 8 : start + 12] == b"WAVE":
        raise bad_wav("header", "a second WAV header stands where the samples should begin")
    if size == 0:
        raise bad_wav("empty", "the WAV file has a header but no samples")
    if size % layout.frame:
        bits = 8 * layout.frame
        raise bad_wav("odd", f"{size} bytes are no whole number of {bits}-bit frames")
    is_plain = (
        header.is_plain
        and layout.is_pcm16
        and data[:4] == b"RIFF"
        and int.from_bytes(data[4:8], "little") == len(data) - 8
        and int.from_bytes(data[start - 4 : start], "little") == size
    )
    return Samples(layout, start, size, is_plain)


def _true_size(data: bytes | memoryview, header: WavHeader) -> int:
    there = len(data) - header.start
    if header.size is None:
        # Of a size of 0 the bytes behind tell whether it is meant.
        return 0 if header.is_empty and _are_chunks(data, header.start) else there
    if header.size > there:
        raise bad_wav("cut", f"the WAV file ends after {there} of {header.size} bytes of samples")
    return header.size


def _are_chunks(data: bytes | memoryview, at: int) -> bool:
    """Return whether nothing but whole chunks, or nothing at all, stands here until the end."""
    for name, start, size in walk_chunks(data, at):
        if not _is_name(name):
            return False
        at = start + size + (size & 1)
    return at in (len(data), len(data) + 1)  # the last one's padding may be missing


def _check_behind(data: bytes | memoryview, at: int) -> None:
    # A header with the size of the first piece only, or whole files one after the other, would
    # play as the beginning of the speech: what follows the samples must be a chunk of another kind.
    for name, _, _ in walk_chunks(data, at):
        if name in (*RIFF_NAMES, b"data") or not _is_name(name):
            raise bad_wav("header", "the WAV file goes on after what its header announces")


def _is_name(name: bytes) -> bool:
    return name.isascii() and name.decode("ascii").isprintable()
