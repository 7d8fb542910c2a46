"""The embedded server as the upstream: one process, one port for each place."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from benchmarks.machine import cores
from benchmarks.task import Place
from cosy_sync.server import Server

__all__ = ["serve_embedded"]

_FORMS = {"plain": "multipart", "json": "results", "multipart": "multipart", "speech": "auto"}


@contextmanager
def serve_embedded(places: Sequence[Place]) -> Iterator[dict[str, tuple[str, ...]]]:
    """Serve the places in a process of its own until the block ends; yield URLs by name."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.upstream.embedded"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps([asdict(place) for place in places]) + "\n")
        process.stdin.flush()
        yield {name: tuple(urls) for name, urls in json.loads(process.stdout.readline()).items()}
    finally:
        process.stdin.close()
        process.wait()


def _server(place: Place) -> Server:
    return Server(
        audio_bytes=max(64, place.size),
        latency=place.latency,
        max_connections=0,
        rate=0,
        gzip="never",
        reply_form=_FORMS[place.form],
    )


def _url(place: Place, server: Server) -> str:
    return f"{server.base_url}/v1/audio/speech" if place.form == "speech" else server.url


def _main() -> None:
    """Read places as one line of JSON, write their URLs, serve until the input ends."""
    os.sched_setaffinity(0, {cores().upstream})
    places = [Place(**fields) for fields in json.loads(sys.stdin.readline())]
    with contextlib.ExitStack() as stack:
        urls = {
            place.name: [
                _url(place, stack.enter_context(_server(place))) for _ in range(place.ports)
            ]
            for place in places
        }
        print(json.dumps(urls), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main()
