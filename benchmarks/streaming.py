"""Benchmark `streaming`: how late the first sound of a stream is, on every wire that streams."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from benchmarks.machine import describe_machine
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table, number
from benchmarks.target import Results, Target, Values, judged
from benchmarks.upstream.limited import serve_limited
from cosy_sync import CosyClient, Endpoint

__all__ = ["TARGETS", "main"]

_TITLE = "First sound of a stream after the 100 ms that the server takes, one stream at a time"
_LATENCY = 0.1
_MODEL, _VOICE = "cosyvoice-v3-flash", "longanyang"
# Wire -> scheme and path of the embedded server, further settings.
_WIRES: dict[str, tuple[str, str, dict[str, str]]] = {
    "openai": ("http", "/v1", {}),
    "runtime_http": ("http", "", {"voice": "中文女"}),
    "runtime_grpc": ("grpc", "", {"voice": "中文女"}),
    "dashscope_ws": ("ws", "/api-ws/v1/inference", {"model": _MODEL, "voice": _VOICE}),
    "dashscope_http": ("http", "", {"model": _MODEL, "voice": _VOICE}),
}


def _latest(results: Results) -> Values:
    return [max(late[-1] for late in results["streaming"]["late_ms"].values())]


TARGETS = (Target("streaming, every wire: first sound, the latest", 15, 5, _latest, "ms", False),)


def main(argv: Sequence[str] | None = None) -> None:
    """Run every wire, print the table, write the JSON."""
    options = parse_options(_TITLE, argv, seconds=0.0, texts=100, runs=1)
    machine = describe_machine()
    grpc = _free_port()
    limits = ("--max-connections", "0", "--rate", "0", "--latency", str(_LATENCY))
    rows, late = [], {}
    with serve_limited(*limits, "--grpc-port", str(grpc)) as url:
        host = urlsplit(url).netloc
        for wire, (scheme, path, settings) in _WIRES.items():
            place = f"127.0.0.1:{grpc}" if scheme == "grpc" else host
            late[wire] = _measure(f"{scheme}://{place}{path}", wire, settings, options.texts)
            middle, p99 = late[wire][len(late[wire]) // 2], late[wire][int(0.99 * len(late[wire]))]
            rows.append([wire, number(middle), number(p99), number(late[wire][-1])])
    table = Table(_TITLE, ["wire", "late by, ms: median", "p99", "most"], rows)
    print(table.markdown(), end="\n\n")
    upstream = "the embedded server in a process of its own, 100 ms latency"
    data = {"upstream": upstream, "machine": machine, "late_ms": late}
    verdict = judged("Targets", TARGETS, {"streaming": data})
    print(verdict.markdown(), end="\n\n")
    write_result("streaming", _TITLE, data, [table, verdict])


def _measure(url: str, wire: str, settings: dict[str, str], count: int) -> list[float]:
    """Return by how many milliseconds the first sound of each stream was late, sorted."""
    late = []
    with CosyClient(Endpoint(url, rate=1e6), wire=wire, **settings) as client:  # type: ignore[arg-type]
        for turn in range(-5, count):
            began = time.monotonic()
            with client.stream(f"请第{turn + 5:08d}号车辆注意前方路口") as stream:
                next(iter(stream))
                took = time.monotonic() - began
            if turn >= 0:  # the first ones connect
                late.append((took - _LATENCY) * 1e3)
    return sorted(late)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
