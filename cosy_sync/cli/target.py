"""Where sound goes: a directory with a file for each text, one file, or standard output."""

from __future__ import annotations

import os
import re
import string
import sys
import tempfile
from pathlib import Path
from typing import Protocol

from cosy_sync import Audio
from cosy_sync.cli.console import emit_bytes
from cosy_sync.cli.exits import Stop, because
from cosy_sync.cli.source import Item

__all__ = [
    "Folder",
    "OneFile",
    "Pipe",
    "Target",
    "check_template",
    "make_folder",
    "open_target",
    "try_writing",
    "write_whole",
]

ENDINGS = (".wav", ".pcm", ".raw")
_OTHER_SOUND = (".mp3", ".ogg", ".opus", ".flac", ".m4a", ".aac", ".webm")
_NUMBER = re.compile(r"(0[1-9]\d?)?d?")


class Target(Protocol):
    """Takes the sound of texts."""

    # Whether it can take more than one text.
    several: bool

    def save(self, item: Item, audio: Audio) -> str | None:
        """Keep the sound; return the file's path. Raises Stop when it cannot."""
        ...

    def __str__(self) -> str:
        """Return its name, as messages show it."""
        ...


class Folder:
    """A file for each text."""

    several = True

    def __init__(self, path: Path, template: str, ending: str) -> None:
        self._path = path
        self._template = template
        self._ending = ending

    def save(self, item: Item, audio: Audio) -> str:
        """Write the file; it appears whole or not at all."""
        name = self._template.format(index=item.index, line=item.line, hash=item.hash)
        return _write(self._path / f"{name}{self._ending}", audio)

    def __str__(self) -> str:
        return f"{self._path}{os.sep}"


class OneFile:
    """One file for one text."""

    several = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, item: Item, audio: Audio) -> str:
        """Write the file; it appears whole or not at all."""
        return _write(self._path, audio)

    def __str__(self) -> str:
        return str(self._path)


class Pipe:
    """Standard output, for one text: a WAV file, or bare samples."""

    several = False

    def __init__(self, *, bare: bool) -> None:
        self._bare = bare

    def save(self, item: Item, audio: Audio) -> None:
        """Write all of it at once."""
        emit_bytes(audio.pcm() if self._bare else audio.wav())

    def __str__(self) -> str:
        return "standard output"


def _write(path: Path, audio: Audio) -> str:
    try:
        return str(audio.save(path))
    except OSError as error:
        raise Stop(f"cannot write {path}: {because(error)}") from error


def open_target(output: str, template: str, kind: str) -> Target:
    """Choose the target that `output` means, and make sure that it can be written.

    Args:
        output: a directory, a file's path, or `-`.
        template: names of the files in a directory, as `check_template` allows.
        kind: `wav` or `pcm`.

    Raises Stop for what cannot be written.
    """
    if output == "-":
        return _pipe(kind)
    path = Path(output)
    ending = path.suffix.lower()
    if ending in ENDINGS and not path.is_dir():
        try_writing(path.parent)
        return OneFile(path)
    if ending in _OTHER_SOUND and not path.is_dir():
        raise Stop(f"cannot write {path}: use a name that ends in {', '.join(ENDINGS)}")
    make_folder(path)
    ending = "" if template.endswith(ENDINGS) else f".{kind}"
    return Folder(path, template, ending)


def _pipe(kind: str) -> Target:
    if sys.stdout is None:
        raise Stop("standard output is closed")
    if sys.stdout.isatty():
        raise Stop(
            "sound does not belong on a terminal: pipe it into a player or a file, for example "
            "`| aplay` or `> speech.wav`, or use -o FILE.wav"
        )
    return Pipe(bare=kind == "pcm")


def make_folder(path: Path) -> None:
    """Make a directory, unless it is there, and write to it in trial. Raises Stop."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise Stop(f"{path} is a file: give a directory, or a file that ends in .wav") from None
    except OSError as error:
        raise Stop(f"cannot make the directory {path}: {because(error)}") from error
    try_writing(path)


def try_writing(folder: Path) -> None:
    """Raise Stop unless a file can be made in this directory."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Stop(f"cannot write to the directory {folder}: {because(error)}") from error


def write_whole(path: Path, content: str) -> None:
    """Write a text file; it appears whole or not at all. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(content, encoding="utf-8")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def check_template(template: str) -> str:
    """Return the template for names, if each text gets a plain name of its own by it.

    Raises ValueError, which says what is wrong.
    """
    fields = _fields(template)
    if not {"index", "line"} & set(fields):
        raise ValueError("must contain {index} or {line}: each text needs a file of its own")
    plain = "".join(literal for literal, *_ in string.Formatter().parse(template))
    if any(char in "/\\\0" or not char.isprintable() for char in plain) or template[0] in ".-~":
        raise ValueError("must be a plain file name, without directories")
    if len(template.format(index=10**12, line=10**12, hash="0" * 10).encode()) > 200:
        raise ValueError("is too long for a file name")
    return template


def _fields(template: str) -> list[str]:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"is no template: {error}") from None
    found = []
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in ("index", "line", "hash"):
            raise ValueError(f"knows {{index}}, {{line}} and {{hash}}, not {{{name}}}")
        if conversion or (spec and (name == "hash" or not _NUMBER.fullmatch(spec))):
            raise ValueError(f"cannot write {{{name}}} like this; use for example {{index:04d}}")
        found.append(name)
    return found
