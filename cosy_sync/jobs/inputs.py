"""Reads what is to be spoken: JSON lines, tables, plain lines, and the lists of speech corpora."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cosy_sync import ConfigError

__all__ = ["FORMATS", "JobText", "check_text", "read_texts"]

# Names under which columns and fields are found, the likeliest first.
_ID = ("id", "utt_id", "key", "name", "file_name")
_TEXT = ("text", "sentence", "transcription", "transcript")
_SUFFIXES = MappingProxyType(
    {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "lines"}
)
# Columns of a text beside those two.
_OPTIONS = ("voice", "instruction")
_USED = frozenset((*_ID, *_TEXT, *_OPTIONS, "speed"))


@dataclass(frozen=True, slots=True)
class JobText:
    """One text of a job: its `id`, by which its file is called, and how it is to be spoken.

    `voice` is a speaker's name; what is None is as the client has it. `place` says where it was
    read, for messages.
    """

    id: str
    text: str
    voice: str | None = None
    instruction: str | None = None
    speed: float | None = None
    place: str = ""


def check_text(text: JobText) -> None:
    """Raise ConfigError for an id or a text that no journal and no file name can hold."""
    place = text.place or f"the text {text.id!r}"
    for name, words in (("id", text.id), ("text", text.text)):
        if not isinstance(words, str):
            raise ConfigError(f"{place}: expected words as {name}, found {type(words).__name__}")
        try:
            words.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{place}: half a character (a lone surrogate, such as \\ud800) in the {name}"
            ) from None
    if not text.id or "\0" in text.id:
        raise ConfigError(f"{place}: the id must not be empty or hold a NUL")


def read_texts(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    format: str | None = None,
    *,
    unused: set[str] | None = None,
) -> Iterator[JobText]:
    """Yield the texts of one or several files, or of standard input (`-`), as they are read.

    Args:
        format: one of FORMATS; left out, each file's name says it: `.jsonl`, `.ndjson`, `.csv`,
            `.tsv`, `.txt` (a text on each line), `metadata.csv` (LJSpeech, or an audiofolder's),
            `metadata.jsonl`, and Kaldi's `text`; each also with `.gz` behind it.
        unused: the names of fields and columns that mean nothing here are put into it.

    Raises ConfigError, which names the file and the line, for what cannot be read.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise ConfigError("in: give at least one file")
    if format is not None and format not in FORMATS:
        raise ConfigError(f"input format: {format!r} is none; known: {', '.join(FORMATS)}")
    names = set[str]() if unused is None else unused
    for path in given:
        yield from _read(os.fspath(path), format, len(given) > 1, names)


def _read(path: str, format: str | None, several: bool, unused: set[str]) -> Iterator[JobText]:
    shown, lines = "standard input" if path == "-" else path or "''", None
    try:
        with _open(path) as file:
            known = format or _guess(path, shown)
            prefix = f"{Path(path.removesuffix('.gz')).stem}-" if several else ""
            lines = _Lines(file, shown, unused)
            yield from _READERS[known](lines, prefix)
    except UnicodeDecodeError as error:
        wide = error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        # It is found as a block of lines is read.
        place = f", soon after line {lines.number}" if lines is not None and lines.number else ""
        raise ConfigError(
            f"{shown}{place}: not UTF-8; convert it first, for example with: iconv -f "
            f"{'UTF-16' if wide else 'GB18030'} -t UTF-8"
        ) from None
    except (OSError, EOFError, zlib.error) as error:  # the latter two: of gzip
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{shown}: cannot be read: {why}") from error


def _open(path: str) -> io.TextIOWrapper:
    if path == "-":
        if sys.stdin is None:
            raise ConfigError("standard input: it is closed")
        # Another wrapper around its descriptor: standard input itself stays open.
        raw = os.dup(sys.stdin.fileno())
        return io.TextIOWrapper(open(raw, "rb"), encoding="utf-8-sig", newline="")
    given: Any = gzip.open(path) if path.lower().endswith(".gz") else open(path, "rb")  # noqa: SIM115
    return io.TextIOWrapper(given, encoding="utf-8-sig", newline="")


def _guess(path: str, shown: str) -> str:
    whole, path = path, path[:-3] if path.lower().endswith(".gz") else path
    name = Path(path).name.lower()
    if name == "text":
        return "kaldi"
    if name == "metadata.csv":
        with _open(whole) as first:
            return "ljspeech" if "|" in first.readline() else "csv"
    if path == "-":
        return "lines"
    found = _SUFFIXES.get(Path(path).suffix.lower())
    if found is None:
        raise ConfigError(
            f"{shown}: its name does not say what it is; give --input-format, one of "
            f"{', '.join(FORMATS)} (lines: a text on each line)"
        )
    return found


class _Lines:
    """The lines of a file, with the number of the latest."""

    def __init__(self, file: Iterable[str], shown: str, unused: set[str]) -> None:
        self._file = iter(file)
        self._shown = shown
        self.unused = unused
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.number += 1
        return line

    @property
    def place(self) -> str:
        """Return where the latest line stands."""
        return f"{self._shown}, line {self.number}"

    def refuse(self, why: str) -> ConfigError:
        """Return the error for the latest line."""
        return ConfigError(f"{self.place}: {why}")


def _jsonl(lines: _Lines, prefix: str) -> Iterator[JobText]:
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise lines.refuse(f"no JSON: {error}") from None
        if not isinstance(row, dict):
            raise lines.refuse('expected an object, such as {"id": "a1", "text": "你好"}')
        if not _USED.issuperset(row):  # as a table's columns: Text, Voice
            row = {**{name.strip().lower(): value for name, value in row.items()}, **row}
            lines.unused.update(name for name in row if name.strip().lower() not in _USED)
        yield _of_row(row, lines, prefix)


def _csv(lines: _Lines, prefix: str, delimiter: str = ",") -> Iterator[JobText]:
    begun = 1
    try:
        rows = csv.DictReader(lines, delimiter=delimiter, strict=True)
        rows.fieldnames = _columns(rows.fieldnames or (), lines)
        begun = lines.number + 1
        for row in rows:
            if None in row:
                raise lines.refuse("more fields than the header has; quote texts with commas")
            yield _of_row(row, lines, prefix)
            begun = lines.number + 1
    except csv.Error as error:
        # A quote that is left open takes in all lines up to the next one.
        lines.number = begun
        why = str(error)
        if "field limit" in why or "end of data" in why:
            why = "a field that begins with a quote has no quote at its end"
        raise lines.refuse(
            f"no table: {why} (a field that begins with a quote ends with one; a quote inside it "
            "is written twice)"
        ) from None


def _columns(names: Sequence[str], lines: _Lines) -> list[str]:
    """Return the names of a table's columns, as they are looked for."""
    found = [name.strip().lower() for name in names]
    if not set(_TEXT) & set(found):
        raise lines.refuse(
            f"expected a header with a column named text, found {', '.join(names) or 'nothing'}"
            " (a file without a header: --input-format ljspeech or lines)"
        )
    for name in _USED:
        if found.count(name) > 1:
            raise lines.refuse(f"two columns are named {name}; which one is meant?")
    lines.unused.update(name for name in found if name not in _USED)
    return found


def _tsv(lines: _Lines, prefix: str) -> Iterator[JobText]:
    return _csv(lines, prefix, "\t")


def _plain(lines: _Lines, prefix: str) -> Iterator[JobText]:
    for line in lines:
        text = line.strip()
        if lines.number == 1 and text.startswith("{") and text.endswith("}"):
            raise lines.refuse(
                "looks like JSON, which would be read aloud: give --input-format jsonl"
            )
        if text:
            yield JobText(f"{prefix}{lines.number:07d}", text, place=lines.place)


def _ljspeech(lines: _Lines, prefix: str) -> Iterator[JobText]:
    for line in lines:
        fields = line.rstrip("\r\n").split("|")
        if fields == [""]:
            continue
        if len(fields) not in (2, 3):
            raise lines.refuse("expected id|text or id|text|normalised text")
        # Some corpora leave the third one empty where it would be the same.
        yield JobText(fields[0], fields[-1].strip() or fields[1], place=lines.place)


def _kaldi(lines: _Lines, prefix: str) -> Iterator[JobText]:
    for line in lines:
        if line.strip():
            name, *text = line.split(maxsplit=1)
            yield JobText(name, "".join(text).strip(), place=lines.place)


def _of_row(row: Mapping[str, Any], lines: _Lines, prefix: str) -> JobText:
    text = next((row[name] for name in _TEXT if row.get(name) is not None), None)
    if not isinstance(text, str):
        raise lines.refuse(
            f"expected words as text, found {'none' if text is None else type(text).__name__}; "
            f"fields: {', '.join(map(str, row))}"
        )
    name = next((row[key] for key in _ID if row.get(key) not in (None, "")), None)
    if isinstance(name, bool) or not isinstance(name, (str, int, type(None))):
        raise lines.refuse("expected words or a whole number as id")
    for key in _OPTIONS:
        if not isinstance(row.get(key), (str, type(None))):
            raise lines.refuse(f"expected words as {key}")
    found = f"{prefix}{lines.number:07d}" if name is None else _without_ending(str(name), row)
    options = {key: row[key] or None for key in _OPTIONS if key in row}
    return JobText(found, text, speed=_speed(row, lines), place=lines.place, **options)


def _without_ending(name: str, row: Mapping[str, Any]) -> str:
    # An audiofolder names the file: a.wav; ours gets an ending of its own.
    stem, dot, ending = name.rpartition(".")
    return stem if dot and row.get("file_name") == name and len(ending) <= 4 else name


def _speed(row: Mapping[str, Any], lines: _Lines) -> float | None:
    value = row.get("speed")
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise lines.refuse(f"expected a number as speed, found {value!r}") from None


_READERS: Mapping[str, Callable[[_Lines, str], Iterator[JobText]]] = MappingProxyType(
    {
        "jsonl": _jsonl,
        "csv": _csv,
        "tsv": _tsv,
        "lines": _plain,
        "ljspeech": _ljspeech,
        "kaldi": _kaldi,
    }
)
FORMATS = tuple(_READERS)
