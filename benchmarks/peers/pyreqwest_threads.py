"""pyreqwest: Rust's reqwest, its synchronous client shared by threads, its pool raised."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from pyreqwest.client import SyncClient, SyncClientBuilder
from pyreqwest.exceptions import TransportError

from benchmarks.corpus import FIXED_TEXTS
from benchmarks.meter import Meter
from benchmarks.peers.decoding import decode_json
from benchmarks.peers.loops import loop_threads
from benchmarks.peers.waiting import RETRIES, RETRY_STATUS, TransientError, pause
from benchmarks.task import Task

__all__ = ["single"]


def single(task: Task, meter: Meter) -> None:
    """Speak one text a call in each of `in_flight` threads."""
    client = _client(task)
    loop_threads(task, meter, lambda: speak(client, task.urls[0], FIXED_TEXTS[:1]))


def speak(client: SyncClient, url: str, batch: Sequence[str]) -> list[bytes]:
    """Return the audio of each text of a batch, with retries."""
    for attempt in range(RETRIES + 1):
        try:
            response = client.post(url).body_json({"texts": batch}).build().send()
            if response.status in RETRY_STATUS:
                raise TransientError(response.status)
            response.error_for_status()
            return decode_json(bytes(response.bytes()))
        except (TransientError, TransportError):
            if attempt == RETRIES:
                raise
        time.sleep(pause(attempt))
    raise AssertionError("unreachable")


def _client(task: Task) -> SyncClient:
    builder = SyncClientBuilder().pool_max_idle_per_host(task.in_flight)
    client: SyncClient = builder.timeout(timedelta(seconds=60)).build()
    return client
