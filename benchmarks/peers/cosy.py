"""cosy_sync as its users write it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.corpus import BATCH, FIXED_TEXTS, request_body, same_text, texts_of
from benchmarks.meter import Meter
from benchmarks.peers.arrivals import Arrivals
from benchmarks.peers.loops import loop_threads
from benchmarks.task import Task
from cosy_sync import CoalesceConfig, CosyClient, Endpoint, InterruptedBatch, Outcome, Stats
from cosy_sync.config import ClientConfig, PoolConfig
from cosy_sync.messages import Request
from cosy_sync.net import Sender

__all__ = ["coalesce", "headline", "job", "paced", "single", "texts", "transport", "wires"]

# The rate limit works, and never has to wait.
_NO_RATE = 1e6
_MOST_BYTES = 64 << 20


def transport(task: Task, meter: Meter) -> None:
    """Send one prepared body again and again through the sender, under plain threads."""
    sender = Sender(ClientConfig(pool=PoolConfig(max_connections=task.in_flight)))
    request = Request(task.urls[0], (("Content-Type", "application/json"),), request_body())

    def call() -> None:
        reply = sender.post(request, 60.0, _MOST_BYTES)
        if reply.status != 200:
            raise ValueError(reply.status)

    loop_threads(task, meter, call)


def single(task: Task, meter: Meter) -> None:
    """Speak one text a call, every policy on, through the face that the variant names."""
    client = _one_a_call(task)
    if task.variant == "synth":
        texts_ring = same_text(task.most_calls * 2)
        loop_threads(task, meter, lambda: client.synth(next(texts_ring)))
    elif task.variant == "synth_iter":
        meter.open_window()
        _note(client.synth_iter(_texts_until_over(meter)), meter, with_queue=True)
        meter.wait()
    else:
        outcomes = _speak_until_over(client, task.most_calls, meter)
        _note(outcomes, meter, with_queue=True)


def job(task: Task, meter: Meter) -> None:
    """Speak all texts with one synth_many, one a call, from a cold start."""
    client = _one_a_call(task)
    with meter.span():
        outcomes = client.synth_many(same_text(task.texts), on_error="return")
    _note(outcomes, meter, with_queue=True)
    meter.units = sum(outcome.audio is not None for outcome in outcomes)


def wires(task: Task, meter: Meter) -> None:
    """Speak one text a call over the wire openai, every policy on, through synth_many."""
    endpoint = Endpoint(task.urls[0], max_connections=task.in_flight, rate=_NO_RATE)
    alone = CoalesceConfig(single_flight=False)
    client = CosyClient(endpoint, wire="openai", model="cosyvoice", voice="中文女", coalesce=alone)
    outcomes = _speak_until_over(client, task.most_calls, meter)
    _note(outcomes, meter, with_queue=True)


def coalesce(task: Task, meter: Meter) -> None:
    """Speak one text at a time in each of many threads; no two texts are the same."""
    shared, _, free = task.variant.partition(", ")
    if free:
        endpoint = Endpoint(task.urls[0], max_connections=task.in_flight, rate=_NO_RATE)
    else:
        endpoint = Endpoint(task.urls[0])
    client = CosyClient(endpoint, coalesce=CoalesceConfig(enabled=shared == "on"))
    numbers = itertools.count(1)
    opened: list[Stats] = []
    threading.Timer(task.warm, lambda: opened.append(client.stats())).start()
    loop_threads(task, meter, lambda: client.synth(f"请{next(numbers):06}号车辆直行通过"))
    begin, end = opened[0], client.stats()
    texts = end.texts_ok - begin.texts_ok
    meter.extra = {"texts_per_request": texts / (end.requests - begin.requests)}


def texts(task: Task, meter: Meter) -> None:
    """Speak all texts in batches through synth_many; audio is verified as always."""
    endpoint = Endpoint(task.urls[0], max_connections=task.in_flight, rate=_NO_RATE)
    client = CosyClient(endpoint)
    every = list(texts_of(task.texts))
    client.synth_many(texts_of(BATCH * task.in_flight))
    with meter.span():
        outcomes = client.synth_many(every, on_error="return")
    _note(outcomes, meter, with_queue=True)
    meter.units = sum(outcome.audio is not None for outcome in outcomes)


def paced(task: Task, meter: Meter) -> None:
    """Speak one text a call over several endpoints with their limits."""
    each = task.in_flight // len(task.urls)
    endpoints = [Endpoint(url, max_connections=each, rate=task.rate) for url in task.urls]
    client = CosyClient(endpoints, batch_size=1)
    seconds = task.warm + task.seconds + 2
    outcomes = _speak_until_over(client, int(len(endpoints) * task.rate * seconds), meter)
    # Waiting for a turn in the rate limit is what was asked for: the latency begins after it.
    _note(outcomes, meter, with_queue=False)


def headline(task: Task, meter: Meter) -> None:
    """Speak texts as they arrive; the client has its defaults."""
    client = CosyClient(task.urls[0])
    arrivals = Arrivals(task)

    def offer(text: str, arrived: float) -> None:
        client.submit(text, lambda future: arrivals.end(arrived, future.exception()))

    with meter.span():
        meter.extra = arrivals.run(offer)
    meter.units = int(task.rate * task.seconds)


def _one_a_call(task: Task) -> CosyClient:
    endpoint = Endpoint(task.urls[0], max_connections=task.in_flight, rate=_NO_RATE)
    # The text repeats, and each is one call, as with the other peers.
    return CosyClient(endpoint, batch_size=1, coalesce=CoalesceConfig(single_flight=False))


def _texts_until_over(meter: Meter) -> Iterator[str]:
    while not meter.over:
        yield FIXED_TEXTS[0]


def _speak_until_over(client: CosyClient, count: int, meter: Meter) -> Sequence[Outcome]:
    """Run one synth_many and end it by Ctrl-C's way when the window is closed."""

    def look(done: int, total: int) -> None:
        if meter.over:
            raise KeyboardInterrupt

    meter.open_window()
    outcomes: Sequence[Outcome]
    try:
        outcomes = client.synth_many(same_text(count), on_error="return", progress=look)
    except InterruptedBatch as interrupted:
        outcomes = interrupted.outcomes
    meter.wait()
    return outcomes


def _note(outcomes: Iterable[Outcome], meter: Meter, *, with_queue: bool) -> None:
    """Note every call once: the texts of a batch share their timing."""
    seen: set[str] = set()
    for outcome in outcomes:
        if outcome.error is not None:
            meter.note_error(outcome.error)
        timing = outcome.audio.timing if outcome.audio is not None else None
        if timing is not None and timing.request_id not in seen:
            seen.add(timing.request_id)
            took = timing.total + timing.queued if with_queue else timing.total
            meter.note_call(timing.started + timing.total, took)
