"""httpx.AsyncClient with its limits raised to the number of connections."""

from __future__ import annotations

import asyncio

import httpx

from benchmarks.corpus import request_body
from benchmarks.meter import Meter
from benchmarks.peers.loops import loop_coroutines
from benchmarks.task import Task

__all__ = ["transport"]


def transport(task: Task, meter: Meter) -> None:
    """Send one prepared body again and again."""
    asyncio.run(_transport(task, meter))


async def _transport(task: Task, meter: Meter) -> None:
    body, headers = request_body(), {"Content-Type": "application/json"}
    count = task.in_flight
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def call() -> None:
            response = await client.post(task.urls[0], content=body, headers=headers)
            response.raise_for_status()

        await loop_coroutines(task, meter, call)
