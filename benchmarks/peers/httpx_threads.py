"""Stock httpx.Client shared by threads, its limits raised to the number of connections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

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
    client = _client(task)

    def one(text: str) -> None:
        if meter.over:
            return
        started = time.monotonic()
        try:
            speak(client, task.urls[0], [text])
        except Exception as error:
            meter.note_error(error)
        else:
            meter.note(started)

    pool = ThreadPoolExecutor(task.in_flight)
    meter.open_window()
    pool.map(one, same_text(task.most_calls))
    meter.wait()


def speak(client: httpx.Client, url: str, batch: Sequence[str]) -> list[bytes]:
    """Return the audio of each text of a batch, with retries."""
    for attempt in range(RETRIES + 1):
        try:
            response = client.post(url, json={"texts": batch})
            if response.status_code in RETRY_STATUS:
                raise TransientError(response.status_code)
            response.raise_for_status()
            return decode_json(response.content)
        except (TransientError, httpx.TransportError):
            if attempt == RETRIES:
                raise
        time.sleep(pause(attempt))
    raise AssertionError("unreachable")


def _client(task: Task) -> httpx.Client:
    count = task.in_flight
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
    return httpx.Client(limits=limits, timeout=60)
