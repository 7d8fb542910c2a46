"""urllib3: one pool manager shared by threads, its pool raised to the number of connections."""

from __future__ import annotations

import urllib3

from benchmarks.corpus import request_body
from benchmarks.meter import Meter
from benchmarks.peers.loops import loop_threads
from benchmarks.task import Task

__all__ = ["transport"]


def transport(task: Task, meter: Meter) -> None:
    """Send one prepared body again and again."""
    body, headers = request_body(), {"Content-Type": "application/json"}
    pools = urllib3.PoolManager(maxsize=task.in_flight, timeout=60.0)

    def call() -> None:
        response = pools.request("POST", task.urls[0], body=body, headers=headers)
        if response.status != 200:
            raise ValueError(response.status)

    loop_threads(task, meter, call)
