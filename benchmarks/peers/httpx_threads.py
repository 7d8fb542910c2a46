"""Stock httpx.Client shared by threads, its limits raised to the number of connections.

The variant httpx2 is its successor, with the same interface.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.corpus import request_body, same_text
from benchmarks.meter import Meter
from benchmarks.peers.decoding import decode_json
from benchmarks.peers.loops import loop_threads
from benchmarks.peers.waiting import RETRIES, RETRY_STATUS, TransientError, pause
from benchmarks.task import Task

__all__ = ["single", "transport"]


def transport(task: Task, meter: Meter) -> None:
    """Send one prepared body again and again."""
    client, body, headers = _client(task), request_body(), {"Content-Type": "application/json"}

    def call() -> None:
        client.post(task.urls[0], content=body, headers=headers).raise_for_status()

    loop_threads(task, meter, call)


def single(task: Task, meter: Meter) -> None:
    """Speak one text a call: an executor of `in_flight` threads maps over all texts."""
    client, transport_error = _client(task), _library(task).TransportError

    def one(text: str) -> None:
        if meter.over:
            return
        started = time.monotonic()
        try:
            speak(client, task.urls[0], [text], transport_error)
        except Exception as error:
            meter.note_error(error)
        else:
            meter.note(started)

    pool = ThreadPoolExecutor(task.in_flight)
    meter.open_window()
    pool.map(one, same_text(task.most_calls))
    meter.wait()


def speak(
    client: Any, url: str, batch: Sequence[str], transport_error: type[Exception]
) -> list[bytes]:
    """Return the audio of each text of a batch, with retries."""
    for attempt in range(RETRIES + 1):
        try:
            response = client.post(url, json={"texts": batch})
            if response.status_code in RETRY_STATUS:
                raise TransientError(response.status_code)
            response.raise_for_status()
            return decode_json(response.content)
        except (TransientError, transport_error):
            if attempt == RETRIES:
                raise
        time.sleep(pause(attempt))
    raise AssertionError("unreachable")


def _library(task: Task) -> Any:
    return importlib.import_module(task.variant or "httpx")


def _client(task: Task) -> Any:
    library, count = _library(task), task.in_flight
    limits = library.Limits(max_connections=count, max_keepalive_connections=count)
    return library.Client(limits=limits, timeout=60)
