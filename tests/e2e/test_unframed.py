"""Sound that only the end of the connection ends: half of it would look whole."""

from __future__ import annotations

import struct
from contextlib import nullcontext

import httpx
import pytest
from scripted import READ, Scripted

from cosy_sync import BadAudioError, CosyClient, RetryConfig
from cosy_sync.testing import tone_wav

TEXT = "第一位乘客请到七号窗口"
WAV = tone_wav(TEXT)
# As it is streamed: neither length is known when the header is written.
ANY_TIME = WAV[:4] + b"\xff" * 4 + WAV[8:40] + b"\xff" * 4 + WAV[44:]
HEAD = b"HTTP/1.%d 200 OK\r\nContent-Type: %b\r\n\r\n"
ONCE = RetryConfig(max_retries=0)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("brought", [False, True], ids=["own", "httpx"])
@pytest.mark.parametrize(
    ("wire", "kind", "sound"),
    [
        ("openai", b"audio/pcm", WAV[44:]),
        ("openai", b"audio/wav", ANY_TIME),
        ("runtime_http", b"audio/pcm", WAV[44:]),
        ("runtime_http", b"audio/pcm", b""),
    ],
)
def test_half_a_sound_is_not_taken_for_the_whole(
    wire: str, kind: bytes, sound: bytes, brought: bool, version: int
) -> None:
    half = sound[: len(sound) // 4 * 2]
    with (
        Scripted((READ, HEAD % (version, kind) + half)) as server,
        httpx.Client() if brought else nullcontext() as http_client,
        CosyClient(
            server.url.removesuffix("/batch"),
            wire=wire,
            voice="中文女",
            retry=ONCE,
            http_client=http_client,
        ) as client,
    ):
        with pytest.raises(BadAudioError, match="does not say where its sound ends"):
            client.synth(TEXT)
        with pytest.raises(BadAudioError, match="does not say where its sound ends"):
            client.stream(TEXT)


def test_a_wav_file_that_says_its_size_needs_no_length() -> None:
    with (
        Scripted(
            (READ, HEAD % (0, b"audio/wav") + WAV), (READ, HEAD % (0, b"audio/wav") + WAV[:-2])
        ) as server,
        CosyClient(server.url.removesuffix("/batch"), wire="openai", retry=ONCE) as client,
    ):
        assert client.synth(TEXT).pcm() == WAV[44:]
        with pytest.raises(BadAudioError):
            client.synth(TEXT)


def test_samples_that_begin_like_json_are_no_exception() -> None:
    body = struct.pack("<H", 0x227B) + WAV[46:]
    with (
        Scripted((READ, b"HTTP/1.1 200 OK\r\n\r\n" + body)) as server,
        CosyClient(
            server.url.removesuffix("/batch"), wire="runtime_http", voice="中文女", retry=ONCE
        ) as client,
        pytest.raises(BadAudioError, match="does not say where its sound ends"),
    ):
        client.synth(TEXT)
