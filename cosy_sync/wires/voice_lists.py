"""Which voices there are: what each service can be asked, and what its documents name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..messages import Reply, Request
from .base import Send, SpeechOptions
from .error_bodies import read_error
from .fastjson import dump_json, load_json
from .openai_services import find_target
from .pai_eas import reference_url

__all__ = ["Documented", "ask_voices", "documented_voices"]


class Documented(NamedTuple):
    """Names of voices, and the documents that have them; `beside` where the list that the service
    gives has its account's own only."""

    names: tuple[str, ...]
    where: str
    beside: bool = False


_NONE = Documented((), "")
_PRESETS = Documented(
    ("中文女", "中文男", "日语男", "粤语女", "英文女", "英文男", "韩语女"),
    "the presets of CosyVoice-300M-SFT (other checkpoints may have none)",
)
_SILICONFLOW = ("alex", "anna", "bella", "benjamin", "charles", "claire", "david", "diana")
# Alibaba's own voices, by the beginning of a model's name; there are more, and v3.5 has none.
_ALIBABA = {
    "cosyvoice-v1": (
        *("longwan", "longcheng", "longhua", "longxiaochun", "longxiaoxia", "longxiaocheng"),
        *("longxiaobai", "longlaotie", "longshu", "longshuo", "longjing", "longmiao", "longyue"),
        *("longyuan", "longfei", "longjielidou", "longtong", "longxiang", "loongstella"),
        "loongbella",
    ),
    "cosyvoice-v2": ("longxiaochun_v2", "longxiaoxia_v2", "longwan_v2", "longcheng_v2"),
    "cosyvoice-v3-": ("longanyang", "longanhuan"),
}
# Where lists have their entries, and entries their names.
_LISTS = ("voices", "roles", "voice_list", "speakers", "data", "result", "output")
_NAMES = ("voice_id", "uri", "id", "name", "voice")
# These say that there is no such route.
_NO_ROUTE = frozenset({400, 404, 405, 422, 501})
_RUNTIME_TAIL = re.compile(r"/(?:inference_\w+|api/inference(?:/[\w-]+)?)/?$")
_ALIBABA_TAIL = re.compile(r"/(?:api-ws/v1|api/v1)(?:/.*)?$")
_ENROLLED = "/api/v1/services/audio/tts/customization"
# Enrolled voices of one answer, and the most that are asked for.
_PAGE, _MOST_PAGES = 100, 20


def ask_voices(wire: str, url: str, options: SpeechOptions, send: Send) -> tuple[str, ...] | None:
    """Return the voices that the service lists; None where it cannot be asked.

    Of DashScope these are the account's own, enrolled ones. Raises CosyError where it cannot be
    reached, refuses the key, or fails.
    """
    if wire in ("dashscope_http", "dashscope_ws"):
        return _ask_enrolled(url, options, send)
    for address in _addresses(wire, url, options):
        reply = send(Request(address, _headers(options), b"", method="GET"))
        names = _read(reply)
        if names is not None:
            return names
    return None


def documented_voices(wire: str, url: str, options: SpeechOptions) -> Documented:
    """Return the voices that the documents of a service name; none where they name none."""
    if wire in ("dashscope_http", "dashscope_ws"):
        for model, names in _ALIBABA.items():
            if (options.model or "").startswith(model):
                return Documented(names, f"some of Alibaba's own for {model.rstrip('-')}", True)
        return _NONE
    if wire == "openai":
        service = find_target(url, options.extra.get("service")).service
        if service == "siliconflow":
            model = options.model or "FunAudioLLM/CosyVoice2-0.5B"
            names = tuple(f"{model}:{name}" for name in _SILICONFLOW)
            return Documented(names, "SiliconFlow's documents", True)
        return _PRESETS if service == "xinference" else _NONE
    return _PRESETS if wire in ("batch", "runtime_http", "runtime_grpc") else _NONE


def _addresses(wire: str, url: str, options: SpeechOptions) -> Iterator[str]:
    """Yield where a service may list its voices."""
    if wire == "openai":
        target = find_target(url, options.extra.get("service"))
        if target.service == "siliconflow":  # the account's own
            yield target.speech_url.replace("/audio/speech", "/audio/voice/list")
        else:
            yield target.voices_url
            yield target.voices_url.replace("/audio/voices", "/voices")
    elif wire == "pai_eas":
        yield reference_url(url)
    elif wire == "runtime_http":
        parts = urlsplit(url)
        base = _RUNTIME_TAIL.sub("", parts.path).rstrip("/")
        for tail in ("/list_available_spks", "/api/roles"):
            yield parts._replace(path=base + tail).geturl()


def _ask_enrolled(url: str, options: SpeechOptions, send: Send) -> tuple[str, ...] | None:
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    base = _ALIBABA_TAIL.sub("", parts.path).rstrip("/")
    address = parts._replace(scheme=scheme, path=base + _ENROLLED).geturl()
    headers = (*_headers(options), ("Content-Type", "application/json"))
    found: list[str] = []
    for page in range(_MOST_PAGES):
        asked = {"action": "list_voice", "page_index": page, "page_size": _PAGE}
        body = dump_json({"model": "voice-enrollment", "input": asked})
        names = _read(send(Request(address, headers, body)))
        if names is None:
            return tuple(found) if page else None
        found += names
        if len(names) < _PAGE:
            break
    return tuple(found)


def _headers(options: SpeechOptions) -> tuple[tuple[str, str], ...]:
    fixed = {"Accept": "application/json", "Accept-Encoding": "identity"}
    ours = frozenset({"accept", "accept-encoding", "content-length", "content-type", "host"})
    return options.headers_with(fixed, ours)


def _read(reply: Reply) -> tuple[str, ...] | None:
    """Return the names in an answer; None where it is no list. Raises CosyError."""
    if reply.status in _NO_ROUTE:
        return None
    if not 200 <= reply.status < 300:
        raise read_error(reply)
    try:
        value = load_json(bytes(reply.body))
    except (ValueError, RecursionError):
        return None  # a page for people
    entries = _find_list(value)
    if entries is None:
        return None
    given = (entry if isinstance(entry, str) else _name_of(entry) for entry in entries)
    names = tuple(dict.fromkeys(name for name in given if name))
    return names if names or not entries else None  # a list of something else


def _find_list(value: Any) -> Sequence[Any] | None:
    for _ in range(3):  # {"output": {"voice_list": [...]}}
        if isinstance(value, list):
            return value
        if not isinstance(value, dict):
            return None
        value = next((value[key] for key in _LISTS if key in value), None)
    return value if isinstance(value, list) else None


def _name_of(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return None
    found = (entry.get(key) for key in _NAMES)
    return next((name for name in found if isinstance(name, str) and name), None)
