"""DashScope's replies over HTTP: what one JSON object says, and a stream of them as sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadAudioError, CosyError, CutError
from ..messages import Reply, Request, WireRequest, kind_of
from .dashscope_errors import dashscope_error
from .error_bodies import false_success, read_error
from .fastjson import from_base64, load_json
from .pcm_stream import SampleReader
from .retry_after import retry_after
from .sse import SseEvent, SseParser

__all__ = ["DashscopeStream", "audio_of", "bad_sound", "decoded", "output_of", "refusal"]

_EVENT_STREAM = "text/event-stream"


def refusal(reply: Reply, texts: Sequence[str]) -> CosyError:
    """Return the error that a reply other than a success means."""
    try:
        said = load_json(reply.body)
    except ValueError:
        said = None
    error = _told(said, reply.status, texts) if reply.status >= 400 else None
    if error is None:
        return read_error(reply, texts)
    wait = retry_after(reply.headers, reply.status)
    return error if wait is None else error.with_details(retry_after=wait)


def output_of(value: Any, status: int | None, texts: Sequence[str]) -> dict[str, Any]:
    """Return the `output` of a JSON reply.

    Raises what the reply says where it has none, or an empty one beside a code; BadAudioError
    where it says nothing.
    """
    output = value.get("output") if isinstance(value, dict) else None
    if isinstance(output, dict) and (output or not value.get("code")):
        return output
    error = _told(value, None, texts)
    if error is None:
        error = false_success(value, Reply(status or 200, {}, b""), texts)
    raise error or bad_sound("not_audio", "JSON without output")


def audio_of(output: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an `output` says of its sound, maybe nothing."""
    audio = output.get("audio")
    return audio if isinstance(audio, dict) else {}


def _told(value: Any, status: int | None, texts: Sequence[str]) -> CosyError | None:
    """Return the error that a JSON object names by a code of DashScope's."""
    code = value.get("code") if isinstance(value, dict) else None
    if not isinstance(code, str) or not code:
        return None
    message, request_id = value.get("message"), value.get("request_id")
    return dashscope_error(
        status,
        code,
        message if isinstance(message, str) else "",
        request_id if isinstance(request_id, str) else None,
        texts,
    )


class DashscopeStream:
    """A StreamReader: the sound of one text, out of server-sent events."""

    def __init__(self, request: Request, text: str, sample_rate: int) -> None:
        self.request: WireRequest = request
        self.sample_rate = sample_rate
        self._texts = (text,)
        self._events = SseParser()
        self._samples = SampleReader(sample_rate, bare=True)
        self._stopped = False

    def accept(self, status: int, headers: Mapping[str, str]) -> bool:
        """Return whether the reply is a stream of events."""
        kind = kind_of(headers.get("content-type", ""))
        return status == 200 and kind == _EVENT_STREAM

    def refuse(self, reply: Reply) -> CosyError:
        """Return the error that a whole reply means."""
        if reply.status != 200:
            return refusal(reply, self._texts)
        try:
            output_of(load_json(reply.body), reply.status, self._texts)
        except ValueError:
            return bad_sound("not_audio", "a reply that is neither events nor JSON")
        except CosyError as error:
            return error
        return bad_sound(
            "not_stream", "a whole reply; does a proxy gather what the service streams?"
        )

    def feed(self, data: bytes) -> bytes:
        """Return the whole samples that these bytes complete. Raises what the service says."""
        return self._sound(self._events.feed(data))

    def end(self) -> bytes:
        """Return the sound still held. Raises CutError unless the service said that it is done."""
        try:
            sound = self._sound(self._events.end())
        except BadAudioError:
            if self._stopped:
                raise
            sound = b""  # half an event: cut
        if not self._stopped:
            raise CutError("the stream ended before the service said that it is done")
        return sound + self._samples.end()

    def _sound(self, events: Sequence[SseEvent]) -> bytes:
        return self._samples.feed(b"".join([self._read(event) for event in events]))

    def _read(self, event: SseEvent) -> bytes:
        if self._stopped or not event.data.strip():
            return b""
        try:
            value = load_json(event.data.encode())
        except ValueError:
            raise bad_sound("not_json", "an event that is no JSON") from None
        if event.event == "error":
            error = _told(value, None, self._texts)
            raise error or dashscope_error(None, "", "", None, self._texts)
        output = output_of(value, None, self._texts)
        self._stopped = self._finished(output)
        data = audio_of(output).get("data")
        if not isinstance(data, str) or not data:
            return b""
        return decoded(data)

    def _finished(self, output: Mapping[str, Any]) -> bool:
        reason = output.get("finish_reason")
        if reason in (None, "", "null"):
            return False
        if reason != "stop":
            shown = reason[:20] if isinstance(reason, str) and reason.isidentifier() else "unknown"
            raise bad_sound("unfinished", f"speech that ended early (finish_reason {shown!r})")
        return True


def decoded(data: str) -> bytes:
    """Return the sound that stands in a reply as base64. Raises BadAudioError."""
    try:
        return from_base64(data)
    except ValueError:
        raise bad_sound("base64", "sound that is no valid base64") from None


def bad_sound(reason: str, what: str) -> BadAudioError:
    """Return the error of a reply whose sound is of no use."""
    return BadAudioError(
        f"expected the sound of the text, got {what}; try again, and look at the service if it "
        "stays",
        reason=reason,
    )
