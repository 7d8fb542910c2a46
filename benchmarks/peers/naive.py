"""The client that the story began with: one text a call, a narrow pool, blind retries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from benchmarks.meter import Meter
from benchmarks.peers.arrivals import Arrivals
from benchmarks.peers.decoding import decode_json
from benchmarks.task import Task

__all__ = ["headline"]

_WORKERS = 200
_ATTEMPTS = 4


def headline(task: Task, meter: Meter) -> None:
    """Speak texts as they arrive; whatever fails is tried again at once."""
    connections = task.in_flight
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    client = httpx.Client(limits=limits, timeout=5.0, headers={"Accept": "application/json"})
    workers = ThreadPoolExecutor(max(_WORKERS, connections))
    arrivals = Arrivals(task)

    def speak(text: str, arrived: float) -> None:
        error: BaseException | None = None
        for _ in range(_ATTEMPTS):
            try:
                response = client.post(task.urls[0], json={"texts": [text]})
                response.raise_for_status()
                decode_json(response.content)
            except (httpx.HTTPError, ValueError) as failure:
                error = failure
            else:
                error = None
                break
        arrivals.end(arrived, error)

    def offer(text: str, arrived: float) -> None:
        workers.submit(speak, text, arrived)

    with meter.span():
        meter.extra = arrivals.run(offer)
    meter.units = int(task.rate * task.seconds)
