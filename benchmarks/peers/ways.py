"""Other ways to build the transport under threads: what the choice was made from."""

from __future__ import annotations

import http.client
import io
import threading
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pycurl
from urllib3.connection import HTTPConnection

from benchmarks.corpus import request_body
from benchmarks.meter import Meter
from benchmarks.peers.loops import loop_threads
from benchmarks.task import Task
from cosy_sync.config import PoolConfig, TimeoutConfig
from cosy_sync.net.transport import PoolTransport

__all__ = ["transport"]

_HEADERS = {"Content-Type": "application/json"}
_MOST_BYTES = 64 << 20


def transport(task: Task, meter: Meter) -> None:
    """Send one prepared body again and again, in the way that the variant names."""
    loop_threads(task, meter, _WAYS[task.variant](task, request_body()))


def _own_httpx(task: Task, body: bytes) -> Callable[[], None]:
    """Our transport under httpx's Client.send, as a user's own httpx.Client would have it."""
    pool = PoolConfig(max_connections=task.in_flight)
    over = PoolTransport(pool, TimeoutConfig(first_byte=60.0), _MOST_BYTES)
    client = httpx.Client(transport=over, trust_env=False)

    def call() -> None:
        _check(client.post(task.urls[0], content=body, headers=_HEADERS).status_code)

    return call


def _urllib3_stack(task: Task, body: bytes) -> Callable[[], None]:
    """urllib3's connections on a stack without a lock, without its pool and its retries."""
    parts = urlsplit(task.urls[0])
    stack: deque[HTTPConnection] = deque()

    def call() -> None:
        try:
            connection = stack.pop()
        except IndexError:
            connection = HTTPConnection(str(parts.hostname), parts.port, timeout=60.0)
        connection.request("POST", parts.path, body, _HEADERS)
        response = connection.getresponse()
        _ = response.data
        _check(response.status)
        stack.append(connection)

    return call


def _http_client(task: Task, body: bytes) -> Callable[[], None]:
    """The standard library's http.client, a connection for each thread."""
    parts = urlsplit(task.urls[0])
    own = threading.local()

    def call() -> None:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(str(parts.hostname), parts.port, 60.0)
        own.connection.request("POST", parts.path, body, _HEADERS)
        response = own.connection.getresponse()
        response.read()
        _check(response.status)

    return call


def _libcurl(task: Task, body: bytes) -> Callable[[], None]:
    """libcurl, an easy handle for each thread."""
    own = threading.local()

    def call() -> None:
        if not hasattr(own, "curl"):
            own.curl = curl = pycurl.Curl()
            curl.setopt(pycurl.URL, task.urls[0])
            curl.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json", "Expect:"])
            curl.setopt(pycurl.NOSIGNAL, 1)
            curl.setopt(pycurl.TIMEOUT, 60)
        reply = io.BytesIO()
        own.curl.setopt(pycurl.POSTFIELDS, body)
        own.curl.setopt(pycurl.WRITEDATA, reply)
        own.curl.perform()
        reply.getvalue()
        _check(own.curl.getinfo(pycurl.RESPONSE_CODE))

    return call


def _check(status: int) -> None:
    if status != 200:
        raise ValueError(status)


_WAYS: dict[str, Callable[[Task, bytes], Callable[[], None]]] = {
    "own-httpx": _own_httpx,
    "urllib3-stack": _urllib3_stack,
    "http-client": _http_client,
    "libcurl": _libcurl,
}
