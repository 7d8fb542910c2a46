"""The embedded server with the service's limits and its troubles, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.machine import cores

__all__ = ["serve_limited", "stats_of"]


@contextmanager
def serve_limited(*options: str) -> Iterator[str]:
    """Start `cosy-sync serve --engine tone` with these options; give its URL; stop it."""
    command = [sys.executable, "-m", "cosy_sync", "serve", "--engine", "tone", "--port", "0"]
    child = subprocess.Popen(
        [*command, "--json-ready", "--quiet", "--exit-with-parent", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        os.sched_setaffinity(child.pid, {cores().upstream})
        yield str(json.loads(child.stdout.readline())["url"])
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()


def stats_of(url: str) -> dict[str, Any]:
    """Return the server's own counters."""
    with urllib.request.urlopen(url.replace("/batch", "/stats")) as reply:
        counters: dict[str, Any] = json.load(reply)
    return counters
