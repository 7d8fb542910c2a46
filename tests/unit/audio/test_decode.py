"""Payloads read as sound: media types, lies, and what is no sound."""

from __future__ import annotations

import io
import struct
import wave

import pytest

from cosy_sync.audio import read_audio
from cosy_sync.errors import BadAudioError
from cosy_sync.messages import Payload
from cosy_sync.models import Audio, detach, wav_header

PCM = bytes(range(200))
WAV = wav_header(22_050, 1, 200) + PCM


def read(data: bytes, media_type: str) -> Audio:
    return read_audio(Payload(data, media_type), sample_rate=24_000)


def refusal(data: bytes, media_type: str) -> BadAudioError:
    with pytest.raises(BadAudioError) as caught:
        read(data, media_type)
    return caught.value


@pytest.mark.parametrize(
    "media_type", ["audio/wav", "Audio/X-WAV", "audio/wave", "audio/vnd.wave; codec=1"]
)
def test_a_wav_file_keeps_its_own_rate(media_type: str) -> None:
    audio = read(WAV, media_type)
    assert (audio.format, audio.sample_rate, audio.pcm(), audio.data) == ("wav", 22_050, PCM, WAV)


@pytest.mark.parametrize("media_type", ["audio/pcm", "audio/mpeg", "application/json", ""])
def test_a_wav_file_is_one_whatever_it_is_called(media_type: str) -> None:
    assert read(WAV, media_type).format == "wav"


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body


def riff(code: int, width: int, samples: bytes, **sizes: int) -> bytes:
    """Return a WAV file; `riff` and `data` put other sizes into it."""
    layout = struct.pack("<HHIIHH", code, 1, 24_000, 24_000 * width, width, 8 * width)
    body = b"WAVE" + chunk(b"fmt ", layout) + chunk(b"data", samples, sizes.get("data"))
    return chunk(b"RIFF", body, sizes.get("riff"))


def frames(data: bytes) -> bytes:
    """Return the samples that the standard library finds, if the sizes are true."""
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (24_000, 2)
        samples: bytes = file.readframes(file.getnframes())
        return samples


SIZES = [0, 0x7FFF_FFFF, 0xFFFF_FFFF, 10**9]


@pytest.mark.parametrize("whole", [*SIZES, 36, 237])
@pytest.mark.parametrize("size", [*SIZES, 200])
def test_what_is_kept_has_true_sizes_whatever_was_sent(size: int, whole: int) -> None:
    audio = read(riff(1, 2, PCM, data=size, riff=whole), "audio/wav")
    assert frames(audio.wav()) == frames(audio.data) == audio.pcm() == PCM


@pytest.mark.parametrize(
    ("code", "width", "samples"),
    [
        (1, 1, bytes([128, 192, 64])),
        (1, 3, b"\0\0\0" + b"\0\0\x40" + b"\0\0\xc0"),
        (1, 4, struct.pack("<3i", 0, 1 << 30, -(1 << 30))),
        (3, 4, struct.pack("<3f", 0, 0.5, -0.5)),
        (3, 8, struct.pack("<3d", 0, 0.5, -0.5)),
    ],
)
def test_other_samples_become_16_bits(code: int, width: int, samples: bytes) -> None:
    audio = read(riff(code, width, samples), "audio/pcm")
    assert audio.pcm() == frames(audio.data) == struct.pack("<3h", 0, 16_384, -16_384)
    assert (audio.format, audio.duration) == ("wav", 3 / 24_000)


@pytest.mark.parametrize("behind", [b"", b"\0", b"\0LIST\4\0\0\0abcd"])
def test_an_odd_number_of_bytes_is_padded(behind: bytes) -> None:
    audio = read(riff(1, 3, b"\0\0\x40") + behind, "audio/wav")
    assert frames(audio.data) == struct.pack("<h", 16_384)


def test_a_file_that_was_converted_into_samples_with_its_header_is_refused() -> None:
    floats = [each / 32_768 for each in struct.unpack(f"<{len(WAV) // 2}h", WAV)]
    twice = riff(3, 4, struct.pack(f"<{len(floats)}f", *floats))
    assert refusal(twice, "audio/wav").reason == "header"


def test_a_file_that_is_announced_longer_is_still_cut() -> None:
    assert refusal(riff(1, 2, PCM, data=1_000_000), "audio/wav").reason == "cut"
    assert refusal(riff(3, 4, PCM, data=1_000_000), "audio/wav").reason == "cut"


@pytest.mark.parametrize(
    ("data", "media_type", "name"),
    [
        (b"ID3\x04" + PCM, "audio/mpeg", "MP3"),
        (PCM, "audio/mpeg", "MP3"),
        (b"OggS" + PCM, "audio/pcm", "Ogg"),
        (b"fLaC" + PCM, "application/octet-stream", "FLAC"),
        (b"RIFX" + PCM, "audio/wav", "big-endian"),
        (b"\xff\xfb\x90\x64" + PCM, "audio/wav", "MP3"),
        (b"\xff\xf1\x50\x80" + PCM, "audio/x-wav", "AAC"),
        (b"\0\0\0\x20ftypM4A " + PCM, "audio/wav", "MP4"),
        (riff(7, 1, PCM), "audio/wav", "mu-law"),
    ],
)
def test_a_format_that_is_not_read_is_named_and_not_asked_for_again(
    data: bytes, media_type: str, name: str
) -> None:
    error = refusal(data, media_type)
    assert name in str(error) and not error.retryable


def test_samples_may_begin_like_a_frame_of_mp3() -> None:
    assert read(b"\xff\xfb" + PCM, "audio/pcm").duration == 101 / 24_000


@pytest.mark.parametrize("media_type", ["audio/pcm", "audio/L16", "application/octet-stream"])
def test_bare_samples_have_the_configured_rate(media_type: str) -> None:
    audio = read(PCM, media_type)
    assert (audio.format, audio.sample_rate, audio.channels) == ("pcm", 24_000, 1)
    assert audio.pcm() is PCM


def test_bare_samples_may_name_their_rate_and_channels() -> None:
    audio = read(PCM, 'audio/L16; Rate=16000;channels="2"; x=1')
    assert (audio.sample_rate, audio.channels, audio.duration) == (16_000, 2, 50 / 16_000)


@pytest.mark.parametrize("parameter", ["rate=0", "rate=fast", "channels=99", "rate=²", "rate="])
def test_a_parameter_that_cannot_be_is_a_bad_header(parameter: str) -> None:
    assert refusal(PCM, f"audio/L16;{parameter}").reason == "header"


def test_half_a_sample_is_odd() -> None:
    assert refusal(PCM[:-1], "audio/pcm").reason == "odd"
    assert refusal(PCM[:-2], "audio/L16;channels=2").reason == "odd"


@pytest.mark.parametrize("media_type", ["audio/wav", "audio/pcm", "application/json", ""])
def test_nothing_is_empty(media_type: str) -> None:
    assert refusal(b"", media_type).reason == "empty"


@pytest.mark.parametrize("media_type", ["text/html", "application/json", "audio/mpeg", "\x00", ""])
def test_what_is_no_sound_is_not_audio(media_type: str) -> None:
    error = refusal(b"<html><body>hello</body></html>", media_type)
    assert error.reason == "not_audio"
    assert "hello" not in str(error)


def test_bytes_that_are_no_wav_file_are_not_audio() -> None:
    assert refusal(PCM, "audio/wav").reason == "not_audio"


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"code": "internal", "message": "the model fell over"}}',
        b'{"error": "the model fell over"}',
        b'{"detail": "the model fell over"}',
        b'"the model fell over"',
    ],
)
def test_the_message_of_a_json_error_is_told(body: bytes) -> None:
    assert "the model fell over" in str(refusal(body, "application/json"))


def test_a_long_message_is_cut() -> None:
    message = str(refusal(b'{"error": "' + b"x" * 500 + b'"}', "text/plain"))
    assert "x" * 80 in message
    assert "x" * 81 not in message


@pytest.mark.parametrize(
    "quote", ["'我的秘密'", '\\"我的秘密\\"', "“我的秘密”", "「我的秘密」", "“我的秘密"]
)
def test_what_a_message_quotes_is_left_out(quote: str) -> None:
    body = f'{{"error": "can\'t speak {quote}"}}'.encode()
    message = str(refusal(body, "application/json"))
    assert "can't speak […]" in message
    assert "秘密" not in message


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b'{"error": 5}', b"[" * 99_999, b'"' + b"x" * 200_000 + b'"']
)
def test_json_without_a_message_tells_none(body: bytes) -> None:
    assert "which says" not in str(refusal(body, "application/json"))


@pytest.mark.parametrize(("whole", "media_type"), [(WAV, "audio/wav"), (PCM, "audio/pcm")])
def test_a_view_of_a_reply_stays_one_until_the_audio_is_detached(
    whole: bytes, media_type: str
) -> None:
    reply = bytearray(b"before" + whole + b"after")
    audio = read_audio(
        Payload(memoryview(reply)[6 : 6 + len(whole)], media_type), sample_rate=24_000
    )
    assert audio.data.obj is reply  # type: ignore[attr-defined]
    detach(audio)
    reply[:] = bytes(len(reply))
    assert type(audio.data) is bytes and type(audio.pcm()) is bytes
    assert (audio.data, audio.pcm()) == (whole, PCM)
    data = audio.data
    detach(audio)
    assert audio.data is data


@pytest.mark.parametrize("format", ["wav", "pcm"])
def test_a_view_can_have_another_format(format: str) -> None:
    for whole, media_type in ((WAV, "audio/wav"), (PCM, "audio/pcm;rate=22050")):
        payload = Payload(memoryview(bytearray(whole)), media_type)
        audio = read_audio(payload, sample_rate=22_050).as_format(format)
        detach(audio)
        assert type(audio.data) is bytes
        assert audio.data == (WAV if format == "wav" else PCM) and audio.pcm() == PCM


def test_a_view_that_is_no_sound_says_so_too() -> None:
    said = memoryview(bytearray(b'{"error": "overloaded"}'))
    with pytest.raises(BadAudioError, match="overloaded"):
        read_audio(Payload(said, "application/json"), sample_rate=24_000)
