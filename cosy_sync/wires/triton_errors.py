"""What a Triton server says when it refuses: one sentence, over HTTP and gRPC alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import BadRequestError, ServerError, ThrottledError, UnavailableError
from .redaction import without_texts

__all__ = ["failed", "known_refusal"]

_MESSAGE_CHARS = 200
_GIVE_VOICE = (
    "this model has no speaker of its own: give voice=Voice(reference='me.wav', transcript='...')"
)


class _Kind(NamedTuple):
    """How a sentence is known, our error, the HTTP status that says the same, and what to do."""

    words: re.Pattern[str]
    error: type[ServerError]
    status: int
    advice: str
    # What else the error says of itself.
    details: tuple[str, ...] = ()


_KINDS = (
    _Kind(
        re.compile(r"unknown model: .* version \S+ is not found"),
        BadRequestError,
        404,
        "give a version that the server has loaded, or leave it out of the URL",
        ("hopeless",),
    ),
    _Kind(
        re.compile(r"unknown model: .* is not found"),
        BadRequestError,
        404,
        "give a name that the server has in its model repository, such as model='cosyvoice2'",
        ("hopeless",),
    ),
    _Kind(
        re.compile(r"has no available versions|version .*is not at ready|not ready"),
        UnavailableError,
        503,
        "the model is not loaded, or not yet: see the server's log",
    ),
    _Kind(
        re.compile(r"support models with decoupled transaction policy"),
        BadRequestError,
        501,
        "this model was deployed to stream, which HTTP cannot carry: give the server's gRPC "
        "address, such as grpc://host:8001, or deploy it with decoupled=False",
        ("hopeless",),
    ),
    _Kind(
        re.compile(r"exceeds maximum queue size", re.IGNORECASE),
        ThrottledError,
        503,
        "lower the endpoint's max_connections, or give the model more instances",
        ("crowded",),
    ),
    _Kind(
        re.compile(r"request timeout expired", re.IGNORECASE),
        ThrottledError,
        503,
        "it waited in the server's queue for too long: lower the endpoint's max_connections",
        ("crowded",),
    ),
    _Kind(
        re.compile(r"missing required input.*reference_"),
        BadRequestError,
        400,
        _GIVE_VOICE,
        ("hopeless",),
    ),
    _Kind(
        re.compile(
            r"unexpected (?:inference )?(?:input|output|shape|datatype)"
            r"|expected (?:\d+ inputs|number of inputs)|data-type is .* but model .* expects"
        ),
        BadRequestError,
        400,
        "this model has other tensors than those of CosyVoice's runtime/triton_trtllm; check "
        "the model's name and the wire",
        ("hopeless",),
    ),
)
# What the server puts before some of its sentences.
_ID = re.compile(r"^\[request id: [^\]]*\] ")
# A report of the model's own code: what stands before the exception, and behind it.
_PROCESS = re.compile(r"^Failed to process the request\(s\) for model '[^']*', message: ")
_TRACE, _FRAMES = "Traceback (most recent call last)", "\nAt:\n"
# How that code fails on a recording that was not sent.
_NO_RECORDING = "'NoneType' object has no attribute 'as_numpy'"


def known_refusal(said: str, texts: Sequence[str], **details: Any) -> ServerError | None:
    """Return the error of a sentence of the server itself; None for one that is not known."""
    if _TRACE in said or _PROCESS.match(said):
        return None
    for kind in _KINDS:
        if kind.words.search(said):
            flags = dict.fromkeys(kind.details, True)
            message = without_texts(_ID.sub("", said), texts, _MESSAGE_CHARS)
            return kind.error(
                f"the server refused: {message}; {kind.advice}",
                **{**details, "status": kind.status, **flags},
            )
    return None


def failed(said: str, texts: Sequence[str], **details: Any) -> ServerError:
    """Return the error of a model that failed while it worked, with its exception's first line."""
    report = _PROCESS.sub("", _ID.sub("", said)).partition(_FRAMES)[0]
    message = without_texts(_exception(report).rstrip("."), texts, _MESSAGE_CHARS)
    if _NO_RECORDING in message:
        known = {**details, "status": 400, "hopeless": True}
        return BadRequestError(f"the model failed: {message}; {_GIVE_VOICE}", **known)
    return UnavailableError(
        f"the model failed: {message or 'without a reason'}; look into the server's log",
        **{"status": 500, **details},
    )


def _exception(report: str) -> str:
    """Return the first line of the exception: behind the frames of a traceback, if it has one."""
    _, trace, behind = report.strip().rpartition(_TRACE)
    lines = behind.splitlines()[1:] if trace else behind.splitlines()
    return next((line for line in lines if line.strip() and not line.startswith(" ")), "")
