"""Responses with sound, errors as statuses, and a view that tells how the clients are."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from cosy_sync import Audio, CosyError, SpeechStream

from ..replies import CACHE_CONTROL, Reply, StreamedSound, audio_reply
from ..statuses import error_reply
from .aliases import speech

__all__ = [
    "SpeechErrorMiddleware",
    "audio_response",
    "health",
    "speech_errors",
    "streaming_response",
]


def audio_response(
    audio: Audio, request: HttpRequest, *, cache_control: str = CACHE_CONTROL
) -> HttpResponse:
    """Return a response with a sound, or the part of it that was asked for; 304 where the browser
    has it already."""
    return _response(audio_reply(audio, request.method, request.headers, cache_control))


def streaming_response(
    stream: SpeechStream, request: HttpRequest | None = None
) -> StreamingHttpResponse:
    """Return a response that plays while its text is still being spoken: a WAV file without end.

    Give the request under ASGI, where what is read on a thread must be asked for from a coroutine.
    """
    sound = StreamedSound(stream, None if request is None else request.method)
    body = _Awaited(sound) if isinstance(request, ASGIRequest) else sound
    response = StreamingHttpResponse(body, content_type=sound.content_type)
    response["Cache-Control"] = "no-store"
    return response


class _Awaited:
    """A streamed sound for a coroutine."""

    def __init__(self, sound: StreamedSound) -> None:
        self._sound = sound
        self.close = sound.close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while chunk := await asyncio.to_thread(next, self._sound, b""):
            yield chunk


def speech_errors(view: Callable[..., Any]) -> Callable[..., Any]:
    """Let a view answer errors of its texts with 400, 502, 503 (with Retry-After) or 504.

    What the site's owner must mend, such as a wrong key, stays an exception.
    """
    if iscoroutinefunction(view):

        @functools.wraps(view)
        async def answer_later(*args: Any, **named: Any) -> Any:
            try:
                return await view(*args, **named)
            except CosyError as error:
                return _answered(error)

        return answer_later

    @functools.wraps(view)
    def answer(*args: Any, **named: Any) -> Any:
        try:
            return view(*args, **named)
        except CosyError as error:
            return _answered(error)

    return answer


class SpeechErrorMiddleware:
    """What `speech_errors` does, for every view."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer an error that a view raised; None leaves it to Django."""
        reply = error_reply(error)
        return None if reply is None else _response(reply)


def health(request: HttpRequest) -> JsonResponse:
    """Tell how the clients of this process are, and send nothing: 503 where one finds every
    endpoint's breaker open. A client that was not used yet is well."""
    told: dict[str, object] = {}
    well = True
    for alias in speech:
        client = speech.made().get(alias)
        if client is None or client.closed:
            told[alias] = {"used": False}
            continue
        stats = client.stats()
        open_ones = [state == "open" for state in stats.breakers.values()]
        well = well and not (open_ones and all(open_ones))
        told[alias] = {
            "used": True,
            "breakers": dict(stats.breakers),
            "in_flight": stats.in_flight,
            "texts_ok": stats.texts_ok,
            "texts_failed": stats.texts_failed,
            "latency_p99": round(stats.latency_p99, 3),
        }
    reply = JsonResponse({"ok": well, "clients": told}, status=200 if well else 503)
    reply["Cache-Control"] = "no-store"
    return reply


def _response(reply: Reply) -> HttpResponse:
    response = HttpResponse(reply.body, status=reply.status)
    del response["Content-Type"]
    for name, value in reply.headers.items():
        response[name] = value
    return response


def _answered(error: CosyError) -> HttpResponse:
    reply = error_reply(error)
    if reply is None:
        raise error
    return _response(reply)
