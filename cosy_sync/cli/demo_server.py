"""A command's own server: a child process that ends with the command, whatever happens."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import cosy_sync
from cosy_sync.cli.exits import Exit, Stop

__all__ = ["DemoServer", "run_server"]

# Seconds until it must listen, and then until it must have ended.
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_LOOK_SECONDS = 0.1
# Lines of what the server complained about that are worth showing.
_LAST_LINES = 5


@dataclass(frozen=True)
class DemoServer:
    """A running server: the address of its batch wire, and its process."""

    url: str
    pid: int

    def stats(self) -> dict[str, Any]:
        """Ask the server what it has counted. Raises Stop when it is gone."""
        parts = urlsplit(self.url)
        # No proxy has to do with a server on this machine.
        opener = build_opener(ProxyHandler({}))
        try:
            with opener.open(f"{parts.scheme}://{parts.netloc}/stats", timeout=10) as reply:
                numbers: dict[str, Any] = json.load(reply)
        except (OSError, ValueError) as error:
            raise Stop(f"our own server is gone: {error}", Exit.UNREACHABLE) from error
        return numbers


@contextmanager
def run_server(options: Sequence[str]) -> Iterator[DemoServer]:
    """Run `cosy-sync serve` with these options; waits until clients can connect.

    Raises Stop, with what the server said, when it does not come up.
    """
    command = [sys.executable, "-m", "cosy_sync", "serve", *options]
    command += ["--port", "0", "--json-ready", "--exit-with-parent", "--quiet"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=_environ(),
            # Ctrl-C is for the command, which then ends the server in its own time.
            start_new_session=True,
        )
        try:
            yield _when_ready(process, complaints)
        finally:
            _end(process)


def _environ() -> dict[str, str]:
    # A variable that is meant for clients must not spoil the server.
    environ = {name: v for name, v in os.environ.items() if not name.startswith("COSY_SYNC_")}
    # It is to run the same copy of the library as we do, installed or not.
    ours = str(Path(cosy_sync.__file__).parents[1])
    environ["PYTHONPATH"] = os.pathsep.join(
        [ours, *environ.get("PYTHONPATH", "").split(os.pathsep)]
    )
    return environ


def _when_ready(process: subprocess.Popen[bytes], complaints: IO[bytes]) -> DemoServer:
    assert process.stdout is not None
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if select.select([process.stdout], [], [], _LOOK_SECONDS)[0]:
            line = process.stdout.readline()
            if line.startswith(b"{"):
                return DemoServer(json.loads(line)["url"], process.pid)
            # The end of its output: it is about to end, and to say why.
            break
    else:
        raise Stop(f"our own server did not listen within {_START_SECONDS:g} s", Exit.UNREACHABLE)
    _end(process)
    complaints.seek(0)
    lines = complaints.read().decode("utf-8", "replace").strip().splitlines()
    said = "\n  ".join(lines[-_LAST_LINES:]) or f"nothing (exit code {process.returncode})"
    raise Stop(f"our own server did not start; it said:\n  {said}", Exit.UNREACHABLE)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
    finally:
        # Also when Ctrl-C is pressed while we wait.
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
