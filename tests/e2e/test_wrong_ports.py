"""A URL whose scheme is not the port's: the error says so, at once, whatever is called."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from cosy_sync import BadRequestError, ConnectError, CosyClient, CosyError, CutError, RetryConfig
from cosy_sync.testing import Server

trustme = pytest.importorskip("trustme")

pytestmark = pytest.mark.timeout(30)

TEXTS = [f"第{number}句" for number in range(600)]
NGINX = b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>"
APACHE = b"<title>400 Bad Request</title>Reason: You're speaking plain HTTP to an SSL-enabled port"
GO = b"Client sent an HTTP request to an HTTPS server.\n"


class Port:
    """A port that does the same to each connection, and counts them."""

    def __init__(self, act: Callable[[socket.socket], None]) -> None:
        self.accepted = 0
        self._act = act
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with sock, contextlib.suppress(OSError):
                self._act(sock)


@pytest.fixture
def port() -> Iterator[Callable[[Callable[[socket.socket], None]], Port]]:
    ports: list[Port] = []

    def open_port(act: Callable[[socket.socket], None]) -> Port:
        ports.append(Port(act))
        return ports[-1]

    yield open_port
    for each in ports:
        each.close()


Open = Callable[[Callable[[socket.socket], None]], Port]


def saying(body: bytes) -> Callable[[socket.socket], None]:
    def act(sock: socket.socket) -> None:
        sock.recv(65536)
        head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        sock.sendall(head % len(body) + body)

    return act


def errors_of(client: CosyClient, texts: list[str]) -> list[CosyError | None]:
    return [outcome.error for outcome in client.synth_many(texts, on_error="return")]


def test_https_to_a_port_without_tls_ends_a_bulk_call_at_once(port: Open) -> None:
    plain = port(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with CosyClient(f"https://{plain.address}/batch") as client:
        for error in errors_of(client, TEXTS):
            assert isinstance(error, ConnectError)
            assert "does not speak TLS on this port: give http://" in str(error)
    assert plain.accepted <= 20


def test_https_to_a_port_without_tls_costs_a_single_text_one_connection(port: Open) -> None:
    plain = port(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with CosyClient(f"https://{plain.address}/batch") as client:
        with pytest.raises(ConnectError, match="give http:// in place of https://"):
            client.synth("你好")
        with pytest.raises(ConnectError, match="give http:// in place of https://"):
            client.submit("你好").result(10)
    assert plain.accepted == 2


def test_one_endpoint_that_is_wrong_for_good_loses_no_text_where_another_is_right() -> None:
    with Server() as server:
        wrong = server.url.replace("http://", "https://")
        with CosyClient([server.url, wrong], deadline=20) as client:
            assert errors_of(client, TEXTS) == [None] * len(TEXTS)


@pytest.mark.parametrize("page", [NGINX, APACHE, GO], ids=["nginx", "apache", "go"])
def test_http_to_a_port_with_tls_that_says_so_ends_a_call_at_once(port: Open, page: bytes) -> None:
    secure = port(saying(page))
    with CosyClient(f"http://{secure.address}/batch") as client:
        for error in errors_of(client, TEXTS):
            assert isinstance(error, BadRequestError)
            assert "it speaks TLS on this port: give https:// in place of http://" in str(error)
    assert secure.accepted <= 20


def test_http_to_a_port_with_tls_that_hangs_up_asks_for_https(port: Open) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def greet(sock: socket.socket) -> None:
        context.wrap_socket(sock, server_side=True).close()

    secure = port(greet)
    with (
        CosyClient(f"http://{secure.address}/batch", retry=RetryConfig(max_retries=0)) as client,
        pytest.raises(CutError, match=r"does the server speak TLS on this port\? Then give https"),
    ):
        client.synth("你好")


def test_a_connection_that_breaks_where_replies_came_is_not_asked_about_tls() -> None:
    with Server() as server:
        options = {"retry": RetryConfig(max_retries=0), "deadline": 10.0}
        with CosyClient(server.url, **options) as client:
            client.synth("你好")
            server.inject("reset", 2)
            with pytest.raises(CutError) as caught:
                client.synth("再见")
    assert "TLS" not in str(caught.value)
