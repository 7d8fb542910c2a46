"""TLS over real sockets: whom the transport trusts, what it says, and how it ends."""

from __future__ import annotations

import contextlib
import datetime
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import CHUNKED, HOLD, OK, READ, RESET, Peer, Scripted, eventually, post, reply

from cosy_sync.config import TimeoutConfig
from cosy_sync.errors import (
    BadAudioError,
    ClosedError,
    ConnectError,
    CutError,
    ReplyTimeout,
    TransportError,
)
from cosy_sync.messages import Reply
from cosy_sync.net import Sender
from cosy_sync.net.connect import _make_context
from cosy_sync.net.request_encoding import USER_AGENT

trustme = pytest.importorskip("trustme")
Make = Callable[..., Sender]

pytestmark = pytest.mark.timeout(30)

LARGE = b"0123456789" * 300_000
AGAIN = [READ, reply()] * 20 + [HOLD]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(ca: trustme.CA) -> ssl.SSLContext:
    return server_context(ca.issue_cert("localhost", "127.0.0.1"))


@pytest.fixture
def own_ca(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def url(server: Scripted, host: str = "localhost") -> str:
    return f"https://{host}:{server.port}/batch"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_own_ca_is_trusted_and_the_connection_reused(
    version: ssl.TLSVersion, host: str, ca: trustme.CA, own_ca: ssl.SSLContext, make: Make
) -> None:
    context = server_context(ca.issue_cert("localhost", "127.0.0.1"))
    context.maximum_version = version
    sender = make(ssl_context=own_ca)
    with Scripted(AGAIN, context=context) as server:
        for _ in range(5):
            assert bytes(post(sender, url(server, host)).body) == b"hello"
        assert [len(requests) for requests in server.requests] == [5]
        assert sender.connections() == (1, 1)


def test_the_server_is_named_in_the_handshake_and_in_the_request(
    ca: trustme.CA, own_ca: ssl.SSLContext, make: Make
) -> None:
    context = server_context(ca.issue_cert("localhost"))
    named: list[str | None] = []
    context.sni_callback = lambda sock, name, ctx: named.append(name)
    with Scripted(AGAIN, context=context) as server:
        post(make(ssl_context=own_ca), url(server))
        assert named == ["localhost"]
        assert b"\r\nHost: localhost:%d\r\n" % server.port in server.requests[0][0]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_is_checked_against_the_certificate_and_not_named_in_the_handshake(
    address: str, ca: trustme.CA, own_ca: ssl.SSLContext, make: Make
) -> None:
    host = f"[{address}]" if ":" in address else address
    context = server_context(ca.issue_cert(address))
    named: list[str | None] = []
    context.sni_callback = lambda sock, name, ctx: named.append(name)
    with Scripted(AGAIN, context=context, address=address) as server:
        assert post(make(ssl_context=own_ca), url(server, host)).status == 200
        assert named == [None]
    other = server_context(ca.issue_cert("localhost"))
    with (
        Scripted(AGAIN, context=other, address=address) as server,
        pytest.raises(ConnectError, match=f"not valid for '{address}'"),
    ):
        post(make(ssl_context=own_ca), url(server, host))


def chosen_protocol(context: ssl.SSLContext, sender: Sender) -> str | None:
    """Return what a server that speaks HTTP/2 as well agrees upon with a client."""
    context.set_alpn_protocols(["h2", "http/1.1"])
    chosen: list[str | None] = []

    def look(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        chosen.append(peer.sock.selected_alpn_protocol())

    with Scripted([READ, look, reply(), HOLD], context=context) as server:
        assert post(sender, url(server)).status == 200
    return chosen[0]


def test_a_context_of_our_own_asks_for_http_1_1(
    ca: trustme.CA, server_tls: ssl.SSLContext, make: Make
) -> None:
    ours = _make_context(True)
    ca.configure_trust(ours)
    assert chosen_protocol(server_tls, make(ssl_context=ours)) == "http/1.1"


def test_a_callers_context_keeps_its_list_of_protocols(
    ca: trustme.CA, own_ca: ssl.SSLContext, make: Make
) -> None:
    context = server_context(ca.issue_cert("localhost"))
    assert chosen_protocol(context, make(ssl_context=own_ca)) is None
    own_ca.set_alpn_protocols(["h2"])
    with (
        Scripted([READ, HOLD], context=context) as server,
        pytest.raises(ConnectError, match="set_alpn_protocols") as caught,
    ):
        post(make(ssl_context=own_ca), url(server))
    assert not caught.value.retryable


def test_a_certificate_that_names_its_host_in_the_subject_only_is_refused(
    ca: trustme.CA, make: Make
) -> None:
    ours = _make_context(True)
    ca.configure_trust(ours)
    refused(
        ca.issue_cert(common_name="localhost"),
        make(ssl_context=ours),
        "its certificate was refused",
    )


def test_a_client_certificate_of_ones_own_context_is_shown(
    ca: trustme.CA, own_ca: ssl.SSLContext, make: Make
) -> None:
    context = server_context(ca.issue_cert("localhost"))
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    shown: list[object] = []

    def look(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        shown.append(dict(peer.sock.getpeercert() or {})["subjectAltName"])

    with Scripted([READ, look, reply(), HOLD], context=context) as server:
        with pytest.raises(TransportError):
            post(make(ssl_context=own_ca), url(server))
        ca.issue_cert("client.example.com").configure_cert(own_ca)
        assert post(make(ssl_context=own_ca), url(server)).status == 200
    assert shown == [(("DNS", "client.example.com"),)]


def past() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)


def test_another_hosts_certificate_is_refused(
    ca: trustme.CA, own_ca: ssl.SSLContext, make: Make
) -> None:
    refused(ca.issue_cert("other.example.com"), make(ssl_context=own_ca), "mismatch")


def test_an_expired_certificate_is_refused(
    ca: trustme.CA, own_ca: ssl.SSLContext, make: Make
) -> None:
    certificate = ca.issue_cert("localhost", not_after=past())
    refused(certificate, make(ssl_context=own_ca), "expired")


def test_an_unknown_ca_is_refused(own_ca: ssl.SSLContext, make: Make) -> None:
    refused(trustme.CA().issue_cert("localhost"), make(ssl_context=own_ca), "issuer")


def test_a_self_signed_certificate_is_refused(
    own_ca: ssl.SSLContext, make: Make, tmp_path: Path
) -> None:
    alone = trustme.CA()
    alone.cert_pem.write_to_path(tmp_path / "cert.pem")
    alone.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    refused(context, make(ssl_context=own_ca), "self.signed")


def test_the_default_context_trusts_no_private_ca(ca: trustme.CA, make: Make) -> None:
    refused(ca.issue_cert("localhost"), make(), "issuer")


def refused(certificate: trustme.LeafCert | ssl.SSLContext, sender: Sender, why: str) -> None:
    made = isinstance(certificate, ssl.SSLContext)
    context = certificate if made else server_context(certificate)
    with Scripted([READ, HOLD], context=context) as server:
        with pytest.raises(ConnectError, match=why) as caught:
            post(sender, url(server))
        assert server.requests in ([], [[]])
    error = caught.value
    assert "PoolConfig(ssl_context=...)" in str(error)
    assert not error.retryable and not error.sent
    assert sender.connections() == (0, 0)


def test_verify_tls_false_takes_any_certificate(make: Make) -> None:
    certificate = trustme.CA().issue_cert("other.example.com", not_after=past())
    with Scripted(AGAIN, context=server_context(certificate)) as server:
        assert post(make(verify_tls=False), url(server)).status == 200


def test_a_server_without_tls_is_a_connect_error_that_says_so(make: Make) -> None:
    error = pytest.raises(ConnectError, match="does not speak TLS on this port: give http")
    with Scripted([b"HTTP/1.1 400 Bad\r\n\r\n", HOLD]) as server, error:
        post(make(verify_tls=False), url(server))
    assert not error.excinfo.value.retryable


def test_a_server_that_never_answers_the_tls_handshake_is_asked_whether_it_speaks_tls(
    make: Make,
) -> None:
    error = pytest.raises(ConnectError, match=r"not answered in time; does .* give http://")
    with Scripted([HOLD]) as server, error:
        post(make(TimeoutConfig(connect=0.05), verify_tls=False), url(server))


def test_requests_and_replies_over_tls_may_be_large(
    server_tls: ssl.SSLContext, own_ca: ssl.SSLContext, make: Make
) -> None:
    script = [READ, reply(LARGE), READ, reply(LARGE), HOLD]
    sender = make(ssl_context=own_ca)
    with Scripted(script, context=server_tls) as server:
        for _ in range(2):
            assert bytes(post(sender, url(server), LARGE).body) == LARGE
        assert [len(requests) for requests in server.requests] == [2]
        assert server.requests[0][1].endswith(LARGE)


def test_an_early_refusal_over_tls_is_seen(
    server_tls: ssl.SSLContext, own_ca: ssl.SSLContext, make: Make
) -> None:
    with Scripted([reply(status="413 Large"), HOLD], context=server_tls) as server:
        assert post(make(ssl_context=own_ca), url(server), LARGE).status == 413


def test_a_stale_tls_connection_is_replaced_once(
    server_tls: ssl.SSLContext, own_ca: ssl.SSLContext, make: Make
) -> None:
    sender = make(ssl_context=own_ca)
    for end in (RESET, 0.0):
        with Scripted([READ, reply(), end], AGAIN, context=server_tls) as server:
            for _ in range(2):
                assert post(sender, url(server)).status == 200
            assert [len(requests) for requests in server.requests] == [1, 1]


def test_rubbish_after_a_reply_over_tls_is_never_read_as_the_next(
    server_tls: ssl.SSLContext, own_ca: ssl.SSLContext, make: Make
) -> None:
    sender = make(ssl_context=own_ca)
    for later in (0.0, 0.05):
        first = [READ, reply(b"a" * 100_000), later, reply(b"WRONG"), lambda p: said(p), HOLD]
        with Scripted(first, AGAIN, context=server_tls) as server:
            assert len(post(sender, url(server)).body) == 100_000
            assert eventually(lambda: b"said" in server.requests[0])
            assert bytes(post(sender, url(server)).body) == b"hello"
            assert len(server.peers) == 2


def said(peer: Peer) -> None:
    peer.requests.append(b"said")


def goodbye(peer: Peer) -> None:
    with contextlib.suppress(OSError):
        peer.sock.unwrap()  # type: ignore[attr-defined]


def test_without_a_length_only_tlss_own_goodbye_ends_a_reply(
    server_tls: ssl.SSLContext, own_ca: ssl.SSLContext, make: Make
) -> None:
    start = [READ, OK + b"\r\nhello"]
    with Scripted([*start, goodbye], [*start, 0.0], context=server_tls) as server:
        sender = make(ssl_context=own_ca)
        assert bytes(post(sender, url(server)).body) == b"hello"
        with pytest.raises(CutError) as caught:
            post(sender, url(server))
        assert caught.value.partial == b"hello"


DRIBBLED = [b"\x16\x03\x03\x40\x00", lambda peer: peer.drip(b"a" * 9999, 0.05)]


@pytest.mark.parametrize("script", [[HOLD], DRIBBLED], ids=["silent", "dribbling"])
def test_a_handshake_does_not_outlive_the_connect_limit(script: list[Any], make: Make) -> None:
    sender = make(TimeoutConfig(connect=0.3), verify_tls=False)
    with Scripted(script) as server, pytest.raises(ConnectError, match="in time") as caught:
        post(sender, url(server))
    assert caught.value.retryable
    assert sender.connections() == (0, 0)


def test_a_handshake_does_not_outlive_the_deadline(make: Make) -> None:
    sender = make(verify_tls=False)
    with Scripted([HOLD]) as server, pytest.raises(ConnectError, match="in time"):
        post(sender, url(server), seconds=0.2)


def test_dribbling_and_flooding_over_tls_do_not_outlive_the_deadline(
    server_tls: ssl.SSLContext, own_ca: ssl.SSLContext, make: Make
) -> None:
    def flood(peer: Peer) -> None:
        while True:
            peer.sock.sendall(b"1000\r\n" + b"a" * 4096 + b"\r\n")

    sender = make(ssl_context=own_ca)
    for rest in (flood, lambda peer: peer.drip(b"1\r\na\r\n" * 999, 0.05)):
        server = Scripted([READ, CHUNKED, rest], context=server_tls)
        with server, pytest.raises(ReplyTimeout):
            post(sender, url(server), seconds=0.3, max_bytes=1 << 40)
    server = Scripted([READ, CHUNKED, flood], context=server_tls)
    with server, pytest.raises(BadAudioError):
        post(sender, url(server), max_bytes=100_000)


def test_cut_wakes_who_waits_on_tls(
    server_tls: ssl.SSLContext, own_ca: ssl.SSLContext, make: Make
) -> None:
    sender = make(ssl_context=own_ca)
    results: list[object] = []

    def work() -> None:
        try:
            results.append(post(sender, url(server)))
        except Exception as error:
            results.append(error)

    with Scripted([READ, HOLD], context=server_tls) as server:
        thread = threading.Thread(target=work)
        thread.start()
        assert eventually(lambda: [len(r) for r in server.requests] == [1])
        sender.cut()
        thread.join(20)
        assert [type(result) for result in results] == [ClosedError]


def test_hundreds_of_first_connections_make_one_tls_context(
    monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext, make: Make
) -> None:
    from cosy_sync.net import connect as dial

    made: list[ssl.SSLContext] = []
    real = dial.httpx.create_ssl_context

    def count(**options: bool) -> ssl.SSLContext:
        made.append(real(**options))
        return made[-1]

    monkeypatch.setattr(dial, "_contexts", {})
    monkeypatch.setattr(dial.httpx, "create_ssl_context", count)
    sender = make(verify_tls=False)
    barrier = threading.Barrier(8)
    replies: list[Reply] = []

    def work() -> None:
        barrier.wait()
        replies.append(post(sender, url(server)))

    with Scripted(AGAIN, context=server_tls) as server:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(replies), len(made)) == (8, 1)


# -- through a proxy ------------------------------------------------------------------------------


def relay_to(port: int) -> Callable[[Peer], None]:
    """Return a step that passes bytes on in both directions until one side ends."""

    def relay(peer: Peer) -> None:
        with socket.create_connection(("127.0.0.1", port)) as far:
            pairs = {peer.sock: far, far: peer.sock}
            while not peer.server.stopped.is_set():
                readable = select.select([*pairs], [], [], 0.01)[0]
                pending = getattr(peer.sock, "pending", lambda: 0)()
                for sock in {*readable, *([peer.sock] if pending else [])}:
                    data = sock.recv(65536)
                    if not data:
                        return
                    pairs[sock].sendall(data)

    return relay


ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture
def proxied(
    own_ca: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
) -> Iterator[Callable[..., tuple[Sender, Scripted]]]:
    """Start a proxy with a script, and a sender that goes there."""
    with contextlib.ExitStack() as stack:

        def start(*script: object) -> tuple[Sender, Scripted]:
            proxy = stack.enter_context(Scripted([READ, *script]))  # type: ignore[list-item]
            address = f"http://me:secret@localhost:{proxy.port}"
            monkeypatch.setenv("https_proxy", address)
            return make(ssl_context=own_ca), proxy

        yield start


Proxied = Callable[..., tuple[Sender, Scripted]]


def test_a_tls_server_is_reached_through_a_tunnel(
    proxied: Proxied, server_tls: ssl.SSLContext
) -> None:
    script = [READ, reply(), READ, reply(LARGE), HOLD]
    with Scripted(script, context=server_tls) as server:
        sender, proxy = proxied(ESTABLISHED, relay_to(server.port))
        assert bytes(post(sender, url(server)).body) == b"hello"
        assert bytes(post(sender, url(server), LARGE).body) == LARGE
        assert server.requests[0][0].startswith(b"POST /batch HTTP/1.1\r\n")
        assert b"Proxy-Authorization" not in server.requests[0][0]
        assert server.requests[0][1].endswith(LARGE)
        target = b"localhost:%d" % server.port
        assert proxy.requests == [
            [
                b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target)
                + f"User-Agent: {USER_AGENT}\r\n".encode()
                + b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"
            ]
        ]
        assert sender.connections() == (1, 1)


def test_a_tunnel_does_not_hide_a_wrong_certificate(proxied: Proxied, ca: trustme.CA) -> None:
    context = server_context(ca.issue_cert("other.example.com"))
    with Scripted([HOLD], context=context) as server:
        sender, _ = proxied(ESTABLISHED, relay_to(server.port))
        with pytest.raises(ConnectError, match="mismatch") as caught:
            post(sender, url(server))
    assert not caught.value.retryable


REFUSALS = {
    "407 Who are you": ("check its user and password", False),
    "403 No": ("HTTP 403", False),
    "502 Bad Gateway": ("HTTP 502", True),
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_proxy_that_refuses_is_a_connect_error(status: str, proxied: Proxied) -> None:
    advice, retryable = REFUSALS[status]
    sender, _ = proxied(reply(b"no", status=status), HOLD)
    with pytest.raises(ConnectError, match=advice) as caught:
        post(sender, "https://tts.example.com/batch")
    assert (caught.value.retryable, caught.value.sent) == (retryable, False)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 200"])
def test_a_proxy_that_talks_rubbish_is_a_connect_error(answer: bytes, proxied: Proxied) -> None:
    sender, _ = proxied(answer, 0.0)
    with pytest.raises(ConnectError, match="no tunnel"):
        post(sender, "https://tts.example.com/batch")


def test_a_proxy_that_dribbles_does_not_outlive_the_deadline(proxied: Proxied) -> None:
    sender, _ = proxied(lambda peer: peer.drip(OK + b"a: " + b"b" * 999, 0.05))
    with pytest.raises(ConnectError):
        post(sender, "https://tts.example.com/batch", seconds=0.3)


def test_a_dribbled_handshake_in_a_tunnel_does_not_outlive_the_deadline(proxied: Proxied) -> None:
    start = ESTABLISHED + b"\x16\x03\x03\x40\x00"
    sender, _ = proxied(start[:39], 0.05, start[39:], lambda peer: peer.drip(b"a" * 999, 0.05))
    with pytest.raises(ConnectError):
        post(sender, "https://tts.example.com/batch", seconds=0.4)


def test_cut_wakes_who_waits_behind_a_tunnel(proxied: Proxied, server_tls: ssl.SSLContext) -> None:
    with Scripted([READ, HOLD], context=server_tls) as server:
        sender, _ = proxied(ESTABLISHED, relay_to(server.port))
        threading.Timer(0.1, sender.cut).start()
        with pytest.raises(ClosedError):
            post(sender, url(server))
