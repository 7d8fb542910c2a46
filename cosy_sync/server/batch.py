"""The wire `batch`: reading a call, and writing its reply in one of three forms."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .errors import RequestError, bad_request
from .sound import Clip, Failure, Piece


def _find_base64() -> Callable[..., bytes]:
    """Prefer the encoder of the extra `[speed]`: four times as fast."""
    try:
        import pybase64
    except ImportError:
        return base64.b64encode
    return pybase64.b64encode


_b64encode = _find_base64()

AUDIO_FORMATS = ("wav", "pcm")
SAMPLE_RATES = (8_000, 48_000)
SPEEDS = (0.25, 4.0)

# Random enough not to occur in audio, and the same in every reply.
_BOUNDARY = "cosy-2f81c07d9be5f64a3e"


@dataclass(frozen=True, slots=True)
class Call:
    """One checked request body."""

    texts: tuple[str, ...]
    voice: str
    audio_format: str
    sample_rate: int
    speed: float


@dataclass(slots=True)
class Part:
    """One place of the reply; faults corrupt it before it is written."""

    index: int | None
    content: Clip | Failure
    media_type: str
    # Hash of the text that was spoken; empty: none is sent.
    echo: str = ""
    # Stands in place of the content's base64 where a fault wants it broken.
    base64: bytes | None = None


@dataclass(frozen=True, slots=True)
class CallRules:
    """What a call may ask for."""

    voices: tuple[str, ...]
    max_texts: int
    max_text_chars: int


def read_call(body: bytes, rules: CallRules) -> Call:
    """Check a request body. Raises RequestError, a 400 that names the field."""
    fields = read_object(body)
    texts = _read_texts(fields.get("texts"), rules)
    voice = fields.get("voice", rules.voices[0])
    if voice not in rules.voices:
        raise bad_request(f"unknown voice {voice!r:.40}: known are {', '.join(rules.voices)}")
    audio_format = fields.get("format", AUDIO_FORMATS[0])
    if audio_format not in AUDIO_FORMATS:
        raise bad_request(f"unsupported format: use one of {', '.join(AUDIO_FORMATS)}")
    if not isinstance(fields.get("model", ""), str):
        raise bad_request("model is not a string")
    sample_rate = _read_number(fields, "sample_rate", 24_000, SAMPLE_RATES)
    if sample_rate != int(sample_rate):
        raise bad_request("sample_rate is not a whole number")
    speed = _read_number(fields, "speed", 1.0, SPEEDS)
    return Call(texts, str(voice), str(audio_format), int(sample_rate), speed)


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is. Raises RequestError."""
    try:
        fields = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise bad_request("the body is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise bad_request("the body is not a JSON object")
    return fields


def _read_texts(texts: object, rules: CallRules) -> tuple[str, ...]:
    if not isinstance(texts, list):
        raise bad_request("texts is missing or not a list")
    if not 1 <= len(texts) <= rules.max_texts:
        raise bad_request(f"texts has {len(texts)} entries: send 1 to {rules.max_texts}")
    for index, text in enumerate(texts):
        fault = _text_fault(text, rules.max_text_chars)
        if fault:
            raise bad_request(f"texts[{index}] {fault}")
    return tuple(texts)


def _text_fault(text: object, max_chars: int) -> str:
    """Say what is wrong with one text, or nothing."""
    if not isinstance(text, str):
        return "is not a string"
    if not text or text.isspace():
        return "is empty"
    if len(text) > max_chars:
        return f"has {len(text)} characters: at most {max_chars} are allowed"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair: it is not valid Unicode"
    return ""


def _read_number(
    fields: dict[str, object], name: str, default: float, bounds: tuple[float, float]
) -> float:
    value = fields.get(name, default)
    low, high = bounds
    # True is an int to Python, not to the contract.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise bad_request(f"{name} is not a number from {low} to {high}")
    return value


@lru_cache(maxsize=256)
def choose_form(accept: str) -> str:
    """Pick `multipart` or `results` by an Accept header. Raises RequestError, a 406."""
    multipart = _quality(accept, "multipart/mixed")
    results = _quality(accept, "application/json")
    if not multipart and not results:
        raise RequestError(
            406, "not_acceptable", "this service answers multipart/mixed or application/json"
        )
    return "multipart" if multipart >= results else "results"


def _quality(accept: str, media_type: str) -> float:
    """Give the weight of a media type; the most specific range decides (RFC 9110, 12.5.1)."""
    if not accept.strip():
        return 1.0
    ranges = dict(_read_range(entry) for entry in accept.split(","))
    for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0


def _read_range(entry: str) -> tuple[str, float]:
    name, *parameters = (word.strip().lower() for word in entry.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key == "q":
            try:
                return name, float(value)
            except ValueError:
                return name, 0.0
    return name, 1.0


def write_reply(parts: Sequence[Part], form: str) -> tuple[str, list[Piece]]:
    """Give the content type and the body of a reply in the form asked for."""
    if form == "multipart":
        return f"multipart/mixed; boundary={_BOUNDARY}", _write_multipart(parts)
    write = _write_results if form == "results" else _write_array
    return "application/json", write(parts)


def _write_multipart(parts: Sequence[Part]) -> list[Piece]:
    pieces: list[Piece] = []
    for part in parts:
        index = "" if part.index is None else f"X-Index: {part.index}\r\n"
        if isinstance(part.content, Failure):
            clip = Clip.of(_error_json(part.content))
            head = f"application/json\r\n{index}X-Status: error"
        else:
            clip = part.content
            echo = f"X-Text-SHA256: {part.echo}\r\n" if part.echo else ""
            head = f"{part.media_type}\r\n{index}{echo}X-Status: success"
        pieces.append(
            f"--{_BOUNDARY}\r\nContent-Type: {head}\r\nContent-Length: {clip.size}\r\n\r\n".encode()
        )
        pieces.extend(clip.pieces)
        pieces.append(b"\r\n")
    pieces.append(f"--{_BOUNDARY}--\r\n".encode())
    return pieces


def _error_json(failure: Failure) -> bytes:
    return json.dumps({"error": {"code": failure.code, "message": failure.message}}).encode()


def _write_results(parts: Sequence[Part]) -> list[Piece]:
    # By hand and in pieces: a JSON encoder would look at each character of the base64 again,
    # and every join would copy megabytes.
    pieces: list[Piece] = [b'{"results":[']
    for number, part in enumerate(parts):
        pieces.append(b",{" if number else b"{")
        if part.index is not None:
            pieces.append(b'"index":%d,' % part.index)
        if isinstance(part.content, Failure):
            message = json.dumps(part.content.message).encode()
            pieces.append(b'"status":"error","error":%b}' % message)
        else:
            kind = part.media_type.encode()
            if part.echo:
                pieces.append(b'"text_sha256":"%b",' % part.echo.encode())
            pieces.append(b'"status":"success","audio_data":"')
            pieces += (_base64(part, part.content), b'","media_type":"%b"}' % kind)
    failed = sum(isinstance(part.content, Failure) for part in parts)
    totals = (len(parts), len(parts) - failed, failed)
    pieces.append(b'],"total":%d,"succeeded":%d,"failed":%d}' % totals)
    return pieces


def _write_array(parts: Sequence[Part]) -> list[Piece]:
    pieces: list[Piece] = [b"["]
    for number, part in enumerate(parts):
        comma = b"," if number else b""
        if isinstance(part.content, Failure):
            pieces.append(comma + b"null")
        else:
            pieces += (comma + b'"', _base64(part, part.content), b'"')
    pieces.append(b"]")
    return pieces


def _base64(part: Part, clip: Clip) -> bytes:
    return part.base64 if part.base64 is not None else _b64encode(clip.data)
