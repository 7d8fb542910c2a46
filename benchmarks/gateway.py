"""Benchmark `gateway`: a real Envoy before the service refuses half of what could be sent."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

from benchmarks.machine import describe_machine
from benchmarks.rows import COLUMNS, Row
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table
from benchmarks.upstream.envoy import LIMIT, Gateway, free_port, serve_envoy
from benchmarks.upstream.limited import serve_limited
from cosy_sync import CosyClient, Endpoint, Event
from cosy_sync.events import BreakerChanged

__all__ = ["main"]

_TITLE = "Behind Envoy with the limits of examples/envoy: 100 requests/s, 50 in flight"
_ALLOWED = 100.0
_SERVICE = ("--audio-bytes", "24000", "--max-connections", "0", "--rate", "0")
_FREE = {LIMIT: "max_tokens: 100000, tokens_per_fill: 100000, fill_interval: 0.1s"}
_TOLD = {
    LIMIT: "max_tokens: 100, tokens_per_fill: 100, fill_interval: 1s",
    "rate_limited_as_resource_exhausted: true": "enable_x_ratelimit_headers: DRAFT_VERSION_03",
}
_ONE_CLUSTER = {"{name: old, weight: 95}": "{name: old, weight: 100}", "weight: 5}": "weight: 0}"}
# Until the rate has come down to the limit; the bucket's first tokens are used up then as well.
_WARM = 2.0
_AWAY = 5.0


class _Notes:
    """An observer: how often a breaker opened."""

    def __init__(self) -> None:
        self.opened = 0

    def on_event(self, event: Event) -> None:
        """Count what a breaker does."""
        self.opened += isinstance(event, BreakerChanged) and event.new == "open"


def _texts_for(seconds: float) -> Iterator[str]:
    until = time.monotonic() + seconds
    for count in itertools.count(1):
        if time.monotonic() >= until:
            return
        yield f"请第{count:08d}号车辆注意前方路口"


@contextmanager
def _gateway(changes: Mapping[str, str], port: int = 0) -> Iterator[Gateway]:
    grpc = free_port()
    options = ("--port", str(port), "--grpc-port", str(grpc), "--grpc-max-conc", "200")
    with serve_limited(*_SERVICE, *options) as url:
        old = int(url.removesuffix("/batch").rsplit(":")[-1])
        with serve_envoy({8000: old, 8001: old, 50000: grpc}, changes) as gateway:
            yield gateway


def _speak(gateway: Gateway, wire: str, seconds: float, notes: _Notes) -> tuple[int, list[str]]:
    """Speak text after text; return how many, and the errors of the others."""
    url = {"batch": gateway.url, "runtime_grpc": gateway.grpc_url}.get(wire, gateway.base_url)
    endpoint = Endpoint(url, rate=2 * _ALLOWED, max_connections=50)
    with CosyClient(endpoint, wire=wire, voice="中文女", batch_size=1, observers=[notes]) as client:
        ended = Counter(str(out.error) for out in client.synth_iter(_texts_for(seconds)))
    spoken = ended.pop("None", 0)
    return spoken, list(ended.elements())


def _limited(wire: str, changes: Mapping[str, str], what: str) -> Callable[[float], list[Row]]:
    def measure(seconds: float) -> list[Row]:
        name, notes = f"2 x the limit, {wire}{what}", _Notes()
        with _gateway(changes) as gateway:
            rates: list[float] = []
            watcher = threading.Thread(target=_watch, args=(gateway, seconds, rates))
            watcher.start()
            spoken, errors = _speak(gateway, wire, _WARM + seconds + 1.0, notes)
            watcher.join()
            refused = gateway.refused
        share = 100 * refused / (spoken + refused)
        return [
            Row(name, "goodput of the limit", 97.0, 100 * rates[0] / _ALLOWED, unit="%"),
            Row(name, f"texts lost of {spoken + len(errors)}", 0, len(errors), most=True),
            Row(name, "breaker opened", 0, notes.opened, most=True),
            Row(name, "refused of all requests", 10.0, share, most=True, unit="%"),
        ]

    return measure


def _watch(gateway: Gateway, seconds: float, rates: list[float]) -> None:
    time.sleep(_WARM)
    before, began = gateway.passed, time.monotonic()
    time.sleep(seconds)
    rates.append((gateway.passed - before) / (time.monotonic() - began))


def _away(wire: str) -> Callable[[float], list[Row]]:
    def measure(seconds: float) -> list[Row]:
        """Stop the service behind its gateway, and start it again."""
        notes, port, grpc = _Notes(), free_port(), free_port()
        options = ("--port", str(port), "--grpc-port", str(grpc), "--grpc-max-conc", "200")
        ports = {8000: port, 8001: port, 50000: grpc}
        with serve_envoy(ports, {**_FREE, **_ONE_CLUSTER}) as gateway:
            stopped = threading.Event()
            service = threading.Thread(target=_serve_twice, args=(options, seconds, stopped))
            service.start()
            try:
                time.sleep(3.0)
                spoken, errors = _speak(gateway, wire, seconds, notes)
            finally:
                stopped.set()
                service.join()
        name = f"no healthy upstream for {_AWAY:g} s, {wire}"
        return [Row(name, f"texts lost of {spoken + len(errors)}", 0, len(errors), most=True)]

    return measure


def _serve_twice(options: Sequence[str], seconds: float, stopped: threading.Event) -> None:
    with serve_limited(*_SERVICE, *options):
        stopped.wait(3.0 + seconds / 4)
    stopped.wait(_AWAY)
    with nullcontext() if stopped.is_set() else serve_limited(*_SERVICE, *options):
        stopped.wait()


_SITUATIONS = (
    ("limit-http", _limited("batch", {}, ""), 60.0),
    ("limit-grpc", _limited("runtime_grpc", {}, ""), 60.0),
    ("limit-headers", _limited("batch", _TOLD, ", with x-ratelimit headers"), 60.0),
    ("away-http", _away("batch"), 20.0),
    ("away-grpc", _away("runtime_grpc"), 20.0),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Meet every situation once, print the table, write the JSON."""
    options = parse_options(_TITLE, argv, seconds=0.0, texts=0, runs=1)
    machine, rows = describe_machine(), []
    for key, situation, seconds in _SITUATIONS:
        if options.only in key:
            found = [row.cells() for row in situation(options.seconds or seconds)]
            rows += found
            print(Table("", list(COLUMNS), found).markdown(), flush=True)
    table = Table(_TITLE, list(COLUMNS), rows)
    upstream = "the embedded server in a process of its own, behind Envoy"
    write_result("gateway", _TITLE, {"upstream": upstream, "machine": machine}, [table])


if __name__ == "__main__":
    main()
