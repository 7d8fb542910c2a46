"""One text's sound out of /v1/audio/speech while it comes: bare bytes, or server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..errors import BadAudioError, CosyError
from ..messages import UNFRAMED, Reply, WireRequest, kind_of
from .error_bodies import CUT_SHORT, cut_short, false_success
from .fastjson import from_base64, load_json
from .pcm_stream import SampleReader, is_wav
from .pings import PingFilter
from .sse import SseEvent, SseParser

__all__ = ["SpeechStream", "is_text", "with_rate"]

_SSE = "text/event-stream"
_BARE = frozenset(
    {"", "application/octet-stream", "audio/*", "audio/l16", "audio/pcm", "audio/raw"}
    | {"audio/x-pcm", "binary/octet-stream", _SSE}
)
# Bytes by which text is told from sound, and the most that is read of it.
_LOOK = 80
_MAX_TEXT = 1 << 16


class SpeechStream:
    """A StreamReader. Text where sound should be is read to its end and told as an error."""

    def __init__(
        self,
        request: WireRequest,
        sample_rate: int,
        texts: Sequence[str],
        refusal: Callable[[Reply], CosyError],
    ) -> None:
        self.request = request
        self.sample_rate = sample_rate
        self._texts = texts
        self._refusal = refusal
        self._sound = SampleReader(sample_rate)
        # Xinference sends bare sound as if it were events.
        self._pings = PingFilter()
        self._reply = Reply(200, {}, b"")
        self._events: SseParser | None = None
        self._done = False
        # Whether an event has brought sound.
        self._begun = False
        # What may turn out to be text; None once it is sound.
        self._start: bytearray | None = bytearray()

    def accept(self, status: int, headers: Mapping[str, str]) -> bool:
        """Return whether a stream of sound follows this head."""
        content_type = headers.get("content-type", "")
        kind = kind_of(content_type)
        if not 200 <= status <= 203 or not (kind in _BARE or is_wav(kind)):
            return False
        if UNFRAMED in headers and kind != _SSE:  # events say when they are done
            return False
        self._reply = Reply(status, headers, b"")
        content_type = with_rate(content_type, headers)
        rate = _number(content_type, "rate", self.sample_rate)
        self._sound = SampleReader(rate, wav=is_wav(kind))
        self._sound.channels = _number(content_type, "channels", 1)
        if kind == _SSE:
            self._events, self._start = SseParser(), None
        return True

    def refuse(self, reply: Reply) -> CosyError:
        """Return the error that a whole reply means."""
        return self._refusal(reply)

    def feed(self, data: bytes) -> bytes:
        """Return the sound that these bytes complete, maybe none. Raises CosyError."""
        if self._events is not None:
            return b"".join([self._take(event) for event in self._events.feed(data)])
        return self._bare(self._pings.feed(data))

    def end(self) -> bytes:
        """Return the sound still held. Raises CosyError when it is not whole."""
        if self._events is not None:
            given = b"".join([self._take(event) for event in self._events.end()])
            if not self._done:
                raise BadAudioError(
                    "the events ended before speech.audio.done; the sound is not whole",
                    reason="cut",
                )
        else:
            given = self._bare(self._pings.end())
            if self._start:
                reply = Reply(self._reply.status, self._reply.headers, bytes(self._start))
                raise self._refusal(reply)
        return given + self._heard(self._sound.end())

    def _bare(self, data: bytes) -> bytes:
        if self._start is not None:
            self._start += data
            if not self._start or (is_text(self._start[:_LOOK]) and len(self._start) < _MAX_TEXT):
                return b""
            data, self._start = bytes(self._start), None
        return self._heard(self._sound.feed(data))

    def _heard(self, samples: bytes) -> bytes:
        self.sample_rate = self._sound.sample_rate
        return self._sound.mono(samples)

    def _take(self, event: SseEvent) -> bytes:
        if event.data.strip() == "[DONE]":
            self._done = True
            return b""
        try:
            value = load_json(event.data.encode())
        except ValueError:
            raise BadAudioError("an event that is no JSON", reason="not_json") from None
        fields = value if isinstance(value, dict) else {}
        kind = fields.get("type") or event.event
        if kind == "speech.audio.delta":
            return self._delta(fields.get("audio"))
        if kind == "speech.audio.done":
            self._done = True
            if fields.get("finish_reason") == CUT_SHORT:
                raise cut_short()
        elif kind in ("speech.audio.error", "error") or fields.get("error"):
            raise false_success(value, self._reply, self._texts) or BadAudioError(
                "the service broke off without a reason", reason="cut"
            )
        return b""

    def _delta(self, audio: object) -> bytes:
        try:
            data = from_base64(audio) if isinstance(audio, str) else None
        except ValueError:
            data = None
        if data is None:
            raise BadAudioError("an event whose audio is no valid base64", reason="base64")
        given = b""
        if data[:4] == b"RIFF" and self._begun:
            # Each event is a WAV file of its own.
            given = self._heard(self._sound.end())
            self._sound = SampleReader(self.sample_rate)
        self._begun = True
        return given + self._heard(self._sound.feed(data))


def is_text(start: bytes | bytearray) -> bool:
    """Return whether a body that starts like this is JSON or a page rather than sound."""
    first = start.lstrip()[:1]
    if not start or (first and first not in b'{[<"'):
        return False
    shown = start.decode("utf-8", "ignore")
    # Samples hold control characters, and bytes that are no UTF-8.
    return len(shown.encode()) > len(start) - 4 and all(
        char.isprintable() or char in "\r\n\t" for char in shown
    )


def with_rate(media_type: str, headers: Mapping[str, str]) -> str:
    """Return the type of bare samples with the rate (Hz) and channels that stand in the headers,
    as SGLang-Omni tells them; other types, and one that says its rate itself, as they are."""
    if kind_of(media_type) not in _BARE or "rate=" in media_type.replace(" ", ""):
        return media_type
    for name, header in (("rate", "x-sample-rate"), ("channels", "x-channels")):
        value = headers.get(header, "").strip()
        if value.isascii() and value.isdigit():
            media_type += f";{name}={int(value[:9])}"
    return media_type


def _number(content_type: str, wanted: str, default: int) -> int:
    for parameter in content_type.split(";")[1:]:
        name, _, text = parameter.partition("=")
        text = text.strip().strip('"')
        if name.strip().lower() == wanted and text.isascii() and text.isdigit():
            return int(text[:9]) or default
    return default
