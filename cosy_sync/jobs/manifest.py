"""Lists what a job has made: `manifest.jsonl`, and the lists that speech corpora bring along."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from cosy_sync import ConfigError
from cosy_sync.jobs.journal import Row, State

__all__ = ["EXPORTS", "describe", "export", "write_manifest"]


def write_manifest(rows: Iterable[Row], path: Path) -> int:
    """Write a JSON line for each text that was spoken or failed; return how many there are.

    The file appears whole or not at all. Raises OSError.
    """
    lines = 0
    with whole_text(path) as file:
        for row in rows:
            if row.state != State.WAITING:
                file.write(json.dumps(describe(row), ensure_ascii=False) + "\n")
                lines += 1
    return lines


def describe(row: Row) -> dict[str, Any]:
    """Return a text's line of the manifest: `file` and what is known of it, or its `error`."""
    facts: dict[str, Any] = {"id": row.id, "text": row.text}
    if row.options:
        facts.update(json.loads(row.options))
    if row.state == State.DONE:
        facts.update(
            file=row.key,
            seconds=row.seconds,
            bytes=row.size,
            sample_rate=row.rate,
            sha256=row.sha256,
        )
    else:
        error = json.loads(row.error or "{}")
        facts["error"] = {name: error.get(name) for name in ("type", "message", "status", "code")}
    return {**facts, "attempts": row.attempts, "endpoint": row.endpoint}


def export(rows: Iterable[Row], folder: Path, format: str) -> list[Path]:
    """Write the lists of one of EXPORTS into a job's folder; return their paths.

    Raises ConfigError for another format, or a text or id that it cannot say.
    """
    if format not in EXPORTS:
        raise ConfigError(f"export: {format!r} is none; known: {', '.join(EXPORTS)}")
    spoken = (row for row in rows if row.state == State.DONE)
    return EXPORTS[format](spoken, folder)


def _ljspeech(rows: Iterable[Row], folder: Path) -> list[Path]:
    path = folder / "metadata.csv"
    with whole_text(path) as file:
        for row in rows:
            text = _one_line(row.text)
            if "|" in row.id or "|" in text:
                raise ConfigError(f"export: {row.id}: LJSpeech's lists cannot hold a | in a text")
            # Its readers look for wavs/ID.wav: the id is the path, without its ending.
            name = (row.key or "").rpartition(".")[0]
            file.write(f"{name}|{text}|{text}\n")
    return [path]


def _kaldi(rows: Iterable[Row], folder: Path) -> list[Path]:
    # Kaldi wants its lists sorted as bytes are.
    entries = sorted(
        (_kaldi_entry(row, folder) for row in rows), key=lambda entry: entry[0].encode()
    )
    columns = {"wav.scp": 1, "text": 2, "utt2spk": 3}
    for name, column in columns.items():
        with whole_text(folder / "kaldi" / name) as file:
            file.writelines(f"{entry[0]} {entry[column]}\n" for entry in entries)
    return [folder / "kaldi" / name for name in columns]


def _kaldi_entry(row: Row, folder: Path) -> tuple[str, str, str, str]:
    # A speaker's name in front makes the orders of both the same, as Kaldi asks.
    name = f"{_speaker(row)}-{row.id.replace('/', '-')}"
    if any(char.isspace() for char in name):
        raise ConfigError(f"export: {row.id!r}: Kaldi's ids cannot hold spaces")
    place = (folder / (row.key or "")).absolute()
    return name, str(place), _one_line(row.text), _speaker(row)


def _speaker(row: Row) -> str:
    voice = json.loads(row.options).get("voice") if row.options else None
    return str(voice or "speaker").replace(" ", "_")


def _audiofolder(rows: Iterable[Row], folder: Path) -> list[Path]:
    path = folder / "metadata.jsonl"
    with whole_text(path) as file:
        for row in rows:
            facts = {"file_name": row.key, "text": row.text, "id": row.id, "seconds": row.seconds}
            file.write(json.dumps(facts, ensure_ascii=False) + "\n")
    return [path]


EXPORTS: Mapping[str, Callable[[Iterable[Row], Path], list[Path]]] = MappingProxyType(
    {"ljspeech": _ljspeech, "kaldi": _kaldi, "audiofolder": _audiofolder}
)


def _one_line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def whole_text(path: Path) -> Iterator[TextIO]:
    """Give a file to write to that appears whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(part, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
