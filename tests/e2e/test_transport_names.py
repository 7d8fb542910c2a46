"""One name on several addresses, over real sockets: who is asked, as whom, and what is trusted."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

import pytest
from scripted import HOLD, READ, Scripted, reply

import cosy_sync.net.connect as dial
from cosy_sync.config import PoolConfig, TimeoutConfig
from cosy_sync.errors import ConnectError
from cosy_sync.messages import Reply, Request
from cosy_sync.net import Sender

trustme = pytest.importorskip("trustme")
Make = Callable[..., Sender]

pytestmark = pytest.mark.timeout(30)

NAME = "tts.example.com"
AGAIN = [READ, reply()] * 20 + [HOLD]


@pytest.fixture(autouse=True)
def no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(host: str, *args: object, **options: object) -> object:
        assert host != NAME, "the name was looked up"
        return real(host, *args, **options)  # type: ignore[arg-type]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look)


def post(sender: Sender, url: str, address: str) -> Reply:
    return sender.post(Request(url, (), b"{}", address), 15.0, 1 << 20)


def test_each_address_is_asked_under_the_name_without_a_look_up(sender: Sender) -> None:
    with Scripted(AGAIN) as one, Scripted(AGAIN, address="127.0.0.2", port=one.port) as two:
        url = f"http://{NAME}:{one.port}/batch"
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2"):
            assert post(sender, url, address).status == 200
        for server in (one, two):
            (requests,) = server.requests
            assert len(requests) == 2
            assert requests[0].startswith(
                b"POST /batch HTTP/1.1\r\nHost: %b:%d\r\n"
                % (
                    NAME.encode(),
                    one.port,
                )
            )
        assert sender.connections() == (2, 2)


def test_forgetting_an_address_closes_what_other_paths_left_open_there(sender: Sender) -> None:
    with Scripted(AGAIN) as one, Scripted(AGAIN, address="127.0.0.2", port=one.port) as two:
        origin = f"http://{NAME}:{one.port}"
        post(sender, f"{origin}/inference_sft", "127.0.0.1")
        post(sender, f"{origin}/inference_sft", "127.0.0.2")
        sender.forget(f"{origin}/", "127.0.0.1")
        assert sender.connections() == (1, 1)
        post(sender, f"{origin}/inference_sft", "127.0.0.2")
        assert len(two.requests) == 1


def test_tls_checks_the_name_at_every_address(make: Make) -> None:
    ca, named = trustme.CA(), []
    contexts = []
    for names in ([NAME], [NAME], ["127.0.0.3", "other.example.com"]):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(*names).configure_cert(context)
        context.sni_callback = lambda sock, name, ctx: named.append(name)
        contexts.append(context)
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    sender = make(ssl_context=trust)
    with (
        Scripted(AGAIN, context=contexts[0]) as one,
        Scripted(AGAIN, context=contexts[1], address="127.0.0.2", port=one.port),
        Scripted(AGAIN, context=contexts[2], address="127.0.0.3", port=one.port) as other,
    ):
        url = f"https://{NAME}:{one.port}/batch"
        for address in ("127.0.0.1", "127.0.0.2"):
            assert post(sender, url, address).status == 200
        with pytest.raises(ConnectError, match="mismatch"):
            post(sender, url, "127.0.0.3")
        assert named == [NAME] * 3
        assert other.requests in ([], [[]])


def test_a_dead_address_is_named_and_no_other_is_tried(sender: Sender) -> None:
    with Scripted(AGAIN) as one:
        with pytest.raises(ConnectError, match=rf"{NAME}:\d+ at 127\.0\.0\.2: .*refused"):
            post(sender, f"http://{NAME}:{one.port}/batch", "127.0.0.2")
        assert one.peers == []


def test_an_address_that_does_not_answer_is_tried_last_by_the_connections_after_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def connect(address: str, port: int, until: float) -> socket.socket:
        tried.append(address)
        return real(address, port, until)

    real = dial._connect_plain
    monkeypatch.setattr(dial, "_connect_plain", connect)
    monkeypatch.setattr(dial, "look_up_until", lambda *_: ["127.0.0.9", "127.0.0.1"])
    sender = make(TimeoutConfig(connect=0.4), idle_expiry=1e-9)
    with Scripted(AGAIN) as server, socket.socket() as silent, contextlib.ExitStack() as waiting:
        silent.bind(("127.0.0.9", server.port))
        silent.listen(0)
        for _ in range(3):  # its line of connections is full
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(("127.0.0.9", server.port))
        for _ in range(3):
            sender.post(Request(f"http://two.test:{server.port}/", (), b""), 15.0, 1 << 20)
    assert tried == ["127.0.0.9", "127.0.0.1", "127.0.0.1", "127.0.0.1"]


def test_a_forgotten_address_has_its_connections_closed(sender: Sender) -> None:
    with Scripted(AGAIN) as one, Scripted(AGAIN, address="127.0.0.2", port=one.port):
        url = f"http://{NAME}:{one.port}/batch"
        for address in ("127.0.0.1", "127.0.0.2"):
            post(sender, url, address)
        sender.forget(url, "127.0.0.2")
        sender.forget(url, "127.0.0.2")
        assert sender.connections() == (1, 1)
        assert post(sender, url, "127.0.0.2").connect > 0


def test_connections_are_replaced_when_they_are_old(make: Make) -> None:
    sender = make(max_age=0.05)
    with Scripted(AGAIN) as server:
        for _ in range(3):
            assert sender.post(Request(server.url, (), b"{}"), 15.0, 1 << 20).status == 200
            threading.Event().wait(0.06)
        assert [len(requests) for requests in server.requests] == [1, 1, 1]


def test_an_old_connection_is_not_broken_off_in_a_request(make: Make) -> None:
    sender = make(max_age=0.02)
    with Scripted([READ, 0.2, reply(), HOLD]) as server:
        assert sender.post(Request(server.url, (), b"{}"), 15.0, 1 << 20).status == 200
        assert len(server.peers) == 1


@pytest.mark.parametrize("field", ["max_age", "dns_refresh"])
def test_ages_must_be_positive(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        PoolConfig(**{field: 0})
    with pytest.raises(ValueError, match="dns_keep"):
        PoolConfig(dns_keep=-1)
