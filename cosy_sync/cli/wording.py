"""The library's messages in the words of the command line: options where it names Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType

from cosy_sync.config.client import GROUPS

__all__ = ["OPTIONS", "in_options"]

# Settings that are options here.
OPTIONS = MappingProxyType(
    {
        "url": "--url",
        "wire": "--wire",
        "api_key": "--api-key-file",
        "rate": "--rate",
        "max_connections": "--max-connections",
        "batch_size": "--batch-size",
        "deadline": "--deadline",
        "voice": "--voice",
        "reference": "--reference",
        "transcript": "--transcript",
        "instruction": "--instruction",
        "model": "--model",
        "extra": "--extra",
        "format": "--format",
        "quality": "--quality",
        "cache": "--cache",
        "sample_rate": "--sample-rate",
        "speed": "--speed",
    }
)
# What stands for a value that a message leaves open.
_VALUES = {"reference": "FILE", "transcript": "TEXT", "instruction": "TEXT", "voice": "NAME"}
_GROUP_OF = {cls.__name__: group for group, cls in GROUPS.items()}
# Fields that no variable can hold.
_ELSEWHERE = {"ssl_context": "the variable SSL_CERT_FILE"}


def in_options(message: str) -> str:
    """Return a message that says what to write on the command line, not in Python."""
    for pattern, words in _RULES:
        message = pattern.sub(words, message)
    return message


def _variable(group: str, field: str, value: str | None = None) -> str:
    if field in _ELSEWHERE:
        return _ELSEWHERE[field]
    if (group, field) == ("batch", "max_texts"):
        return OPTIONS["batch_size"]
    name = f"COSY_SYNC_{group}_{field}".upper()
    value = (value or "...").strip("'\"")
    return name if value.startswith("...") else f"{name}={value.lower()}"


def _config(found: re.Match[str]) -> str:
    """Write `pool=PoolConfig(trust_env=False)` as a variable."""
    return _variable(_GROUP_OF.get(found["group"], ""), found["field"], found["value"])


def _endpoint(found: re.Match[str]) -> str:
    return OPTIONS.get(found["field"], f"COSY_SYNC_ENDPOINT_{found['field']}".upper())


def _voice(found: re.Match[str]) -> str:
    words = [f"--voice {found['name']}"] if found["name"] else []
    for field in re.findall(r"(\w+)=", found["more"]):
        words.append(f"{OPTIONS[field]} {_VALUES[field]}")
    return " ".join(words)


def _given(found: re.Match[str]) -> str:
    """Write `model='x'` as an option."""
    name, value = found["name"], found["value"].strip("'\"")
    if value == "...":
        value = _VALUES.get(name, "N")
    return f"{OPTIONS[name]} {value}"


def _json(found: re.Match[str]) -> str:
    return f"--extra '{found['value']}'".replace(found["value"], found["value"].replace("'", '"'))


_SINGLE = "|".join(name for name in OPTIONS if name != "extra")
_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        # Several words at once.
        (r"\bpass overwrite=True\b", "give --overwrite"),
        (
            r"give the key as api_key, not inside the URL",
            "give the key in a file for --api-key-file",
        ),
        (r"give several as a list \(in COSY_SYNC_URL with commas between\)", "give --url for each"),
        (r"check api_key \(or COSY_SYNC_API_KEY\)", "check api_key"),
        (r"check api_key", "check the key (--api-key-file or COSY_SYNC_API_KEY)"),
        (r"the endpoint's (rate|max_connections)", r"\1"),
        (r"above 0, or None for no limit", "above 0, or inf for no limit"),
        (r"\brate or max_connections", "--rate or --max-connections"),
        (r"check (that )?wire=", r"check \1--wire"),
        (r"and that wire= names", "and that --wire names"),
        # Constructors.
        (
            r"(?:\w+=)?(?P<group>\w+Config)\((?P<field>\w+)(?:=(?P<value>[^()]*(?:\([^)]*\)+)?))?\)",
            _config,
        ),
        (r"Endpoint\(url, (?P<field>\w+)=[^)]*\)", _endpoint),
        (r"(?:voice=)?Voice\((?:'(?P<name>[^']*)')?,? ?(?P<more>(?:\w+=[^,)]*,? ?)*)\)", _voice),
        (r"\bextra=(?P<value>\{[^}]*\})", _json),
        # `name=value`, `name=`, `name: ` at the beginning, and names that are no words.
        (rf"\b(?P<name>{_SINGLE})=(?P<value>'[^']*'|\.\.\.|[\w.]+)", _given),
        (rf"^(?:voice: )?({'|'.join(OPTIONS)}): ", lambda found: f"{OPTIONS[found[1]]}: "),
        (r"\bmax_text_chars\b", "COSY_SYNC_BATCH_MAX_TEXT_CHARS"),
        (
            r"(?<![\w.'\"])(api_key|max_connections|batch_size|sample_rate)\b(?!['\"])",
            lambda found: OPTIONS[found[1]],
        ),
    )
)
