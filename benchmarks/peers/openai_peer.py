"""The openai SDK as its users write it: threads, or AsyncOpenAI and gather; its pool raised."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from benchmarks.corpus import same_text
from benchmarks.meter import Meter
from benchmarks.peers.waiting import RETRIES
from benchmarks.task import Task

__all__ = ["wires"]

_ASKED: dict[str, Any] = {"model": "cosyvoice", "voice": "中文女", "response_format": "wav"}


def wires(task: Task, meter: Meter) -> None:
    """Speak one text a call, `in_flight` at once."""
    if task.variant == "async":
        asyncio.run(_speak_async(task, meter))
        meter.wait()
    else:
        _speak_threads(task, meter)


def _speak_threads(task: Task, meter: Meter) -> None:
    client = openai.OpenAI(**_settings(task))

    def one(text: str) -> None:
        if meter.over:
            return
        started = time.monotonic()
        try:
            _check(client.audio.speech.create(input=text, **_ASKED).content)
        except Exception as error:
            meter.note_error(error)
        else:
            meter.note(started)

    pool = ThreadPoolExecutor(task.in_flight)
    meter.open_window()
    pool.map(one, same_text(task.most_calls))
    meter.wait()


async def _speak_async(task: Task, meter: Meter) -> None:
    client = openai.AsyncOpenAI(**_settings(task))
    turns = asyncio.Semaphore(task.in_flight)

    async def one(text: str) -> None:
        async with turns:
            if meter.over:
                return
            started = time.monotonic()
            try:
                answer = await client.audio.speech.create(input=text, **_ASKED)
                _check(answer.content)
            except Exception as error:
                meter.note_error(error)
            else:
                meter.note(started)

    meter.open_window()
    await asyncio.gather(*(one(text) for text in same_text(task.most_calls)))


def _settings(task: Task) -> dict[str, Any]:
    """Return what both clients are made with; the pool of connections as large as ours."""
    count = task.in_flight
    kind = openai.DefaultAsyncHttpxClient if task.variant == "async" else openai.DefaultHttpxClient
    # Its Limits come from the HTTP library that this version of the SDK stands on.
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(
        max_connections=count, max_keepalive_connections=count
    )
    return {
        "base_url": task.urls[0].removesuffix("/audio/speech"),
        "api_key": "none",
        "max_retries": RETRIES,
        "timeout": 60.0,
        "http_client": kind(limits=limits, timeout=60.0),
    }


def _check(sound: bytes) -> None:
    if sound[:4] != b"RIFF":
        raise ValueError("no WAV file")
