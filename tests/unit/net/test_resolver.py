"""Looking names up: which hosts need it, all addresses once, and only those with a way to them."""

from __future__ import annotations

import errno
import socket
import threading
import time

import pytest

from cosy_sync.config import ClientConfig, PoolConfig
from cosy_sync.errors import ConnectError
from cosy_sync.net import Sender
from cosy_sync.net.resolver import is_name, look_up_all, look_up_until

KIND = (socket.SOCK_STREAM, 6, "")


def answer(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found = [
        (socket.AF_INET6, *KIND, (a, 80, 0, 0)) if ":" in a else (socket.AF_INET, *KIND, (a, 80))
        for a in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def block(monkeypatch: pytest.MonkeyPatch, code: int, *addresses: str) -> None:
    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        if address[0] in addresses:
            raise OSError(code, "as the test wished")

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("tts.example.com", True),
        ("tts", True),
        ("localhost.example.com", True),
        ("localhost", False),
        ("tts.localhost", False),
        ("127.0.0.1", False),
        ("::1", False),
    ],
)
def test_addresses_and_this_machine_need_no_name_server(host: str, name: bool) -> None:
    assert is_name(host) is name


def test_each_address_comes_once_in_the_systems_order(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "127.0.0.2", "::1", "127.0.0.1", "127.0.0.2")
    block(monkeypatch, errno.EPERM)
    assert look_up_all("tts.example.com", 80) == ["127.0.0.2", "::1", "127.0.0.1"]


@pytest.mark.parametrize(
    "code", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL]
)
def test_addresses_that_no_way_leads_to_are_left_out(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "2001:db8::1", "127.0.0.1")
    block(monkeypatch, code, "2001:db8::1")
    assert look_up_all("tts.example.com", 80) == ["127.0.0.1"]


def test_other_troubles_are_for_the_connection_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "192.0.2.1", "127.0.0.1")
    block(monkeypatch, errno.EPERM, "192.0.2.1")
    assert look_up_all("tts.example.com", 80) == ["192.0.2.1", "127.0.0.1"]


def test_without_any_way_all_addresses_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "2001:db8::1", "192.0.2.1")
    block(monkeypatch, errno.ENETUNREACH, "2001:db8::1", "192.0.2.1")
    assert look_up_all("tts.example.com", 80) == ["2001:db8::1", "192.0.2.1"]


def test_a_name_without_address_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConnectError, match="nowhere"):
        look_up_all("nowhere.example.com", 80)


def test_the_sender_looks_up_what_no_proxy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(ClientConfig())
    assert sender.resolves("https://tts.example.com/batch")
    assert not sender.resolves("https://127.0.0.1/batch")
    answer(monkeypatch, "127.0.0.2", "127.0.0.1")
    assert sender.addresses("https://tts.example.com/batch") == ["127.0.0.2", "127.0.0.1"]
    sender.close()
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    sender = Sender(ClientConfig())
    assert not sender.resolves("https://tts.example.com/batch")
    assert sender.resolves("http://tts.example.com/batch")
    sender.close()
    sender = Sender(ClientConfig(pool=PoolConfig(trust_env=False)))
    assert sender.resolves("https://tts.example.com/batch")
    sender.close()


class Hanging:
    """A name server that answers when the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.answers = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, *_: object, **__: object) -> list[object]:
        self.asked += 1
        assert self.answers.wait(60)
        return [(socket.AF_INET, *KIND, ("127.0.0.2", 80))]

    def end(self) -> None:
        self.answers.set()
        for thread in threading.enumerate():
            if thread.name == "cosy-lookup":
                thread.join(20)


def test_a_name_server_that_does_not_answer_is_not_waited_for_beyond_the_instant(monkeypatch):
    names = Hanging(monkeypatch)
    for _ in range(5):
        with pytest.raises(ConnectError, match="no answer in time; check the name server") as told:
            look_up_until("tts.example.com", 80, time.monotonic() + 0.01)
        assert told.value.phase == "dns" and told.value.retryable
    assert names.asked == 1  # all wait for the same answer
    names.end()
    assert look_up_until("tts.example.com", 80, time.monotonic() + 20) == ["127.0.0.2"]


def test_a_name_without_an_address_fails_for_all_who_wait(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConnectError, match="has no address"):
        look_up_until("nowhere.example.com", 80, time.monotonic() + 20)


def test_an_address_needs_no_thread(monkeypatch):
    monkeypatch.setattr(threading, "Thread", None)
    assert look_up_until("127.0.0.1", 80, time.monotonic() + 20) == ["127.0.0.1"]
