"""The wire `pai_eas`: CosyVoice as Alibaba's PAI-EAS deploys it, JSON or server-sent events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError, CosyError, InvalidTextError
from ..messages import Payload, Reply, Request
from .base import Capabilities, HttpWire, Send, SpeechOptions
from .dashscope_sse import DashscopeStream, audio_of, bad_sound, decoded, output_of, refusal
from .error_bodies import false_success
from .fastjson import dump_json, load_json
from .sse import SseEvent

__all__ = ["PaiEasWire", "reference_url"]

_PATH = "/audio/speech"
_BASE = "/api/v1"
_MODEL = "CosyVoice2-0.5B"
_SPEEDS = (0.5, 2.0)
# How a reference recording is imitated.
_MODES = ("fast_replication", "cross_lingual_replication", "natural_language_replication")
_FAST, _, _TOLD = _MODES
_OURS = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length"}
    | {"content-type", "host", "transfer-encoding"}
)
_HEADERS = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
_WHOLE = (("Accept", "application/json"),)
_STREAMED = (("Accept", "text/event-stream"),)


class PaiEasWire(HttpWire):
    """Speak with one deployed service."""

    name = "pai_eas"
    capabilities = Capabilities(
        max_texts_per_call=1,
        voices=frozenset({"name", "instruction"}),
        streaming=True,
        gzip=False,
        # One GPU, which speaks a text at a time; its operator knows how many there are.
        max_connections=4,
    )

    def __init__(self, endpoint_url: str, options: SpeechOptions) -> None:
        self._url = _full_url(endpoint_url)
        given = dict(options.extra)
        bare = given.pop("bare_token", False)
        self._headers = _fixed_headers(options, bare is True)
        self._model = options.model or _MODEL
        self._input = _speech_fields(options, given)
        self._sample_rate = options.sample_rate

    def __repr__(self) -> str:
        return f"<PaiEasWire {self._url.partition('?')[0]}>"

    def encode(self, texts: Sequence[str], request_id: str) -> Request:
        """Build the request for one text; see HttpWire."""
        return self._request(texts[0], "wav", _WHOLE)

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        """Return the sound; see HttpWire. A failure may stand in a 200, as its finish_reason."""
        if reply.status != 200:
            raise refusal(reply, texts)
        try:
            value = load_json(reply.body)
        except ValueError:
            raise bad_sound("not_json", f"{len(reply.body)} bytes that are no JSON") from None
        _check_error(value, texts)
        output = output_of(value, reply.status, texts)
        _check_reason(output, texts)
        data = audio_of(output).get("data")
        if not isinstance(data, str) or not data:
            raise bad_sound("missing", "no sound")
        return [Payload(decoded(data), "audio/wav")]

    def listen(self, text: str, send: Send, request_id: str) -> DashscopeStream:
        """Return what asks for one text and reads its sound as it comes. Raises InvalidTextError"""
        return _PaiStream(self._request(text, "pcm", _STREAMED), text, self._sample_rate)

    def _request(self, text: str, form: str, headers: tuple[tuple[str, str], ...]) -> Request:
        fields = {**self._input, "text": text, "output_format": form}
        streamed = headers is _STREAMED  # left out, it is true there
        try:
            body = dump_json({"model": self._model, "input": fields, "stream": streamed})
        except ValueError:
            raise InvalidTextError(
                "the text holds half a character that UTF-8 cannot carry"
            ) from None
        return Request(self._url, (*headers, *self._headers), body)


class _PaiStream(DashscopeStream):
    """The same events, but for failures: an `error` beside the output, or any finish_reason."""

    def _read(self, event: SseEvent) -> bytes:
        if '"error"' in event.data:
            try:
                _check_error(load_json(event.data.encode()), self._texts)
            except ValueError:
                raise bad_sound("not_json", "an event that is no JSON") from None
        return super()._read(event)

    def _finished(self, output: Mapping[str, Any]) -> bool:
        _check_reason(output, self._texts)
        return super()._finished(output)


def reference_url(endpoint_url: str) -> str:
    """Return the address where a service lists its reference recordings."""
    parts = urlsplit(_full_url(endpoint_url))
    path = parts.path.removesuffix(_PATH) + "/audio/reference_audio"
    return parts._replace(path=path, query="limit=100").geturl()


def _full_url(url: str) -> str:
    """Return the address of the synthesizer, for those who give only the service's."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path.endswith(_PATH):
        path += _PATH if path.endswith("/v1") else _BASE + _PATH
    return parts._replace(path=path).geturl()


def _fixed_headers(options: SpeechOptions, bare: bool) -> tuple[tuple[str, str], ...]:
    """Return the headers of every request; the key as it is, where the gateway wants that."""
    headers = options.headers_with(_HEADERS, _OURS)
    if not bare or options.api_key is None:
        return headers
    said = f"Bearer {options.api_key}"
    return tuple((name, options.api_key if value == said else value) for name, value in headers)


def _speech_fields(options: SpeechOptions, given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `input` that say who speaks and how. Raises ConfigError."""
    voice = options.voice
    named = voice.name if voice is not None else None
    told = voice.instruction if voice is not None else None
    if named is None and "reference_audio_id" not in given:
        raise ConfigError(
            "voice: PAI-EAS needs the id of a recording that was registered there "
            "(POST .../audio/reference_audio); client.voices() lists them"
        )
    low, high = _SPEEDS
    if not low <= options.speed <= high:
        raise ConfigError(f"speed: this service speaks at {low} to {high}, not {options.speed}")
    mode = given.get("mode", _FAST if told is None else _TOLD)
    if mode not in _MODES or (told is not None and mode != _TOLD):
        raise ConfigError(
            f"extra: mode must be one of {', '.join(_MODES)}, the last with an instruction, "
            f"got {mode!r}"
        )
    fields: dict[str, Any] = {**given, "mode": mode, "sample_rate": options.sample_rate}
    fields["speed"] = options.speed
    if named is not None:
        fields["reference_audio_id"] = named
    if told is not None:
        fields["instruct"] = told
    return fields


def _check_error(value: Any, texts: Sequence[str]) -> None:
    """Raise what an answer says that is no success."""
    error = value.get("error") if isinstance(value, dict) else None
    if error:
        raise _failure(error, texts)


def _check_reason(output: Mapping[str, Any], texts: Sequence[str]) -> None:
    reason = output.get("finish_reason")
    if reason not in (None, "", "null", "stop", "length"):
        raise _failure(reason, texts)
    if reason == "length":
        raise bad_sound("unfinished", "speech that ended early (finish_reason 'length')")


def _failure(told: Any, texts: Sequence[str]) -> CosyError:
    error = false_success({"error": told}, Reply(200, {}, b""), texts)
    return error or bad_sound("not_audio", "a failure without a reason")
