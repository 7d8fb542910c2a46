"""WAV headers: what is read, and what is refused with which word."""

from __future__ import annotations

import io
import struct
import wave

import pytest

from cosy_sync.audio import WavInfo, parse_wav
from cosy_sync.audio.wav import find_samples
from cosy_sync.errors import BadAudioError
from cosy_sync.models import wav_header

PCM = bytes(range(200))
GUID = bytes.fromhex("0100000000001000800000aa00389b71")


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    length = len(body) if size is None else size
    return name + struct.pack("<I", length) + body + b"\0" * (len(body) & 1)


def fmt(code: int = 1, channels: int = 1, rate: int = 24_000, bits: int = 16) -> bytes:
    frame = channels * 2
    return chunk(b"fmt ", struct.pack("<HHIIHH", code, channels, rate, rate * frame, frame, bits))


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def reason(data: bytes) -> str:
    with pytest.raises(BadAudioError) as caught:
        parse_wav(data)
    assert "service" in caught.value.message
    return caught.value.reason


def test_the_usual_header_is_read() -> None:
    assert parse_wav(wav_header(22_050, 1, 200) + PCM) == WavInfo(22_050, 1, 44, 200)


def test_a_file_of_the_standard_library_is_read() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((2, 2, 16_000, 0, "NONE", ""))
        writer.writeframes(PCM)
    assert parse_wav(file.getvalue()) == WavInfo(16_000, 2, 44, 200)


def test_chunks_before_the_samples_are_stepped_over() -> None:
    data = riff(chunk(b"LIST", b"INFOISFT"), fmt(), chunk(b"fact", b"1234"), chunk(b"data", PCM))
    info = parse_wav(data)
    assert data[info.pcm_start : info.pcm_start + info.pcm_size] == PCM


def test_an_odd_chunk_is_padded_to_an_even_place() -> None:
    data = riff(chunk(b"LIST", b"odd"), fmt(), chunk(b"data", PCM))
    info = parse_wav(data)
    assert data[info.pcm_start :] == PCM


def test_chunks_behind_the_samples_are_not_played() -> None:
    data = riff(fmt(), chunk(b"data", PCM), chunk(b"LIST", b"INFOISFT"))
    assert parse_wav(data) == WavInfo(24_000, 1, 44, 200)


def test_a_few_stray_bytes_behind_the_samples_are_not_played() -> None:
    assert parse_wav(riff(fmt(), chunk(b"data", PCM)) + b"\n").pcm_size == 200


def test_a_format_behind_the_samples_is_not_theirs() -> None:
    assert reason(riff(chunk(b"data", PCM), fmt())) == "header"
    behind = riff(fmt(rate=24_000), chunk(b"data", PCM), fmt(rate=16_000))
    assert parse_wav(behind) == WavInfo(24_000, 1, 44, 200)


def test_an_extensible_header_with_pcm_is_read() -> None:
    body = struct.pack("<HHIIHH", 0xFFFE, 1, 24_000, 48_000, 2, 16)
    body += struct.pack("<HHI", 22, 16, 4) + GUID
    data = riff(chunk(b"fmt ", body), chunk(b"data", PCM))
    assert parse_wav(data).pcm_size == 200


def test_an_extensible_header_without_pcm_is_refused() -> None:
    body = struct.pack("<HHIIHH", 0xFFFE, 1, 24_000, 48_000, 2, 16)
    body += struct.pack("<HHI", 22, 16, 4) + b"\3" + GUID[1:]
    assert reason(riff(chunk(b"fmt ", body), chunk(b"data", PCM))) == "header"


PLACEHOLDERS = [0, 10**9, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFF000]


@pytest.mark.parametrize("whole", [*PLACEHOLDERS, 36, 236])
@pytest.mark.parametrize("size", PLACEHOLDERS)
def test_a_streaming_header_means_until_the_end(size: int, whole: int) -> None:
    data = riff(fmt(), b"data" + struct.pack("<I", size) + PCM, size=whole)
    assert parse_wav(data) == WavInfo(24_000, 1, 44, 200)
    assert not find_samples(data).is_plain


def test_only_a_true_and_simple_header_is_plain() -> None:
    assert find_samples(riff(fmt(), chunk(b"data", PCM))).is_plain
    assert find_samples(riff(chunk(b"LIST", b"odd"), fmt(), chunk(b"data", PCM))).is_plain
    assert not find_samples(riff(fmt(), chunk(b"data", PCM), size=36)).is_plain
    assert not find_samples(riff(fmt(), chunk(b"data", PCM)) + b"\n").is_plain
    assert not find_samples(riff(fmt(), fmt(), chunk(b"data", PCM))).is_plain


def test_a_header_written_before_the_samples_means_until_the_end() -> None:
    assert parse_wav(wav_header(24_000, 1, 0) + PCM).pcm_size == 200


def test_less_than_announced_is_cut() -> None:
    assert reason((wav_header(24_000, 1, 200) + PCM)[:-2]) == "cut"


@pytest.mark.parametrize("length", [12, 20, 30, 36, 40])
def test_an_end_inside_the_header_is_cut(length: int) -> None:
    assert reason((wav_header(24_000, 1, 200) + PCM)[:length]) == "cut"


def test_half_a_frame_is_odd() -> None:
    assert reason(riff(fmt(), chunk(b"data", PCM[:199]))) == "odd"
    assert reason(riff(fmt(channels=2), chunk(b"data", PCM[:198]))) == "odd"
    assert reason(riff(fmt(), b"data\xff\xff\xff\xff" + PCM[:199])) == "odd"


@pytest.mark.parametrize(
    "data", [wav_header(24_000, 1, 0), riff(fmt(), chunk(b"data", b""), chunk(b"LIST", b"INFO"))]
)
def test_a_header_without_samples_is_empty(data: bytes) -> None:
    assert reason(data) == "empty"


@pytest.mark.parametrize("data", [b"", b"RIFF", b"<html>" * 20, b"RIFF\0\0\0\0AVI " + PCM])
def test_what_is_no_wav_is_not_audio(data: bytes) -> None:
    assert reason(data) == "not_audio"


@pytest.mark.parametrize(
    "bad",
    [
        fmt(code=3),
        fmt(bits=8),
        fmt(channels=0),
        fmt(channels=9),
        fmt(rate=0),
        fmt(rate=1_000_000),
        chunk(b"fmt ", b"\1\0\1\0", size=4),
        fmt()[:20] + b"\4\0" + fmt()[22:],
        b"",
    ],
)
def test_a_format_that_cannot_be_played_is_a_bad_header(bad: bytes) -> None:
    assert reason(riff(bad, chunk(b"data", PCM))) == "header"


def test_whole_files_one_after_the_other_are_refused() -> None:
    file = wav_header(24_000, 1, 200) + PCM
    assert reason(file + file) == "header"


@pytest.mark.parametrize("size", [244, 0xFFFF_FFFF])
def test_a_header_in_front_of_a_whole_file_is_refused(size: int) -> None:
    file = wav_header(24_000, 1, 200) + PCM
    assert reason(wav_header(24_000, 1, 0)[:40] + struct.pack("<I", size) + file) == "header"


def test_samples_behind_the_announced_ones_are_refused() -> None:
    assert reason(wav_header(24_000, 1, 100) + PCM[:100] + b"\x80" * 100) == "header"
    assert reason(riff(fmt(), chunk(b"data", PCM), chunk(b"data", PCM))) == "header"


def test_a_flood_of_empty_chunks_ends() -> None:
    assert reason(b"RIFF\0\0\0\0WAVE" + chunk(b"junk", b"") * 100_000) == "cut"
