"""requests: one session shared by threads, its pool raised to the number of connections."""

from __future__ import annotations

import requests
from requests.adapters import HTTPAdapter

from benchmarks.corpus import request_body
from benchmarks.meter import Meter
from benchmarks.peers.loops import loop_threads
from benchmarks.task import Task

__all__ = ["transport"]


def transport(task: Task, meter: Meter) -> None:
    """Send one prepared body again and again."""
    body, headers = request_body(), {"Content-Type": "application/json"}
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=task.in_flight))

    def call() -> None:
        session.post(task.urls[0], data=body, headers=headers, timeout=60).raise_for_status()

    loop_threads(task, meter, call)
