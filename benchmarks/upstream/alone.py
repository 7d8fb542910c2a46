"""What the server can do alone: wrk where it is installed, else a raw loop over sockets."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.corpus import batch_body, request_body, speech_body
from benchmarks.machine import cores

__all__ = ["Capacity", "measure_alone"]

_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
"""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Capacity:
    """Requests per second, and what measured them."""

    rate: float
    by: str


def measure_alone(url: str, connections: int, seconds: float, texts: int = 1) -> Capacity:
    """Load one address with the cheapest client there is, on the client's core.

    Args:
        url: The address.
        connections: Connections, each with a request under way.
        seconds: How long.
        texts: Texts in each request.
    """
    body = request_body() if texts == 1 else batch_body()
    if url.endswith("/audio/speech"):
        body = speech_body()
    wrk = shutil.which("wrk")
    if wrk is not None:
        return Capacity(_with_wrk(wrk, url, body, connections, seconds), "wrk")
    return Capacity(_with_sockets(url, body, connections, seconds), "raw sockets, at least")


def _with_wrk(wrk: str, url: str, body: bytes, connections: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory(prefix="cosy-bench-") as room:
        file, script = Path(room, "body"), Path(room, "post.lua")
        file.write_bytes(body)
        script.write_text(_SCRIPT.format(body=file), "utf-8")
        load = [f"-d{max(1, round(seconds))}s", f"-c{connections}", "-t1", "-s", str(script)]
        done = subprocess.run(
            [wrk, *load, url],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {cores().client}),
        )
    found = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
    return float(found[1]) if found else 0.0


@dataclass(slots=True)
class _Line:
    """One connection: how many bytes of its reply are still to come; -1 before its head."""

    sock: socket.socket
    missing: int = -1
    head: bytearray = field(default_factory=bytearray)


def _with_sockets(url: str, body: bytes, connections: int, seconds: float) -> float:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n"
    request = head.encode() + b"Content-Type: application/json\r\n\r\n" + body
    address = parts.hostname or "127.0.0.1", parts.port or 80
    with selectors.DefaultSelector() as selector:
        lines = [_Line(socket.create_connection(address)) for _ in range(connections)]
        for line in lines:
            selector.register(line.sock, selectors.EVENT_READ, line)
            line.sock.sendall(request)
        began, done = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            for key, _ in selector.select(0.1):
                if _advance(key.data):
                    done += 1
                    key.data.sock.sendall(request)
        took = time.monotonic() - began
        for line in lines:
            line.sock.close()
    return done / took


def _advance(line: _Line) -> bool:
    """Read once; return whether the reply is whole."""
    data = line.sock.recv(_CHUNK)
    if not data:
        raise ConnectionError("the upstream closed a connection")
    if line.missing < 0:
        line.head += data
        head, found, rest = bytes(line.head).partition(b"\r\n\r\n")
        if not found:
            return False
        length = re.search(rb"(?i)content-length:\s*(\d+)", head)
        line.missing = int(length[1] if length else 0) - len(rest)
    else:
        line.missing -= len(data)
    if line.missing > 0:
        return False
    line.missing = -1
    line.head.clear()
    return True
