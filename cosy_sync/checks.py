"""Rules that settings are checked by: each names the field and what it must be."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigError
from .models import is_utf8

__all__ = [
    "Rule",
    "check",
    "checked_extra",
    "checked_headers",
    "checked_prepare",
    "checked_url",
    "count",
    "count_or_none",
    "flag",
    "header_text_or_none",
    "name_or_none",
    "not_negative",
    "positive",
    "positive_or_unlimited",
    "whole",
]

# Which of them a wire speaks, it says itself.
_SCHEMES = ("http", "https", "ws", "wss", "grpc", "grpcs")

# The beginning of a second URL.
_SEVERAL = re.compile(r",\w+://")

Rule = tuple[str, Callable[[Any], bool], str]


def check(config: Any, rules: tuple[Rule, ...]) -> None:
    """Raise ConfigError for the first rule that a field of the record breaks."""
    for name, allowed, expected in rules:
        value = getattr(config, name)
        try:
            good = allowed(value) and isinstance(value, bool) == (allowed is _is_flag)
        except TypeError:
            good = False
        if not good:
            if isinstance(value, float) and value == math.inf:
                expected += " and finite"
            raise ConfigError(f"{name}: must be {expected}, got {_shown(name, value)}")


def _shown(name: str, value: Any) -> str:
    if name not in ("api_key", "voice"):
        return repr(value)
    # A key, or maybe a recording: never shown.
    if not isinstance(value, str):
        return type(value).__name__
    return "something else" if value else "nothing"


def positive(*names: str) -> tuple[Rule, ...]:
    """Return rules: finite numbers above 0."""
    return tuple(
        (name, lambda v: _is_number(v) and 0 < v < float("inf"), "a number above 0")
        for name in names
    )


def positive_or_unlimited(*names: str) -> tuple[Rule, ...]:
    """Return rules: numbers above 0; None or math.inf for no limit."""
    expected = "a number above 0, or None for no limit"
    return tuple(
        (name, lambda v: v is None or (_is_number(v) and v > 0), expected) for name in names
    )


def not_negative(*names: str) -> tuple[Rule, ...]:
    """Return rules: finite numbers from 0 on."""
    return tuple(
        (name, lambda v: _is_number(v) and 0 <= v < float("inf"), "0 or more") for name in names
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def count(*names: str) -> tuple[Rule, ...]:
    """Return rules: whole numbers above 0."""
    return tuple((name, _is_count, "a whole number above 0") for name in names)


def whole(*names: str) -> tuple[Rule, ...]:
    """Return rules: whole numbers from 0 on."""
    return tuple(
        (name, lambda v: isinstance(v, int) and v >= 0, "a whole number from 0 on")
        for name in names
    )


def count_or_none(*names: str) -> tuple[Rule, ...]:
    """Return rules: whole numbers above 0, or nothing."""
    return tuple(
        (name, lambda v: v is None or _is_count(v), "a whole number above 0") for name in names
    )


def flag(*names: str) -> tuple[Rule, ...]:
    """Return rules: True or False."""
    return tuple((name, _is_flag, "True or False") for name in names)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def name_or_none(value: Any) -> bool:
    """Return whether this is a name that can be sent, or nothing."""
    return value is None or (isinstance(value, str) and bool(value) and is_utf8(value))


def header_text_or_none(value: Any) -> bool:
    """Return whether this may stand in an HTTP header, or is nothing."""
    return value is None or (_header_text(value) and bool(value))


def _header_text(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def checked_headers(headers: Any) -> dict[str, str]:
    """Return a copy of the headers; raise ConfigError for one that cannot be sent."""
    if not isinstance(headers, Mapping):
        raise ConfigError("headers: expected a mapping of names to values")
    for name, value in headers.items():
        if not _header_text(name) or not name or set(name) & set(" :()"):
            raise ConfigError(f"headers: {name!r} is not the name of a header")
        if not _header_text(value):
            raise ConfigError(f"headers: the value of {name!r} must be printable ASCII text")
    return dict(headers)


def checked_extra(extra: Any) -> dict[str, Any]:
    """Return a copy of the fields; raise ConfigError for what JSON cannot carry."""
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        raise ConfigError("extra: expected a mapping of names to values")
    try:
        json.dumps(dict(extra), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"extra: every value must fit into JSON; {error}") from None
    return dict(extra)


def checked_url(name: str, url: Any) -> None:
    """Raise ConfigError unless this is the URL of a service, without a password in it."""
    # A key may stand in it: what is wrong is said without showing it.
    if not isinstance(url, str):
        raise ConfigError(f"{name}: expected a URL as text, got {type(url).__name__}")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(
            f"{name}: must be ASCII without spaces and line breaks; percent-encode the rest"
        )
    shown = re.split("[?#]", url)[0]
    host = shown.rpartition("://")[2].partition("/")[0]
    try:
        parts = urlsplit(url)
        good_port = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigError(f"{name}: this is not a URL; check host and port") from None
    if "@" in host:
        raise ConfigError(f"{name}: give the key as api_key, not inside the URL")
    several = _SEVERAL.search(shown)
    if parts.scheme not in _SCHEMES or not parts.hostname or not good_port or several:
        raise ConfigError(f"{name}: {_misspelt(shown)}")


def _misspelt(url: str) -> str:
    """Say what is wrong with what should be a URL."""
    if _SEVERAL.search(url):
        return "expected one URL; give several as a list (in COSY_SYNC_URL with commas between)"
    first = url.partition(":")[0]
    if "://" in url or not url or url.startswith("/") or first in _SCHEMES:
        return f"expected http://HOST/PATH or https://HOST/PATH, got {url!r}"
    return f"{url!r} has no scheme; write http://{url} or https://{url}"


def checked_prepare(given: Any) -> tuple[Callable[[str], str], ...]:
    """Return the functions that prepare texts. Raises ConfigError for what is none."""
    several = isinstance(given, Iterable) and not callable(given)
    functions = () if given is None else tuple(given) if several else (given,)
    for each in functions:
        if not callable(each) or inspect.iscoroutinefunction(each):
            kind = "a coroutine function" if callable(each) else type(each).__name__
            raise ConfigError(
                f"prepare: expected a function from text to text, or several in a list, got {kind}"
            )
    return functions
