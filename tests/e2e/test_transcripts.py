"""Replies byte by byte, as services and what stands before them write them on their bad days.

No server of ours is in between: each reply stands here as it goes over the socket.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from scripted import FINISH, HOLD, READ, Peer, Scripted, Step
from test_websocket import BINARY, TEXT, frame, goodbye, greet, hear

from cosy_sync import CosyClient, RetryConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    BillingError,
    CosyError,
    CutError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.testing import tone_wav

SAID = "前方路口请左转，谢谢。"
WAV = tone_wav(SAID)
PCM = WAV[44:]
HALF = len(PCM) // 4 * 2
ANY_TIME = b"RIFF\xff\xff\xff\xff" + WAV[8:40] + b"\xff\xff\xff\xff"
ONCE: Any = {"retry": RetryConfig(max_retries=0, max_bad_audio=0), "deadline": 20}

MODEL = {"model": "cosyvoice-v3-flash", "voice": "longanyang"}
PATHS = {
    "batch": ("/batch", {}),
    "openai": ("/v1", {"model": "m", "voice": "v"}),
    "runtime_http": ("", {"voice": "中文女"}),
    "dashscope_http": ("/api/v1/services/audio/tts/SpeechSynthesizer", MODEL),
    "pai_eas": ("", {"voice": "v"}),
    "dashscope_ws": ("/api-ws/v1/inference", MODEL),
}

# What is expected: the class of the error, or None for the right sound.
Expected = type[CosyError] | None


def head(kind: str = "", *more: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *([f"Content-Type: {kind}"] if kind else []), *more, "", ""]
    return "\r\n".join(lines).encode()


def sized(kind: str, body: bytes, *, missing: int = 0) -> bytes:
    return head(kind, f"Content-Length: {len(body) + missing}") + body


def chunked(kind: str, *pieces: bytes, whole: bool = True) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    end = b"0\r\n\r\n" if whole else b""
    return head(kind, "Transfer-Encoding: chunked") + chunks + end


def said_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


VOX_BOX = said_json({"status_code": 500, "detail": "CUDA out of memory", "headers": None})
RESULTS = said_json(
    {"results": [{"index": 0, "status": "success", "audio_data": b64encode(WAV).decode()}]}
)


def part(sound: bytes, *, end: bool = True) -> bytes:
    first = b"--b\r\nContent-Type: audio/wav\r\nX-Index: 0\r\nX-Status: success\r\n\r\n"
    return first + sound + (b"\r\n--b--\r\n" if end else b"")


def dashscope(output: object, **more: object) -> bytes:
    return said_json({"request_id": "r", "output": output, **more})


INLINE = dashscope({"finish_reason": "stop", "audio": {"data": b64encode(WAV).decode()}})
EAS = dashscope({"finish_reason": None, "audio": {"data": b64encode(WAV).decode()}})
WHOLE_REPLIES: list[tuple[str, str, bytes, Expected]] = [
    ("batch", "whole", sized("application/json", RESULTS), None),
    ("batch", "cut", sized("application/json", RESULTS[:-9], missing=9), CutError),
    ("batch", "cut chunks", chunked("application/json", RESULTS[:900], whole=False), CutError),
    ("batch", "empty", sized("application/json", b""), BadAudioError),
    ("batch", "error", sized("application/json", b'{"error":"overloaded"}'), UnavailableError),
    ("batch", "parts", sized("multipart/mixed; boundary=b", part(WAV)), None),
    (
        "batch",
        "no last part",
        sized("multipart/mixed; boundary=b", part(WAV, end=False)),
        BadAudioError,
    ),
    ("batch", "endless part", sized("multipart/mixed; boundary=b", part(ANY_TIME + PCM)), None),
    ("batch", "lie", sized("application/json", part(WAV)), BadAudioError),
    ("openai", "whole", sized("audio/wav", WAV), None),
    ("openai", "cut", sized("audio/wav", WAV[:-9], missing=9), CutError),
    ("openai", "cut chunks", chunked("audio/wav", WAV[:-10], whole=False), CutError),
    ("openai", "cut file", sized("audio/wav", WAV[:-10]), BadAudioError),
    ("openai", "empty", sized("audio/wav", b""), BadAudioError),
    ("openai", "vox-box", sized("application/json", VOX_BOX), UnavailableError),
    ("openai", "JSON called sound", sized("audio/wav", VOX_BOX), UnavailableError),
    ("openai", "a page called sound", sized("audio/wav", b"<html><h1>Hi</h1>"), BadAudioError),
    ("openai", "endless", chunked("audio/wav", ANY_TIME, PCM), None),
    ("openai", "WAV called samples", sized("audio/pcm", WAV), None),
    ("openai", "samples called WAV", sized("audio/wav", PCM), BadAudioError),
    ("openai", "MP3 called WAV", sized("audio/wav", b"ID3\x04" + PCM), BadAudioError),
    ("runtime_http", "whole", chunked("", PCM[:HALF], PCM[HALF:]), None),
    ("runtime_http", "cut", chunked("", PCM[:HALF], whole=False), CutError),
    ("runtime_http", "empty", chunked(""), TextError),
    ("runtime_http", "odd", chunked("", PCM[:-1]), BadAudioError),
    ("runtime_http", "JSON", sized("application/json", VOX_BOX), UnavailableError),
    ("runtime_http", "JSON without a type", sized("", VOX_BOX), UnavailableError),
    ("runtime_http", "a page", sized("text/html", b"<html>"), BadAudioError),
    ("dashscope_http", "whole", sized("application/json", INLINE), None),
    ("dashscope_http", "empty", sized("application/json", b""), BadAudioError),
    (
        "dashscope_http",
        "no link",
        sized("application/json", dashscope({"finish_reason": "stop"})),
        BadAudioError,
    ),
    (
        "dashscope_http",
        "not done",
        sized("application/json", dashscope({"finish_reason": "null"})),
        BadAudioError,
    ),
    (
        *("dashscope_http", "a key in a 200"),
        sized("application/json", said_json({"code": "InvalidApiKey", "message": "no"})),
        AuthError,
    ),
    (
        *("dashscope_http", "a bill as 429"),
        head("application/json", "Content-Length: 30", status="429 Too Many")
        + b'{"code":"PostpaidBillOverdue"}',
        BillingError,
    ),
    ("dashscope_http", "a page", sized("text/html", b"<html>"), BadAudioError),
    ("dashscope_http", "cut", sized("application/json", dashscope({})[:-1], missing=1), CutError),
    ("pai_eas", "whole", sized("application/json", EAS), None),
    ("pai_eas", "done", sized("application/json", INLINE), None),
    ("pai_eas", "cut", sized("application/json", EAS[:-9], missing=9), CutError),
    ("pai_eas", "empty", sized("application/json", b""), BadAudioError),
    ("pai_eas", "no sound", sized("application/json", dashscope({})), BadAudioError),
    (
        *("pai_eas", "a reason in a 200"),
        sized("application/json", dashscope({"finish_reason": "CUDA out of memory"})),
        UnavailableError,
    ),
    (
        *("pai_eas", "an error in a 200"),
        sized("application/json", dashscope(None, error="CUDA out of memory")),
        UnavailableError,
    ),
    ("pai_eas", "a page", sized("text/html", b"<html>"), BadAudioError),
]


def client_of(service: Scripted, wire: str) -> CosyClient:
    path, settings = PATHS[wire]
    scheme = "ws" if wire == "dashscope_ws" else "http"
    url = f"{scheme}://127.0.0.1:{service.port}{path}"
    return CosyClient(url, wire=wire, **ONCE, **settings)


def names(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    return [f"{row[0]}: {row[1]}" for row in rows]


@pytest.mark.parametrize(
    ("wire", "name", "reply", "expected"), WHOLE_REPLIES, ids=names(WHOLE_REPLIES)
)
def test_a_whole_reply_is_the_right_sound_or_the_error_that_it_means(
    wire: str, name: str, reply: bytes, expected: Expected
) -> None:
    with Scripted([READ, reply, FINISH]) as service, client_of(service, wire) as client:
        if expected is None:
            assert client.synth(SAID).pcm() == PCM
            return
        with pytest.raises(CosyError) as caught:
            client.synth(SAID)
        assert type(caught.value) is expected
        assert SAID not in str(caught.value)


# -- streams -------------------------------------------------------------------------------------


def delta(sound: bytes) -> str:
    return json.dumps({"type": "speech.audio.delta", "audio": b64encode(sound).decode()})


BROKE = '{"type":"speech.audio.error","error":{"message":"CUDA","code":500},"partial_audio":true}'
EVENTS = (
    f"event: speech.audio.delta\r\ndata: {delta(PCM[:HALF])}\r\n\r\n: ping - 2026-11-24\r\n\r\n"
    f'data: {{"type": "speech.audio.delta",\ndata: "audio": "{b64encode(PCM[HALF:]).decode()}"}}'
    '\n\ndata: {"type": "speech.audio.done"}\n\n'
).encode()
BROKEN = f"data: {delta(PCM[:HALF])}\n\ndata: {BROKE}\n\n".encode()
SSE = "text/event-stream"


def result(sound: bytes, reason: str = "null") -> bytes:
    audio = {"data": b64encode(sound).decode()}
    data = dashscope({"finish_reason": reason, "audio": audio}).decode()
    # A line of its own in the middle: after a blank, where JSON allows it.
    at = data.index(", ", 20) + 1
    first, second = data[:at], data[at:]
    return f"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{first}\ndata:{second}\n\n".encode()


FAILED = b'event:error\ndata:{"code":"Throttling","message":"slow down","request_id":"r"}\n\n'
STREAMS: list[tuple[str, str, bytes, Expected]] = [
    ("openai", "events", chunked(SSE, EVENTS), None),
    ("openai", "events that break", chunked(SSE, BROKEN), UnavailableError),
    ("openai", "events without an end", chunked(SSE, EVENTS[:-40]), BadAudioError),
    ("openai", "events cut", chunked(SSE, EVENTS[:-40], whole=False), CutError),
    ("openai", "bare", chunked("audio/pcm", PCM[:HALF], PCM[HALF:]), None),
    ("openai", "bare, cut", chunked("audio/pcm", PCM[:HALF], whole=False), CutError),
    ("openai", "endless", chunked("audio/wav", ANY_TIME, PCM), None),
    ("openai", "empty", chunked("audio/pcm"), BadAudioError),
    ("openai", "JSON", sized("application/json", VOX_BOX), UnavailableError),
    ("openai", "JSON called sound", chunked("audio/pcm", VOX_BOX), UnavailableError),
    ("runtime_http", "bare", chunked("", PCM[:HALF], PCM[HALF:]), None),
    ("runtime_http", "cut", chunked("", PCM[:HALF], whole=False), CutError),
    ("runtime_http", "empty", chunked(""), TextError),
    ("runtime_http", "a WAV file", chunked("", ANY_TIME, PCM), BadAudioError),
    (
        "dashscope_http",
        "events",
        chunked(SSE, result(PCM[:HALF]), result(PCM[HALF:], "stop")),
        None,
    ),
    ("dashscope_http", "an error event", chunked(SSE, result(PCM[:HALF]), FAILED), ThrottledError),
    ("dashscope_http", "no stop", chunked(SSE, result(PCM)), CutError),
    ("dashscope_http", "cut", chunked(SSE, result(PCM[:HALF]), whole=False), CutError),
    ("pai_eas", "events", chunked(SSE, result(PCM[:HALF]), result(PCM[HALF:], "stop")), None),
    ("pai_eas", "no stop", chunked(SSE, result(PCM)), CutError),
    (
        *("pai_eas", "an error beside the output"),
        chunked(SSE, result(PCM[:HALF]), b'data: {"output":{},"error":"CUDA out of memory"}\n\n'),
        UnavailableError,
    ),
]


@pytest.mark.parametrize("drip", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(("wire", "name", "reply", "expected"), STREAMS, ids=names(STREAMS))
def test_a_stream_is_the_right_sound_or_ends_as_the_error_that_it_means(
    wire: str, name: str, reply: bytes, expected: Expected, drip: bool
) -> None:
    def dribble(peer: Peer) -> None:
        # Odd pieces, so that each sample, line and chunk is split somewhere.
        for at in range(0, len(reply), 977):
            peer.drip(reply[at : at + 3])
            peer.sock.sendall(reply[at + 3 : at + 977])

    step: Step = dribble if drip else reply
    with Scripted([READ, step, FINISH]) as service, client_of(service, wire) as client:
        heard = b""
        if expected is None:
            assert b"".join(client.stream(SAID)) == PCM
            return
        with pytest.raises(CosyError) as caught:
            for piece in client.stream(SAID):
                heard += piece
        assert type(caught.value) is expected
        assert caught.value.partial == heard and PCM.startswith(heard)


# -- WebSocket -----------------------------------------------------------------------------------


def event(name: str, **more: str) -> bytes:
    return frame(TEXT, said_json({"header": {"event": name, **more}, "payload": {}}))


def heard_text(peer: Peer) -> None:
    """Read continue-task and finish-task."""
    hear(peer)
    hear(peer)


BEGUN: tuple[Step, ...] = (greet, hear, event("task-started"), heard_text)
TALKS: list[tuple[str, str, tuple[Step, ...], Expected]] = [
    (
        *("dashscope_ws", "in odd frames"),
        (
            *BEGUN,
            event("result-generated") + frame(BINARY, PCM[: HALF + 1], fin=False) + frame(9, b"?"),
            frame(0, PCM[HALF + 1 :]) + event("no-such-event") + event("task-finished"),
            HOLD,
        ),
        None,
    ),
    (
        *("dashscope_ws", "task-failed after sound"),
        (
            *BEGUN,
            frame(BINARY, PCM[:HALF]),
            event("task-failed", error_code="InternalError.Algo", error_message="no"),
            HOLD,
        ),
        UnavailableError,
    ),
    (
        *("dashscope_ws", "task-failed at once"),
        (
            greet,
            hear,
            event("task-failed", error_code="InvalidParameter", error_message="418"),
            HOLD,
        ),
        BadRequestError,
    ),
    (
        "dashscope_ws",
        "a goodbye",
        (*BEGUN, frame(BINARY, PCM[:HALF]), goodbye(1000), HOLD),
        CutError,
    ),
    ("dashscope_ws", "a reproach", (*BEGUN, goodbye(1007, "bad JSON"), HOLD), BadRequestError),
    ("dashscope_ws", "no goodbye", (*BEGUN, frame(BINARY, PCM[:HALF])), CutError),
    ("dashscope_ws", "nothing spoken", (*BEGUN, event("task-finished"), HOLD), BadAudioError),
    ("dashscope_ws", "no JSON", (greet, hear, frame(TEXT, b"hello"), HOLD), BadAudioError),
    ("dashscope_ws", "too early", (greet, hear, frame(BINARY, PCM), HOLD), BadAudioError),
    (
        *("dashscope_ws", "half a sample"),
        (*BEGUN, frame(BINARY, PCM[:-1]) + event("task-finished"), HOLD),
        BadAudioError,
    ),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("wire", "name", "steps", "expected"), TALKS, ids=names(TALKS))
def test_a_task_is_the_right_sound_or_ends_as_the_error_that_it_means(
    wire: str, name: str, steps: tuple[Step, ...], expected: Expected, streamed: bool
) -> None:
    with Scripted(list(steps)) as service, client_of(service, wire) as client:

        def speak() -> bytes:
            return b"".join(client.stream(SAID)) if streamed else client.synth(SAID).pcm()

        if expected is None:
            assert speak() == PCM
            return
        with pytest.raises(CosyError) as caught:
            speak()
        assert type(caught.value) is expected
