"""What a Triton server says when it refuses: one sentence, over HTTP and gRPC alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import BadRequestError, ServerError, ThrottledError, UnavailableError
from .redaction import without_texts

__all__ = ["failed", "known_refusal"]

_MESSAGE_CHARS = 200


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
        re.compile(r"unknown model: .* is not found"),
        BadRequestError,
        404,
        "give a name that the server has in its model repository, such as model='cosyvoice2'",
        ("hopeless",),
    ),
    _Kind(
        re.compile(r"has no available versions|version .*is not (?:found|at ready)|not ready"),
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
        "this model has no speaker of its own: give voice=Voice(reference='me.wav', "
        "transcript='...')",
        ("hopeless",),
    ),
    _Kind(
        re.compile(
            r"unexpected (?:inference )?(?:input|output|shape|datatype)|expected \d+ inputs"
            r"|data-type is .* but model .* expects"
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
# Within a longer report it is the model's own code that speaks.
_REPORT = "Traceback (most recent call last)"
# How the report goes on behind the exception.
_FRAMES = "\nAt:\n"


def known_refusal(said: str, texts: Sequence[str], **details: Any) -> ServerError | None:
    """Return the error of a sentence of the server itself; None for one that is not known."""
    if _REPORT in said:
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
    """Return the error of a model that failed while it worked, with its exception's last line."""
    reason = said.partition(_FRAMES)[0].rstrip().rpartition("\n")[2]
    message = without_texts(reason, texts, _MESSAGE_CHARS) or "without a reason"
    return UnavailableError(
        f"the model failed: {message}; look into the server's log", **{"status": 500, **details}
    )
