"""A connection, and the process's TLS context: made once, by one thread, and without a lock."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import locks
import pytest

from cosy_sync.net import connect as dial


@pytest.fixture(autouse=True)
def none_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "_contexts", {})


def test_it_is_made_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    with locks.watched(monkeypatch) as found:
        context = dial.default_ssl_context(True)
    assert found == [] and dial.default_ssl_context(True) is context


def test_who_comes_while_it_is_made_waits_for_it_and_makes_it_where_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, begun, go_on, made = dial._make_context, threading.Event(), threading.Event(), []

    def make(verify: bool) -> object:
        made.append(verify)
        if len(made) == 1:
            begun.set()
            assert go_on.wait(60)
            raise OSError(24, "Too many open files")
        return real(verify)

    monkeypatch.setattr(dial, "_make_context", make)
    got: list[object] = []

    def work() -> None:
        try:
            got.append(dial.default_ssl_context(True))
        except OSError as error:
            got.append(error.errno)

    threads = [threading.Thread(target=work) for _ in range(5)]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(made) == 2 and got.count(24) == 1
    assert len({id(each) for each in got if each != 24}) == 1


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note when the thread lets another run."""
    left: list[int] = []
    monkeypatch.setattr(dial, "leave", lambda: left.append(1))
    return left


def test_a_connection_that_takes_no_time_keeps_the_turn(left: list[int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with dial._connect_plain(*server.getsockname(), time.monotonic() + 60) as sock:
            assert sock.getblocking() is False
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert left == []


def test_a_connection_that_has_to_wait_lets_others_run_and_is_given_up_in_time(
    left: list[int],
) -> None:
    with contextlib.ExitStack() as held:
        server = held.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):  # its line of connections is full
            other = held.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(server.getsockname())
        with pytest.raises(TimeoutError):
            dial._connect_plain(*server.getsockname(), time.monotonic())
    assert left == [1]


def test_a_connection_that_tls_or_a_proxy_is_put_on_lets_others_run(left: list[int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with dial._connect(*server.getsockname(), time.monotonic() + 60) as sock:
            assert sock.getblocking() is False
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert left == [1]


@pytest.mark.parametrize("connect", [dial._connect, dial._connect_plain])
def test_a_refused_connection_says_why_and_leaves_no_socket(
    connect: Callable[[str, int, float], socket.socket],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = server.getsockname()
    with pytest.raises(ConnectionRefusedError):
        connect(*where, time.monotonic() + 60)


def test_an_address_keeps_its_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    monkeypatch.setattr(socket.socket, "connect", lambda _, where: asked.append(where))
    for address in ("fe80::1%1", "fe80::1"):
        dial._connect_plain(address, 80, time.monotonic() + 60).close()
    assert asked == [("fe80::1", 80, 0, 1), ("fe80::1", 80)]
