"""WAV files of 32-bit floats, as torchaudio writes them, to 16-bit samples."""

from __future__ import annotations

import struct
import sys
from array import array

from ..errors import BadAudioError
from ..messages import Payload

__all__ = ["read_float_wav"]

_FMT = struct.Struct("<HHI")
_CHUNK = struct.Struct("<4sI")
_FLOAT = 3
_EXTENSIBLE = 0xFFFE
# Bytes into an extensible fmt chunk at which the real format stands.
_REAL_FORMAT_AT = 24
# A walk over more chunks than any writer makes is an attack.
_MAX_CHUNKS = 100


def read_float_wav(data: bytes) -> Payload | None:
    """Return a WAV file of 32-bit floats as bare 16-bit samples; None for any other WAV file.

    A float of 1 is the full scale (32768); what is louder is clipped. Raises BadAudioError when
    the file is cut or holds what is no number.
    """
    layout: tuple[int, int] | None = None
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            break
        name, size = _CHUNK.unpack_from(data, at)
        at += 8
        if name == b"fmt ":
            layout = _float_layout(data, at, size)
            if layout is None:
                return None
        elif name == b"data" and layout is not None:
            if at + size > len(data) or size % (4 * layout[1]):
                raise _bad("cut", f"the WAV file ends after {len(data) - at} of {size} bytes")
            rate, channels = layout
            kind = f"audio/pcm; rate={rate}; channels={channels}"
            return Payload(_to_pcm(data[at : at + size]), kind)
        at += size + (size & 1)
    return None


def _float_layout(data: bytes, at: int, size: int) -> tuple[int, int] | None:
    if size < 16 or at + size > len(data):
        return None
    code, channels, rate = _FMT.unpack_from(data, at)
    bits = int.from_bytes(data[at + 14 : at + 16], "little")
    if code == _EXTENSIBLE and size >= _REAL_FORMAT_AT + 2:
        code = int.from_bytes(data[at + _REAL_FORMAT_AT : at + _REAL_FORMAT_AT + 2], "little")
    return (rate, channels) if code == _FLOAT and bits == 32 and channels else None


def _to_pcm(samples: bytes) -> bytes:
    floats = array("f", samples)
    if sys.byteorder == "big":
        floats.byteswap()
    try:
        pcm = array("h", [max(-32768, min(32767, round(each * 32768))) for each in floats])
    except (ValueError, OverflowError):
        raise _bad("header", "the WAV file holds floats that are no numbers") from None
    if sys.byteorder == "big":
        pcm.byteswap()
    return pcm.tobytes()


def _bad(reason: str, message: str) -> BadAudioError:
    return BadAudioError(f"{message}; look at the service if it stays", reason=reason)
