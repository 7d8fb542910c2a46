"""WAV headers and sample formats: what is read as 16 bits, and what is refused by its name."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import pytest

from cosy_sync.errors import BadAudioError
from cosy_sync.riff import SampleFormat, read_header, to_pcm16

GUID_REST = bytes.fromhex("000000001000800000aa00389b71")
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    length = len(body) if size is None else size
    return name + struct.pack("<I", length) + body + b"\0" * (len(body) & 1)


def fmt(code: int = PCM, bits: int = 16, rate: int = 24_000, more: bytes = b"") -> bytes:
    width = -(-bits // 8)
    head = struct.pack("<HHIIHH", code, 1, rate, rate * width, width, bits)
    return chunk(b"fmt ", head + more)


def extensible(code: int, bits: int, rest: bytes = GUID_REST) -> bytes:
    more = struct.pack("<HHIH", 22, bits, 4, code) + rest
    return fmt(EXTENSIBLE, bits, more=more)


def header(*chunks: bytes) -> bytes:
    return b"RIFF\0\0\0\0WAVE" + b"".join(chunks)


def refusal(*chunks: bytes) -> BadAudioError:
    with pytest.raises(BadAudioError) as caught:
        read_header(header(*chunks))
    return caught.value


def pcm(samples: bytes, is_float: bool, width: int) -> tuple[int, ...]:
    data = to_pcm16(samples, SampleFormat(24_000, 1, is_float, width))
    return struct.unpack(f"<{len(data) // 2}h", data)


@pytest.mark.parametrize(
    ("layout", "is_float", "width"),
    [
        (fmt(PCM, 8), False, 1),
        (fmt(PCM, 12), False, 2),
        (fmt(PCM, 16), False, 2),
        (fmt(PCM, 20), False, 3),
        (fmt(PCM, 24), False, 3),
        (fmt(PCM, 32), False, 4),
        (fmt(FLOAT, 32, more=b"\0\0"), True, 4),
        (fmt(FLOAT, 64), True, 8),
        (extensible(PCM, 16), False, 2),
        (extensible(PCM, 24), False, 3),
        (extensible(FLOAT, 32), True, 4),
    ],
)
def test_samples_of_these_formats_are_read(layout: bytes, is_float: bool, width: int) -> None:
    found = read_header(header(layout, chunk(b"data", b"12345678")))
    assert found is not None
    assert found.format == SampleFormat(24_000, 1, is_float, width)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (fmt(7, 8), "mu-law"),
        (fmt(6, 8), "A-law"),
        (fmt(2, 4), "Microsoft ADPCM"),
        (fmt(0x11, 4), "IMA ADPCM"),
        (fmt(0x31, 0), "GSM 6.10"),
        (fmt(0x55, 0), "MP3"),
        (fmt(0x1234, 16), "WAV format 0x1234"),
        (fmt(FLOAT, 16), "16-bit float"),
        (fmt(PCM, 40), "40-bit PCM"),
        (extensible(7, 8), "mu-law"),
        (extensible(PCM, 16, b"\1" + GUID_REST[1:]), "without a known subformat"),
        (fmt(EXTENSIBLE, 16), "without a known subformat"),
    ],
)
def test_other_formats_are_refused_by_their_name_and_not_asked_for_again(
    layout: bytes, name: str
) -> None:
    error = refusal(layout, chunk(b"data", b"1234"))
    assert name in str(error)
    assert (error.reason, error.retryable) == ("header", False)


def test_the_first_of_several_formats_holds() -> None:
    found = read_header(header(fmt(rate=24_000), fmt(rate=16_000), chunk(b"data", b"1234")))
    assert found is not None
    assert (found.format.sample_rate, found.is_plain) == (24_000, False)


def test_samples_before_their_format_are_refused_once() -> None:
    error = refusal(chunk(b"data", b"1234"), fmt())
    assert (error.reason, error.retryable) == ("header", False)


@pytest.mark.parametrize("size", [0, 10**9, 0x7FFF_FFFF, 0x7FFF_F000, 0xFFFF_FFFF, 300_000_000])
def test_a_size_that_no_speech_reaches_means_until_the_end(size: int) -> None:
    found = read_header(header(fmt(), chunk(b"data", b"1234", size)))
    assert found is not None and found.size is None


@pytest.mark.parametrize("size", [2, 1_000_000, 50_000_000])
def test_a_size_that_speech_may_have_is_believed(size: int) -> None:
    found = read_header(header(fmt(), chunk(b"data", b"1234", size)))
    assert found is not None and found.size == size


def test_an_rf64_file_says_its_size_in_a_chunk_of_its_own() -> None:
    long = chunk(b"ds64", struct.pack("<QQQI", 100, 1_000, 500, 0))
    found = read_header(header(long, fmt(), chunk(b"data", b"1234", 0xFFFF_FFFF)))
    assert found is not None and found.size == 1_000


def test_whole_numbers_keep_their_first_16_bits() -> None:
    assert pcm(bytes([0, 128, 255]), False, 1) == (-32_768, 0, 32_512)
    assert pcm(struct.pack("<2h", -5, 7), False, 2) == (-5, 7)
    assert pcm(b"\xff\x34\x12\x00\x00\x80", False, 3) == (0x1234, -32_768)
    assert pcm(struct.pack("<2i", 0x1234_5678, -1), False, 4) == (0x1234, -1)


@pytest.mark.parametrize(("code", "width"), [("f", 4), ("d", 8)])
def test_floats_are_clipped_at_full_scale_not_wrapped(code: str, width: int) -> None:
    def read(*values: float) -> Sequence[int]:
        return pcm(struct.pack(f"<{len(values)}{code}", *values), True, width)

    assert read(0.0, 0.5, -1.0) == (0, 16_384, -32_768)
    assert read(1.0, -1.5, 7.0, 32_767 / 32_768) == (32_767, -32_768, 32_767, 32_767)
    assert read(*(each / 32_768 for each in range(-32_768, 32_768, 97))) == tuple(
        range(-32_768, 32_768, 97)
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_floats_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(BadAudioError, match="no numbers"):
        pcm(struct.pack("<2f", 0.5, value), True, 4)
