"""The wire dashscope_http over real sockets: our client, a bare socket and Alibaba's own SDK."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from faults import HTTP_TROUBLE

import cosy_sync
from cosy_sync import CosyClient, Endpoint, Outcome, PoolConfig, RetryConfig, TimeoutConfig
from cosy_sync.config import ClientConfig
from cosy_sync.net import connect as dial
from cosy_sync.server import FAULTS, Server, tone_wav
from cosy_sync.wires import SpeechOptions, create_wire
from tests.e2e.scripted import READ, Scripted, reply

PAGE = Path(__file__).parents[2] / "docs/wire-dashscope_http.md"
PATH = "/api/v1/services/audio/tts/SpeechSynthesizer"
TEXTS = [f"前方第{number}个路口请向左转弯" for number in range(8)]
KEY = "sk-0123456789"
NEEDED: dict[str, Any] = {
    "wire": "dashscope_http",
    "model": "cosyvoice-v3-flash",
    "voice": "longanyang",
}
QUICK: dict[str, Any] = {
    "retry": RetryConfig(max_retries=1, base=0.01, outlast=0),
    "timeouts": TimeoutConfig(connect=2.0, first_byte=1.5, idle=1.5),
    "deadline": 6.0,
}
# What only a limit of ours ends.
ENDLESS = {"stall", "stall-mid", "length-long", "drip"}
PATIENCE = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0, seed=1) as running:
        yield running


def connect(server: Server, **settings: Any) -> CosyClient:
    return CosyClient(Endpoint(server.base_url, rate=1_000.0), **{**NEEDED, **settings})


def speak(server: Server, fault: str) -> list[Outcome]:
    # Throttled bulk work waits for its turn as long as it may.
    settings = {**QUICK, "deadline": 1.0} if fault.startswith("throttle") else QUICK
    if fault in ENDLESS:
        timeouts = TimeoutConfig(connect=2.0, first_byte=0.5, idle=0.5)
        settings = {**QUICK, "timeouts": timeouts, "deadline": 2.0}
    with connect(server, headers={"X-Cosy-Fault": fault}, **settings) as client:
        return client.synth_many(TEXTS[:2], on_error="return")


# -- our client ---------------------------------------------------------------------------------


def test_one_text_is_spoken(server: Server) -> None:
    with connect(server) as client:
        audio = client.synth("你好，世界")
    assert audio.data == tone_wav("你好，世界")


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_format_rate_and_speed_are_as_asked(server: Server, rate: int) -> None:
    with connect(server, format="pcm", sample_rate=rate, speed=1.5) as client:
        audio = client.synth("你好，世界")
    expected = tone_wav("你好，世界", sample_rate=rate, speed=1.5)
    assert (audio.format, audio.sample_rate, audio.wav()) == ("pcm", rate, expected)


def test_many_texts_come_in_their_order_over_few_connections() -> None:
    with Server(latency=0.01, rate=0, max_connections=3) as server:
        with connect(server) as client:
            audios = client.synth_many(TEXTS * 4)
        stats = server.stats()
    assert [audio.data for audio in audios] == [tone_wav(text) for text in TEXTS * 4]
    assert stats["batches"] == 32
    assert stats["requests"] == 64
    assert stats["connections_peak"] <= 3  # type: ignore[operator]
    assert stats["refused"] == 0


def test_a_text_that_cannot_be_spoken_fails_alone(server: Server) -> None:
    texts = [TEXTS[0], "[fail] 你好", TEXTS[1], "[refuse] 你好"]
    with connect(server, **QUICK) as client:
        outcomes = client.synth_many(texts, on_error="return")
    assert [outcome.ok for outcome in outcomes] == [True, False, True, False]
    assert "DataInspectionFailed" in str(outcomes[3].error)
    assert not outcomes[3].error.attempts  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"voice": "nobody"}, "418"),
        ({"extra": {"volume": 101}}, "volume"),
        ({"headers": {"X-Cosy-Fault": "no-such"}}, "X-Cosy-Fault"),
    ],
)
def test_what_the_service_refuses_is_not_asked_again(
    server: Server, settings: Any, words: str
) -> None:
    with connect(server, **settings) as client, pytest.raises(cosy_sync.BadRequestError) as caught:
        client.synth("你好")
    assert words in str(caught.value)
    assert caught.value.attempts == ()


def test_a_wrong_key_says_what_to_check() -> None:
    with Server(latency=0, api_key=KEY) as server:
        wrong = connect(server, api_key="sk-wrong")
        with wrong, pytest.raises(cosy_sync.AuthError, match="check api_key"):
            wrong.synth("你好")
        with connect(server, api_key=KEY) as client:
            assert client.synth("你好").data == tone_wav("你好")
        assert server.stats()["keys_leaked"] == 0


def test_throttling_is_waited_for_and_costs_no_text() -> None:
    with Server(latency=0, rate=10) as server:
        with connect(server, retry=RetryConfig(max_retries=8), deadline=50.0) as client:
            audios = client.synth_many(TEXTS * 2)
        assert [audio.data for audio in audios] == [tone_wav(text) for text in TEXTS * 2]
        assert server.stats()["throttled"] > 0  # type: ignore[operator]


REFUSED = {
    **HTTP_TROUBLE,
    # Made on first use, which may take longer than is waited here.
    "gzip-bomb": (cosy_sync.BadAudioError, cosy_sync.ReplyTimeout),
    "bad-wav": cosy_sync.BadAudioError,
    "empty-audio": cosy_sync.BadAudioError,
    "odd-audio": cosy_sync.BadAudioError,
    "short-audio": cosy_sync.BadAudioError,
    "silent-audio": cosy_sync.BadAudioError,
    "swapped-type": cosy_sync.BadAudioError,
    "text-error": cosy_sync.ServerError,
    "too-few": cosy_sync.ServerError,
    # Slower than anybody waits: a byte, a pause, a byte.
    "drip": cosy_sync.CosyError,
}
# The others need several texts in a call, or a reply of another form; or they only take time.
HARMLESS = sorted(set(FAULTS) - set(REFUSED))


@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_a_fault_ends_as_its_named_error(server: Server, fault: str) -> None:
    for outcome in speak(server, fault):
        error = outcome.error
        assert error is not None
        ours = (cosy_sync.DeadlineError, cosy_sync.RefusedError)
        met = [each for each in (*error.attempts, error) if not isinstance(each, ours)]
        if fault.startswith("throttle"):
            # Bulk work waits for its turn until its deadline, which may cut the last attempt; and
            # not every text was asked.
            met = [each for each in met if not getattr(each, "timed_out", False)]
        else:
            assert met or fault == "drip"
        assert all(isinstance(each, REFUSED[fault]) for each in met), met


@pytest.mark.parametrize("fault", HARMLESS)
def test_a_fault_of_other_wires_means_nothing_here(server: Server, fault: str) -> None:
    assert [outcome.ok for outcome in speak(server, fault)] == [True, True]


def test_rubbish_after_a_reply_is_never_read_as_the_next_one(server: Server) -> None:
    with connect(server, headers={"X-Cosy-Fault": "extra-after"}) as client:
        for text in TEXTS:
            assert client.synth(text).data == tone_wav(text)


# -- the link -----------------------------------------------------------------------------------


@contextlib.contextmanager
def a_service_that_says(link: str) -> Iterator[Scripted]:
    output = {"finish_reason": "stop", "audio": {"data": "", "url": link}}
    body = json.dumps({"output": output, "request_id": "r"}).encode()
    with Scripted([READ, reply(body), READ, reply(body), READ, reply(body)]) as api:
        yield api


def ask(api: Scripted, text: str, **settings: Any) -> cosy_sync.Audio:
    url = f"http://127.0.0.1:{api.port}{PATH}"
    near: dict[str, Any] = {"pool": PoolConfig(private_links=True), **NEEDED, **QUICK}
    settings = {**near, "api_key": KEY, "headers": {"X-Mine": "mine-123"}, **settings}
    with CosyClient(url, **settings) as client:
        return client.synth(text)


def test_the_other_host_gets_a_request_that_tells_nothing_of_the_caller() -> None:
    wav = tone_wav("你好")
    with Scripted([READ, reply(wav, "Content-Type: audio/x-wav")]) as oss:
        link = f"http://127.0.0.1:{oss.port}/1d/a.wav?Expires=1&Signature=a%2Bb"
        with a_service_that_says(link) as api:
            assert ask(api, "你好").data == wav
    ((request,),) = oss.requests
    assert request == (
        b"GET /1d/a.wav?Expires=1&Signature=a%%2Bb HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
        b"Accept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: cosy-sync/%b\r\n"
        b"Content-Length: 0\r\n\r\n" % (oss.port, cosy_sync.__version__.encode())
    )
    ((post,),) = api.requests
    assert f"Authorization: Bearer {KEY}".encode() in post
    assert b"X-Mine: mine-123" in post


def test_a_client_that_the_caller_brings_tells_nothing_of_them_either() -> None:
    wav = tone_wav("你好")
    with (
        Scripted([READ, reply(wav)]) as oss,
        a_service_that_says(f"http://127.0.0.1:{oss.port}/a.wav?Signature=s") as api,
        httpx.Client(
            headers={"X-Secret": "mine-123", "User-Agent": "mine-123"},
            cookies={"session": "mine-123"},
            params={"token": "mine-123"},
            auth=("mine-123", "mine-123"),
        ) as mine,
    ):
        assert ask(api, "你好", http_client=mine).data == wav
    ((request,),) = oss.requests
    assert request.startswith(b"GET /a.wav?Signature=s HTTP/1.1\r\n")
    for secret in (b"mine-123", b"Authorization", b"Cookie", KEY.encode()):
        assert secret.lower() not in request.lower()
    ((post,),) = api.requests
    assert b"mine-123" in post


@pytest.mark.parametrize("brought", [False, True])
def test_a_redirect_of_the_link_is_not_followed(brought: bool) -> None:
    with Scripted([READ, reply(b"secret")]) as inner:
        location = f"Location: http://127.0.0.1:{inner.port}/metadata"
        moved = reply(b"", location, status="302 Found")
        with (
            Scripted([READ, moved, READ, moved]) as oss,
            a_service_that_says(f"http://127.0.0.1:{oss.port}/a.wav") as api,
            httpx.Client(follow_redirects=True) as mine,
        ):
            given = {"http_client": mine} if brought else {}
            with pytest.raises(cosy_sync.BadAudioError, match="HTTP 302"):
                ask(api, "你好", **given)
        assert inner.requests == []


def test_a_file_of_implausible_size_is_not_read() -> None:
    huge = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"
    with (
        Scripted([READ, huge, READ]) as oss,
        a_service_that_says(f"http://127.0.0.1:{oss.port}/a.wav") as api,
        pytest.raises(cosy_sync.BadAudioError, match="bytes"),
    ):
        ask(api, "你好", retry=RetryConfig(max_retries=0))


def test_a_cut_file_is_asked_for_again_and_the_speech_is_not() -> None:
    wav = tone_wav("你好")
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(wav)}\r\n\r\n".encode()
    with Scripted([READ, head + wav[:1000]], [READ, reply(wav)]) as oss:
        with a_service_that_says(f"http://127.0.0.1:{oss.port}/a.wav") as api:
            audio = ask(api, "你好")
        assert audio.data == wav
        assert audio.timing is not None and audio.timing.attempts == 1
    assert [len(peer) for peer in api.requests] == [1]


@pytest.mark.parametrize("brought", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "inside.example.com"])
def test_a_link_into_a_private_network_is_not_followed(
    host: str, brought: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def look_up(name: str, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if name == "inside.example.com" else name, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with (
        Scripted([READ, reply(b"secret")]) as inner,
        a_service_that_says(f"http://{host}:{inner.port}/latest/meta-data") as api,
        httpx.Client() as mine,
    ):
        given = {"http_client": mine} if brought else {}
        with pytest.raises(cosy_sync.BadAudioError, match=r"private_links=True") as caught:
            ask(api, "你好", pool=PoolConfig(), **given)
        assert caught.value.reason == "link"
        assert inner.requests == []


def test_of_a_links_addresses_a_public_one_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The name leads inside at the first look-up and would at any later one: what was looked at is
    # what is connected to.
    asked: list[str] = []
    really_connect, really_look_up = dial._connect_plain, socket.getaddrinfo

    def connect(address: str, port: int, until: float) -> socket.socket:
        if address == "127.0.0.1":
            return really_connect(address, port, until)
        asked.append(address)
        raise OSError("no way")

    def look_up(name: str, *rest: Any, **more: Any) -> Any:
        if name != "oss.example.com":
            return really_look_up(name, *rest, **more)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("10.0.0.7", 80)), (*kind, ("93.184.216.34", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(dial, "_connect_plain", connect)
    once = RetryConfig(max_retries=0)
    failure = pytest.raises(cosy_sync.ConnectError, match=r"the sound at oss\.example\.com")
    with a_service_that_says("http://oss.example.com/a.wav") as api, failure:
        ask(api, "你好", pool=PoolConfig(), retry=once)
    assert asked == ["93.184.216.34"] * 2


def test_links_leave_nothing_behind(server: Server) -> None:
    with connect(server) as client:
        client.synth_many(TEXTS)
        sender: Any = client._core.engine().network
        assert len(sender._addresses) == 1


# -- the server, byte by byte -------------------------------------------------------------------


def raw(server: Server, method: str, target: str, body: Any = None, **headers: str) -> Any:
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        sock.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + data)
        got = b"".join(iter(lambda: sock.recv(65_536), b""))
    head, _, rest = got.partition(b"\r\n\r\n")
    first, *given = head.decode().split("\r\n")
    named = dict(line.lower().split(": ", 1) for line in given)
    if named.get("transfer-encoding") == "chunked":
        rest = b"".join(rest.split(b"\r\n")[1::2])
    return int(first.split()[1]), named, rest


def call(**given: Any) -> dict[str, Any]:
    speech = {"text": "你好", "voice": "longanyang", "format": "wav", **given}
    return {"model": "cosyvoice-v3-flash", "input": speech}


def test_the_json_reply_has_the_documents_shape(server: Server) -> None:
    status, headers, body = raw(server, "POST", PATH, call(sample_rate=16_000))
    said = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert set(said) == {"request_id", "output", "usage"}
    assert said["usage"] == {"characters": 4}
    assert said["output"]["finish_reason"] == "stop"
    assert set(said["output"]["audio"]) == {"data", "url", "id", "expires_at"}
    link = said["output"]["audio"]["url"]
    assert link.startswith(server.base_url + "/")
    status, headers, body = raw(server, "GET", link.removeprefix(server.base_url))
    assert (status, headers["content-type"]) == (200, "audio/x-wav")
    assert body == tone_wav("你好", sample_rate=16_000)


def test_the_events_come_in_the_documents_order(server: Server) -> None:
    status, headers, body = raw(
        server, "POST", PATH, call(format="pcm", sample_rate=24_000), X_DashScope_SSE="enable"
    )
    assert (status, headers["content-type"]) == (200, "text/event-stream;charset=utf-8")
    *events, empty = body.decode().split("\n\n")
    assert empty == ""
    outputs = []
    for number, event in enumerate(events, 1):
        identity, name, comment, data = event.split("\n")
        assert (identity, name, comment) == (f"id:{number}", "event:result", ":HTTP_STATUS/200")
        outputs.append(json.loads(data.removeprefix("data:"))["output"])
    kinds = [output.get("type") for output in outputs]
    assert kinds[0] == "sentence-begin"
    assert set(kinds[1:-2]) == {"sentence-synthesis"}
    assert kinds[-2:] == ["sentence-end", None]
    assert [output["finish_reason"] for output in outputs[:-1]] == ["null"] * (len(outputs) - 1)
    assert outputs[-1]["finish_reason"] == "stop"
    assert outputs[-1]["audio"]["url"]
    sound = b"".join(base64.b64decode(output["audio"]["data"]) for output in outputs)
    assert sound == tone_wav("你好")[44:]


def test_a_streamed_wav_has_one_header_whose_lengths_are_not_final(server: Server) -> None:
    _, _, body = raw(server, "POST", PATH, call(sample_rate=24_000), X_DashScope_SSE="enable")
    stops = [json.loads(line[5:]) for line in body.decode().split("\n") if line[:5] == "data:"]
    sound = b"".join(base64.b64decode(each["output"]["audio"]["data"]) for each in stops)
    assert sound[:4] == b"RIFF"
    assert sound[40:44] == (0x7FFF_FFFF - 36).to_bytes(4, "little")
    assert sound[44:] == tone_wav("你好")[44:]
    link = stops[-1]["output"]["audio"]["url"].removeprefix(server.base_url)
    assert raw(server, "GET", link)[2] == tone_wav("你好")


def test_a_text_that_fails_in_a_stream_is_an_error_event(server: Server) -> None:
    body = call(text="[fail] 你好", format="pcm")
    status, _, said = raw(server, "POST", PATH, body, X_DashScope_SSE="enable")
    assert status == 200
    last = said.decode().split("\n\n")[-2].split("\n")
    assert last[1:3] == ["event:error", ":HTTP_STATUS/400"]
    assert json.loads(last[3][5:])["code"] == "InvalidParameter"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": {}}, "payload.model"),
        ({"model": "m"}, "payload.input"),
        ({"model": "m", "input": {}}, "task can not be null"),
        (call(text=" "), "task can not be null"),
        (call(voice="nobody"), "Engine return error code: 418"),
        (call(voice=None), "Engine return error code: 418"),
        (call(format="mp3"), "wav and pcm"),
        (call(sample_rate=44_000), "Engine return error code"),
        (call(rate=2.1), "rate"),
        (call(pitch=True), "pitch"),
        (call(text="x" * 5_001), "5000"),
        (call(text="\ud800"), "ensure input text is valid"),
        ([], "not a JSON object"),
        (b"{", "not JSON"),
    ],
)
def test_wrong_bodies_are_refused_in_dashscopes_words(
    server: Server, body: Any, words: str
) -> None:
    status, _, said = raw(server, "POST", PATH, body)
    told = json.loads(said)
    assert status == 400
    assert set(told) == {"code", "message", "request_id"}
    assert told["code"] == "InvalidParameter"
    assert words in told["message"]


def test_limits_and_keys_are_told_in_dashscopes_words() -> None:
    with Server(latency=0, rate=1, api_key=KEY) as server:
        status, _, said = raw(server, "POST", PATH, call())
        assert (status, json.loads(said)["code"]) == (401, "InvalidApiKey")
        key = {"Authorization": f"Bearer {KEY}"}
        assert raw(server, "POST", PATH, call(), **key)[0] == 200
        status, _, said = raw(server, "POST", PATH, call(), **key)
        assert (status, json.loads(said)["code"]) == (429, "Throttling.RateQuota")


def test_tasks_to_be_asked_for_later_are_throttled(server: Server) -> None:
    status, _, said = raw(server, "POST", PATH, call(), X_DashScope_Async="enable")
    assert (status, json.loads(said)["code"]) == (429, "Throttling")


def test_a_file_needs_no_key_and_tells_of_one_that_came() -> None:
    with Server(latency=0, api_key=KEY) as server:
        _, _, said = raw(server, "POST", PATH, call(), Authorization=f"Bearer {KEY}")
        link = json.loads(said)["output"]["audio"]["url"].removeprefix(server.base_url)
        assert raw(server, "GET", link)[0] == 200
        assert server.stats()["keys_leaked"] == 0
        assert raw(server, "GET", link, Authorization="Bearer other")[0] == 200
        assert server.stats()["keys_leaked"] == 1
        assert raw(server, "GET", link + "0")[0] == 403


def test_only_so_much_sound_is_kept() -> None:
    with Server(latency=0, rate=0, audio_bytes=40_000_000) as server:
        links = []
        for _ in range(2):
            _, _, said = raw(server, "POST", PATH, call())
            links.append(json.loads(said)["output"]["audio"]["url"].removeprefix(server.base_url))
        assert raw(server, "GET", links[0])[0] == 403
        assert len(raw(server, "GET", links[1])[2]) == 40_000_044


# -- the stream reader, fed by a socket ---------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("", None),
        ("late", None),
        ("bad-base64", cosy_sync.BadAudioError),
        ("odd-audio", cosy_sync.BadAudioError),
        ("empty-audio", cosy_sync.BadAudioError),
        ("text-error", cosy_sync.ServerError),
        ("cut", cosy_sync.CutError),
        ("reset-mid", cosy_sync.CutError),
        ("not-json", cosy_sync.BadAudioError),
        ("json-object", cosy_sync.ServerError),
        ("throttle", cosy_sync.ThrottledError),
        ("status-503", cosy_sync.UnavailableError),
    ],
)
def test_what_the_server_streams_is_heard(server: Server, fault: str, error: Any) -> None:
    config = ClientConfig(**NEEDED, headers={"X-Cosy-Fault": fault} if fault else {})
    options = SpeechOptions.from_config(config)
    wire = create_wire("dashscope_http", server.base_url, options)
    reader: Any = wire.listen("你好", None, "r")  # type: ignore[arg-type]
    post = reader.request
    caught: BaseException | None = None
    heard = b""
    with httpx.stream("POST", post.url, headers=post.headers, content=post.body) as response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        try:
            if not reader.accept(response.status_code, headers):
                whole = cosy_sync.messages.Reply(response.status_code, headers, response.read())
                raise reader.refuse(whole)
            with contextlib.suppress(httpx.TransportError):
                for data in response.iter_raw(97):
                    heard += reader.feed(data)
            heard += reader.end()
        except cosy_sync.CosyError as cause:
            caught = cause
    if error is None:
        assert caught is None
        assert heard == tone_wav("你好")[44:]
    else:
        assert isinstance(caught, error), caught


# -- Alibaba's SDK ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdk() -> Iterator[Any]:
    pytest.importorskip("dashscope", reason="needs dashscope (extra test)")
    try:
        from dashscope.audio.http_tts import HttpSpeechSynthesizer
    except ImportError:
        pytest.skip("needs dashscope 2.0 or later: earlier ones speak over WebSocket only")
    from dashscope.api_entities.http_request import close_shared_sync_session

    yield HttpSpeechSynthesizer
    close_shared_sync_session()


def ask_sdk(sdk: Any, server: Server, **given: Any) -> Any:
    what = {"model": "cosyvoice-v3-flash", "text": "你好", "voice": "longanyang", "api_key": KEY}
    return sdk.call(url=server.base_url + "/api/v1", **{**what, **given})


def test_the_sdks_call_brings_a_link_that_works(sdk: Any, server: Server) -> None:
    result = ask_sdk(sdk, server, rate=2.0)
    assert (result.status_code, result.output["finish_reason"]) == (200, "stop")
    assert result.audio_id.startswith("audio_")
    assert result.usage["characters"] == 4
    assert httpx.get(result.audio_url).content == tone_wav("你好", speed=2.0)


def test_the_sdk_hears_the_stream(sdk: Any, server: Server) -> None:
    *pieces, last = ask_sdk(sdk, server, stream=True, audio_format="pcm")
    assert all(piece.response.status_code == 200 for piece in pieces)
    assert b"".join(piece.audio_data for piece in pieces) == tone_wav("你好")[44:]
    assert last.audio_data == tone_wav("你好")[44:]
    assert httpx.get(last.audio_url).content == last.audio_data


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"voice": "nobody"}, 400, "InvalidParameter"),
        ({"text": "[refuse]"}, 400, "DataInspectionFailed"),
        ({"text": ""}, 400, "InvalidParameter"),
    ],
)
def test_the_sdk_understands_refusals(
    sdk: Any, server: Server, given: Any, status: int, code: str
) -> None:
    result = ask_sdk(sdk, server, **given)
    assert (result.status_code, result.code) == (status, code)
    with pytest.raises(RuntimeError, match=str(status)):
        list(ask_sdk(sdk, server, stream=True, **given))


def test_the_sdk_understands_an_error_amid_the_stream(sdk: Any, server: Server) -> None:
    with pytest.raises(RuntimeError, match="Please ensure input text is valid"):
        list(ask_sdk(sdk, server, stream=True, text="[fail] 你好", audio_format="pcm"))


def test_the_sdk_needs_its_key() -> None:
    pytest.importorskip("dashscope.audio.http_tts", reason="needs dashscope (extra test)")
    from dashscope.audio.http_tts import HttpSpeechSynthesizer

    with Server(latency=0, api_key=KEY) as server:
        assert ask_sdk(HttpSpeechSynthesizer, server).status_code == 200
        result = ask_sdk(HttpSpeechSynthesizer, server, api_key="sk-wrong")
        assert (result.status_code, result.code) == (401, "InvalidApiKey")


# -- the document -------------------------------------------------------------------------------


def test_the_documents_examples_work(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    with Server(latency=0, api_key=KEY) as server:
        env = {**os.environ, "PYTHONPATH": str(PAGE.parents[1]), "COSY_SYNC_API_KEY": KEY}
        for block in blocks:
            code = block.replace("https://dashscope.aliyuncs.com", server.base_url)
            command = [sys.executable, "-W", "error", "-c", code]
            subprocess.run(command, check=True, timeout=60, env=env, cwd=tmp_path)
    sound = tone_wav("今天天气很好。")
    assert (tmp_path / "weather.wav").read_bytes() == sound
