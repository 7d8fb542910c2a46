"""Texts and keys blanked out of what a service says: errors and logs must not show them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from itertools import filterfalse
from urllib.parse import unquote_plus, urlsplit

from ..forks import notice_fork, renew_after_fork

__all__ = ["hide", "request_id_of", "secrets_of", "type_shown", "without_texts"]

_BLANK = "[…]"
# What is looked at of a long message: it will be cut to `length` anyway.
_MAX_MESSAGE = 1_000
# A run that a message shares with a text gives the text away from this length on: ordinary words
# are shared by chance, four Chinese characters are half a sentence.
_SEED = 4
_TELLING = 12
# A shorter key is a word of some language, and blanking it would blank words.
_SECRET_CHARS = 8
# Whoever sets any other header may keep a key in it.
_HARMLESS = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-type", "user-agent"}
)
_ID_CHARS = 128
_TYPE_CHARS = 60
_TYPES = frozenset(
    {"audio/l16", "audio/mpeg", "audio/ogg", "audio/pcm", "audio/wav", "audio/x-wav"}
    | {"application/json", "application/octet-stream", "text/html", "text/plain"}
)
_BETWEEN = re.compile(r"[\s;,=]+")

# Secrets that are remembered. A program may have headers of its own for each request, and must not
# grow for ever; a key that is still in use is told again with each of them.
_MOST_SECRETS = 1_000

# Guards the replacing of _secrets.
_lock = threading.Lock()
# What `hide` was told, the latest last: a service may quote a key in any error, and every wire's
# words pass through here. Replaced as a whole, so that it may be read without the lock.
_secrets: tuple[str, ...] = ()


def hide(secrets: Iterable[str]) -> None:
    """Blank these out of everything that services say from now on."""
    global _secrets
    notice_fork()
    new = dict.fromkeys(secret for secret in secrets if len(secret) >= _SECRET_CHARS)
    with _lock:
        if new:
            kept = filterfalse(new.__contains__, _secrets)
            _secrets = (*kept, *new)[-_MOST_SECRETS:]


def _renew() -> None:
    # In a forked child, whose copy of the lock nobody may ever release.
    global _lock
    _lock = threading.Lock()


renew_after_fork(_renew)


def secrets_of(url: str, api_key: str | None, headers: Mapping[str, str]) -> list[str]:
    """Return what may be a key: the key itself, and values of the headers and of the query."""
    held: list[str] = []
    for name, value in headers.items():
        if name.lower() not in _HARMLESS:
            # Whole, and what stands behind the name of a scheme or a cookie.
            held += [value, *_BETWEEN.split(value)]
    for field in urlsplit(url).query.split("&"):
        value = field.partition("=")[2]
        held += [value, unquote_plus(value)]
    return held if api_key is None else [api_key, *held]


def without_texts(message: str, texts: Sequence[str], length: int) -> str:
    """Return the message in at most `length` printable characters, no text and no key in it.

    Services quote texts whole, cut, escaped or in other case: every run is compared.
    """
    for secret in _secrets:
        message = message.replace(secret, _BLANK)
    message = message[:_MAX_MESSAGE]
    if texts:
        message = _blank_short(_blank_runs(message, texts), texts)
    shown = "".join(char if char.isprintable() else " " for char in message)
    shown = " ".join(shown.split())
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the request id that a service told in its headers, as errors may carry it."""
    said = headers.get("x-request-id")
    return None if said is None else without_texts(said, (), _ID_CHARS) or None


def type_shown(media_type: str) -> str:
    """Return a media type that a message may quote: a usual one as it is."""
    kind = media_type.partition(";")[0].strip().lower()
    return media_type if kind in _TYPES else without_texts(media_type, (), _TYPE_CHARS)


def _blank_runs(message: str, texts: Sequence[str]) -> str:
    hay = "\0".join(texts)
    if "\\" in message:
        hay = "\0".join([hay, *(ascii(text) for text in texts)])
    low = message.lower()
    if len(low) == len(message):
        hay = hay.lower()
    else:
        # Lower case of another length (İ) would shift every place.
        low = message
    pieces: list[str] = []
    start = 0
    while start < len(low):
        end = _shared_until(low, start, hay)
        run = low[start:end]
        if len(run) >= _TELLING or (len(run) >= _SEED and not run.isascii()):
            pieces.append(_BLANK)
            start = end
        else:
            pieces.append(message[start])
            start += 1
    return "".join(pieces)


def _shared_until(message: str, start: int, hay: str) -> int:
    end = start + _SEED
    if end > len(message) or message[start:end] not in hay:
        return start
    while end < len(message) and message[start : end + 1] in hay:
        end += 1
    return end


def _blank_short(message: str, texts: Sequence[str]) -> str:
    # A whole text that is shorter than a telling run: as a word of its own, so that the text "a"
    # does not blank every a.
    low = message.lower()
    short = {text.strip() for text in texts if len(text) < _TELLING}
    for text in sorted(short, key=len, reverse=True):
        if text and text.lower() in low:
            word = rf"(?<![A-Za-z0-9_]){re.escape(text)}(?![A-Za-z0-9_])"
            message = re.sub(word, _BLANK, message, flags=re.IGNORECASE)
    return message
