"""The wire `dashscope_ws`: Alibaba's CosyVoice over WebSocket, one task for each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CosyError, ServerError
from ..messages import Payload, Reply, TextSource
from .base import Capabilities, Send, SpeechOptions
from .dashscope_fields import RATES, speech_fields
from .dashscope_task import TASK_UNITS, SpeechTask, TaskPlan
from .pcm_stream import SampleReader

__all__ = ["DashscopeStream", "DashscopeWsWire"]

# Said by the handshake itself.
_OURS = frozenset({"connection", "content-length", "host", "transfer-encoding", "upgrade"})


class DashscopeWsWire:
    """Speak Alibaba's WebSocket protocol with one endpoint."""

    name = "dashscope_ws"
    capabilities = Capabilities(
        max_texts_per_call=1,
        max_text_chars=TASK_UNITS,
        schemes=("ws", "wss"),
        formats=("pcm",),
        sample_rates=RATES,
        voices=frozenset({"name", "instruction"}),
        features=frozenset({"model", "speed", "ssml", "words"}),
        streaming=True,
        duplex=True,
        gzip=False,
        max_connections=3,
        rate=3.0,
        idle_expiry=55.0,
    )

    def __init__(self, endpoint_url: str, options: SpeechOptions) -> None:
        options.check(self.name, self.capabilities)
        self._rate = options.sample_rate
        self._plan = TaskPlan(
            url=endpoint_url,
            headers=_headers(options),
            payload=_run_payload(options),
            has_ssml=bool(options.extra.get("enable_ssml")),
        )

    def __repr__(self) -> str:
        return f"<DashscopeWsWire {self._plan.url.partition('?')[0]}>"

    def exchange(
        self, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Speak one text; see Wire."""
        task = self.task(texts[0])
        reply = send(task)
        return [Payload(bytes(reply.body), f"audio/pcm;rate={self._rate}", words=task.words)]

    def splits(self, error: ServerError) -> bool:
        """Return False: a call has one text, so that it is never in doubt which is to blame."""
        return False

    def listen(self, text: str, send: Send, request_id: str) -> DashscopeStream:
        """Return what asks for one text and reads its sound as it comes."""
        return DashscopeStream(self.task(text), self._rate)

    def listen_to(self, source: TextSource, send: Send, request_id: str) -> DashscopeStream:
        """Return what speaks the pieces of a text as they come."""
        return DashscopeStream(SpeechTask(self._plan, (), source), self._rate)

    def task(self, text: str) -> SpeechTask:
        """Return the task that speaks one text. Raises InvalidTextError."""
        return SpeechTask(self._plan, (text,))


class DashscopeStream:
    """A StreamReader: the sound of one task as it comes."""

    def __init__(self, request: SpeechTask, sample_rate: int) -> None:
        self.request = request
        self.sample_rate = sample_rate
        self._samples = SampleReader(sample_rate, bare=True)

    def accept(self, status: int, headers: Mapping[str, str]) -> bool:
        """Return True: a handshake that failed has raised already."""
        return True

    def refuse(self, reply: Reply) -> CosyError:
        """Return the error that a refused handshake means."""
        return self.request.refuse(reply)

    def feed(self, data: bytes) -> bytes:
        """Return the whole samples that have come. Raises BadAudioError for a WAV file."""
        return self._samples.feed(data)

    def end(self) -> bytes:
        """Return what is still held. Raises BadAudioError for half a sample, or no sound."""
        return self._samples.end()


def _headers(options: SpeechOptions) -> tuple[tuple[str, str], ...]:
    names = {name.lower() for name in options.headers}
    ours = _OURS.union(name for name in names if name.startswith("sec-websocket-"))
    return options.headers_with({}, ours)


def _run_payload(options: SpeechOptions) -> dict[str, Any]:
    model, fields = speech_fields(options)
    return {
        "task_group": "audio",
        "task": "tts",
        "function": "SpeechSynthesizer",
        "model": model,
        "parameters": {"text_type": "PlainText", **fields, "format": "pcm"},
        "input": {},
    }
