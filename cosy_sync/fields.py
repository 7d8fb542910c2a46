"""Config classes that say which field was meant, where a name is not one of theirs."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .errors import ConfigError
from .hints import MOVED, RENAMED

__all__ = ["field_docs", "tells_fields"]

_C = TypeVar("_C")

# Each decorated class and its fields.
_FIELDS: dict[str, list[str]] = {}

# What other libraries call a field of a class, beside the names that a client's settings have.
_OTHER_NAMES: Mapping[str, Mapping[str, str]] = {
    "RetryConfig": {
        "max_retries": "attempts tries count limit total max_tries",
        "base": "delay wait initial initial_delay factor multiplier min_wait interval",
        "max_wait": "max_delay max_backoff cap",
        "outlast": "max_elapsed max_time",
    },
    "BreakerConfig": {
        "failure_ratio": "threshold failure_threshold failure_rate ratio error_rate",
        "min_calls": "fail_max max_failures minimum_calls min_samples",
        "open_for": "reset_timeout recovery_timeout timeout cooldown open_seconds",
        "probes": "half_open_calls half_open_max_calls success_threshold",
    },
    "PoolConfig": {
        "max_connections": "size maxsize max_size max_keepalive_connections connections limit",
        "idle_expiry": "keepalive keepalive_expiry keep_alive idle_timeout",
        "verify_tls": "verify",
        "trust_env": "proxy proxies",
    },
    "TimeoutConfig": {
        "first_byte": "read read_timeout ttfb total timeout",
        "idle": "write between",
    },
    "LimitConfig": {
        "max_submitted": "max_queue queue_size max_pending max_queued",
        "rate": "rps qps rate_limit max_rate requests_per_second",
        "max_reply_bytes": "max_response_bytes max_response_size max_reply_size",
    },
    "BatchConfig": {
        "max_texts": "size batch_size max_size max_batch_size texts batchsize texts_per_call",
        "gzip_above": "gzip compress compression",
        "halve_refused": "halve split bisect",
    },
    "CoalesceConfig": {"linger": "wait delay window max_wait"},
    "HedgeConfig": {"quantile": "percentile delay"},
    "VerifyConfig": {"check": "callback function fn validator"},
    "SharingConfig": {"redis_url": "url redis host", "prefix": "namespace key_prefix"},
    "CacheConfig": {
        "store": "path dir directory folder url backend",
        "ttl": "expire expiry max_age timeout seconds",
        "refused_ttl": "negative_ttl error_ttl",
        "stale_if_error": "stale grace stale_ttl",
    },
    "OverloadConfig": {
        "retry_share": "retry_ratio retry_budget",
        "start": "initial initial_limit",
    },
    "EjectionConfig": {"failure_ratio": "threshold", "longest": "max_ejection max_seconds"},
    "Endpoint": {
        "url": "base_url api_base address host endpoint server",
        "weight": "priority share",
    },
    "ServerConfig": {
        "latency": "delay sleep",
        "rate": "qps rate_limit max_rate requests_per_second",
        "max_connections": "connections concurrency",
        "workers": "threads slots",
    },
    "Voice": {
        "name": "speaker voice spk spk_id speaker_id voice_id",
        "reference": "reference_audio ref_audio prompt_audio prompt_wav prompt_speech_16k "
        "speaker_wav recording audio file path",
        "transcript": "prompt_text ref_text reference_text text",
        "instruction": "instruct instruct_text instructions style emotion prompt",
    },
}


# What fields were called before; taken still, with a warning.
_OLD_NAMES: Mapping[str, Mapping[str, str]] = {"ServerConfig": {"rps": "rate"}}

# What belongs to the client itself, given to its configuration.
_OF_CLIENT: Mapping[str, str] = {
    "batch_size": "write batch=BatchConfig(max_texts=...)",
    "instruction": "write voice=Voice('中文女', instruction=...)",
    "url": "the address is the first argument: CosyClient(url, config=...)",
    "http_client": "write CosyClient(url, config=..., http_client=...)",
    "observers": "write CosyClient(url, config=..., observers=...)",
}


def tells_fields(cls: type[_C]) -> type[_C]:
    """Let a dataclass raise ConfigError, with the field that was meant, for an unknown name, and
    let `help()` show what stands under each field."""
    fields = [item for item in dataclasses.fields(cls) if item.init]  # type: ignore[arg-type]
    names = _FIELDS[cls.__name__] = [item.name for item in fields]
    places = [item.name for item in fields if not item.kw_only]
    missing = dataclasses.MISSING
    needed = [i.name for i in fields if i.default is missing and i.default_factory is missing]
    plain: Callable[..., None] = cls.__init__
    old_names = _OLD_NAMES.get(cls.__name__, {}).keys()

    @functools.wraps(plain)
    def __init__(self: _C, *args: Any, **given: Any) -> None:
        for old in old_names & given.keys():
            warnings.warn(
                f"{old}: {cls.__name__} calls it {_OLD_NAMES[cls.__name__][old]} now",
                DeprecationWarning,
                stacklevel=3,
            )
            given[_OLD_NAMES[cls.__name__][old]] = given.pop(old)
        for name in given:
            if name not in names:
                raise ConfigError(f"{name}: {cls.__name__} has no such field; {_advice(cls, name)}")
        if len(args) > len(places):
            raise ConfigError(
                f"{names[len(places)]}: give the fields of {cls.__name__} by name, such as "
                f"{cls.__name__}({names[len(places)]}=...)"
            )
        for name in needed[len(args) :]:
            if name not in given:
                raise ConfigError(f"{name}: {cls.__name__} needs it")
        plain(self, *args, **given)

    cls.__init__ = __init__  # type: ignore[assignment, method-assign]
    cls.__doc__ = _HelpText(cls.__doc__ or "")  # type: ignore[assignment]
    return cls


class _HelpText:
    """A class's docstring with those of its fields, read from the source when it is asked for."""

    def __init__(self, summary: str) -> None:
        self._summary = summary

    def __get__(self, _: object, cls: type) -> str:
        import textwrap  # as below: for those who ask

        told = [
            textwrap.fill(f"{name}: {said}", 92, initial_indent=" " * 4, subsequent_indent=" " * 8)
            for name, said in field_docs(cls).items()
        ]
        return "\n".join([self._summary, "", "Fields:", *told]) if told else self._summary


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring below each field of a class; nothing where its source is not there."""
    import ast  # both are slow to import, and nobody needs them who does not ask for help
    import inspect

    try:
        (tree,) = ast.parse(inspect.getsource(cls).lstrip()).body
    except (OSError, SyntaxError, TypeError):
        return {}
    found = {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            value = below.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[ast.unparse(field.target)] = " ".join(value.value.split())
    return found


def _advice(cls: type, name: str) -> str:
    if cls.__name__ == "ClientConfig" and name in _OF_CLIENT:
        return _OF_CLIENT[name]
    meant = _meant(cls.__name__, name)
    if meant is not None:
        return f"did you mean {meant}?"
    if name in MOVED:
        return MOVED[name].format(name)
    for other, names in _FIELDS.items():
        if name in names:
            return f"write {other}({name}=...)"
    return f"it has {', '.join(_FIELDS[cls.__name__])}"


def _meant(kind: str, name: str) -> str | None:
    """Return the field of a class that a name stands for."""
    names = _FIELDS[kind]
    for field, others in _OTHER_NAMES.get(kind, {}).items():
        if name in others.split():
            return field
    # `retries` is told as `write retry=RetryConfig(max_retries=...)`.
    said = re.search(rf"\b{kind}\([^)]*?(\w+)=\.\.\.", MOVED.get(name, ""))
    for renamed in (RENAMED.get(name, ""), said[1] if said else ""):
        if renamed in names:
            return renamed
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    return near[0] if near else None
