"""The espeak engine: real speech on several threads, each with its own copy of the library."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .sound import SAMPLE_BYTES, Clip, Failure
from .speaker import Speaker
from .voices import PRESETS

# What espeak-ng makes of a text with nothing to say, such as punctuation alone, is shorter.
_SHORTEST_SPEECH = 0.03


class EspeakEngine:
    """Speaks Mandarin, Cantonese and English without blocking the event loop."""

    def __init__(self, speakers: int) -> None:
        """Load the library. Raises MissingExtraError when its package is absent.

        Args:
            speakers: texts spoken at the same time; one for each core is enough.
        """
        self.voices: tuple[str, ...] = tuple(PRESETS)
        self._speakers = [Speaker() for _ in range(speakers)]
        # As many threads as speakers: a thread that has a text always finds one free.
        self._free: queue.SimpleQueue[Speaker] = queue.SimpleQueue()
        for speaker in self._speakers:
            self._free.put(speaker)
        self._threads = ThreadPoolExecutor(speakers, thread_name_prefix="cosy-server-speaker")

    async def synthesize(
        self, texts: Sequence[str], voice: str, sample_rate: int, speed: float
    ) -> list[Clip | Failure]:
        """Speak each text; waits for a free speaker."""
        loop = asyncio.get_running_loop()
        jobs = [
            loop.run_in_executor(self._threads, self._speak, text, voice, sample_rate, speed)
            for text in texts
        ]
        return await asyncio.gather(*jobs)

    def close(self) -> None:
        """Drop what waits, wait for the sentences being spoken, unload the libraries."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for speaker in self._speakers:
            speaker.close()
        self._speakers.clear()

    def _speak(self, text: str, voice: str, sample_rate: int, speed: float) -> Clip | Failure:
        speaker = self._free.get()
        try:
            pcm = speaker.say(text, PRESETS[voice], sample_rate, speed)
        finally:
            self._free.put(speaker)
        if len(pcm) < _SHORTEST_SPEECH * sample_rate * SAMPLE_BYTES:
            return Failure("no_speech", "the text has nothing to say")
        return Clip.of(pcm)
