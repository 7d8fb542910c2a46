"""The wire dashscope_http, streamed: server-sent events at any cut, as Alibaba's service writes."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from typing import Any

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    CosyError,
    CutError,
    InvalidTextError,
    ServerError,
    ThrottledError,
)
from cosy_sync.messages import Reply, Request
from cosy_sync.wires import SpeechOptions, create_wire

URL = "https://dashscope.aliyuncs.com/api/v1/services/audio/tts/SpeechSynthesizer"
SSE = {"content-type": "text/event-stream;charset=UTF-8"}
ONE, TWO = b"\x01\x02\x03\x04\x05\x06", b"\x07\x08\x09\x0a"


def never(request: Any) -> Reply:
    raise AssertionError("a stream asks nothing before")


def reader(text: str = "你好", **settings: Any) -> Any:
    needed = {"model": "cosyvoice-v3-flash", "voice": "longanyang", "api_key": "sk-1"}
    options = SpeechOptions.from_config(ClientConfig(**{**needed, **settings}))
    return create_wire("dashscope_http", URL, options).listen(text, never, "r1")


def event(output: dict[str, Any], number: int = 1, status: int = 200) -> bytes:
    body = {"request_id": "3f2d5c86", "output": output, "usage": {"characters": 4}}
    data = json.dumps(body, ensure_ascii=False)
    return f"id:{number}\nevent:result\n:HTTP_STATUS/{status}\ndata:{data}\n\n".encode()


def sound(data: bytes) -> bytes:
    return event(
        {
            "type": "sentence-synthesis",
            "finish_reason": "null",
            "sentence": {"index": 0, "words": []},
            "audio": {"data": b64encode(data).decode(), "url": ""},
        }
    )


BEGIN = event({"type": "sentence-begin", "original_text": "你好", "finish_reason": "null"})
END = event({"type": "sentence-end", "original_text": "你好", "sentence": {"index": 0}})
STOP = event({"finish_reason": "stop", "audio": {"data": "", "url": "http://oss/x.mp3"}})
WHOLE = BEGIN + sound(ONE) + sound(TWO) + END + STOP
# The same as another server would write it: a mark, CRLF, blanks, pings, two data lines.
UGLY = (
    b"\xef\xbb\xbf: ping\r\n\r\nretry: 10\r\n\r\nid: 1\r\nevent: result\r\n:HTTP_STATUS/200\r\n"
    b'data: {"output":{"type":"sentence-synthesis","finish_reason":"null",\r\n'
    b'data:  "audio":{"data":"AQIDBAUG"}}}\r\n\r\n: ping in between\r\n\r\n'
    b'data: {"output":{"finish_reason":null,"audio":{"data":"BwgJCg=="}}}\r\n\r\n'
    b'event: done\r\ndata: {"output":{"finish_reason":"stop"}}\r\n\r\n'
)


def listen(*pieces: bytes, **settings: Any) -> bytes:
    stream = reader(**settings)
    assert stream.accept(200, SSE)
    heard = b"".join([stream.feed(piece) for piece in pieces])
    assert len(heard) % 2 == 0
    return heard + stream.end()


def test_a_stream_is_asked_for() -> None:
    stream = reader(headers={"X-Mine": "1"})
    request = stream.request
    assert isinstance(request, Request)
    assert (request.method, request.url, request.foreign) == ("POST", URL, False)
    assert request.headers == (
        ("Accept", "text/event-stream"),
        ("X-DashScope-SSE", "enable"),
        ("X-Accel-Buffering", "no"),
        ("Accept-Encoding", "identity"),
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer sk-1"),
        ("X-Mine", "1"),
    )
    assert json.loads(request.body)["input"] == {
        "text": "你好",
        "voice": "longanyang",
        "format": "pcm",
        "sample_rate": 24_000,
        "rate": 1.0,
    }
    assert stream.sample_rate == 24_000


def test_half_a_character_is_refused_before_sending() -> None:
    with pytest.raises(InvalidTextError):
        reader("a\udfff")


@pytest.mark.parametrize("script", [WHOLE, UGLY], ids=["plain", "ugly"])
def test_any_cut_gives_the_same_sound(script: bytes) -> None:
    assert listen(script) == ONE + TWO
    assert listen(*(script[at : at + 1] for at in range(len(script)))) == ONE + TWO
    for at in range(len(script)):
        assert listen(script[:at], script[at:]) == ONE + TWO


def test_sound_comes_with_its_event_and_in_whole_samples() -> None:
    stream = reader()
    assert stream.feed(BEGIN + sound(ONE)) == ONE
    assert stream.feed(sound(b"\x11\x12\x13")) == b"\x11\x12"
    assert stream.feed(sound(b"\x14")) == b"\x13\x14"
    assert stream.feed(STOP) == b""
    assert stream.end() == b""


def test_first_bytes_wait_until_they_are_surely_no_file() -> None:
    stream = reader()
    assert stream.feed(sound(b"RI")) == b""
    assert stream.feed(sound(b"FE")) == b"RIFE"
    stream = reader()
    assert stream.feed(sound(b"RIF")) == b""
    with pytest.raises(BadAudioError) as caught:
        stream.feed(sound(b"F\xff\xff\xff\xffWAVE"))
    assert caught.value.reason == "header"
    assert listen(sound(b"RI"), STOP) == b"RI"


@pytest.mark.parametrize("end", [len(WHOLE) - len(STOP), len(WHOLE) - 10, 0, 100])
def test_a_stream_without_its_stop_was_cut(end: int) -> None:
    with pytest.raises(CutError):
        listen(WHOLE[:end])


def test_only_the_last_blank_line_may_be_missing() -> None:
    assert listen(WHOLE[:-1]) == ONE + TWO
    assert listen(WHOLE[:-2]) == ONE + TWO


def test_what_follows_the_stop_is_not_heard() -> None:
    assert listen(WHOLE + sound(ONE) + b"data: rubbish\n\n") == ONE + TWO


def test_sound_in_the_last_event_is_heard() -> None:
    data = b64encode(TWO).decode()
    last = event({"finish_reason": "stop", "audio": {"data": data}})
    assert listen(sound(ONE), last) == ONE + TWO


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (BEGIN + END + STOP, "empty"),
        (sound(ONE + b"\x01") + STOP, "odd"),
        (b"data: {\n\n", "not_json"),
        (b"data: 12\n\n", "not_audio"),
        (b"data: {}\n\n", "not_audio"),
        (event({"audio": {"data": "A"}}), "base64"),
        (event({"audio": {"data": "AQ*="}}), "base64"),
        (event({"finish_reason": "length", "audio": {"data": "AQI="}}), "unfinished"),
        (event({"finish_reason": {"a": 1}}), "unfinished"),
        # The last event, without the blank line that ends it.
        (event({"finish_reason": "stop", "audio": {"data": "@"}})[:-2], "base64"),
    ],
)
def test_what_is_no_sound_is_refused(script: bytes, reason: str) -> None:
    with pytest.raises(BadAudioError) as caught:
        listen(script)
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["event:error", "event: error"])
def test_an_error_event_ends_the_stream(name: str) -> None:
    told = '{"code":"Throttling.RateQuota","message":"too fast for 这是一个秘密","request_id":"3f"}'
    stream = reader("这是一个秘密")
    assert stream.feed(sound(ONE)) == ONE
    with pytest.raises(ThrottledError) as caught:
        stream.feed(f"id:2\n{name}\n:HTTP_STATUS/429\ndata:{told}\n\n".encode())
    assert caught.value.request_id == "3f"
    assert "too fast for" in str(caught.value)
    assert "秘密" not in str(caught.value)


def test_an_error_event_without_words_is_an_error() -> None:
    with pytest.raises(ServerError):
        listen(sound(ONE) + b"event:error\ndata:{}\n\n")


def test_an_error_among_the_results_is_an_error() -> None:
    with pytest.raises(AuthError):
        listen(b'event:result\ndata:{"code":"InvalidApiKey","message":"no"}\n\n')


@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, {"content-type": "application/json"}), (200, {}), (401, SSE), (302, SSE)],
)
def test_only_a_200_of_events_is_listened_to(status: int, headers: dict[str, str]) -> None:
    assert reader().accept(status, headers) is False


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(401, {}, b'{"code":"InvalidApiKey","message":"Invalid API-key"}'), "InvalidApiKey"),
        (Reply(200, {}, b'{"code":"Throttling","message":"later"}'), "later"),
        (Reply(200, {}, b'{"output":{"finish_reason":"stop"}}'), "does a proxy gather"),
        (Reply(200, {}, b"<html>"), "neither events nor JSON"),
        (Reply(200, {}, b"[]"), "JSON without output"),
        (Reply(502, {}, b"<title>Bad Gateway</title>"), "Bad Gateway"),
    ],
)
def test_a_whole_reply_in_place_of_a_stream_says_why(reply: Reply, words: str) -> None:
    error = reader().refuse(reply)
    assert isinstance(error, CosyError)
    assert words in str(error)


def test_any_bytes_end_as_sound_or_as_an_error() -> None:
    dice = random.Random(7)
    ends = {"heard": 0, "refused": 0}
    for _ in range(400):
        script = bytearray(WHOLE)
        for _ in range(dice.randrange(4)):
            script[dice.randrange(len(script))] = dice.randrange(256)
        at = dice.randrange(len(script))
        try:
            listen(bytes(script[:at]), bytes(script[at:]))
            ends["heard"] += 1
        except CosyError:
            ends["refused"] += 1
    assert min(ends.values()) > 20
