"""WAV files of floats become 16-bit samples; all others are left alone."""

from __future__ import annotations

import math
import struct

import pytest

from cosy_sync.errors import BadAudioError
from cosy_sync.messages import Payload
from cosy_sync.models import wav_header
from cosy_sync.wires.float_wav import read_float_wav


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    pad = b"\0" * (len(data) & 1)
    return name + struct.pack("<I", len(data) if size is None else size) + data + pad


def fmt(code: int = 3, channels: int = 1, bits: int = 32, more: bytes = b"") -> bytes:
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", code, channels, 22_050, 22_050 * frame, frame, bits)
    return chunk(b"fmt ", head + more)


def wav(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def floats(*values: float) -> bytes:
    return chunk(b"data", struct.pack(f"<{len(values)}f", *values))


def samples(payload: Payload | None) -> tuple[int, ...]:
    assert payload is not None
    return struct.unpack(f"<{len(payload.data) // 2}h", payload.data)


def test_a_file_as_torchaudio_writes_it() -> None:
    extra = [chunk(b"fact", b"\x03\0\0\0"), chunk(b"LIST", b"odd")]
    payload = read_float_wav(wav(fmt(more=b"\0\0"), *extra, floats(0.0, 0.5, -1.0)))
    assert samples(payload) == (0, 16_384, -32_768)
    assert payload is not None and payload.media_type == "audio/pcm; rate=22050; channels=1"


def test_what_is_louder_than_full_is_clipped_not_wrapped() -> None:
    payload = read_float_wav(wav(fmt(), floats(1.0, -1.5, 7.0, 32_767 / 32_768)))
    assert samples(payload) == (32_767, -32_768, 32_767, 32_767)


def test_every_16_bit_sample_survives_the_way_there_and_back() -> None:
    values = range(-32_768, 32_768, 7)
    payload = read_float_wav(wav(fmt(), floats(*(each / 32_768 for each in values))))
    assert samples(payload) == tuple(values)


def test_channels_stay() -> None:
    payload = read_float_wav(wav(fmt(channels=2), floats(0.5, -0.5)))
    assert payload is not None and payload.media_type.endswith("channels=2")
    assert samples(payload) == (16_384, -16_384)


def test_an_extensible_header_names_the_format_behind() -> None:
    guid = bytes.fromhex("0300000000001000800000aa00389b71")
    more = struct.pack("<HHI", 22, 32, 4) + guid
    assert samples(read_float_wav(wav(fmt(0xFFFE, more=more), floats(0.5)))) == (16_384,)


@pytest.mark.parametrize(
    "data",
    [
        wav_header(22_050, 1, 4) + b"\0\0\1\1",
        wav(fmt(3, bits=64), floats(0.5)),
        wav(fmt(3, channels=0), floats(0.5)),
        wav(fmt(0xFFFE), floats(0.5)),
        wav(floats(0.5)),
        wav(fmt()),
        wav(chunk(b"fmt ", b"\3\0"), floats(0.5)),
        wav() + b"fmt \x10\0\0\0\3\0",
        wav(*[chunk(b"junk", b"")] * 200, fmt(), floats(0.5)),
        b"RIFF",
    ],
)
def test_everything_else_is_left_to_others(data: bytes) -> None:
    assert read_float_wav(data) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (wav(fmt(), floats(0.5, 0.5))[:-1], "cut"),
        (wav(fmt(), chunk(b"data", b"\0" * 6)), "cut"),
        (wav(fmt(), floats(math.nan)), "header"),
        (wav(fmt(), floats(math.inf)), "header"),
    ],
)
def test_a_broken_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadAudioError, match="look at the service") as caught:
        read_float_wav(data)
    assert caught.value.reason == reason
