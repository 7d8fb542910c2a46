"""What a run-task of Alibaba's protocol asks for, checked; and what its events look like."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import RequestError
from ..sound import SAMPLE_BYTES

FORMATS = ("pcm", "wav")
RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
_USUAL_RATE = 22_050
# What the SDK's AudioFormat.DEFAULT sends.
_OPEN_FORMAT = "Default"

MESSAGE_UNITS = 20_000
TASK_UNITS = 200_000

# Name of a parameter -> its bounds.
_BOUNDS = {"volume": (0, 100), "rate": (0.5, 2.0), "pitch": (0.5, 2.0), "seed": (0, 65_535)}
_NO_VOICE = "[tts:]Engine return error code: 418"
# Where a RequestError that is not of this wire begins; others are theirs already.
_CODES = {401: "InvalidApiKey", 403: "AccessDenied", 429: "Throttling.RateQuota"}
_STATUS_CODES = {500: "InternalError", 502: "SystemError", 503: "ServiceUnavailable"}
_TAG = re.compile(r"<[^<>]*>")


@dataclass(slots=True)
class SpeechParams:
    """How one task is to be spoken."""

    voice: str
    audio_format: str
    sample_rate: int
    speed: float
    has_ssml: bool
    wants_words: bool


def invalid(message: str) -> RequestError:
    """Make the refusal of a wrong parameter."""
    return RequestError(400, "InvalidParameter", message)


def code_of(error: RequestError) -> str:
    """Give this service's code for an error."""
    if error.code[:1].isupper():
        return error.code
    if error.status == 504:
        return "InternalError.Timeout"
    return _CODES.get(error.status) or _STATUS_CODES.get(error.status, "InvalidParameter")


def read_params(payload: Mapping[str, Any], voices: Sequence[str]) -> SpeechParams:
    """Check a run-task's payload. Raises RequestError, in the words of the service."""
    for name in ("task_group", "task", "function", "model", "input"):
        if payload.get(name) is None:
            raise invalid(
                f"Missing required parameter 'payload.{name}'! Please follow the protocol!"
            )
    given = payload.get("parameters")
    parameters = given if isinstance(given, dict) else {}
    if payload["function"] != "SpeechSynthesizer":
        raise invalid("unsupported function")
    for name, (low, high) in _BOUNDS.items():
        value = parameters.get(name, low)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise invalid(f"{name} is not a number")
        if not low <= value <= high:
            raise invalid(f"{name} is not within {low} to {high}")
    audio_format, rate = read_format(parameters)
    return SpeechParams(
        _voice(parameters.get("voice"), voices),
        audio_format,
        rate,
        float(parameters.get("rate", 1.0)),
        parameters.get("enable_ssml") is True,
        parameters.get("word_timestamp_enabled") is True,
    )


def read_format(parameters: Mapping[str, Any]) -> tuple[str, int]:
    """Return the format and its Hz. Raises RequestError.

    What leaves them open, as the SDK's default does ("Default", 0), gets a WAV file at 22 050 Hz,
    where the real service sends MP3: there is no encoder for that here.
    """
    audio_format = parameters.get("format")
    if audio_format in (None, _OPEN_FORMAT):
        audio_format = "wav"
    if audio_format not in FORMATS:
        raise invalid(f"this server speaks {' and '.join(FORMATS)} only")
    rate = parameters.get("sample_rate") or _USUAL_RATE
    if isinstance(rate, bool) or rate not in RATES:
        raise invalid("unsupported sample_rate")
    return str(audio_format), int(rate)


def _voice(name: object, voices: Sequence[str]) -> str:
    if not isinstance(name, str) or not name:
        raise invalid("Request voice is invalid!")
    if name in voices:
        return name
    # Alibaba's own speakers, and cloned ones, all sound alike here.
    if not name.startswith(("long", "loong", "cosyvoice-")):
        raise invalid(_NO_VOICE)
    return voices[0]


def without_tags(text: str) -> str:
    """Return what is spoken of SSML, and counted."""
    return _TAG.sub("", text)


def units(text: str) -> int:
    """Count characters as the service does: Chinese ones twice."""
    return sum(2 if "\u3400" <= char <= "\u9fff" or char >= "\U00020000" else 1 for char in text)


@dataclass(slots=True)
class Progress:
    """How far a task has come."""

    task_id: str
    # Of the texts that came, and of those that are spoken.
    units: int = 0
    spoken_units: int = 0
    texts: int = 0
    sentences: int = 0
    # Of the sound sent, in seconds.
    seconds: float = 0.0
    # What waits for the end of its sentence.
    pending: str = ""
    is_finishing: bool = False
    words: list[dict[str, object]] = field(default_factory=list)

    def event(self, name: str, payload: Mapping[str, object], **header: str) -> str:
        """Write one event."""
        head = {"task_id": self.task_id, "event": name, **header, "attributes": {}}
        return json.dumps({"header": head, "payload": payload}, ensure_ascii=False)

    def result(self, kind: str, text: str = "", *, is_last: bool = False) -> str:
        """Write a result-generated."""
        output: dict[str, object] = {"type": kind}
        if text:
            output["original_text"] = text
        output["sentence"] = {"index": self.sentences, "words": self.words if is_last else []}
        payload: dict[str, object] = {"output": output}
        if is_last:
            payload["usage"] = {"characters": self.spoken_units}
        return self.event("result-generated", payload)

    def finished(self) -> str:
        """Write the task-finished."""
        return self.event(
            "task-finished", {"output": {}, "usage": {"characters": self.spoken_units}}
        )

    def time_words(self, text: str, size: int, sample_rate: int) -> None:
        """Spread the characters of a text evenly over its sound of so many bytes."""
        step = size / SAMPLE_BYTES / sample_rate / len(text)
        self.words = [
            {
                "text": char,
                "begin_index": index,
                "end_index": index + 1,
                "begin_time": round(1000 * (self.seconds + index * step)),
                "end_time": round(1000 * (self.seconds + (index + 1) * step)),
            }
            for index, char in enumerate(text)
        ]
