"""A CosyVoice service inside an httpx transport: wire `batch`, tones for speech, no sockets."""

from __future__ import annotations

import array
import functools
import hashlib
import json
import math
import threading
from collections import deque
from collections.abc import Callable

import httpx

from ..models import wav_header

__all__ = ["FakeService"]

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]

_RATE = 24_000
_SECONDS_PER_CHAR = 0.2


class FakeService(httpx.BaseTransport):
    """Answers like a service; whatever is queued with `answer` comes first.

    Use it as `CosyClient(url, http_client=httpx.Client(transport=FakeService()))`. `calls` holds
    the texts of every request, in the order of their arrival.
    """

    def __init__(self) -> None:
        # Guards: _answers, calls.
        self._lock = threading.Lock()
        self._answers: deque[Answer] = deque()
        self.calls: list[list[str]] = []

    def answer(self, *answers: Answer) -> FakeService:
        """Queue replies, or httpx errors to raise, or functions, for the next requests."""
        with self._lock:
            self._answers.extend(answers)
        return self

    def fail(self, status: int, times: int = 1, **headers: str) -> FakeService:
        """Queue so many replies with this HTTP status; `retry_after="2"` becomes Retry-After."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"error": {"code": str(status), "message": "as the test wished"}}
        return self.answer(
            *(httpx.Response(status, json=body, headers=named) for _ in range(times))
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        texts = json.loads(request.read())["texts"]
        with self._lock:
            self.calls.append(texts)
            answer = self._answers.popleft() if self._answers else None
        if answer is None:
            return self.speak(texts)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    @classmethod
    def speak(cls, texts: list[str]) -> httpx.Response:
        """Return the right reply for these texts, as multipart/mixed."""
        parts = [
            b"--part\r\nContent-Type: audio/wav\r\nX-Index: %d\r\nX-Status: success\r\n"
            b"Content-Length: %d\r\n\r\n%b\r\n" % (index, len(wav), wav)
            for index, wav in enumerate(map(cls.wav, texts))
        ]
        return httpx.Response(
            200,
            content=b"".join(parts) + b"--part--\r\n",
            headers={"Content-Type": "multipart/mixed; boundary=part"},
        )

    @staticmethod
    def wav(text: str) -> bytes:
        """Return the sound of a text: a tone whose pitch and length follow from it.

        A few samples at the start differ between any two texts, as no two recordings are equal.
        """
        mark = hashlib.blake2b(text.encode(), digest_size=16).digest()
        tone = _tone(200 + 4 * mark[0])
        pcm = mark + tone * max(1, round(len(text) * _SECONDS_PER_CHAR * 10))
        return wav_header(_RATE, 1, len(pcm)) + pcm


@functools.lru_cache(maxsize=256)  # as many pitches as there are
def _tone(pitch: int) -> bytes:
    """Return a tenth of a second of this pitch, in Hz."""
    step = 2 * math.pi * pitch / _RATE
    return array.array("h", (int(8000 * math.sin(step * n)) for n in range(_RATE // 10))).tobytes()
