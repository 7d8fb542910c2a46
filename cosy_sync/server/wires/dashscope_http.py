"""Alibaba's CosyVoice over HTTP: JSON with a link to the sound, or server-sent events."""

from __future__ import annotations

import json
import secrets
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..batch import Part, read_object
from ..corrupt import corrupt
from ..errors import RequestError
from ..faults import DELIVERY_FAULTS
from ..reader import Request
from ..replies import Reply, json_reply
from ..routes import Route
from ..sound import Clip, Failure, encode_clip, media_type, wav_header
from .dashscope_task import without_tags

if TYPE_CHECKING:
    from ..service import Service

SPEECH_PATH = "/api/v1/services/audio/tts/SpeechSynthesizer"
ENROLLED_PATH = "/api/v1/services/audio/tts/customization"
# Where the sound lies: elsewhere, in a real service, so that nobody may send a key there.
FILE_PATH = "/dashscope-results/speech"

_RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
_KINDS = {"wav": "audio/x-wav", "pcm": "application/octet-stream"}
_RANGES = {"volume": (0, 100), "rate": (0.5, 2.0), "pitch": (0.5, 2.0)}
# Bytes of sound that wait to be fetched; the oldest goes first.
_MAX_KEPT = 64_000_000
_DAY_SECONDS = 86_400
# Seconds of sound in one event.
_CHUNK_SECONDS = 0.2
# What a WAV header claims whose writer does not know the length yet.
_ENDLESS = 0x7FFF_FFFF - 36

_WORDS = {
    401: ("InvalidApiKey", "Invalid API-key provided."),
    413: ("InvalidParameter", "the request is too large"),
    429: ("Throttling.RateQuota", "Requests rate limit exceeded, please try again later."),
    500: ("InternalError", "An internal error has occured, please try again later."),
    502: ("InternalError", "bad gateway"),
    503: ("ServiceUnavailable", "the service is unavailable, please try again later."),
    504: ("RequestTimeOut", "Request timed out, please try again later."),
}
# System voices of the real service begin like this: here they speak with the first voice.
_SYSTEM_VOICE = "long"
# And so do the account's own.
_OWN_VOICE = "cosyvoice-"
_ENROLLED = tuple(f"{_OWN_VOICE}v3-flash-own{number}-0a1b2c3d" for number in range(1, 4))
_FAIL_MARK = "[fail]"
_REFUSE_MARK = "[refuse]"


def routes(service: Service) -> dict[str, Route]:
    """Return the paths that this wire answers at."""
    wire = _DashscopeHttp(service)
    return {
        SPEECH_PATH: Route(("POST",), wire.answer, write_error),
        FILE_PATH: Route(("GET",), wire.answer_file, write_error),
        ENROLLED_PATH: Route(("POST",), wire.answer_enrolled, write_error),
    }


def write_error(error: RequestError) -> Reply:
    """Make DashScope's error body."""
    code, message = error.code, error.message
    if not code[:1].isupper():
        code, told = _WORDS.get(error.status, ("InvalidParameter", ""))
        message = told or message
    body = {"code": code, "message": message, "request_id": _new_id()}
    return json_reply(error.status, body, error.headers)


@dataclass(frozen=True, slots=True)
class _Call:
    """One checked request body."""

    text: str
    voice: str
    audio_format: str
    sample_rate: int
    speed: float
    streamed: bool


class _DashscopeHttp:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._files: OrderedDict[str, tuple[Clip, str]] = OrderedDict()
        self._kept = 0

    async def answer(self, request: Request, address: str) -> Reply:
        """Speak one text."""
        service = self._service
        fault = service.admit(request, address)
        if "x-dashscope-async" in request.headers:
            raise RequestError(429, "Throttling", "asynchronous calls are not supported here")
        call = _read_call(request, service)

        async def speak() -> Reply:
            return await self._speak(call, fault, request.headers.get("host", ""))

        return await service.perform(request, 1, fault, speak)

    async def answer_enrolled(self, request: Request, _address: str) -> Reply:
        """List the account's own voices."""
        self._service.check_key(request)
        fields = read_object(self._service.body_of(request))
        asked = fields.get("input")
        if not isinstance(asked, dict) or asked.get("action") != "list_voice":
            raise RequestError(400, "InvalidParameter", "only list_voice is served here")
        first, size = asked.get("page_index", 0), asked.get("page_size", 10)
        if not (isinstance(first, int) and isinstance(size, int) and first >= 0 < size):
            raise RequestError(400, "InvalidParameter", "page_index and page_size are numbers")
        page = _ENROLLED[first * size : (first + 1) * size]
        listed = [{"voice_id": name, "status": "OK"} for name in page]
        return json_reply(200, {"request_id": _new_id(), "output": {"voice_list": listed}})

    async def answer_file(self, request: Request, _address: str) -> Reply:
        """Hand out a sound that was made before; whoever has the link gets it."""
        if "authorization" in request.headers:
            self._service.counters.keys_leaked += 1
        found = self._files.get(request.query)
        if found is None:
            page = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
            return Reply(403, "application/xml", [page])
        clip, kind = found
        return Reply(200, kind, list(clip.pieces))

    async def _speak(self, call: _Call, fault: str, host: str) -> Reply:
        part = await self._make(call, fault)
        link = ""
        if isinstance(part.content, Clip):
            self._service.counters.audio_bytes += part.content.size
            link = self._keep(part, host, call)
        if call.streamed:
            reply = Reply(200, "text/event-stream;charset=UTF-8", [])
            reply.chunks = _events(call, part, link)
        elif link:
            body = {"request_id": _new_id(), "output": _last(link), "usage": _usage(call.text)}
            reply = json_reply(200, body)
        else:
            raise _unspeakable()
        reply.fault = fault if fault in DELIVERY_FAULTS else ""
        return reply

    async def _make(self, call: _Call, fault: str) -> Part:
        """Synthesize, and corrupt as the fault says: a whole file, or samples to be streamed."""
        service, rate = self._service, call.sample_rate
        (content,) = await service.engine.synthesize([call.text], call.voice, rate, call.speed)
        if _FAIL_MARK in call.text:
            content = Failure("synthesis_failed", "the text cannot be spoken")
        if isinstance(content, Clip) and not call.streamed:
            content = encode_clip(content, call.audio_format, rate)
        parts = [Part(0, content, "" if call.streamed else media_type(call.audio_format, rate))]
        corrupt(fault, parts, rate, service.faults.random)
        return parts[0] if parts else Part(0, Failure("empty", "no result"), "")

    def _keep(self, part: Part, host: str, call: _Call) -> str:
        """Keep a sound for those who have its link; return the link."""
        clip, form = part.content, call.audio_format
        assert isinstance(clip, Clip)
        if call.streamed:
            clip = encode_clip(clip, form, call.sample_rate)
        expires = int(time.time()) + _DAY_SECONDS
        query = f"Expires={expires}&Id=audio_{_new_id()}.{form}&Signature={secrets.token_hex(8)}"
        self._files[query] = clip, _KINDS[form]
        self._kept += clip.size
        while self._kept > _MAX_KEPT and len(self._files) > 1:
            _, (oldest, _) = self._files.popitem(last=False)
            self._kept -= oldest.size
        return f"http://{host}{FILE_PATH}?{query}"


async def _events(call: _Call, part: Part, link: str) -> AsyncIterator[bytes]:
    """Write the events of one text, each as soon as it is wanted."""
    number, content = 1, part.content
    yield _event(number, {"output": _sentence("sentence-begin", call, "")})
    if isinstance(content, Failure):
        failure = _unspeakable()
        told = {"code": failure.code, "message": failure.message, "request_id": _new_id()}
        yield _event(number + 1, told, status=failure.status)
        return
    size = 2 * int(_CHUNK_SECONDS * call.sample_rate)
    data = content.data
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    for index, piece in enumerate(pieces):
        if call.audio_format == "wav" and not index:
            piece = wav_header(_ENDLESS, call.sample_rate) + piece
        number += 1
        base64 = part.base64 if part.base64 is not None and not index else b64encode(piece)
        output = _sentence("sentence-synthesis", call, base64.decode())
        yield _event(number, {"output": output})
    output = _sentence("sentence-end", call, "")
    yield _event(number + 1, {"output": output, "usage": _usage(call.text)})
    yield _event(number + 2, {"output": _last(link), "usage": _usage(call.text)})


def _event(number: int, body: Mapping[str, Any], status: int = 200) -> bytes:
    name = "result" if status == 200 else "error"
    value = json.dumps({"request_id": _new_id(), **body}, ensure_ascii=False)
    return f"id:{number}\nevent:{name}\n:HTTP_STATUS/{status}\ndata:{value}\n\n".encode()


def _sentence(kind: str, call: _Call, base64: str) -> dict[str, Any]:
    output: dict[str, Any] = {
        "finish_reason": "null",
        "type": kind,
        "sentence": {"index": 0, "words": []},
        "audio": {"data": base64, "id": "", "url": "", "expires_at": 0},
    }
    if kind != "sentence-synthesis":
        output["original_text"] = call.text
    return output


def _last(link: str) -> dict[str, Any]:
    expires = int(time.time()) + _DAY_SECONDS
    name = f"audio_{_new_id()}"
    return {
        "finish_reason": "stop",
        "audio": {"data": "", "url": link, "id": name, "expires_at": expires},
    }


def _usage(text: str) -> dict[str, int]:
    # Chinese characters count twice.
    return {"characters": sum(2 if "\u4e00" <= char <= "\u9fff" else 1 for char in text)}


def _read_call(request: Request, service: Service) -> _Call:
    fields = read_object(service.body_of(request))
    if not isinstance(fields.get("model"), str) or not fields["model"]:
        raise _invalid("Missing required parameter 'payload.model'! Please follow the protocol!")
    given = fields.get("input")
    if not isinstance(given, dict):
        raise _invalid("Missing required parameter 'payload.input'! Please follow the protocol!")
    text = _read_text(given.get("text"), service.config.max_text_chars)
    # Left open it is MP3 at the real service, for which there is no encoder here.
    audio_format = given.get("format", "wav")
    if audio_format not in ("wav", "pcm"):
        raise _invalid("this stand-in speaks wav and pcm only: set input.format")
    rate = given.get("sample_rate", 22_050)
    if rate not in _RATES:
        raise _invalid("[tts:]Engine return error code: 411")
    for name, (low, high) in _RANGES.items():
        value = given.get(name, low)
        # type(), since True is an int to Python and not to the service.
        if type(value) not in (int, float) or not low <= value <= high:
            raise _invalid(f"{name} must be a number from {low} to {high}")
    if given.get("enable_ssml") is True:
        text = _read_text(without_tags(text), service.config.max_text_chars)
    streamed = request.headers.get("x-dashscope-sse", "").lower() == "enable"
    voice = _read_voice(given.get("voice"), service.rules.voices)
    return _Call(text, voice, audio_format, rate, float(given.get("rate", 1.0)), streamed)


def _read_text(text: object, most: int) -> str:
    if not isinstance(text, str) or not text.strip():
        raise _invalid("task can not be null")
    if len(text) > most:
        raise _invalid(f"the text has more than {most} characters")
    if _REFUSE_MARK in text:
        raise RequestError(
            400, "DataInspectionFailed", "Input data may contain inappropriate content."
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _invalid("Please ensure input text is valid.") from None
    return text


def _read_voice(voice: object, known: tuple[str, ...]) -> str:
    if isinstance(voice, str) and (voice in known or voice.startswith((_SYSTEM_VOICE, _OWN_VOICE))):
        return voice if voice in known else known[0]
    # A wrong voice, or one of another model.
    raise _invalid("[tts:]Engine return error code: 418")


def _invalid(message: str) -> RequestError:
    return RequestError(400, "InvalidParameter", message)


def _unspeakable() -> RequestError:
    return _invalid("Please ensure input text is valid.")


def _new_id() -> str:
    return secrets.token_hex(16)
