"""WAV headers: which samples lie where, what formats are called, and how they become 16 bits."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .errors import BadAudioError

__all__ = [
    "RIFF_NAMES",
    "SampleFormat",
    "WavHeader",
    "bad_wav",
    "foreign_name",
    "read_header",
    "to_pcm16",
    "unreadable",
    "walk_chunks",
]

# RF64 is the same file with a chunk, ds64, for sizes of more than 4 GiB (EBU Tech 3306).
RIFF_NAMES = (b"RIFF", b"RF64")

_FMT = struct.Struct("<HHIIHH")
_CHUNK = struct.Struct("<4sI")
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# Where WAVE_FORMAT_EXTENSIBLE keeps the real format: its number, then the rest of a GUID.
_REAL_FORMAT_AT = 24
_GUID_REST = bytes.fromhex("000000001000800000aa00389b71")
_LONGEST_FMT = 1_024
_READABLE = {_PCM: (1, 2, 3, 4), _FLOAT: (4, 8)}
_MAX_CHANNELS = 8
_RATES = range(8_000, 192_001)
# A walk over more chunks than any writer makes is an attack.
_MAX_CHUNKS = 1_000

# Writers that cannot seek back put a number in the size's place that no file reaches: 0xFFFFFFFF,
# 0x7FFFFFFF, 1e9. No text that is taken lasts half an hour, no reply has 256 MiB.
_ENDLESS_BYTES = 1 << 28
_ENDLESS_SECONDS = 1_800
_LONG_SIZE = 0xFFFF_FFFF

# Of Microsoft's mmreg.h, what services and their converters write.
_NAMES = {
    **{0x02: "Microsoft ADPCM", 0x06: "A-law", 0x07: "mu-law", 0x11: "IMA ADPCM"},
    **{0x31: "GSM 6.10", 0x40: "G.721 ADPCM", 0x45: "G.726 ADPCM", 0x50: "MPEG audio"},
    **{0x55: "MP3", 0xFF: "AAC", 0x1610: "AAC", 0x2000: "AC-3", 0x704F: "Opus", 0xF1AC: "FLAC"},
}
# How other files begin.
_MARKS = {
    **{b"ID3\x02": "MP3", b"ID3\x03": "MP3", b"ID3\x04": "MP3", b"OggS": "Ogg", b"fLaC": "FLAC"},
    **{b"RIFX": "RIFX (a big-endian WAV file)", b"riff": "Wave64", b"FORM": "AIFF"},
    **{b".snd": "Sun AU", b"caff": "CAF", b"\x1aE\xdf\xa3": "WebM", b"#!AM": "AMR"},
}
# Where floats from -1 to 1 are moved to, and what then stands above a sample that is positive
# (its own highest bit unset) or negative.
_MOVE, _TOP = 384.0, b"\x43"
_ABOVE = b"\xc0" * 128 + b"\xbf" * 128
# The first frame of what has no other beginning.
_FRAMES = {
    **dict.fromkeys([b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3"], "MP3"),
    **dict.fromkeys([b"\xff\xf1", b"\xff\xf9"], "AAC"),
}


class SampleFormat(NamedTuple):
    """How samples are to be played: Hz, channels, whole numbers or floats, bytes of each sample."""

    sample_rate: int
    channels: int
    is_float: bool = False
    width: int = 2

    @property
    def frame(self) -> int:
        """Return the bytes of one sample of every channel."""
        return self.channels * self.width

    @property
    def is_pcm16(self) -> bool:
        """Return whether the samples are signed whole numbers of 16 bits."""
        return self.width == 2


class WavHeader(NamedTuple):
    """What stands before the samples: where they begin, and their bytes as announced.

    `size` is None where the writer did not know it. `is_empty`: it wrote 0, which may be meant.
    `is_plain`: it says once, and as every reader knows it, that the samples are PCM.
    """

    format: SampleFormat
    start: int
    size: int | None
    is_empty: bool
    is_plain: bool


def read_header(data: bytes | bytearray | memoryview, most: int = _LONG_SIZE) -> WavHeader | None:
    """Walk over a WAV file to its samples; None where it ends before them.

    Of several formats the first holds, as for other readers. Raises BadAudioError: `header`, also
    where the samples do not begin within so many bytes.
    """
    layout: SampleFormat | None = None
    long_size: int | None = None
    is_plain = True
    for name, at, size in walk_chunks(data, 12):
        if name == b"data":
            if layout is None:
                # Most readers give up here too, and its writer will do the same again.
                raise bad_wav(
                    "header", "the WAV file has data before it says of which format", False
                )
            whole = long_size if size == _LONG_SIZE and long_size is not None else size
            endless = whole == 0 or _is_endless(whole, layout)
            return WavHeader(layout, at, None if endless else whole, whole == 0, is_plain)
        if name == b"fmt ":
            end = at + min(size, _LONGEST_FMT)
            if end > len(data):
                return None
            is_plain = layout is None and data[at : at + 2] == b"\1\0"
            layout = layout or _read_format(bytes(data[at:end]))
        elif name == b"ds64":
            long_size = int.from_bytes(data[at + 8 : at + 16], "little")
        if at + size + (size & 1) > most:
            raise bad_wav("header", "the WAV file's header is too long to be one")
    return None


def walk_chunks(data: bytes | bytearray | memoryview, at: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk from here on, where its bytes begin, and how many it announces.

    Ends with the data: the last chunk may be cut, and what is no whole head of one is left out.
    """
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        name, size = _CHUNK.unpack_from(data, at)
        yield name, at + 8, size
        at += 8 + size + (size & 1)


def _is_endless(size: int, layout: SampleFormat) -> bool:
    seconds = size / (layout.frame * layout.sample_rate)
    return size >= _ENDLESS_BYTES or seconds >= _ENDLESS_SECONDS


def _read_format(chunk: bytes) -> SampleFormat:
    if len(chunk) < _FMT.size:
        raise bad_wav("header", f"the WAV file's fmt chunk has {len(chunk)} bytes instead of 16")
    code, channels, rate, _, frame, bits = _FMT.unpack_from(chunk)
    if code == _EXTENSIBLE:
        rest = chunk[_REAL_FORMAT_AT:]
        if rest[2:16] != _GUID_REST:
            raise unreadable("WAVE_FORMAT_EXTENSIBLE without a known subformat")
        code = int.from_bytes(rest[:2], "little")
    if code not in _READABLE:
        raise unreadable(_NAMES.get(code) or f"WAV format {code:#06x}")
    width = -(-bits // 8)
    whole = 0 < channels <= _MAX_CHANNELS and rate in _RATES
    if not whole or not bits or frame != channels * width:
        raise bad_wav(
            "header",
            f"the WAV file claims {rate} Hz, {channels} channels, {bits} bits and {frame} bytes "
            "a frame",
        )
    if width not in _READABLE[code]:
        raise unreadable(f"{bits}-bit {'float' if code == _FLOAT else 'PCM'}")
    return SampleFormat(rate, channels, code == _FLOAT, width)


def foreign_name(
    start: bytes | bytearray | memoryview, *, may_be_samples: bool = True
) -> str | None:
    """Return what another kind of sound file that begins like this is called; None for no kind.

    Where it may be bare samples, only what they hardly begin like is taken for a mark.
    """
    first = bytes(start[:8])
    name = _MARKS.get(first[:4])
    if name is None and not may_be_samples:
        name = _FRAMES.get(first[:2]) or ("MP4" if first[4:] == b"ftyp" else None)
    return name


# -- samples ------------------------------------------------------------------------------------


def to_pcm16(samples: bytes | memoryview, layout: SampleFormat) -> bytes:
    """Return samples as signed 16-bit little-endian; what is finer is rounded down.

    A float of 1 is the full scale (32768); what is louder is clipped. Raises BadAudioError for
    floats that are no numbers.
    """
    width = layout.width
    if layout.is_float:
        return _from_floats(samples, "f" if width == 4 else "d")
    raw = bytes(samples)
    if width == 2:
        return raw
    pcm = bytearray(len(raw) // width * 2)
    if width == 1:  # unsigned, as only WAV's 8 bits are
        pcm[1::2] = bytes([byte ^ 0x80 for byte in raw])
    else:
        pcm[0::2], pcm[1::2] = raw[width - 2 :: width], raw[width - 1 :: width]
    return bytes(pcm)


def _from_floats(samples: bytes | memoryview, code: str) -> bytes:
    floats = array(code, bytes(samples))
    if sys.byteorder == "big":
        floats.byteswap()
    elif code == "f" and (whole := _from_small_floats(floats)) is not None:
        return whole
    try:
        pcm = array("h", [max(-32768, min(32767, round(each * 32768))) for each in floats])
    except (ValueError, OverflowError):
        raise bad_wav("header", "the WAV file holds floats that are no numbers") from None
    if sys.byteorder == "big":
        pcm.byteswap()
    return pcm.tobytes()


def _from_small_floats(floats: Sequence[float]) -> bytes | None:
    """Return floats as 16 bits where none is too loud and all are numbers, else None.

    Between 256 and 512 a float of 32 bits is exact to a 32768th: moved there, the low half of
    its bits is the sample, rounded to even. It is six times as fast as to round one by one.
    """
    moved = array("f", map(_MOVE.__add__, floats)).tobytes()
    if moved[2::4] != moved[1::4].translate(_ABOVE) or moved[3::4] != _TOP * len(floats):
        return None
    pcm = bytearray(2 * len(floats))
    pcm[0::2], pcm[1::2] = moved[0::4], moved[1::4]
    return bytes(pcm)


# -- errors -------------------------------------------------------------------------------------


def unreadable(name: str, reason: str = "header") -> BadAudioError:
    """Return the error of sound in a format that is not read: it will be so again."""
    return BadAudioError(
        f"the service sent {name}, which cannot be read; let it send 16-bit PCM (a WAV file, or "
        "bare samples)",
        reason=reason,
        retryable=False,
    )


def bad_wav(reason: str, message: str, retryable: bool = True) -> BadAudioError:
    """Return the error of a WAV file that is broken."""
    text = f"{message}; the service must send whole WAV files"
    return BadAudioError(text, reason=reason, retryable=retryable)
