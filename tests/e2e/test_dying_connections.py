"""Servers that end a connection on its second request: at once, later, or after one byte."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from scripted import CHUNKED, READ, Peer, Scripted, reply

from cosy_sync import BreakerConfig, CosyClient, CutError, Endpoint, Outcome, RetryConfig
from cosy_sync.testing import tone_wav

NEVER_OPEN = BreakerConfig(min_calls=10_000)


def texts_of(request: bytes) -> list[str]:
    said = json.loads(request.partition(b"\r\n\r\n")[2])
    return said["texts"] if "texts" in said else [said["input"]]


def speak(peer: Peer) -> None:
    """Answer with the audio of the request's texts."""
    said = [tone_wav(text) for text in texts_of(peer.requests[-1])]
    if b'"texts"' in peer.requests[-1]:
        body = json.dumps([base64.b64encode(wav).decode() for wav in said]).encode()
        peer.sock.sendall(reply(body, "Content-Type: application/json"))
    else:
        peer.sock.sendall(reply(said[0], "Content-Type: audio/wav"))


def client_of(server: Scripted, wire: str, **settings: Any) -> CosyClient:
    endpoint = Endpoint(server.url, max_connections=4, rate=1000)
    return CosyClient(endpoint, wire=wire, batch_size=1, breaker=NEVER_OPEN, **settings)


def run(client: CosyClient, server: Scripted) -> tuple[list[Outcome], int, list[str]]:
    """Speak; return the outcomes, how many requests the server read, and the texts in them."""
    texts = [f"这是第{n}句要说的话" for n in range(24)]
    outcomes = client.synth_many(texts, on_error="return")
    for text, outcome in zip(texts, outcomes, strict=True):
        assert outcome.audio is None or outcome.audio.data == tone_wav(text)
    read = [request for requests in server.requests for request in requests]
    return outcomes, len(read), [text for request in read for text in texts_of(request)]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of any speed sees a connection die at once."""
    monkeypatch.setattr("cosy_sync.net.exchange.UNREAD_WITHIN", 10.0)


@pytest.mark.parametrize("wire", ["openai", "batch"])
def test_one_that_ends_at_once_costs_a_request_that_is_counted(wire: str, patient: None) -> None:
    once = RetryConfig(max_retries=0)
    with Scripted([READ, speak, READ]) as server, client_of(server, wire, retry=once) as client:
        outcomes, seen, _ = run(client, server)
        stats = client.stats()
    assert all(outcome.ok for outcome in outcomes)
    assert (stats.requests, stats.retries) == (seen, seen - 24)
    assert seen > 24


@pytest.mark.parametrize("wire", ["openai", "batch"])
@pytest.mark.parametrize("end", [(0.05,), (b"H",)], ids=["later", "after a byte"])
def test_one_that_may_have_read_the_request_is_not_asked_twice_without_retries(
    wire: str, end: tuple[Any, ...]
) -> None:
    once, script = RetryConfig(max_retries=0), [READ, speak, READ, *end]
    with Scripted(script) as server, client_of(server, wire, retry=once) as client:
        outcomes, seen, read = run(client, server)
        stats = client.stats()
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert failed and all(isinstance(error, CutError) for error in failed)
    assert len(set(read)) == len(read) == seen == stats.requests == 24
    assert stats.retries == 0


def test_with_retries_all_is_spoken_and_each_sending_is_counted() -> None:
    quick, script = RetryConfig(max_retries=20, base=0.01, max_wait=0.01), [READ, speak, READ, 0.05]
    with Scripted(script) as server, client_of(server, "openai", retry=quick) as client:
        outcomes, seen, _ = run(client, server)
        stats = client.stats()
    assert all(outcome.ok for outcome in outcomes)
    assert stats.requests == seen == 24 + stats.retries


def test_a_stream_that_was_lost_unread_is_asked_for_again_and_counted(patient: None) -> None:
    sound = tone_wav("流式的话")[44:]
    whole = CHUNKED + b"%x\r\n" % len(sound) + sound + b"\r\n0\r\n\r\n"
    with Scripted([READ, whole, READ]) as server:
        url = f"http://127.0.0.1:{server.port}"
        with CosyClient(
            url, wire="runtime_http", voice="中文女", retry=RetryConfig(max_retries=0)
        ) as client:
            for _ in range(3):
                assert b"".join(client.stream("流式的话")) == sound
            stats = client.stats()
        seen = sum(len(requests) for requests in server.requests)
    assert (stats.requests, stats.retries, stats.texts_ok) == (seen, 2, 3)
