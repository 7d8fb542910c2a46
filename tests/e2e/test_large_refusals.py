"""Refusals keep their status, whatever their bodies are; half a reply is never a whole one."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from scripted import CHUNKED, FINISH, HOLD, READ, RESET, Scripted, reply

from cosy_sync import (
    AuthError,
    BadAudioError,
    CosyClient,
    CutError,
    RetryConfig,
    UnavailableError,
    UnframedError,
)
from cosy_sync.config import ClientConfig, PoolConfig, TimeoutConfig
from cosy_sync.messages import Request
from cosy_sync.net import PoolTransport, Sender
from cosy_sync.testing import tone_wav

pytestmark = pytest.mark.timeout(30)

LARGE = b"<html>" + b"busy " * 600_000
HEAD = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n"
SIZED = HEAD + b"Content-Length: 3000000\r\n\r\n"
PARTS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BODIES: dict[str, list[Any]] = {
    "sized": [reply(LARGE, "Retry-After: 7", status="503 Busy"), HOLD],
    "chunked": [PARTS + b"%x\r\n" % len(LARGE) + LARGE + b"\r\n0\r\n\r\n", HOLD],
    "unframed": [HEAD + b"\r\n" + LARGE, FINISH],
    "cut": [SIZED + b"busy", FINISH],
    "reset": [SIZED + b"busy", 0.05, RESET],
    "cut chunks": [PARTS + b"9\r\nbusy", FINISH],
    "no chunks": [PARTS + b"busy\r\n", HOLD],
    "slow": [SIZED + b"busy", HOLD],
    "endless": [PARTS + b"5\r\nbusy \r\n" * 100_000, HOLD],
    "odd gzip": [
        reply(b"no gzip", "Retry-After: 7", "Content-Encoding: gzip", status="503 Busy"),
        HOLD,
    ],
    "large gzip": [
        reply(gzip.compress(LARGE * 9), "Retry-After: 7", "Content-Encoding: gzip", status="503 B"),
        HOLD,
    ],
}
WAYS: dict[str, Callable[[TimeoutConfig], httpx.Client | None]] = {
    "ours": lambda times: None,
    "their client on our transport": lambda times: httpx.Client(
        transport=PoolTransport(PoolConfig(), times, 1 << 24)
    ),
    "their client": lambda times: httpx.Client(),
}
TIMES = TimeoutConfig(first_byte=5, idle=0.3)


@pytest.fixture(params=WAYS)
def http_client(request: pytest.FixtureRequest) -> Iterator[httpx.Client | None]:
    client = WAYS[request.param](TIMES)
    yield client
    if client is not None:
        client.close()


def once(url: str, wire: str, http_client: httpx.Client | None, **settings: Any) -> CosyClient:
    retry = RetryConfig(max_retries=0, max_bad_audio=0)
    return CosyClient(
        url, wire=wire, http_client=http_client, retry=retry, timeouts=TIMES, **settings
    )


@pytest.mark.parametrize("body", BODIES)
def test_a_503_keeps_its_status_and_its_wait(body: str, http_client: httpx.Client | None) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Scripted([READ, *BODIES[body]]))
        client = stack.enter_context(once(server.url, "openai", http_client, deadline=5.0))
        with pytest.raises(UnavailableError) as caught:
            client.synth("早上好")
    assert (caught.value.status, caught.value.retry_after) == (503, 7.0)


@pytest.mark.parametrize("body", ["sized", "endless", "cut", "reset", "no chunks"])
def test_a_refused_stream_keeps_it_too(body: str, http_client: httpx.Client | None) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Scripted([READ, *BODIES[body]]))
        url = f"http://127.0.0.1:{server.port}"
        client = stack.enter_context(once(url, "runtime_http", http_client, voice="中文女"))
        with pytest.raises(UnavailableError) as caught:
            client.stream("早上好")
    assert (caught.value.status, caught.value.retry_after) == (503, 7.0)


@pytest.mark.parametrize("wire", ["batch", "openai"])
def test_a_401_with_a_large_page_is_about_the_key(
    wire: str, http_client: httpx.Client | None
) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Scripted([READ, reply(LARGE, status="401 No"), HOLD]))
        client = stack.enter_context(once(server.url, wire, http_client))
        with pytest.raises(AuthError):
            client.synth("早上好")


def test_a_reply_without_length_that_is_cut_is_half_a_sound_on_every_way(
    http_client: httpx.Client | None,
) -> None:
    sound = tone_wav("早上好，今天说得长一些")[44:]
    with Scripted([READ, b"HTTP/1.1 200 OK\r\n\r\n" + sound[: len(sound) // 2], FINISH]) as server:
        url = f"http://127.0.0.1:{server.port}"
        with once(url, "runtime_http", http_client, voice="中文女") as client:
            with pytest.raises(CutError, match="does not say where its sound ends"):
                client.synth("早上好，今天说得长一些")
            with pytest.raises(CutError, match="does not say where its sound ends"):
                client.stream("早上好，今天说得长一些")
            # It may also be a service that always speaks so: no failure of the endpoint.
            assert issubclass(UnframedError, BadAudioError) and not UnframedError.trips
            assert client.stats().bad_audio == {"unframed": 2}


def test_no_more_of_a_refusal_is_taken_than_its_reason_may_fill() -> None:
    sender = Sender(ClientConfig())
    with Scripted([READ, reply(LARGE, status="500 No"), HOLD], [READ, reply(), HOLD]) as server:
        got = sender.post(Request(server.url, (), b""), 10.0, 1 << 24)
        assert (got.status, len(got.body)) == (500, 65_536)
        assert sender.connections() == (0, 0)
        assert sender.post(Request(server.url, (), b""), 10.0, 1 << 24).status == 200
    sender.close()


def test_a_generic_client_on_our_transport_gets_refusals_whole() -> None:
    whole = (
        CHUNKED.replace(b"200 OK", b"404 No") + b"%x\r\n" % len(LARGE) + LARGE + b"\r\n0\r\n\r\n"
    )
    with Scripted([READ, whole, HOLD]) as server:
        transport = PoolTransport(PoolConfig(), TimeoutConfig(), 1 << 24)
        with httpx.Client(transport=transport) as client:
            got = client.get(server.url)
    assert (got.status_code, got.content) == (404, LARGE)
