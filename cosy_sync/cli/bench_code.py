"""The Python that makes the client which a bench has measured, to be pasted and run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cosy_sync import ClientConfig, Endpoint, Voice
from cosy_sync.cli.bench_steps import Advice

__all__ = ["Code", "code_of", "left_out_of", "settings_of"]

# Fields of ClientConfig that are written down where they differ from its defaults.
_FIELDS = ("wire", "model", "format", "sample_rate", "speed", "deadline")
# What a field of `extra` is called that may hold a key.
_SECRET = re.compile("key|token|secret|password|auth", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Code:
    """What is written beside the advice. `settings`: keyword arguments, as they are written."""

    url: str
    settings: Sequence[str] = ()
    batch_size: int | None = None
    # What cannot be shown.
    left_out: Sequence[str] = ()


def settings_of(
    config: ClientConfig, *, reference: str | None = None, key_file: str | None = None
) -> tuple[str, ...]:
    """Write down what the service was asked for, and where the key comes from, never the key.

    Args:
        config: of the client that was measured.
        reference: the file of the voice's recording.
        key_file: the file of the key; without one, it came from COSY_SYNC_API_KEY.
    """
    found = {}
    if config.voice is not None:
        found["voice"] = _voice(config.voice, reference)
    for name in _FIELDS:
        value = getattr(config, name)
        if value != getattr(ClientConfig, name):
            found[name] = _literal(value)
    extra = {name: value for name, value in config.extra.items() if not _SECRET.search(name)}
    if extra:
        found["extra"] = _literal(extra)
    if config.api_key is not None:
        found["api_key"] = 'os.environ["COSY_SYNC_API_KEY"]'
        if key_file is not None:
            found["api_key"] = f"Path({_literal(key_file)}).read_text().strip()"
    return tuple(f"{name}={value}" for name, value in found.items())


def left_out_of(endpoint: Endpoint, config: ClientConfig) -> tuple[str, ...]:
    """Return what may hold a key, and so is not written down."""
    found = [f"extra[{_literal(name)}]" for name in config.extra if _SECRET.search(name)]
    return (*(["the address's query"] if urlsplit(endpoint.url).query else []), *found)


def code_of(code: Code, advice: Advice) -> str:
    """Write the client that fits what was measured, with the imports that it needs."""
    load = f"{advice.requests_per_second:.12g}, {advice.latency:.12g}"
    limits = f"max_connections={advice.max_connections}, rate={advice.rate:g}"
    lines = [
        f"Endpoint({_literal(code.url)}, {limits})",
        f"pool=PoolConfig.for_load({load})",
        *code.settings,
    ]
    if code.batch_size is not None:
        lines.append(f"batch_size={code.batch_size}")
    written = "\n".join(["client = CosyClient(", *(f"    {line}," for line in lines), ")"])
    if code.left_out:
        what = " and ".join(code.left_out)
        written = f"# Add {what}: left out here, since it may hold a key.\n{written}"
    return f"{_imports(written)}\n\n{written}"


def _imports(written: str) -> str:
    names = ["CosyClient", "Endpoint", "PoolConfig"]
    if "=Voice(" in written:
        names.append("Voice")
    lines = []
    if "=os.environ[" in written:
        lines.append("import os")
    if "=Path(" in written:
        lines.append("from pathlib import Path")
    if lines:
        lines.append("")
    return "\n".join([*lines, f"from cosy_sync import {', '.join(names)}"])


def _voice(voice: Voice, reference: str | None) -> str:
    if voice.name is not None and voice.asks == ("name",):
        return _literal(voice.name)
    parts = [] if voice.name is None else [_literal(voice.name)]
    told = {
        "reference": reference,
        "transcript": voice.transcript,
        "instruction": voice.instruction,
    }
    parts += [f"{name}={_literal(value)}" for name, value in told.items() if value is not None]
    return f"Voice({', '.join(parts)})"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        inside = (f"{_literal(name)}: {_literal(each)}" for name, each in value.items())
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
