"""A server that does what a script says, byte by byte, and remembers what it was sent."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence

from cosy_sync.messages import Reply, Request
from cosy_sync.net import Sender

MANY = 1 << 24
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

READ = "read a whole request"
HEAD = "read the head of a request, and leave its body"
RESET = "reset the connection"
FINISH = "say that nothing more will be sent, and wait for the client to leave"
HOLD = "do nothing until the client leaves"


class Peer:
    """One accepted connection."""

    def __init__(self, server: Scripted, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.requests: list[bytes] = []
        self._unread = b""

    def read(self, whole: bool = True) -> None:
        """Read a request into `requests`. Raises ConnectionError when the client has left."""
        data = self._unread
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        if whole:
            lengths = [n for n in head.lower().split(b"\r\n") if n.startswith(b"content-length:")]
            size = int(lengths[0].partition(b":")[2]) if lengths else 0
            parts = [body]
            while sum(map(len, parts)) < size:
                parts.append(self._receive())
            body = b"".join(parts)
            body, self._unread = body[:size], body[size:]
        self.requests.append(head + b"\r\n\r\n" + body)

    def drip(self, data: bytes, seconds: float = 0.0005) -> None:
        """Send single bytes with pauses between them."""
        for at in range(len(data)):
            self.sock.sendall(data[at : at + 1])
            self.server.stopped.wait(seconds)

    def hold(self) -> None:
        """Wait until the client leaves; read nothing before it has."""
        while not self.server.stopped.wait(0.01):
            poller = select.poll()
            poller.register(self.sock, getattr(select, "POLLRDHUP", select.POLLHUP))
            if poller.poll(0):
                return

    def _receive(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the client left")
        return data


Step = bytes | float | str | Callable[[Peer], None]


class Scripted:
    """Listens on loopback; the n-th connection runs the n-th script, the last one for the rest."""

    def __init__(
        self,
        *scripts: Sequence[Step],
        context: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._scripts = scripts
        self._context = context
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.peers: list[Peer] = []
        self.stopped = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="scripted")]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/batch"

    @property
    def requests(self) -> list[list[bytes]]:
        """What came on each connection, in the order of connecting."""
        return [peer.requests for peer in self.peers]

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = Peer(self, sock)
                script = self._scripts[min(len(self.peers), len(self._scripts) - 1)]
                self.peers.append(peer)
                thread = threading.Thread(target=self._run, args=(peer, script), name="scripted")
                self._threads.append(thread)
                thread.start()

    def _run(self, peer: Peer, script: Sequence[Step]) -> None:
        try:
            if self._context is not None:
                peer.sock = self._context.wrap_socket(peer.sock, server_side=True)
            for step in script:
                self._do(peer, step)
        except OSError:
            pass  # the client left, or the test is over
        finally:
            peer.sock.close()

    def _do(self, peer: Peer, step: Step) -> None:
        if isinstance(step, bytes):
            peer.sock.sendall(step)
        elif isinstance(step, float):
            self.stopped.wait(step)
        elif callable(step):
            step(peer)
        elif step in (READ, HEAD):
            peer.read(whole=step == READ)
        elif step == RESET:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sock.close()
        else:
            if step == FINISH:
                peer.sock.shutdown(socket.SHUT_WR)
            peer.hold()


def reply(body: bytes = b"hello", *headers: str, status: str = "200 OK") -> bytes:
    """Write a whole reply with its Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def eventually(happened: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Return whether it happens, at once when it has."""
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.005)
    return happened()


def post(
    sender: Sender,
    server: Scripted | str,
    body: bytes = b"{}",
    seconds: float = 15.0,
    max_bytes: int = MANY,
) -> Reply:
    url = server if isinstance(server, str) else server.url
    headers = (("Content-Type", "application/json"),)
    return sender.post(Request(url, headers, body), seconds, max_bytes)
