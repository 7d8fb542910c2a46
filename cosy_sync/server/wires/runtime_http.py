"""The wire `runtime_http`: CosyVoice's FastAPI runtime, and the one of 2024 beside it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...audio.wav import parse_wav
from ...errors import BadAudioError
from ..batch import Part
from ..corrupt import corrupt
from ..errors import RequestError
from ..faults import DELIVERY_FAULTS, TEXT_FAULTS
from ..reader import Request
from ..replies import BrokenBody, Reply, json_reply
from ..routes import Route
from ..sound import Clip, Failure, media_type
from .forms import Upload, read_form
from .segments import split_segments

if TYPE_CHECKING:
    from ..service import Service

__all__ = ["routes"]

# What CosyVoice 2 and 3 speak at, and the first one, in Hz.
_RATE = 24_000
_OLD_RATE = 22_050
# Threads that run generators (anyio's default): the 41st request waits.
_THREADS = 40
# What is asserted of a recording: before the reply, and when its head is out.
_LOWEST_RATE = 16_000
_LONGEST = 30.0
_PROMPT_END = "<|endofprompt|>"
# Texts with these marks find nothing to speak, or fail before it.
_FAIL_MARK = "[fail]"
_REFUSE_MARK = "[refuse]"
# Faults of a batch that have a meaning for one text.
_CONTENT_FAULTS = frozenset(
    {"bad-wav", "empty-audio", "odd-audio", "short-audio", "silent-audio", "swapped-type"}
    | {"text-error"}
)


@dataclass(frozen=True)
class _Form:
    """The fields of one route, all required, in the order in which FastAPI names them."""

    text: str
    fields: tuple[str, ...]
    speaker: str = ""
    upload: str = ""


_NEW = {
    "/inference_sft": _Form("tts_text", ("tts_text", "spk_id"), "spk_id"),
    "/inference_zero_shot": _Form(
        "tts_text", ("tts_text", "prompt_text", "prompt_wav"), upload="prompt_wav"
    ),
    "/inference_cross_lingual": _Form("tts_text", ("tts_text", "prompt_wav"), upload="prompt_wav"),
    "/inference_instruct": _Form("tts_text", ("tts_text", "spk_id", "instruct_text"), "spk_id"),
    "/inference_instruct2": _Form(
        "tts_text", ("tts_text", "instruct_text", "prompt_wav"), upload="prompt_wav"
    ),
}
_OLD = {
    "/api/inference/sft": _Form("tts", ("tts", "role"), "role"),
    "/api/inference/zero-shot": _Form("tts", ("tts", "prompt", "audio"), upload="audio"),
    "/api/inference/cross-lingual": _Form("tts", ("tts", "audio"), upload="audio"),
    "/api/inference/instruct": _Form("tts", ("tts", "role", "instruct"), "role"),
}

Fields = dict[str, "str | Upload"]


def routes(service: Service) -> dict[str, Route]:
    """Return what answers under the real paths of both servers."""
    new, old = _New(service), _Old(service)
    made = {path: _route(new.answer, form) for path, form in _NEW.items()}
    made |= {path: _route(old.answer, form) for path, form in _OLD.items()}
    made["/list_available_spks"] = Route(("GET",), new.speakers, _write_error)
    made["/api/roles"] = Route(("GET",), old.roles, _write_error)
    return made


def _route(answer: Callable[[_Form, Request, str], Awaitable[Reply]], form: _Form) -> Route:
    return Route(("GET", "POST"), functools.partial(answer, form), _write_error)


@dataclass(frozen=True, slots=True)
class _Task:
    """One checked form: what is spoken, by whom, at which rate in Hz, corrupted by which fault."""

    text: str
    voice: str
    rate: int
    fault: str
    # The recording is longer than the model takes: noticed only when the reply has begun.
    is_long: bool


class _Runtime:
    """What both servers do before they speak."""

    rate = _RATE

    def __init__(self, service: Service) -> None:
        self.service = service

    async def answer(self, form: _Form, request: Request, address: str) -> Reply:
        """Give the reply to one form; raises RequestError."""
        fault = self.service.admit(request, address)
        kind = request.headers.get("content-type", "")
        fields = read_form(kind, self.service.body_of(request))
        wrong = [*filter(None, (_complaint(form, name, fields) for name in form.fields))]
        if wrong:
            return json_reply(422, {"detail": wrong}, _SERVER)
        return await self.speak(self._task(form, fields, fault), request)

    async def speak(self, task: _Task, request: Request) -> Reply:
        raise NotImplementedError

    def _task(self, form: _Form, fields: Fields, fault: str) -> _Task:
        text = str(fields[form.text])
        if _REFUSE_MARK in text:
            raise _failed()
        voice, is_long = str(fields.get(form.speaker, "")), False
        upload = fields.get(form.upload)
        if isinstance(upload, Upload):
            voice, is_long = self._imitated(upload)
        return _Task(text, voice, self.rate, fault, is_long)

    def _imitated(self, upload: Upload) -> tuple[str, bool]:
        """Return the voice that stands for a recording, always the same one for it."""
        try:
            wav = parse_wav(upload.data)
        except BadAudioError:
            raise _failed() from None
        if wav.sample_rate < _LOWEST_RATE:
            raise _failed()
        voices = self.service.engine.voices
        chosen = voices[hashlib.sha256(upload.data).digest()[0] % len(voices)]
        return chosen, wav.pcm_size > _LONGEST * 2 * wav.channels * wav.sample_rate

    async def segment(self, task: _Task, text: str) -> Clip | Failure:
        """Speak one segment, which takes the service's latency."""
        ready = time.monotonic() + self.service.config.latency
        engine = self.service.engine
        (clip,) = await engine.synthesize([text], task.voice, task.rate, 1.0)
        await asyncio.sleep(max(0.0, ready - time.monotonic()))
        return clip

    def corrupted(self, task: _Task, clip: Clip | Failure) -> Clip | Failure:
        """Return the clip as the fault wants it."""
        if task.fault in _CONTENT_FAULTS:
            parts = [Part(0, clip, media_type("pcm", task.rate))]
            corrupt(task.fault, parts, task.rate, self.service.faults.random)
            clip = parts[0].content
        if isinstance(clip, Clip):
            self.service.counters.audio_bytes += clip.size
        return clip


class _New(_Runtime):
    """The current server: the head at once, then a chunk for each segment."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._threads = asyncio.Semaphore(_THREADS)

    async def speakers(self, _request: Request, _address: str) -> Reply:
        """Name the speakers, as servers do that hand `list_available_spks` on."""
        return json_reply(200, list(self.service.engine.voices), _SERVER)

    async def speak(self, task: _Task, request: Request) -> Reply:
        fault = task.fault if task.fault in DELIVERY_FAULTS else ""

        async def begin() -> Reply:
            return Reply(200, "", [], [*_SERVER], chunks=self._chunks(task), fault=fault)

        return await self.service.perform(request, 1, task.fault, begin, at_once=True)

    async def _chunks(self, task: _Task) -> AsyncIterator[bytes]:
        if task.is_long or task.voice not in self.service.engine.voices:
            raise BrokenBody
        for segment in _spoken(task):
            async with self._threads:
                clip = self.corrupted(task, await self.segment(task, segment))
            if isinstance(clip, Failure):
                raise BrokenBody
            yield clip.data


class _Old(_Runtime):
    """The server of 2024: one whole WAV file at a time, and nobody else meanwhile."""

    rate = _OLD_RATE

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._turn = asyncio.Lock()

    async def roles(self, _request: Request, _address: str) -> Reply:
        """Name the speakers."""
        return json_reply(200, {"roles": list(self.service.engine.voices)}, _SERVER)

    async def speak(self, task: _Task, request: Request) -> Reply:
        fault = task.fault if task.fault in DELIVERY_FAULTS else ""

        async def whole() -> Reply:
            if task.is_long or task.voice not in self.service.engine.voices:
                raise _failed()
            async with self._turn:
                wav = _float_wav(await self._speech(task), task.rate)
            return Reply(200, "audio/wav", [wav], [*_SERVER], fault=fault)

        return await self.service.perform(request, 1, task.fault, whole, at_once=True)

    async def _speech(self, task: _Task) -> bytes:
        clips = [self.corrupted(task, await self.segment(task, s)) for s in _spoken(task)]
        if not clips or any(isinstance(clip, Failure) for clip in clips):
            raise _failed()
        return b"".join(clip.data for clip in clips if isinstance(clip, Clip))


_SERVER = (("Server", "uvicorn"),)


def _spoken(task: _Task) -> Sequence[str]:
    """Return the segments of what is spoken: not the prompt before its end mark."""
    if _FAIL_MARK in task.text:
        return []
    segments = [s.rpartition(_PROMPT_END)[2] for s in split_segments(task.text)]
    if task.fault in TEXT_FAULTS and segments:
        segments[0] = segments[0][1:] + ("啊" if segments[0][:1] != "啊" else "喔")
    return segments


def _float_wav(pcm: bytes, rate: int) -> bytes:
    """Write mono samples as torchaudio does: 32-bit floats. Half a sample stays half a one."""
    whole = len(pcm) & ~1
    samples = [each / 32768 for (each,) in struct.iter_unpack("<h", pcm[:whole])]
    data = struct.pack(f"<{len(samples)}f", *samples) + pcm[whole:]
    return (
        struct.pack("<4sI4s", b"RIFF", 50 + len(data), b"WAVE")
        + struct.pack("<4sIHHIIHHH", b"fmt ", 18, 3, 1, rate, 4 * rate, 4, 32, 0)
        + struct.pack("<4sII", b"fact", 4, len(samples))
        + struct.pack("<4sI", b"data", len(data))
        + data
    )


def _complaint(form: _Form, name: str, fields: Fields) -> dict[str, object] | None:
    """Return what FastAPI has against one field: missing or empty, or no file."""
    value = fields.get(name)
    where = ["body", name]
    if value is None or value == "":
        return {"type": "missing", "loc": where, "msg": "Field required", "input": None}
    if (name == form.upload) == isinstance(value, Upload):
        return None
    if isinstance(value, Upload):
        told = "Input should be a valid string"
        return {"type": "string_type", "loc": where, "msg": told, "input": None}
    told = "Value error, Expected UploadFile, received: <class 'str'>"
    return {"type": "value_error", "loc": where, "msg": told, "input": value, "ctx": {"error": {}}}


def _failed() -> RequestError:
    return RequestError(500, "internal", "Internal Server Error")


def _write_error(error: RequestError) -> Reply:
    headers = [*_SERVER, *error.headers]
    if error.status == 500:
        return Reply(500, "text/plain; charset=utf-8", [b"Internal Server Error"], headers)
    return json_reply(error.status, {"detail": error.message}, headers)
