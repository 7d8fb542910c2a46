"""The wire `openai`: POST /v1/audio/speech, as SiliconFlow, vLLM-Omni, Xinference, vox-box and
others speak it; one text a call, or vLLM-Omni's batch route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import (
    BadAudioError,
    ConfigError,
    CosyError,
    InvalidTextError,
    ServerError,
    UnavailableError,
)
from ..messages import Payload, Reply, Request, kind_of
from ..models import Recording
from .base import HttpWire, Send, SpeechOptions
from .batch import BatchWire
from .error_bodies import CUT_SHORT, check_end, cut_short, false_success, read_error
from .fastjson import dump_json, load_json
from .forms import Form
from .openai_services import capabilities_of, data_uri, find_target, speech_fields
from .openai_stream import SpeechStream, is_text, with_rate
from .openai_voices import UploadedVoice
from .redaction import type_shown, without_texts

__all__ = ["OpenaiWire"]

_OURS = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length"}
    | {"content-type", "host", "transfer-encoding", "x-request-id"}
)
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}
_JSON = "application/json"
_MEDIA_TYPES = {"wav": "audio/wav", "pcm": "audio/pcm"}
# These say nothing: what was asked for is what came, or it will not pass as that.
_VAGUE = frozenset({"", "application/octet-stream", "audio/*", "binary/octet-stream"})
_TEXTUAL = frozenset(
    {_JSON, "text/event-stream", "text/html", "text/plain", "application/problem+json"}
)
_WRONG_ADDRESS = (404, 405)
# Where a recording is uploaded once and then asked for by name.
_UPLOADING = ("sglang", "vllm")
# How SGLang-Omni refuses to stream another format.
_PCM_ONLY = "requires response_format='pcm'"
# Who ignores or refuses `speed` in streams.
_STREAMS_AT_ONE = {"vllm": "vLLM-Omni", "xinference": "Xinference"}
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class _Body:
    """A request's body but for the text. `raw`: the text stands there as it is, not as JSON."""

    before: bytes
    after: bytes
    content_type: str = _JSON
    raw: bool = False


class OpenaiWire(HttpWire):
    """Speak with one server; `service` says which of openai_services.SERVICES it is taken for."""

    name = "openai"

    def __init__(self, endpoint_url: str, options: SpeechOptions) -> None:
        self._target = find_target(endpoint_url, options.extra.get("service"))
        self.service = self._target.service
        self.capabilities = capabilities_of(self._target, options.max_texts)
        self._prefix, self._fields = speech_fields(self.service, options)
        self._format = options.best_format(self.capabilities)
        self._fields["response_format"] = self._format
        self._sample_rate = options.sample_rate
        self._speed = options.speed
        self._headers = options.headers_with(_HEADERS, _OURS)
        self._results = BatchWire(self._target.batch_url, options, unknown_is_passing=True)
        self._voice: UploadedVoice | None = None
        self._clip: Recording | None = None
        voice = options.voice
        if voice is not None and voice.reference is not None:
            assert isinstance(voice.reference, Recording)
            self._clip = voice.reference
            if self.service in _UPLOADING:
                self._voice = UploadedVoice(
                    self._target.voices_url,
                    voice.reference,
                    voice.transcript or "",
                    self._headers,
                )
        self._transcript = voice.transcript if voice is not None else None
        # By what is asked for: streamed or not, the voice's uploaded name.
        self._bodies: dict[tuple[bool, str | None], _Body] = {}

    def __repr__(self) -> str:
        return f"<OpenaiWire {self._url.partition('?')[0]} as {self.service}>"

    @property
    def _url(self) -> str:
        return self._target.batch_url if self._target.batch else self._target.speech_url

    def encode(
        self, texts: Sequence[str], request_id: str, voice_name: str | None = None
    ) -> Request:
        """Build the request for these texts, with the name of the uploaded voice where there is
        one. Raises InvalidTextError for a text not encodable."""
        body = self._body(False, voice_name)
        if self._target.batch:
            return self._request(self._url, [{"input": text} for text in texts], body, request_id)
        return self._request(self._url, self._prefix + texts[0], body, request_id)

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        """Return one payload or error per text.

        Raises ServerError for a refusal, also for one inside a 200; BadAudioError when what came
        is no sound at all.
        """
        if self._target.batch and 200 <= reply.status <= 203:
            return self._results.decode(reply, texts)
        return [self._payload(reply, texts, self._url)]

    def exchange(
        self, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask for these texts; a reference recording is uploaded before where it can be."""
        if self._voice is None:
            return self.decode(send(self.encode(texts, request_id)), texts)
        return self._cloned(self._voice, texts, send, request_id)

    def splits(self, error: ServerError) -> bool:
        """Return whether one text may be to blame for the refusal of the whole call."""
        return self._target.batch and self._results.splits(error)

    def listen(self, text: str, send: Send, request_id: str) -> SpeechStream:
        """Return what asks for one text and reads its sound as it comes. Raises CosyError."""
        if self.service in _STREAMS_AT_ONE and self._speed != 1:
            who = _STREAMS_AT_ONE[self.service]
            raise ConfigError(f"speed: {who} streams at speed 1 only; use synth(), or leave it")
        name = self._voice.offer(send) if self._voice is not None else None
        body = self._body(True, name)
        request = self._request(self._target.speech_url, self._prefix + text, body, request_id)
        return SpeechStream(
            request, self._sample_rate, [text], lambda reply: self._streamed(reply, text)
        )

    # -- uploaded voices --------------------------------------------------------------------------

    def _cloned(
        self, voice: UploadedVoice, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask for these texts by the uploaded voice's name; ask again for those whose answer is
        that the server has forgotten it."""
        name = voice.offer(send)
        upload = voice.uploads
        reply = send(self.encode(texts, request_id, name))
        if name is None:
            return self.decode(reply, texts)
        if voice.is_lost(reply):
            voice.forget(upload)
            return self._asked_again(voice, texts, send, request_id)
        results = self.decode(reply, texts)
        lost = [index for index, result in enumerate(results) if voice.is_named_in(result)]
        if lost:
            voice.forget(upload)
            again: Sequence[Payload | CosyError]
            try:
                again = self._asked_again(voice, [texts[i] for i in lost], send, request_id)
            except CosyError as error:  # of these texts alone: the others have their sound
                again = [error.with_traceback(None)] * len(lost)
            for index, result in zip(lost, again, strict=True):
                results[index] = result
        return results

    def _asked_again(
        self, voice: UploadedVoice, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask anew: a batch by the voice's name, uploaded again; with the recording where that does
        not help, and for one text, whose next one uploads it."""
        name = voice.offer(send) if self._target.batch else None
        reply = send(self.encode(texts, request_id, name))
        if name is not None and not voice.is_lost(reply):
            results = self.decode(reply, texts)
            if not any(map(voice.is_named_in, results)):
                return results
        if name is not None:
            reply = send(self.encode(texts, request_id))
        return self.decode(reply, texts)

    # -- requests -------------------------------------------------------------------------------

    def _request(self, url: str, what: Any, body: _Body, request_id: str) -> Request:
        try:
            middle = what.encode() if body.raw else dump_json(what)
        except ValueError:
            raise InvalidTextError(
                "a text holds half a character that UTF-8 cannot carry"
            ) from None
        headers = (
            *self._headers,
            ("Content-Type", body.content_type),
            ("X-Request-Id", request_id),
        )
        return Request(url, headers, body.before + middle + body.after)

    def _body(self, streamed: bool, voice_name: str | None) -> _Body:
        key = (streamed, voice_name)
        body = self._bodies.get(key)
        if body is None:
            body = self._bodies[key] = self._build(streamed, voice_name)
        return body

    def _build(self, streamed: bool, voice_name: str | None) -> _Body:
        fields = {**self._fields, "stream": streamed}
        if not streamed:
            fields.pop("stream_format", None)
            if self.service != "siliconflow":  # where it is True unless it is said
                del fields["stream"]
        elif self.service == "sglang":
            # Which takes no other format there. Only events tell that speech was cut.
            fields["response_format"] = "pcm"
            fields.setdefault("stream_format", "sse")
        elif self.service in ("vllm", "other"):
            # Bare bytes rather than events, which are a third larger.
            fields.setdefault("stream_format", "audio")
        if voice_name is not None:
            fields["voice"] = voice_name
        elif self._voice is not None and self._clip is not None:
            fields["ref_audio"] = data_uri(self._clip)
            if self._transcript is not None:
                fields["ref_text"] = self._transcript
        elif self.service == "xinference" and self._clip is not None:
            said = {key: _form_text(value) for key, value in fields.items()}
            form = Form("input", said, {"prompt_speech": self._clip.wav})
            return _Body(form.before, form.after, form.content_type, raw=True)
        first = b'{"items":' if self._target.batch and not streamed else b'{"input":'
        return _Body(first, b"," + dump_json(fields)[1:])

    # -- replies --------------------------------------------------------------------------------

    def _payload(self, reply: Reply, texts: Sequence[str], url: str) -> Payload:
        if not 200 <= reply.status <= 203:
            error = read_error(reply, texts)
            if reply.status in _WRONG_ADDRESS:
                error.message += f" (asked: {url.partition('?')[0]})"
            raise error
        body, content_type = reply.body, reply.headers.get("content-type", "")
        kind = kind_of(content_type)
        if kind in _TEXTUAL or is_text(bytes(body[:_SHOWN])):
            raise self._no_sound(reply, kind, texts)
        check_end(reply)
        if reply.headers.get("x-finish-reason") == CUT_SHORT:
            raise cut_short()
        media_type = _MEDIA_TYPES[self._format] if kind in _VAGUE else content_type
        return Payload(bytes(body), with_rate(type_shown(media_type), reply.headers))

    def _no_sound(self, reply: Reply, kind: str, texts: Sequence[str]) -> CosyError:
        """Return the error that text in place of sound stands for."""
        start = bytes(reply.body[:1_000]).decode("utf-8", "replace").strip()
        try:
            error = false_success(load_json(reply.body), reply, texts)
        except ValueError:
            error = None
        if error is not None:
            return error
        if kind == "text/html" or start[:1] == "<":
            what = "a web page; check the URL"
        else:
            what = without_texts(start, texts, _SHOWN)
            what = what or f"nothing, called {without_texts(kind, texts, _SHOWN)}"
        return BadAudioError(f"expected sound, got: {what}", reason="not_audio")

    def _streamed(self, reply: Reply, text: str) -> CosyError:
        """Return the error that a reply to a request for a stream stands for."""
        voice = self._voice
        lost = voice is not None and voice.is_lost(reply)
        if voice is not None and lost:
            voice.forget(voice.uploads)
        try:
            self._payload(reply, [text], self._target.speech_url)
        except CosyError as error:
            if lost:
                return UnavailableError(
                    f"{error.message}; it is uploaded anew", status=reply.status
                )
            if _PCM_ONLY in error.message:
                error.message += "; if this is SGLang-Omni, say extra={'service': 'sglang'}"
            return error
        kind = kind_of(reply.headers.get("content-type", ""))
        shown = without_texts(kind, [text], _SHOWN)
        return BadAudioError(
            f"expected a stream of 16-bit PCM or WAV, got {shown}, which cannot be read as it "
            "comes; let the service send PCM",
            reason="not_audio",
            retryable=False,
        )


def _form_text(value: Any) -> str:
    return value if isinstance(value, str) else dump_json(value).decode()
