"""The wire `openai`: /v1/audio/speech and what stands beside it, as vLLM-Omni answers."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ...models import is_utf8
from ..batch import AUDIO_FORMATS, SAMPLE_RATES, SPEEDS, Part, write_reply
from ..corrupt import corrupt
from ..errors import RequestError, bad_request
from ..faults import DELIVERY_FAULTS
from ..reader import Request
from ..replies import Reply, json_reply
from ..routes import Route
from ..sound import Clip, Failure, encode_clip
from .openai_forms import Fields, read_body, read_number
from .openai_streams import event_chunks, raw_chunks
from .openai_voices import InvalidItem, Voices

if TYPE_CHECKING:
    from ..service import Service

__all__ = ["routes"]

MODEL = "FunAudioLLM/Fun-CosyVoice3-0.5B-2512"
# Texts with these marks fail: alone, or with the whole call.
_FAIL_MARK = "[fail]"
_REFUSE_MARK = "[refuse]"
_MAX_INSTRUCTION = 500
# Hz, of what the model speaks.
_RATE = 24_000
_MEDIA_TYPES = {"wav": "audio/wav", "pcm": "audio/pcm"}
_KINDS = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}


def routes(service: Service) -> dict[str, Route]:
    """Return the paths of this wire."""
    speech = _Speech(service)
    return {
        "/v1/audio/speech": Route(("POST",), speech.answer, _write_error),
        "/v1/audio/speech/batch": Route(("POST",), speech.answer_batch, _write_error),
        "/v1/audio/voices": Route(("GET", "POST"), speech.answer_voices, _write_error),
        "/v1/audio/voices/{name}": Route(("DELETE",), speech.forget_voice, _write_error),
        "/v1/models": Route(("GET",), speech.answer_models, _write_error),
    }


def _write_error(error: RequestError) -> Reply:
    """Word a refusal as vLLM does: objects, but for a wrong key."""
    status = error.status
    if status == 401:
        return json_reply(status, {"error": "Unauthorized"}, error.headers)
    kind = _KINDS.get(status) or HTTPStatus(status).phrase
    value = {"message": error.message, "type": kind, "param": None, "code": status}
    return json_reply(status, {"error": value}, error.headers)


@dataclass(frozen=True, slots=True)
class _Item:
    """One text and how it is to be spoken."""

    text: str
    voice: str
    audio_format: str
    sample_rate: int
    speed: float


class _Speech:
    """Answers; used by the event loop alone."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._voices = Voices(service.engine.voices)

    async def answer(self, request: Request, address: str) -> Reply:
        """Speak one text: whole, or as a stream."""
        service = self._service
        fault = service.admit(request, address)
        fields = read_body(request, service.body_of(request))
        item = self._read_item(fields, "input")
        form = _stream_form(fields)

        async def speak() -> Reply:
            if _REFUSE_MARK in item.text or _FAIL_MARK in item.text:
                raise bad_request("the text cannot be spoken")
            return await (self._stream(item, form, fault) if form else self._whole(item, fault))

        return await service.perform(request, 1, fault, speak)

    async def answer_batch(self, request: Request, address: str) -> Reply:
        """Speak up to `max_texts` items, each with its own status."""
        service = self._service
        fault = service.admit(request, address)
        items = self._read_items(read_body(request, service.body_of(request)))

        async def speak() -> Reply:
            if any(isinstance(item, _Item) and _REFUSE_MARK in item.text for item in items):
                raise bad_request("a text of this call is not allowed")
            parts = [*await asyncio.gather(*map(self._say_item, range(len(items)), items))]
            rates = [item.sample_rate for item in items if isinstance(item, _Item)]
            corrupt(fault, parts, rates[0] if rates else _RATE, service.faults.random)
            kind, pieces = write_reply(parts, "results")
            pieces[0] = b'{"id":"speech-batch-%b","results":[' % secrets.token_hex(8).encode()
            return self._deliver(kind, pieces, fault)

        return await service.perform(request, len(items), fault, speak)

    async def answer_voices(self, request: Request, _address: str) -> Reply:
        """List the voices, or take a recording in."""
        self._service.check_key(request)
        if request.method == "GET":
            return json_reply(200, self._voices.listed())
        fields = read_body(request, self._service.body_of(request))
        return json_reply(200, {"success": True, "voice": self._voices.add(fields)})

    async def forget_voice(self, request: Request, _address: str) -> Reply:
        """Forget an uploaded voice."""
        self._service.check_key(request)
        self._voices.remove(request.path.rpartition("/")[2])
        return json_reply(200, {"success": True})

    async def answer_models(self, request: Request, _address: str) -> Reply:
        """Name the one model."""
        self._service.check_key(request)
        model = {"id": MODEL, "object": "model", "created": int(time.time()), "owned_by": "vllm"}
        return json_reply(200, {"object": "list", "data": [model]})

    # -- one text -------------------------------------------------------------------------------

    async def _say_item(self, index: int, item: _Item | Failure) -> Part:
        if isinstance(item, Failure):
            return Part(index, item, "")
        content = _encoded(await self._say(item), item)
        return Part(index, content, _MEDIA_TYPES[item.audio_format])

    async def _say(self, item: _Item) -> Clip | Failure:
        if _FAIL_MARK in item.text:
            return Failure("synthesis_failed", "the text cannot be spoken")
        [content] = await self._service.engine.synthesize(
            [item.text], item.voice, item.sample_rate, item.speed
        )
        return content

    async def _whole(self, item: _Item, fault: str) -> Reply:
        content = _encoded(await self._say(item), item)
        kind = _MEDIA_TYPES[item.audio_format]
        parts = [Part(0, content, kind)]
        corrupt(fault, parts, item.sample_rate, self._service.faults.random)
        clip = parts[0].content if parts else Clip.of(b"")
        if isinstance(clip, Failure):
            raise RequestError(500, clip.code, clip.message)
        return self._deliver(kind, list(clip.pieces), fault)

    async def _stream(self, item: _Item, form: str, fault: str) -> Reply:
        content = await self._say(item)
        if isinstance(content, Failure):
            raise RequestError(500, content.code, content.message)
        parts = [Part(0, content, "audio/pcm")]
        corrupt(fault, parts, item.sample_rate, self._service.faults.random)
        corrupted = parts[0].content if parts else Clip.of(b"")
        failure = corrupted if isinstance(corrupted, Failure) else None
        pcm = content.data if isinstance(corrupted, Failure) else corrupted.data
        self._service.counters.audio_bytes += len(pcm)
        if form == "sse":
            kind, chunks = "text/event-stream; charset=utf-8", event_chunks(pcm, failure)
        else:
            kind = _MEDIA_TYPES[item.audio_format]
            chunks = raw_chunks(pcm, item.audio_format, item.sample_rate)
            # What fails in the middle of bare bytes can only be broken off.
            fault = "reset-mid" if failure else fault
        return Reply(200, kind, [], fault=_delivery(fault), chunks=chunks)

    def _deliver(self, kind: str, pieces: list[Any], fault: str) -> Reply:
        self._service.counters.audio_bytes += sum(map(len, pieces))
        return Reply(200, kind, pieces, fault=_delivery(fault))

    # -- requests -------------------------------------------------------------------------------

    def _read_items(self, fields: Fields) -> list[_Item | Failure]:
        """Return what each item asks for, or the sentence that stands in place of its sound."""
        items, most = fields.get("items"), self._service.rules.max_texts
        if not isinstance(items, list) or not items:
            raise bad_request("items: List should have at least 1 item")
        if len(items) > most:
            raise bad_request(
                f"Batch contains {len(items)} items, exceeding the maximum of {most}."
            )
        shared = {name: value for name, value in fields.items() if name != "items"}
        read: list[_Item | Failure] = []
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise bad_request(f"items[{index}] is not an object")
            try:
                read.append(self._read_item({**shared, **item}, f"items[{index}].input"))
            except InvalidItem as error:
                read.append(Failure("invalid", error.message))
        return read

    def _read_item(self, fields: Fields, name: str) -> _Item:
        text, most = fields.get("input"), self._service.rules.max_text_chars
        if not isinstance(text, str):
            raise bad_request(f"{name}: Input should be a non-empty string")
        audio_format = fields.get("response_format") or AUDIO_FORMATS[0]
        if audio_format not in AUDIO_FORMATS:
            raise bad_request(f"response_format: use one of {', '.join(AUDIO_FORMATS)}")
        rate = int(read_number(fields, "sample_rate", _RATE, SAMPLE_RATES))
        speed = read_number(fields, "speed", 1.0, SPEEDS)
        voice = self._voices.speaker(fields)
        if not text.strip():
            raise InvalidItem("Input text cannot be empty")
        if not is_utf8(text):
            raise InvalidItem(f"{name} has half of a surrogate pair: it is not valid Unicode")
        if len(text) > most:
            raise InvalidItem(f"{name} has {len(text)} characters: at most {most} are allowed")
        words = fields.get("instructions") or ""
        if not isinstance(words, str) or len(words) > _MAX_INSTRUCTION:
            raise InvalidItem(f"instructions: at most {_MAX_INSTRUCTION} characters")
        return _Item(text, voice, str(audio_format), rate, speed)


def _stream_form(fields: Mapping[str, Any]) -> str:
    """Say how the reply is to come: `sse`, `audio` (bare bytes) or whole."""
    form = fields.get("stream_format")
    if form not in (None, "sse", "audio"):
        raise bad_request("stream_format: use sse or audio")
    return str(form or ("sse" if fields.get("stream") in (True, "true") else ""))


def _encoded(content: Clip | Failure, item: _Item) -> Clip | Failure:
    if isinstance(content, Failure):
        return content
    return encode_clip(content, item.audio_format, item.sample_rate)


def _delivery(fault: str) -> str:
    return fault if fault in DELIVERY_FAULTS else ""
