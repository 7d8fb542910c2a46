"""The wire `runtime_http`: the FastAPI runtime of CosyVoice's repository, and that of 2024."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..errors import (
    BadAudioError,
    ConfigError,
    CosyError,
    CutError,
    InvalidTextError,
    ServerError,
    TextError,
)
from ..messages import UNFRAMED, Payload, Reply, Request, WireRequest, kind_of
from ..models import Recording, Voice
from . import prompts
from .base import Capabilities, HttpWire, Send, SpeechOptions, StreamReader
from .error_bodies import check_end, false_success, read_error
from .fastjson import load_json
from .forms import Form
from .pcm_stream import SampleReader, is_wav
from .redaction import request_id_of, type_shown, without_texts
from .runtime_routes import OLD_BASE, Route, choose_route

__all__ = ["RuntimeHttpWire"]

_OURS = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "host"}
    | {"transfer-encoding", "x-request-id"}
)
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}
# The server closes what is idle for 5 s (uvicorn's default).
_IDLE_EXPIRY = 4.0
_CUT = (
    "this service hangs up when it fails while it speaks: at an unknown speaker, at an instruction "
    "or a recording that its model cannot take, or out of memory; if it stays, read its log"
)
_NEW = Capabilities(
    max_texts_per_call=1,
    formats=("pcm",),
    # The reply does not tell: what is asked for must be what the model has.
    sample_rates=(22_050, 24_000),
    voices=frozenset({"name", "reference", "instruction"}),
    features=frozenset({"model"}),
    streaming=True,
    gzip=False,
    # One GPU process bears 1 to 4 at a time; beyond 40 they wait unseen, and none is refused.
    max_connections=4,
    idle_expiry=_IDLE_EXPIRY,
    cut_advice=_CUT,
)
_OLD = Capabilities(
    max_texts_per_call=1,
    formats=("wav",),
    voices=frozenset({"name", "reference", "instruction"}),
    features=frozenset({"model"}),
    gzip=False,
    # It speaks on its event loop: whatever comes meanwhile waits, even a health check.
    max_connections=1,
    idle_expiry=_IDLE_EXPIRY,
    cut_advice=_CUT,
)

# The server asserts both of a recording, and then answers 500 or hangs up.
_LOWEST_RATE = 16_000
_LONGEST = 30.0
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_PCM = frozenset({"", "audio/pcm", "audio/l16", "application/octet-stream"})
_RATE = re.compile(r";\s*rate\s*=\s*\"?(\d{4,9})", re.IGNORECASE)
# Bytes up to which a reply without a type is looked at as JSON.
_MOST_JSON = 1 << 16


class RuntimeHttpWire(HttpWire):
    """Speak with one runtime. The voice decides the route, unless the URL ends in one already."""

    name = "runtime_http"

    def __init__(self, endpoint_url: str, options: SpeechOptions) -> None:
        voice = options.voice
        if voice is None:
            raise ConfigError(
                "voice: the wire 'runtime_http' has no speaker of its own; give voice='中文女', "
                "or Voice(reference='me.wav', transcript='...')"
            )
        base, route = choose_route(endpoint_url, voice)
        self._route = route
        self.capabilities = _OLD if route.old else _NEW
        prompts.check_model(options, tells_rate=route.old)
        self._url = _with_path(endpoint_url, base + route.path)
        self._form = _form(route, voice, options)
        fixed = {"Content-Type": self._form.content_type, **_HEADERS}
        self._headers = options.headers_with(fixed, _OURS)
        self.sample_rate = options.sample_rate
        self._model = options.model
        # CosyVoice 3 demands its marker: in the text where nothing else can hold it.
        told = route.transcript or route.instruction
        self._marks_text = prompts.is_third(options.model) and not told

    def __repr__(self) -> str:
        return f"<RuntimeHttpWire {self._url.partition('?')[0]}>"

    def encode(self, texts: Sequence[str], request_id: str) -> Request:
        """Build the request for the one text. Raises InvalidTextError for one not encodable."""
        (text,) = texts
        if self._marks_text:
            text = prompts.cross_lingual_text(text, self._model)
        try:
            body = self._form.body(text)
        except UnicodeEncodeError:
            raise InvalidTextError(
                "a text holds half a character that UTF-8 cannot carry"
            ) from None
        return Request(self._url, (*self._headers, ("X-Request-Id", request_id)), body)

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        """Return the text's samples, or the error that it found nothing to speak.

        Raises ServerError for a refusal, BadAudioError for what is no sound.
        """
        self.check(reply, texts)
        if not reply.body:
            return [self.nothing_spoken(reply.headers)]
        kind = reply.headers.get("content-type") or f"audio/pcm; rate={self.sample_rate}"
        return [Payload(bytes(reply.body), type_shown(kind))]

    def exchange(
        self, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask for the one text; see Wire."""
        try:
            return super().exchange(texts, send, request_id)
        except CutError as error:
            self.capabilities.explain(error)
            raise

    def listen(self, text: str, send: Send, request_id: str) -> StreamReader:
        """Ask for one text whose segments come as they are spoken; not of the server of 2024."""
        if not self.capabilities.streaming:
            return super().listen(text, send, request_id)
        return _Reader(self, text, request_id)

    def check(self, reply: Reply, texts: Sequence[str]) -> None:
        """Raise what a reply means that holds no sound: ServerError or BadAudioError."""
        if reply.status != 200:
            raise self._refused(reply, texts)
        kind = kind_of(reply.headers.get("content-type", ""))
        untyped = not kind and bytes(reply.body[:1]) == b"{"
        if kind == "application/json" or (untyped and len(reply.body) <= _MOST_JSON):
            try:
                value = load_json(reply.body)
            except ValueError:
                if not untyped:
                    raise _no_sound("JSON") from None
            else:
                raise false_success(value, reply, texts) or _no_sound("JSON")
        if kind.startswith("text/"):
            raise _no_sound(without_texts(kind, texts, 60))
        check_end(reply)

    def nothing_spoken(self, headers: Mapping[str, str]) -> TextError:
        """Return the error of a text whose reply ended well and empty: it will be so again."""
        return prompts.nothing_spoken(self._model, request_id_of(headers))

    def _refused(self, reply: Reply, texts: Sequence[str]) -> ServerError:
        error, path = read_error(reply, texts), self._route.path
        advice = {
            404: f"there is no {path}: give the runtime's own address, such as http://host:50000, "
            f"or http://host:50000{OLD_BASE} for the server of 2024",
            422: f"it takes other fields than the official {path}",
            500: f"its model may not have {path}, or it cannot read the recording: read its log",
        }.get(reply.status)
        return error.with_details(message=f"{error.message}; {advice}") if advice else error


class _Reader:
    """One text's samples as they come; a chunk may end in the middle of one."""

    def __init__(self, wire: RuntimeHttpWire, text: str, request_id: str) -> None:
        self._wire = wire
        self._texts = (text,)
        self.request: WireRequest = wire.encode(self._texts, request_id)
        self.sample_rate = wire.sample_rate
        self._headers: Mapping[str, str] = {}
        self._samples = SampleReader(wire.sample_rate, bare=True)

    def accept(self, status: int, headers: Mapping[str, str]) -> bool:
        """Return whether samples follow this head."""
        kind = headers.get("content-type", "")
        rate = _RATE.search(kind)
        if rate is not None:
            self.sample_rate = int(rate[1])
        self._headers = headers
        kind = kind_of(kind)
        wav = is_wav(kind)
        self._samples = SampleReader(self.sample_rate, wav=wav, bare=not wav)
        if not wav and kind not in _PCM:
            return False
        return status == 200 and UNFRAMED not in headers

    def refuse(self, reply: Reply) -> CosyError:
        """Return the error that a whole reply means."""
        try:
            self._wire.check(reply, self._texts)
        except CosyError as error:
            return error
        return _no_sound("another kind of sound").with_details(retryable=False)

    def feed(self, data: bytes) -> bytes:
        """Return the whole samples that these bytes complete. Raises BadAudioError."""
        return self._heard(self._samples.feed(data))

    def end(self) -> bytes:
        """Return the sound still held. Raises TextError for none, BadAudioError for half a
        sample."""
        if not self._samples.has_heard:
            raise self._wire.nothing_spoken(self._headers)
        return self._heard(self._samples.end())

    def _heard(self, samples: bytes) -> bytes:
        self.sample_rate = self._samples.sample_rate
        return self._samples.mono(samples)


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=path, fragment=""))


def _form(route: Route, voice: Voice, options: SpeechOptions) -> Form:
    model = options.model
    fields = _extra_fields(route, options.extra)
    if route.name:
        fields[route.name] = voice.name or ""
    if route.transcript:
        fields[route.transcript] = prompts.zero_shot_prompt(voice.transcript or "", model)
    if route.instruction:
        words = voice.instruction or ""
        # CosyVoice 1 marks the end itself.
        fields[route.instruction] = words if route.name else prompts.instruction(words, model)
    files = {route.reference: _wav(voice)} if route.reference else {}
    return Form(route.text, fields, files)


def _extra_fields(route: Route, extra: Mapping[str, Any]) -> dict[str, str]:
    ours = {route.text, route.name, route.transcript, route.reference, route.instruction}
    fields = {}
    for name, value in extra.items():
        if not _FIELD_NAME.fullmatch(name) or name in ours:
            raise ConfigError(f"extra: {name!r:.40} is no name for a further form field")
        if isinstance(value, bool):
            fields[name] = "true" if value else "false"
        elif isinstance(value, (str, int, float)):
            fields[name] = str(value)
        else:
            raise ConfigError(f"extra: {name!r} must be text or a number, as forms have it")
    return fields


def _wav(voice: Voice) -> bytes:
    recording = voice.reference
    if not isinstance(recording, Recording):
        raise ConfigError("voice: make a client with it: that reads the recording")
    if recording.sample_rate < _LOWEST_RATE or recording.duration > _LONGEST:
        raise ConfigError(
            f"voice: a recording of {recording.duration:.1f} s at {recording.sample_rate} Hz; "
            f"CosyVoice takes at most {_LONGEST:g} s at {_LOWEST_RATE} Hz or more"
        )
    return recording.wav


def _no_sound(what: str) -> BadAudioError:
    return BadAudioError(
        f"expected bare samples, got {what}; check the URL, the wire and the service",
        reason="not_audio",
    )
