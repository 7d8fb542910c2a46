"""CosyVoice as PAI-EAS deploys it: JSON with the sound as base64, or server-sent events."""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...models import is_utf8
from ..batch import Part, read_object
from ..corrupt import corrupt
from ..errors import RequestError
from ..faults import DELIVERY_FAULTS
from ..reader import Request
from ..replies import Reply, error_reply, json_reply
from ..routes import Route
from ..sound import Clip, Failure, encode_clip, media_type

if TYPE_CHECKING:
    from ..service import Service

SPEECH_PATH = "/api/v1/audio/speech"
REFERENCE_PATH = "/api/v1/audio/reference_audio"

_MODES = ("fast_replication", "cross_lingual_replication", "natural_language_replication")
_RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
# Seconds of sound in one event.
_CHUNK_SECONDS = 0.2
_FAIL_MARK = "[fail]"
_REFUSE_MARK = "[refuse]"


def routes(service: Service) -> dict[str, Route]:
    """Return the paths that this wire answers at."""
    wire = _PaiEas(service)
    return {
        SPEECH_PATH: Route(("POST",), wire.answer, error_reply),
        REFERENCE_PATH: Route(("GET",), wire.answer_references, error_reply),
    }


@dataclass(frozen=True, slots=True)
class _Call:
    """One checked request body."""

    text: str
    voice: str
    audio_format: str
    sample_rate: int
    speed: float
    streamed: bool


class _PaiEas:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def answer(self, request: Request, address: str) -> Reply:
        """Speak one text."""
        service = self._service
        fault = service.admit(request, address)
        call = _read_call(request, service)

        async def speak() -> Reply:
            return await self._speak(call, fault)

        return await service.perform(request, 1, fault, speak)

    async def answer_references(self, request: Request, _address: str) -> Reply:
        """List the recordings that can be imitated: here each preset is one."""
        self._service.check_key(request)
        names = self._service.engine.voices
        listed = [{"id": name, "filename": f"{name}.wav", "bytes": 0, "text": ""} for name in names]
        return json_reply(200, listed)

    async def _speak(self, call: _Call, fault: str) -> Reply:
        service, rate = self._service, call.sample_rate
        (content,) = await service.engine.synthesize([call.text], call.voice, rate, call.speed)
        if _FAIL_MARK in call.text:
            content = Failure("synthesis_failed", "the text cannot be spoken")
        if isinstance(content, Clip) and not call.streamed:
            content = encode_clip(content, call.audio_format, rate)
        parts = [Part(0, content, "" if call.streamed else media_type(call.audio_format, rate))]
        corrupt(fault, parts, rate, service.faults.random)
        part = parts[0] if parts else Part(0, Failure("empty", "no result"), "")
        if isinstance(part.content, Clip):
            service.counters.audio_bytes += part.content.size
        if call.streamed:
            reply = Reply(200, "text/event-stream", [])
            reply.chunks = _events(call, part)
        else:
            reply = json_reply(200, _whole(part))
        reply.fault = fault if fault in DELIVERY_FAULTS else ""
        return reply


def _whole(part: Part) -> dict[str, Any]:
    content = part.content
    if isinstance(content, Failure):
        return _output(f"invalid text: {content.message}", "")
    sound = part.base64 if part.base64 is not None else b64encode(content.data)
    return _output(None, sound.decode())


async def _events(call: _Call, part: Part) -> AsyncIterator[bytes]:
    content = part.content
    if isinstance(content, Failure):
        yield _event({**_output(None, ""), "error": f"invalid text: {content.message}"})
        return
    size = 2 * int(_CHUNK_SECONDS * call.sample_rate)
    for start in range(0, len(content.data), size):
        sound = b64encode(content.data[start : start + size])
        if part.base64 is not None and not start:
            sound = part.base64
        yield _event(_output(None, sound.decode()))
    yield _event(_output("stop", ""))


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def _output(reason: str | None, base64: str) -> dict[str, Any]:
    output = {"finish_reason": reason, "audio": {"data": base64}}
    return {"output": output, "request_id": secrets.token_hex(16)}


def _read_call(request: Request, service: Service) -> _Call:
    fields = read_object(service.body_of(request))
    given = fields.get("input")
    if not isinstance(fields.get("model"), str) or not isinstance(given, dict):
        raise _invalid("model and input are required")
    text = given.get("text")
    if not isinstance(text, str) or not text.strip():
        raise _invalid("input.text is required")
    if not is_utf8(text):
        raise _invalid("input.text is not valid Unicode")
    if len(text) > service.config.max_text_chars or _REFUSE_MARK in text:
        raise _invalid("input.text cannot be spoken")
    if given.get("mode") not in _MODES:
        raise _invalid(f"input.mode must be one of {', '.join(_MODES)}")
    if (given["mode"] == _MODES[2]) != bool(given.get("instruct")):
        raise _invalid("input.instruct belongs to natural_language_replication")
    # Left out, these have defaults at the real service too.
    audio_format, rate = given.get("output_format", "wav"), given.get("sample_rate", 24_000)
    if audio_format not in ("wav", "pcm") or rate not in _RATES:
        raise _invalid("this stand-in speaks wav and pcm, at 8000 to 48000 Hz")
    speed = given.get("speed", 1.0)
    if type(speed) not in (int, float) or not 0.5 <= speed <= 2:
        raise _invalid("input.speed must be a number from 0.5 to 2.0")
    voice = given.get("reference_audio_id")
    if voice not in service.engine.voices:
        raise _invalid("input.reference_audio_id: no such reference audio")
    return _Call(
        text, str(voice), audio_format, rate, float(speed), fields.get("stream", True) is True
    )


def _invalid(message: str) -> RequestError:
    return RequestError(400, "InvalidParameter", message)
