"""Samples out of bytes that are still coming."""

from __future__ import annotations

import struct

import pytest

from cosy_sync.errors import BadAudioError
from cosy_sync.models import wav_header
from cosy_sync.wires.pcm_stream import SampleReader

PCM = bytes(range(1, 201))


def header(size: int, rate: int = 22_050, channels: int = 1, extra: bytes = b"") -> bytes:
    plain = wav_header(rate, channels, 0)
    return plain[:36] + extra + b"data" + struct.pack("<I", size)


def read(*pieces: bytes, wav: bool = False, bare: bool = False) -> tuple[bytes, SampleReader]:
    reader = SampleReader(24_000, wav=wav, bare=bare)
    given = []
    for piece in pieces:
        given.append(reader.feed(piece))
        assert len(given[-1]) % 2 == 0
    given.append(reader.end())
    return b"".join(given), reader


def refusal(*pieces: bytes, wav: bool = False, bare: bool = False) -> str:
    with pytest.raises(BadAudioError) as caught:
        read(*pieces, wav=wav, bare=bare)
    return caught.value.reason


WHOLE = {
    "bare": (PCM, 24_000),
    "honest": (header(len(PCM)) + PCM, 22_050),
    "endless": (header(0xFFFF_FFFF) + PCM, 22_050),
    "nearly endless": (header(0x7FFF_0000) + PCM, 22_050),
    "zero": (header(0) + PCM, 22_050),
    "with a list before": (header(len(PCM), extra=b"LIST\x05\0\0\0abcde\0") + PCM, 22_050),
    "with a list behind": (header(len(PCM)) + PCM + b"LIST\x04\0\0\0abcd", 22_050),
}


@pytest.mark.parametrize("name", WHOLE)
def test_samples_come_whole_wherever_the_bytes_are_split(name: str) -> None:
    data, rate = WHOLE[name]
    for at in range(len(data) + 1):
        samples, reader = read(data[:at], data[at:])
        assert (samples, reader.sample_rate, reader.channels) == (PCM, rate, 1), at
    samples, reader = read(*(data[at : at + 1] for at in range(len(data))))
    assert (samples, reader.sample_rate) == (PCM, rate)


def test_short_bare_samples_are_samples() -> None:
    assert read(b"\1\2")[0] == b"\1\2"
    assert read(b"RI")[0] == b"RI"


def test_samples_are_given_as_soon_as_they_are_whole() -> None:
    reader = SampleReader(8_000)
    assert reader.feed(b"\1\2\3") == b""
    assert reader.feed(b"\4\5") == b"\1\2\3\4"
    assert reader.feed(b"\6") == b"\5\6"
    assert reader.feed(b"\7\0") == b"\7\0"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (header(0), "empty"),
        (b"\1\2\3\4\5", "odd"),
        (header(0xFFFF_FFFF) + b"\1\2\3", "odd"),
        (header(201) + PCM + b"\0", "odd"),
        (header(len(PCM)) + PCM[:-1], "cut"),
        (header(len(PCM)) + PCM[:-2], "cut"),
        (header(len(PCM)), "cut"),
        (header(4)[:-1], "cut"),
        (header(0xFFFF_FFFF) + header(200) + PCM, "header"),
        (header(244) + header(200) + PCM, "header"),
        (header(4)[:20], "cut"),
        (header(180) + PCM, "header"),
        (header(10) + PCM, "header"),
        (header(200) + PCM + header(200) + PCM, "header"),
        (header(200) + PCM + b"data" + PCM, "header"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "header"),
        (b"RIFF\0\0\0\0AVI LIST\0\0\0\0", "header"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\1\0", "header"),
        (header(4, rate=7_999) + b"abcd", "header"),
        (header(4, rate=192_001) + b"abcd", "header"),
        (header(4, channels=9) + b"abcd", "header"),
        (b"ID3\x04and so on", "not_audio"),
        (b"OggSand so on", "not_audio"),
        (b"fLaCand so on", "not_audio"),
    ],
)
def test_what_is_not_whole_is_refused(data: bytes, reason: str) -> None:
    assert refusal(data) == reason
    assert refusal(*(data[at : at + 1] for at in range(len(data)))) == reason


def test_a_header_in_front_of_a_whole_file_is_refused_wherever_the_bytes_are_split() -> None:
    data = header(0xFFFF_FFFF) + header(200) + PCM
    for at in range(len(data) + 1):
        assert refusal(data[:at], data[at:]) == "header", at
    assert read(header(0xFFFF_FFFF), b"RI", b"fF")[0] == b"RIfF"


def file_of(code: int, width: int, samples: bytes, channels: int = 1) -> bytes:
    rate, frame = 22_050, channels * width
    layout = struct.pack("<HHIIHH", code, channels, rate, rate * frame, frame, 8 * width)
    data = b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + layout + data


@pytest.mark.parametrize(
    ("code", "width", "samples"),
    [
        (1, 3, b"\0\0\0" + b"\0\0\x40" + b"\0\0\xc0"),
        (1, 4, struct.pack("<3i", 0, 1 << 30, -(1 << 30))),
        (3, 4, struct.pack("<3f", 0, 0.5, -0.5)),
        (3, 8, struct.pack("<3d", 0, 0.5, -0.5)),
    ],
)
def test_other_samples_become_16_bits_wherever_the_bytes_are_split(
    code: int, width: int, samples: bytes
) -> None:
    wanted = struct.pack("<3h", 0, 16_384, -16_384)
    data = file_of(code, width, samples)
    for at in range(len(data) + 1):
        assert read(data[:at], data[at:])[0] == wanted, at
    assert read(*(data[at : at + 1] for at in range(len(data))))[0] == wanted
    endless = data.replace(b"data" + struct.pack("<I", len(samples)), b"data\0\0\0\0")
    assert read(endless)[0] == read(endless[:50], endless[50:])[0] == wanted
    assert refusal(endless[:-1]) == "odd"


@pytest.mark.parametrize("behind", [b"", b"\0", b"\0LIST\4\0\0\0abcd"])
def test_an_odd_number_of_bytes_is_padded(behind: bytes) -> None:
    data = file_of(1, 3, b"\0\0\x40") + behind
    for at in range(len(data) + 1):
        assert read(data[:at], data[at:])[0] == struct.pack("<h", 16_384), at
    assert read(*(data[at : at + 1] for at in range(len(data))))[0] == struct.pack("<h", 16_384)


def test_a_format_that_is_not_read_is_named_and_not_asked_for_again() -> None:
    for data in (file_of(7, 1, b"1234"), b"OggS and so on"):
        with pytest.raises(BadAudioError, match=r"mu-law|Ogg") as caught:
            read(data)
        assert not caught.value.retryable


def test_24_bits_that_do_not_fit_their_frames_are_refused() -> None:
    data = bytearray(header(6) + b"abcdef")
    data[34] = 24
    assert refusal(bytes(data)) == "header"
    data[34], data[20] = 16, 3
    assert refusal(bytes(data)) == "header"


def test_bare_samples_are_no_wav_file() -> None:
    assert refusal(PCM, wav=True) == "not_audio"
    assert refusal(b"\1\2", wav=True) == "not_audio"
    assert read(header(0) + PCM, wav=True)[0] == PCM


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header(len(PCM)) + PCM, "header"),
        (b"RIFF", "header"),
        (b'{"error":"x"}', "not_audio"),
        (b"OggSand so on", "not_audio"),
        (PCM[:-1], "odd"),
        (b"\1", "odd"),
        (b"", "empty"),
    ],
)
def test_where_bare_samples_were_asked_for_nothing_else_will_do(data: bytes, reason: str) -> None:
    assert refusal(data, bare=True) == reason
    assert refusal(*(data[at : at + 1] for at in range(len(data))), bare=True) == reason


@pytest.mark.parametrize("data", [PCM, PCM + b"RIFF", PCM[:4] + b'{"', b"RI", b'{"', b"\1\2"])
def test_bare_samples_come_whole_wherever_they_are_split(data: bytes) -> None:
    for at in range(len(data) + 1):
        assert read(data[:at], data[at:], bare=True)[0] == data


def test_it_tells_whether_anything_came() -> None:
    reader = SampleReader(24_000)
    assert not reader.has_heard
    reader.feed(b"\1")
    assert reader.has_heard
