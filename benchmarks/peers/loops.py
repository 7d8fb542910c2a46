"""Closed loops: as many callers as connections, each sending again as soon as it has its reply."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from benchmarks.meter import Meter
from benchmarks.task import Task

__all__ = ["loop_coroutines", "loop_threads"]

# Seconds after a failure: a loop that fails at once must not eat the processor.
_AFTER_FAILURE = 0.05
_LOOK = 0.05


def loop_threads(task: Task, meter: Meter, call: Callable[[], object]) -> None:
    """Call from plain threads until the window is closed."""

    def run(number: int) -> None:
        time.sleep(_stagger(task, number))
        while not meter.over:
            started = time.monotonic()
            try:
                call()
            except Exception as error:
                meter.note_error(error)
                time.sleep(_AFTER_FAILURE)
            else:
                meter.note(started)

    meter.open_window()
    for number in range(task.in_flight):
        threading.Thread(target=run, args=(number,), daemon=True).start()
    meter.wait()


async def loop_coroutines(task: Task, meter: Meter, call: Callable[[], Awaitable[object]]) -> None:
    """Call from tasks of the event loop until the window is closed."""

    async def run(number: int) -> None:
        await asyncio.sleep(_stagger(task, number))
        while not meter.over:
            started = time.monotonic()
            try:
                await call()
            except Exception as error:
                meter.note_error(error)
                await asyncio.sleep(_AFTER_FAILURE)
            else:
                meter.note(started)

    meter.open_window()
    running = [asyncio.create_task(run(number)) for number in range(task.in_flight)]
    while not meter.over:
        await asyncio.sleep(_LOOK)
    for each in running:
        each.cancel()


def _stagger(task: Task, number: int) -> float:
    """Spread the starts over one latency, so that replies do not come in one wave."""
    return task.latency * number / task.in_flight
