"""aiohttp on asyncio: a session, a semaphore, batches of 64, three retries, decoded replies.

Also as synchronous code uses it: an event loop in a thread of its own, called from many threads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.corpus import BATCH, FIXED_TEXTS, request_body, same_text, texts_of
from benchmarks.meter import Meter
from benchmarks.peers.decoding import decode_fast, decode_json
from benchmarks.peers.loops import loop_coroutines, loop_threads
from benchmarks.peers.waiting import RETRIES, RETRY_STATUS, TransientError, pause
from benchmarks.task import Task

__all__ = ["job", "paced", "single", "texts", "transport"]

Decoder = Callable[[aiohttp.ClientResponse], Awaitable[list[bytes]]]


def transport(task: Task, meter: Meter) -> None:
    """Send one prepared body again and again."""
    _run(_transport(task, meter), task)


def single(task: Task, meter: Meter) -> None:
    """Speak one text a call: gather over all, a semaphore lets `in_flight` of them go.

    With "loops" it is `in_flight` tasks, each sending again when it has its reply: at a low latency
    the ideal client makes tens of thousands of calls, and their tasks alone cost aiohttp a second.
    """
    if task.variant == "loop thread":
        _single_from_threads(task, meter)
    else:
        _run(_single(task, meter), task)


def job(task: Task, meter: Meter) -> None:
    """Speak all texts, one a call, from a cold start."""
    _run(_job(task, meter), task)


def texts(task: Task, meter: Meter) -> None:
    """Speak all texts in batches."""
    _run(_texts(task, meter), task)


def paced(task: Task, meter: Meter) -> None:
    """Speak one text a call at each endpoint's rate."""
    _run(_paced(task, meter), task)


# -- what its user would write --------------------------------------------------------------------


@dataclass
class Speaker:
    """Sends batches, at most so many at once, and again when that may help."""

    session: aiohttp.ClientSession
    url: str
    gate: asyncio.Semaphore
    decode: Decoder

    async def speak(self, batch: Sequence[str]) -> list[bytes]:
        """Return the audio of each text of a batch."""
        async with self.gate:
            return await self.send(batch)

    async def send(self, batch: Sequence[str]) -> list[bytes]:
        """Send with retries."""
        for attempt in range(RETRIES + 1):
            try:
                return await self._attempt(batch)
            except (TransientError, aiohttp.ClientConnectionError, asyncio.TimeoutError):
                if attempt == RETRIES:
                    raise
            await asyncio.sleep(pause(attempt))
        raise AssertionError("unreachable")

    async def _attempt(self, batch: Sequence[str]) -> list[bytes]:
        async with self.session.post(self.url, json={"texts": batch}) as response:
            if response.status in RETRY_STATUS:
                raise TransientError(response.status)
            response.raise_for_status()
            audios = await self.decode(response)
        if len(audios) != len(batch):
            raise ValueError(f"{len(audios)} audios for {len(batch)} texts")
        return audios


async def _decode_stdlib(response: aiohttp.ClientResponse) -> list[bytes]:
    return decode_json(await response.read())


async def _decode_fast(response: aiohttp.ClientResponse) -> list[bytes]:
    return decode_fast(await response.read())


async def _decode_multipart(response: aiohttp.ClientResponse) -> list[bytes]:
    audios = []
    async for part in aiohttp.MultipartReader.from_response(response):
        assert isinstance(part, aiohttp.BodyPartReader)
        if part.headers["X-Status"] != "success":
            raise ValueError(await part.text())
        audios.append(bytes(await part.read()))
    return audios


_DECODERS: dict[str, Decoder] = {
    "fast": _decode_fast,
    "multipart": _decode_multipart,
}


# -- the cases ------------------------------------------------------------------------------------


def _run(main: Coroutine[Any, Any, None], task: Task) -> None:
    if task.variant.startswith("uvloop"):
        import uvloop

        uvloop.install()
    asyncio.run(main)


def _session(connections: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=connections)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))


def _speaker(session: aiohttp.ClientSession, url: str, task: Task) -> Speaker:
    decode = _DECODERS.get(task.variant, _decode_stdlib)
    return Speaker(session, url, asyncio.Semaphore(task.in_flight), decode)


async def _transport(task: Task, meter: Meter) -> None:
    body, headers = request_body(), {"Content-Type": "application/json"}
    async with _session(task.in_flight) as session:

        async def call() -> None:
            async with session.post(task.urls[0], data=body, headers=headers) as response:
                await response.read()
                response.raise_for_status()

        await loop_coroutines(task, meter, call)


async def _single(task: Task, meter: Meter) -> None:
    async with _session(task.in_flight) as session:
        speaker = _speaker(session, task.urls[0], task)
        if task.variant.endswith("loops"):
            await loop_coroutines(task, meter, lambda: speaker.send(FIXED_TEXTS[:1]))
            return

        async def one(text: str) -> None:
            async with speaker.gate:
                if meter.over:
                    return
                started = time.monotonic()
                try:
                    await speaker.send([text])
                except Exception as error:
                    meter.note_error(error)
                else:
                    meter.note(started)

        meter.open_window()
        await asyncio.gather(*(one(text) for text in same_text(task.most_calls)))


def _single_from_threads(task: Task, meter: Meter) -> None:
    """Call from `in_flight` threads; each waits for its coroutine in the loop's own thread."""
    import uvloop

    loop = uvloop.new_event_loop()
    threading.Thread(target=loop.run_forever, name="loop", daemon=True).start()

    async def opened() -> Speaker:
        return _speaker(_session(task.in_flight), task.urls[0], task)

    speaker = asyncio.run_coroutine_threadsafe(opened(), loop).result()

    def call() -> None:
        asyncio.run_coroutine_threadsafe(speaker.send(FIXED_TEXTS[:1]), loop).result()

    loop_threads(task, meter, call)


async def _job(task: Task, meter: Meter) -> None:
    async with _session(task.in_flight) as session:
        speaker = _speaker(session, task.urls[0], task)

        async def one(text: str) -> list[bytes]:
            async with speaker.gate:
                started = time.monotonic()
                audios = await speaker.send([text])
            meter.note(started)
            return audios

        with meter.span():
            audios = await asyncio.gather(*(one(text) for text in same_text(task.texts)))
    meter.units = len(audios)


async def _texts(task: Task, meter: Meter) -> None:
    every = list(texts_of(task.texts))
    async with _session(task.in_flight) as session:
        speaker = _speaker(session, task.urls[0], task)

        async def one(batch: Sequence[str]) -> list[bytes]:
            async with speaker.gate:
                started = time.monotonic()
                audios = await speaker.send(batch)
            meter.note(started)
            return audios

        warm = [one(every[:BATCH]) for _ in range(task.in_flight)]
        await asyncio.gather(*warm)
        with meter.span():
            batches = [every[at : at + BATCH] for at in range(0, len(every), BATCH)]
            found = await asyncio.gather(*(one(batch) for batch in batches))
            audios = [audio for batch in found for audio in batch]
    meter.units = len(audios)


async def _paced(task: Task, meter: Meter) -> None:
    """Keep every endpoint's rate with evenly spaced starts, the connections with semaphores."""
    async with _session(task.in_flight) as session:
        each = task.in_flight // len(task.urls)
        meter.open_window()
        running = [
            asyncio.create_task(_keep_pace(session, url, each, task, meter)) for url in task.urls
        ]
        await asyncio.gather(*running)


async def _keep_pace(
    session: aiohttp.ClientSession, url: str, connections: int, task: Task, meter: Meter
) -> None:
    speaker = Speaker(session, url, asyncio.Semaphore(connections), _decode_stdlib)

    async def one(text: str) -> None:
        started = time.monotonic()
        try:
            await speaker.send([text])
        except Exception as error:
            meter.note_error(error)
        else:
            meter.note(started)
        finally:
            speaker.gate.release()

    sending = set()
    start = time.monotonic()
    texts_ahead = texts_of(int(task.rate * (task.warm + task.seconds + 10)))
    for number, text in enumerate(texts_ahead):
        if meter.over:
            break
        await asyncio.sleep(start + number / task.rate - time.monotonic())
        await speaker.gate.acquire()
        sending.add(asyncio.create_task(one(text)))
