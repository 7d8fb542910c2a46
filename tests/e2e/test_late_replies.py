"""A server that sends a reply a second time, late: never as the audio of the next text."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

import httpx
import pytest
from scripted import HOLD, READ, Peer, Scripted, reply

from cosy_sync import BadAudioError, CosyClient, RetryConfig
from cosy_sync.config import PoolConfig, TimeoutConfig
from cosy_sync.net import PoolTransport
from cosy_sync.testing import tone_wav

FIRST, SECOND = "第一句话在这里说", "第二句话在那里说"

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("each_way_of_waiting")]


class Twice:
    """Answers each request; the first reply of a connection comes again when the next is out."""

    def __init__(self, echoes: bool) -> None:
        self.echoes = echoes
        self.names: list[str] = []

    def speak(self, peer: Peer) -> None:
        peer.sock.sendall(self.answer(peer.requests[-1]))

    def repeat(self, peer: Peer) -> None:
        self.answer(peer.requests[-1])
        peer.sock.sendall(self.answer(peer.requests[-2]))

    def answer(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        name = {k.lower(): v for k, v in lines.items()}[b"x-request-id"].decode()
        self.names.append(name)
        echo = [f"X-Request-Id: {name}"] if self.echoes else []
        if b"application/json" not in head:
            form = unquote_to_bytes(body.replace(b"+", b" ")).decode("utf-8", "replace")
            sound = tone_wav(FIRST if FIRST in form else SECOND)[44:]
            return reply(sound, "Content-Type: application/octet-stream", *echo)
        return reply(tone_wav(json.loads(body)["input"]), "Content-Type: audio/wav", *echo)


@pytest.fixture
def server() -> Iterator[tuple[Scripted, Twice]]:
    twice = Twice(True)
    first = [READ, twice.speak, READ, twice.repeat, HOLD]
    with Scripted(first, [READ, twice.speak, READ, twice.speak, HOLD]) as server:
        yield server, twice


Late = tuple[Scripted, Twice]


def ways() -> dict[str, Callable[[], httpx.Client | None]]:
    return {
        "ours": lambda: None,
        "their client on our transport": lambda: httpx.Client(
            transport=PoolTransport(PoolConfig(), TimeoutConfig(), 1 << 24)
        ),
        "their client": httpx.Client,
    }


@pytest.mark.parametrize("way", ways())
def test_with_its_id_it_is_refused_and_the_text_is_asked_for_again(server: Late, way: str) -> None:
    service, _ = server
    client = ways()[way]()
    with CosyClient(service.url, wire="openai", http_client=client) as made:
        assert made.synth(FIRST).data == tone_wav(FIRST)
        assert made.synth(SECOND).data == tone_wav(SECOND)
        stats = made.stats()
    assert stats.bad_audio == {"misplaced": 1}
    assert [len(requests) for requests in service.requests] == [2, 1]
    if client is not None:
        client.close()


def test_a_view_with_settings_of_its_own_knows_the_ids_of_the_others(server: Late) -> None:
    service, twice = server
    with CosyClient(service.url, wire="openai") as client:
        assert client.synth(FIRST).data == tone_wav(FIRST)
        other = client.with_options(speed=1.5)
        assert other.synth(SECOND).data == tone_wav(SECOND)
    assert len({name.partition("-")[0] for name in twice.names}) == 1


@pytest.mark.parametrize("way", ways())
def test_a_stream_is_refused_before_its_first_sound(server: Late, way: str) -> None:
    service, _ = server
    url, client = f"http://127.0.0.1:{service.port}", ways()[way]()
    with CosyClient(url, wire="runtime_http", voice="中文女", http_client=client) as made:
        assert b"".join(made.stream(FIRST)) == tone_wav(FIRST)[44:]
        assert b"".join(made.stream(SECOND)) == tone_wav(SECOND)[44:]
        assert made.stats().bad_audio == {"misplaced": 1}
    if client is not None:
        client.close()


def test_without_retries_it_is_an_error_and_never_the_other_texts_audio(server: Late) -> None:
    service, _ = server
    once = RetryConfig(max_retries=0, max_bad_audio=0)
    with CosyClient(service.url, wire="openai", retry=once) as client:
        client.synth(FIRST)
        with pytest.raises(BadAudioError) as caught:
            client.synth(SECOND)
    assert caught.value.reason == "misplaced"


def test_one_that_comes_while_the_connection_is_idle_is_never_read() -> None:
    twice = Twice(False)
    sent = threading.Event()

    def again(peer: Peer) -> None:
        peer.sock.sendall(twice.answer(peer.requests[-1]))
        sent.set()

    scripts = [READ, twice.speak, again, HOLD], [READ, twice.speak, HOLD]
    with Scripted(*scripts) as server, CosyClient(server.url, wire="openai") as client:
        assert client.synth(FIRST).data == tone_wav(FIRST)
        assert sent.wait(60)
        assert client.synth(SECOND).data == tone_wav(SECOND)
        assert client.stats().bad_audio == {}


@pytest.mark.parametrize("way", ["ours", "their client on our transport"])
def test_without_its_id_the_connection_is_not_used_for_the_texts_that_follow(way: str) -> None:
    # The engine never says the same twice, so that only the first reply out of place can be told.
    said: dict[bytes, str] = {}

    def speak(peer: Peer, which: int = -1) -> None:
        text = json.loads(peer.requests[which].partition(b"\r\n\r\n")[2])["input"]
        sound = tone_wav(text, voice=f"voice {len(said)}")
        said[sound] = text
        peer.sock.sendall(reply(sound, "Content-Type: audio/wav"))

    def again(peer: Peer) -> None:
        peer.sock.sendall(reply(next(iter(said)), "Content-Type: audio/wav"))

    def behind(peer: Peer) -> None:
        speak(peer, -2)

    shifted = [READ, speak, READ, again, *(READ, behind) * 6, HOLD]
    texts = [FIRST, SECOND, "第三句话又在别处说", "第四句话没有地方说"]
    client = ways()[way]()
    with (
        Scripted(shifted, [*(READ, speak) * 6, HOLD]) as service,
        CosyClient(service.url, wire="openai", http_client=client) as made,
    ):
        assert [said[bytes(made.synth(text).data)] for text in texts] == texts
        assert made.stats().bad_audio == {"identical": 1}
        assert [len(requests) for requests in service.requests] == [2, 3]
    if client is not None:
        client.close()
