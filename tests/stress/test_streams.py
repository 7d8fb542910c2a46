"""200 streams at once with faults, early leavers and dropped ones: afterwards nothing is held."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import socket
import struct
import threading
import time
import warnings
from pathlib import Path

import pytest
from streams import install, tone

import cosy_sync
from cosy_sync import CosyClient, Endpoint, RetryConfig, TimeoutConfig

THREADS = int(os.environ.get("STRESS_THREADS", "200"))
SECONDS = float(os.environ.get("STRESS_SECONDS", "6"))

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nTransfer-Encoding: chunked\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
TEXT = "今天天气很好"
SOUND = tone(TEXT)


class Rough:
    """A service of one thread a connection, that fails in every way it can."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._threads: list[threading.Thread] = []
        self._socks: list[socket.socket] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socks.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            while data := sock.recv(65536):
                while b"\r\n\r\n{" not in data:
                    data += sock.recv(65536)
                if not self._answer(sock, random.random()):
                    return

    def _answer(self, sock: socket.socket, luck: float) -> bool:
        """Answer one request; return whether the connection goes on."""
        if luck < 0.05:
            sock.sendall(BUSY)
            return True
        if luck < 0.10:
            return False
        sock.sendall(HEAD)
        cut = random.randrange(0, len(SOUND)) if luck < 0.25 else len(SOUND)
        for at in range(0, cut, 5001):
            piece = SOUND[at : min(at + 5001, cut)]
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(0.002)
        if luck < 0.15:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if luck < 0.20:
            return False
        if luck < 0.25:
            time.sleep(0.5)  # longer than the client waits
            return False
        sock.sendall(b"0\r\n\r\n")
        return True


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def listen(client: CosyClient, until: float, wrong: list[str]) -> None:
    while time.monotonic() < until:
        try:
            stream = client.stream(TEXT)
            fate = random.random()
            if fate < 0.15:
                next(stream)
                stream.close()
            elif fate < 0.30:
                next(stream)  # and dropped
            elif b"".join(stream) != SOUND:
                wrong.append("another sound")
            del stream
        except cosy_sync.CosyError as error:
            if not SOUND.startswith(error.partial):
                wrong.append(repr(error))
        except BaseException as error:
            wrong.append(repr(error))
            raise


@pytest.mark.timeout(90 + 2 * SECONDS)
def test_after_a_storm_of_streams_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    before, wrong = descriptors(), []
    service = Rough()
    client = CosyClient(
        Endpoint(service.url, max_connections=THREADS // 2, rate=1e5),
        wire="drip",
        deadline=5.0,
        max_in_flight=THREADS // 2 - 5,
        timeouts=TimeoutConfig(first_byte=0.3, idle=0.3),
        retry=RetryConfig(base=0.01),
        breaker=cosy_sync.BreakerConfig(open_for=0.1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        until = time.monotonic() + SECONDS
        threads = [
            threading.Thread(target=listen, args=(client, until, wrong)) for _ in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        gc.collect()
    engine = client._core.engine()
    limit = time.monotonic() + 20
    while engine._stream_opener._open and time.monotonic() < limit:
        time.sleep(0.01)  # dropped streams are closed by a thread of their own
    stats = client.stats()
    assert wrong == []
    assert stats.texts_ok > 100 and stats.retries > 10 and stats.streams > stats.texts_ok
    assert stats.in_flight == len(engine._stream_opener._open) == 0
    assert [gate._permits.used for gate in engine._tenant_limits.everybody()] == [0]
    assert stats.connections_open == stats.connections_idle <= THREADS // 2
    client.close()
    assert client.stats().connections_open == 0
    service.stop()
    # Above 64 connections one thread waits for all: its epoll and its bell stay for the next time.
    assert descriptors() <= before + 2
    assert not [t for t in threading.enumerate() if t.name.startswith("cosy-")]
