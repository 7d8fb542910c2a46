"""Where sound goes: a directory with a file for each text, one file, or standard output."""

from __future__ import annotations

import os
import re
import string
import sys
import tempfile
from array import array
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from cosy_sync import Audio
from cosy_sync.audio.whole_file import WholeFile
from cosy_sync.cli.console import emit_bytes
from cosy_sync.cli.exits import Exit, Stop, because
from cosy_sync.cli.source import Item

__all__ = [
    "Folder",
    "Naming",
    "OneFile",
    "Pipe",
    "Target",
    "check_template",
    "make_folder",
    "open_target",
    "refuse_old",
    "try_writing",
    "write_whole",
]

ENDINGS = (".wav", ".mp3", ".opus", ".ogg", ".flac", ".pcm", ".raw")
_OTHER_SOUND = (".m4a", ".aac", ".webm", ".wma", ".aiff")
_NUMBER = re.compile(r"(0[1-9]\d?)?d?")


class Target(Protocol):
    """Takes the sound of texts."""

    # Whether it can take more than one text.
    several: bool

    def check(self, item: Item) -> None:
        """Raise Stop if a text's sound would replace another recording: before it is sent."""
        ...

    def save(self, item: Item, audio: Audio) -> str | None:
        """Keep the sound; return the file's path. Raises Stop when it cannot."""
        ...

    def __str__(self) -> str:
        """Return its name, as messages show it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How files are called: a template, or else numbers of so many digits.

    `grows`: nobody knows how many texts there will be, so the digits become more with them, and
    the files that are there are renamed: their names sort. `overwrite`: a recording of an earlier
    run may be replaced.
    """

    template: str | None = None
    digits: int = 4
    grows: bool = False
    overwrite: bool = False

    def name(self, item: Item) -> str:
        """Return the name of a text's file, without its ending."""
        if self.template is None:
            return f"{item.index:0{self.digits}d}"
        return self.template.format(index=item.index, line=item.line, hash=item.hash)


class Folder:
    """A file for each text."""

    several = True

    def __init__(self, path: Path, naming: Naming, ending: str) -> None:
        self._path = path
        self._naming = naming
        self._ending = ending
        # Numbers of the files of this run, while they may have to be renamed.
        self._written = array("Q")

    def check(self, item: Item) -> None:
        """Raise Stop for a file of the name that a text's sound will get."""
        if self._naming.overwrite:
            return
        if self._naming.grows and self._naming.template is None and not self._written:
            # Numbers with more digits would be met later, and until then stand among ours.
            for path in self._path.glob(f"[0-9]*{self._ending}"):
                if path.stem.isdecimal():
                    refuse_old(path)
        refuse_old(self._place(item))

    def save(self, item: Item, audio: Audio) -> str:
        """Write the file; it appears whole or not at all."""
        if self._naming.grows and self._naming.template is None:
            while item.index >= 10**self._naming.digits:
                self._widen()
        self.check(item)
        file = _write(self._place(item), audio)
        if self._naming.grows:
            self._written.append(item.index)
        return file

    def _place(self, item: Item) -> Path:
        return self._path / f"{self._naming.name(item)}{self._ending}"

    def _widen(self) -> None:
        """Give every number one digit more, in the names of the files that are there as well."""
        narrow, self._naming = self._naming, replace(self._naming, digits=self._naming.digits + 1)
        for index in self._written:
            item = Item(index, index, "")
            old, new = self._path / f"{narrow.name(item)}{self._ending}", self._place(item)
            if not narrow.overwrite:
                refuse_old(new)
            try:
                os.replace(old, new)
            except OSError as error:
                raise Stop(f"cannot rename {old}: {because(error)}", Exit.FAILED) from error

    def __str__(self) -> str:
        return f"{self._path}{os.sep}"


class OneFile:
    """One file for one text."""

    several = False

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path = path
        self._overwrite = overwrite

    def check(self, item: Item | None = None) -> None:
        """Raise Stop if the file is there."""
        if not self._overwrite:
            refuse_old(self._path)

    def save(self, item: Item, audio: Audio) -> str:
        """Write the file; it appears whole or not at all."""
        self.check()
        return _write(self._path, audio)

    def __str__(self) -> str:
        return str(self._path)


class Pipe:
    """Standard output, for one text: its file, or bare samples."""

    several = False

    def check(self, item: Item) -> None:
        """Let everything pass: nothing is replaced."""

    def save(self, item: Item, audio: Audio) -> None:
        """Write all of it at once."""
        emit_bytes(audio.data)

    def __str__(self) -> str:
        return "standard output"


def refuse_old(path: Path) -> None:
    """Raise Stop if something is there already."""
    if path.exists() or path.is_symlink():
        raise Stop(
            f"{path} is there already; --overwrite replaces recordings of an earlier run, -o takes "
            "them elsewhere"
        )


def _write(path: Path, audio: Audio) -> str:
    try:
        return str(audio.save(path))
    except OSError as error:
        raise Stop(f"cannot write {path}: {because(error)}", Exit.FAILED) from error


def open_target(output: str, naming: Naming, kind: str) -> Target:
    """Choose the target that `output` means, and make sure that it can be written.

    Args:
        output: a directory, a file's path, or `-`.
        naming: names of the files in a directory, with a template that `check_template` allows.
        kind: one of the client's formats.

    Raises Stop for what cannot be written, and for a file that must not be replaced.
    """
    if not output:  # such as an unset variable of the shell
        raise Stop("-o: the path is empty; give a directory or a file")
    if output == "-":
        return _pipe()
    path = Path(output)
    ending = path.suffix.lower()
    if ending in ENDINGS and not path.is_dir():
        try_writing(path.parent)
        file = OneFile(path, overwrite=naming.overwrite)
        file.check()
        return file
    if ending in _OTHER_SOUND and not path.is_dir():
        raise Stop(f"cannot write {path}: use a name that ends in {', '.join(ENDINGS)}")
    make_folder(path)
    ending = "" if (naming.template or "").endswith(ENDINGS) else f".{kind}"
    return Folder(path, naming, ending)


def _pipe() -> Target:
    if sys.stdout is None:
        raise Stop("standard output is closed")
    if sys.stdout.isatty():
        raise Stop(
            "sound does not belong on a terminal: pipe it into a player or a file, for example "
            "`| aplay` or `> speech.wav`, or use -o FILE.wav"
        )
    return Pipe()


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
    with WholeFile(path) as file:
        file.write(content.encode())


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
    # A file's name has at most 255 bytes; its ending may be added.
    longest = template.format(index=10**12, line=10**12, hash="0" * 10)
    if len(longest.encode()) > 255 - max(map(len, ENDINGS)) * (not template.endswith(ENDINGS)):
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
