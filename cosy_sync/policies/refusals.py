"""What a refusal means: the text's fault, the key's, a setting's, or the size of the batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from ..errors import (
    AuthError,
    BadAudioError,
    BillingError,
    CosyError,
    CutError,
    ReplyTimeout,
    ServerError,
    TextError,
    UnavailableError,
    without_advice,
)

__all__ = [
    "as_text_error",
    "as_verdict",
    "common_refusal",
    "is_refusal",
    "kind_of",
    "may_be_key",
    "may_be_size",
    "may_be_text",
    "with_setting",
]

_E = TypeVar("_E", bound=CosyError)

# What gateways and proxies answer where a call takes too long or is too large for them, or where
# the service breaks off; 52x are Cloudflare's.
_SIZE_STATUSES = frozenset({413, 502, 504, *range(520, 528)})
# Refusals that usually mean the key or the address, but come from firewalls for single texts too.
_DOORS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})

# A word with a digit, or anything quoted, may differ from text to text.
_CHANGING = re.compile(r"\"[^\"]*\"|'[^']*'|\w*\d\w*|\W+")

# What a text's error advises, which is no advice for a whole call.
_TEXT_ADVICE = re.compile(r"; (?:change or drop it|check the voice)$")

# Words of a refusal -> the setting that they speak of.
_SETTINGS = (
    (re.compile(r"voice|speaker|spk|timbre|error code: 4(18|28)", re.I), "voice"),
    (re.compile(r"instruct", re.I), "Voice(instruction=...)"),
    (re.compile(r"model", re.I), "model"),
    (re.compile(r"sample.?rate", re.I), "sample_rate"),
    (re.compile(r"speed|speech.?rate", re.I), "speed"),
    (re.compile(r"response.?format|audio.?format", re.I), "format"),
    (re.compile(r"language", re.I), "extra"),
)


def is_refusal(error: CosyError) -> bool:
    """Return whether the service, or what stands before it, will refuse this request again."""
    if isinstance(error, BadAudioError):
        return error.reason == "too_large"
    return isinstance(error, ServerError) and not error.retryable


def common_refusal(errors: Sequence[object]) -> CosyError | None:
    """Return the refusal that a reply's texts share and that others may meet as well: one of the
    whole call, or the same for each text. None for what speaks of a text, or of the service's own
    state."""
    error = errors[0]
    if not isinstance(error, CosyError):
        return None
    if not _may_be_any_texts(error):
        return None
    kind = kind_of(error)
    alike = all(isinstance(each, CosyError) and kind_of(each) == kind for each in errors[1:])
    return error if alike else None


def _may_be_any_texts(error: CosyError) -> bool:
    if isinstance(error, BadAudioError):
        return not error.retryable  # of a format that is not read, say
    whom = getattr(error, "blames", None)
    if whom is None:
        return is_refusal(error)
    return whom in ("voice", "unknown") or (whom == "text" and _settings_in(error) != "")


def may_be_key(error: CosyError) -> bool:
    """Return whether the key or the address may be to blame, but also a single text."""
    if not isinstance(error, ServerError) or isinstance(error, (BillingError, TextError)):
        return False
    return isinstance(error, AuthError) or error.status in _DOORS


def may_be_size(error: CosyError) -> bool:
    """Return whether the call may have been too large for what stands before the service."""
    if isinstance(error, BadAudioError):
        return error.reason == "too_large"
    if isinstance(error, ServerError):
        return error.status in _SIZE_STATUSES
    return isinstance(error, (ReplyTimeout, CutError))


def may_be_text(error: CosyError, *, fits: bool = False) -> bool:
    """Return whether one text may have broken the whole call, each time that it is sent.

    `fits`: a call of as many texts has passed, so that what looks like too many may be one of them.
    """
    if isinstance(error, UnavailableError) and error.status not in (503, *_SIZE_STATUSES):
        return True
    return isinstance(error, BadAudioError) or (fits and may_be_size(error))


def kind_of(error: CosyError) -> str:
    """Return what two refusals have in common that mean the same: no numbers, no quotations."""
    code = getattr(error, "code", None) or ""
    status = getattr(error, "status", None)
    return f"{type(error).__name__} {status} {_CHANGING.sub(' ', f'{code} {error.message}')}"


def as_text_error(error: ServerError) -> TextError:
    """Return the error of a text that is refused where the same key speaks others."""
    said = (
        f"{without_advice(error)}; others were spoken with the same key, so it is this text that "
        "the service, or what stands before it (a firewall, say), refuses: change or drop it"
    )
    return _retold(TextError, error, said, hopeless=False)


def as_verdict(error: CosyError, refusals: int) -> CosyError:
    """Return the error that ends a call in which so many requests were refused like this."""
    said = _TEXT_ADVICE.sub("", error.message)
    said += f"; all {refusals} requests in a row were refused like this"
    if isinstance(error, ServerError) and not may_be_key(error) and not may_be_size(error):
        said += f": check {_settings_in(error) or 'voice, model and extra'}"
    said += "; the rest is not sent"
    return _retold(type(error), error, said, hopeless=True)


def with_setting(error: ServerError) -> ServerError:
    """Return an error whose advice is the setting that the service speaks of, where it does."""
    told = without_advice(error)
    found = _settings_in(error) if told != error.message else ""
    return _retold(type(error), error, f"{told}; check {found}") if found else error


def _settings_in(error: CosyError) -> str:
    said = without_advice(error) if isinstance(error, ServerError) else error.message
    words = f"{getattr(error, 'code', None)} {said}"
    return " and ".join([name for pattern, name in _SETTINGS if pattern.search(words)])


def _retold(cls: type[_E], error: CosyError, message: str, **details: Any) -> _E:
    known = {**error.__dict__, **details}
    known.pop("message", None)
    told = cls(message, **known)
    told.__cause__ = error.__cause__
    return told
