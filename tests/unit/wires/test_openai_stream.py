"""Streams of /v1/audio/speech, fed byte by byte and split at every byte."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    CosyError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Reply
from cosy_sync.models import wav_header
from cosy_sync.wires import SpeechOptions
from cosy_sync.wires.base import StreamReader
from cosy_sync.wires.openai import OpenaiWire

TEXT = "你好，我的朋友，今天天气很好"
PCM = bytes(range(1, 61))
ANY_TIME = b"RIFF\xff\xff\xff\xff" + wav_header(22_050, 1, 0)[8:40] + b"\xff\xff\xff\xff"
SSE = "text/event-stream; charset=utf-8"


def reader(kind: str, status: int = 200, **settings: Any) -> StreamReader:
    wire = OpenaiWire("http://tts/v1", SpeechOptions.from_config(ClientConfig(**settings)))
    made = wire.listen(TEXT, lambda _: pytest.fail("nothing is to be asked before"), "r1")
    assert made.accept(status, {"content-type": kind, "x-request-id": "r9"}) is True
    return made


def heard(kind: str, *pieces: bytes, rate: int | None = 24_000) -> bytes:
    made = reader(kind)
    sound = b""
    for piece in pieces:
        given = made.feed(piece)
        assert len(given) % 2 == 0
        sound += given
        if sound and rate:
            assert made.sample_rate == rate
    sound += made.end()
    assert rate in (None, made.sample_rate)
    return sound


def error(kind: str, *pieces: bytes) -> CosyError:
    with pytest.raises(CosyError) as caught:
        heard(kind, *pieces, rate=None)
    assert "今天天气" not in str(caught.value)
    return caught.value


def every_split(data: bytes) -> list[list[bytes]]:
    singles = [data[at : at + 1] for at in range(len(data))]
    return [*([data[:at], data[at:]] for at in range(len(data) + 1)), singles]


def delta(data: bytes, **more: Any) -> str:
    audio = base64.b64encode(data).decode()
    return json.dumps({"type": "speech.audio.delta", "audio": audio, **more})


DONE = json.dumps({"type": "speech.audio.done", "usage": {"total_tokens": 3}})


# --- bare bytes


@pytest.mark.parametrize(
    "kind", ["audio/pcm", "application/octet-stream", "", "audio/L16;rate=24000"]
)
def test_bare_samples_split_anywhere(kind: str) -> None:
    for pieces in every_split(PCM):
        assert heard(kind, *pieces) == PCM


@pytest.mark.parametrize(
    "kind", ["audio/wav", "audio/x-wav", "audio/pcm", "application/octet-stream"]
)
def test_a_wav_stream_of_unknown_length_split_anywhere(kind: str) -> None:
    for pieces in every_split(ANY_TIME + PCM):
        assert heard(kind, *pieces, rate=22_050) == PCM


def test_a_wav_stream_of_length_zero() -> None:
    assert heard("audio/wav", wav_header(22_050, 1, 0) + PCM, rate=22_050) == PCM


def test_the_media_type_says_the_rate() -> None:
    assert heard('audio/L16; Rate="16000"; channels=1', PCM, rate=16_000) == PCM
    assert heard("audio/L16; rate=high", PCM) == PCM


def test_sound_comes_with_the_first_bytes() -> None:
    made = reader("audio/pcm")
    assert made.feed(PCM[:4]) == PCM[:4]


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("audio/pcm", b"", "empty"),
        ("audio/pcm", PCM[:-1], "odd"),
        ("audio/wav", ANY_TIME + PCM[:-1], "odd"),
        ("audio/wav", ANY_TIME, "empty"),
        ("audio/wav", ANY_TIME[:30], "cut"),
        ("audio/wav", wav_header(24_000, 1, 60) + PCM[:-2], "cut"),
        ("audio/wav", PCM, "not_audio"),
        ("audio/pcm", b"OggS" + PCM, "not_audio"),
        ("audio/wav", wav_header(24_000, 2, 60) + PCM, "header"),
        ("audio/L16; rate=24000; channels=2", PCM, "header"),
    ],
)
def test_what_is_not_whole_or_not_what_it_says_is_refused(
    kind: str, data: bytes, reason: str
) -> None:
    told = error(kind, data)
    assert (type(told), told.reason) == (BadAudioError, reason)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["audio/wav", "audio/pcm", ""])
def test_an_error_object_called_sound_is_read_to_its_end_and_told(kind: str) -> None:
    body = json.dumps({"status_code": 503, "detail": f"loading {TEXT}", "headers": None}).encode()
    for pieces in every_split(body):
        told = error(kind, *pieces)
        assert (type(told), told.status) == (UnavailableError, 503)  # type: ignore[attr-defined]


def test_a_page_called_sound_is_refused_even_when_it_does_not_end() -> None:
    assert "a web page" in str(error("audio/wav", b"<!doctype html>", b"<p>Sign in"))
    made = reader("audio/pcm")
    assert made.feed(b"<" + b"x" * 65_534) == b""
    with pytest.raises(BadAudioError):
        made.feed(b"xx")
        made.end()


def test_samples_that_begin_like_text_are_sound() -> None:
    samples = b"{" + PCM + b"\0"
    for pieces in every_split(samples):
        assert heard("audio/pcm", *pieces) == samples
    assert heard("audio/pcm", b"  \n ", PCM) == b"  \n " + PCM


PINGS = (
    b": ping - 2026-11-24 03:00:00.123456+00:00\r\n\r\n",
    b": ping - 2026-11-24 03:00:00\r\n\r\n",
    b": ping - 2026-11-24T03:00:00Z\r\n\r\n",
)


@pytest.mark.parametrize("ping", PINGS)
@pytest.mark.parametrize("at", [0, 1, 6, len(PCM)])
def test_a_ping_amid_bare_samples_is_taken_out(ping: bytes, at: int) -> None:
    data = PCM[:at] + ping + PCM[at:]
    for pieces in every_split(data):
        assert heard("application/octet-stream", *pieces) == PCM
    assert heard("audio/wav", ANY_TIME + PCM[:9], ping, PCM[9:], rate=22_050) == PCM


@pytest.mark.parametrize("almost", [b":", b": ping - ", PINGS[0][:-1] + b"!", b": pong - 2026"])
def test_what_only_begins_like_a_ping_is_sound(almost: bytes) -> None:
    for data in (PCM[:8] + almost, PCM[:8] + almost + PCM):
        data += b"\0" * (len(data) % 2)
        for pieces in every_split(data):
            assert heard("audio/pcm", *pieces) == data


# --- events

EVENTS = (
    f"event: speech.audio.delta\r\ndata: {delta(PCM[:7], response_format='pcm')}\r\n\r\n"
    ": ping - 2026-11-24 03:00:00\r\n\r\n"
    # Several data lines are one JSON text.
    "data: {\n"
    'data: "type": "speech.audio.delta",\n'
    f'data: "audio": "{base64.b64encode(PCM[7:20]).decode()}"\n'
    "data: }\n\n"
    'data: {"type": "speech.audio.note"}\n\n'
    f"data:{delta(PCM[20:])}\r\r"
    f"data: {DONE}\n\n"
).encode()


def test_events_split_anywhere() -> None:
    for pieces in every_split(EVENTS):
        assert heard(SSE, *pieces) == PCM


def test_an_event_may_be_known_by_its_name_alone() -> None:
    audio = base64.b64encode(PCM).decode()
    events = f'event: speech.audio.delta\ndata: {{"audio": "{audio}"}}\n\ndata: [DONE]\n\n'
    assert heard(SSE, events.encode()) == PCM


def test_the_last_event_needs_no_blank_line() -> None:
    assert heard(SSE, f"data: {delta(PCM)}\n\ndata: {DONE}".encode()) == PCM


def test_events_may_bring_a_wav_stream_or_a_file_each() -> None:
    one = ANY_TIME + PCM[:20]
    assert (
        heard(
            SSE,
            f"data: {delta(one)}\n\ndata: {delta(PCM[20:])}\n\ndata: {DONE}\n\n".encode(),
            rate=22_050,
        )
        == PCM
    )
    files = [wav_header(22_050, 1, 30) + PCM[at : at + 30] for at in (0, 30)]
    events = "".join(f"data: {delta(file)}\n\n" for file in files) + f"data: {DONE}\n\n"
    assert heard(SSE, events.encode(), rate=22_050) == PCM


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (f"data: {delta(PCM)}\n\n", "cut"),
        (f"data: {delta(PCM)}\n\ndata: {delta(PCM)[:20]}", "not_json"),
        (f"data: {DONE}\n\n", "empty"),
        (f"data: {delta(PCM[:3])}\n\ndata: {DONE}\n\n", "odd"),
        ('data: {"type": "speech.audio.delta", "audio": "a*"}\n\n', "base64"),
        ('data: {"type": "speech.audio.delta"}\n\n', "base64"),
        ("data: what?\n\n", "not_json"),
        ('data: {"type": "speech.audio.error"}\n\n', "cut"),
        ("", "cut"),
    ],
)
def test_broken_events_are_refused(events: str, reason: str) -> None:
    told = error(SSE, events.encode())
    assert (type(told), told.reason) == (BadAudioError, reason)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["", "event: error\n"])
def test_an_error_event_after_sound_is_that_error(name: str) -> None:
    said = {
        "type": "speech.audio.error",
        "error": {
            "message": f"failed at {TEXT}",
            "type": "server_error",
            "param": None,
            "code": 500,
        },
        "partial_audio": True,
        "action": "discard",
    }
    made = reader(SSE)
    assert made.feed(f"data: {delta(PCM)}\n\n".encode()) == PCM
    with pytest.raises(UnavailableError, match="failed at") as caught:
        made.feed(f"{name}data: {json.dumps(said)}\n\n".encode())
    assert (caught.value.status, caught.value.request_id) == (500, "r9")
    assert TEXT not in str(caught.value)


def test_an_error_object_without_a_type_is_an_error() -> None:
    told = error(SSE, b'data: {"error": {"message": "m", "code": 400}}\n\n')
    assert isinstance(told, BadRequestError)


# --- what is no stream


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "audio/wav"), (204, "audio/wav"), (200, "application/json"), (200, "audio/mpeg"),
     (200, "text/html"), (302, "")],
)  # fmt: skip
def test_other_heads_are_no_stream(status: int, kind: str) -> None:
    wire = OpenaiWire("http://tts/v1", SpeechOptions.from_config(ClientConfig()))
    made = wire.listen(TEXT, lambda _: pytest.fail(), "r1")
    assert not made.accept(status, {"content-type": kind})


@pytest.mark.parametrize(
    ("status", "kind", "body", "expected"),
    [
        (401, "application/json", b'{"error":"Unauthorized"}', AuthError),
        (429, "application/json", b'{"detail":"Rate limit reached"}', ThrottledError),
        (503, "application/json", b'{"detail":"loading"}', UnavailableError),
        (200, "application/json", b'{"status_code":500,"detail":"x"}', UnavailableError),
        (200, "application/json", b'{"status":"ok"}', BadAudioError),
        (200, "text/html", b"<html>", BadAudioError),
        (200, "audio/mpeg", b"\xff\xfb\x90", BadAudioError),
    ],
)
def test_a_whole_reply_is_told_as_the_error_that_it_means(
    status: int, kind: str, body: bytes, expected: type
) -> None:
    wire = OpenaiWire("http://tts/v1", SpeechOptions.from_config(ClientConfig()))
    made = wire.listen(TEXT, lambda _: pytest.fail(), "r1")
    told = made.refuse(Reply(status, {"content-type": kind}, body))
    assert type(told) is expected


def test_a_format_that_cannot_be_streamed_says_what_to_do() -> None:
    wire = OpenaiWire("http://tts/v1", SpeechOptions.from_config(ClientConfig()))
    made = wire.listen(TEXT, lambda _: pytest.fail(), "r1")
    told = made.refuse(Reply(200, {"content-type": "audio/mpeg"}, struct.pack("<4h", 1, 2, 3, 4)))
    assert "got audio/mpeg, which cannot be read as it comes; let the service send PCM" in str(told)


def test_bare_samples_have_the_rate_that_a_header_tells() -> None:
    wire = OpenaiWire("http://tts/v1", SpeechOptions.from_config(ClientConfig()))
    made = wire.listen(TEXT, lambda _: pytest.fail("asked"), "r1")
    assert made.accept(200, {"content-type": "audio/pcm", "x-sample-rate": "22050"})
    assert made.feed(PCM) + made.end() == PCM
    assert made.sample_rate == 22_050
    stereo = wire.listen(TEXT, lambda _: pytest.fail("asked"), "r1")
    headers = {"content-type": "audio/pcm", "x-sample-rate": "22050", "x-channels": "2"}
    assert stereo.accept(200, headers)
    with pytest.raises(BadAudioError, match="expected one channel, got 2"):
        stereo.feed(PCM)


def test_events_that_say_that_the_speech_was_cut_at_the_token_limit_are_no_success() -> None:
    audio = base64.b64encode(PCM).decode()
    events = [
        {"type": "speech.audio.delta", "audio": audio},
        {"type": "speech.audio.done", "usage": None, "finish_reason": "length"},
    ]
    raw = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    told = error(SSE, raw)
    assert isinstance(told, BadAudioError) and told.reason == "cut"
    assert heard(SSE, raw.replace(b"length", b"stop")) == PCM


def test_a_stream_at_a_wrong_address_says_where_it_asked() -> None:
    options = SpeechOptions.from_config(ClientConfig())
    made = OpenaiWire("http://tts/v1/audio/speech/batch", options).listen(
        TEXT, lambda _: pytest.fail("asked"), "r1"
    )
    told = made.refuse(Reply(404, {"content-type": "application/json"}, b"{}"))
    assert "(asked: http://tts/v1/audio/speech)" in str(told)


def test_a_stream_that_sglang_refuses_says_how_it_is_asked_right() -> None:
    said = {"error": {"message": "stream=true requires response_format='pcm'", "code": 400}}
    made = OpenaiWire("http://tts/v1", SpeechOptions.from_config(ClientConfig())).listen(
        TEXT, lambda _: pytest.fail("asked"), "r1"
    )
    told = made.refuse(Reply(400, {"content-type": "application/json"}, json.dumps(said).encode()))
    assert "extra={'service': 'sglang'}" in str(told)
