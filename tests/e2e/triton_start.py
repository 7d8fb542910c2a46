"""Start a real Triton server for tests: skips where there is none."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

# A Python with nvidia-pytriton, whose libpython is a shared library.
PYTHON = os.environ.get("COSY_SYNC_PYTRITON", "")
if not PYTHON and importlib.util.find_spec("pytriton") is None:
    pytest.skip("needs nvidia-pytriton (or COSY_SYNC_PYTRITON)", allow_module_level=True)
pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")


class Triton(NamedTuple):
    """A server that runs: its addresses, and its process, which leads a group of its own."""

    http: str
    grpc: str
    process: subprocess.Popen[bytes]

    def at(self, scheme: str) -> str:
        """Return the address of this scheme."""
        return self.grpc if scheme == "grpc" else self.http

    def kill(self) -> None:
        """End it in the middle of whatever it does, with its models."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def started(program: str, folder: Path, *args: str, models: Iterable[str]) -> Iterator[Triton]:
    """Run a program beside this file, with two ports for its last arguments but `args`, until all
    `models` are ready; end it behind the block."""
    http, grpc = _free_port(), _free_port()
    script = str(Path(__file__).with_name(program))
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [PYTHON or sys.executable, script, *args[:1], str(http), str(grpc), *args[1:]],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 120
        for name in models:
            while not _is_ready(f"http://127.0.0.1:{http}/v2/models/{name}/ready"):
                assert process.poll() is None, log.read_text("utf-8", "replace")[-4_000:]
                assert time.monotonic() < until
                time.sleep(0.2)
        yield Triton(f"http://127.0.0.1:{http}", f"grpc://127.0.0.1:{grpc}", process)
    finally:
        process.terminate()
        # It waits for its models' processes, if it must half a minute.
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
