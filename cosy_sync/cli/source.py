"""Where texts come from: arguments, or the lines of a UTF-8 file or of standard input."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cosy_sync import text_hash
from cosy_sync.cli.exits import Stop, because

__all__ = ["Item", "Source", "check_kind", "count_lines", "read_lines", "read_text"]

Line = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Item:
    """A text's place: its number among the texts, the line that it stood in, both from 1 on.

    `hash` stands for the text where it must not be shown; logs and errors have the same.
    """

    index: int
    line: int
    hash: str


class Source:
    """Gives texts one by one, and remembers the places of those that have no outcome yet."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._given: deque[Item] = deque()
        self._count = 0
        self._stopped = False

    @classmethod
    def of_arguments(cls, texts: Sequence[str]) -> Source:
        """Take texts from the command line; their "lines" are their numbers."""
        return cls(enumerate(texts, 1))

    @classmethod
    def of_file(cls, path: str) -> Source:
        """Take the lines of a file, or of standard input for `-`."""
        return cls(read_lines(path))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._stopped:
            raise StopIteration
        line, text = next(self._lines)
        self._count += 1
        self._given.append(Item(self._count, line, text_hash(text)))
        return text

    def next_item(self) -> Item:
        """Return the place of the oldest text without an outcome, which has one now."""
        return self._given.popleft()

    def newest(self) -> Item:
        """Return the place of the text that was given last."""
        return self._given[-1]

    def stop(self) -> None:
        """Give no more texts."""
        self._stopped = True


# Files that are no plain texts: what they are, what would be spoken too, how to get the texts out.
_OTHER_KINDS = (
    (".csv .tsv", "a table", "commas and column names", "tail -n +2 {0} | cut -d, -f1"),
    (".jsonl .ndjson .json", "JSON", "field names", "jq -r .text {0}"),
    (".srt .vtt .lrc .ass", "a file of subtitles", "numbers and times", "grep -v -e '-->' {0}"),
    (".html .htm .xml .ssml .rtf", "marked up", "marks", "pandoc -t plain {0}"),
    (".yaml .yml .toml", "a file of settings", "names", "yq -r .texts[] {0}"),
    (".docx .odt .pdf .epub .xlsx", "a document", "codes", "pandoc -t plain --wrap=none {0}"),
)


def check_kind(path: str, stdin: str) -> None:
    """Raise Stop for a file that by its name is no plain text: it would be read aloud as it is.

    Args:
        stdin: how the command is told to read standard input, such as `-f -`.
    """
    ending = Path(path).suffix.lower()
    for endings, what, more, command in _OTHER_KINDS:
        if ending and ending in endings.split():
            raise Stop(
                f"{path} is {what}, and its {more} would be spoken too; take the texts out first, "
                f"one a line, such as with: {command.format(path)} > texts.txt (to speak every "
                f"line as it is: {stdin} < {path})"
            )


def read_lines(path: str) -> Iterator[Line]:
    """Yield every line that is not blank, with its number. Raises Stop when it cannot be read."""
    try:
        with _open(path) as file:
            number = 0
            for raw in file:
                # A lone \r ends a line as well, as old Macs and some spreadsheets write it.
                for line in _bare(_decode(raw, number + 1, path)).split("\r"):
                    number += 1
                    text = line.strip()
                    if text:
                        yield number, text
    except OSError as error:
        raise Stop(f"cannot read {_shown(path)}: {because(error)}") from error


def read_text(path: str) -> str:
    """Return a whole file, or standard input for `-`. Raises Stop when it cannot be read."""
    try:
        with _open(path) as file:
            return "".join(_decode(raw, number, path) for number, raw in enumerate(file, 1))
    except OSError as error:
        raise Stop(f"cannot read {_shown(path)}: {because(error)}") from error


def count_lines(path: str) -> int | None:
    """Count the texts of a regular file, also as standard input; None for what can be read once.

    Raises Stop for a file that is not UTF-8, before anything of it is sent.
    """
    if path == "-":
        return _count_ahead()
    if not Path(path).is_file():
        return None
    return sum(1 for _ in read_lines(path))


def _count_ahead() -> int | None:
    """Count the texts of standard input where it is a file, and go back to its beginning."""
    try:
        file = sys.stdin.buffer
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        start = file.tell()
    except (OSError, ValueError, AttributeError):  # closed, or none of the system's
        return None
    try:
        return sum(1 for _ in read_lines("-"))
    finally:
        file.seek(start)


def _open(path: str) -> nullcontext[BinaryIO] | BinaryIO:
    if path != "-":
        return open(path, "rb")
    if sys.stdin is None:
        raise Stop("cannot read standard input: it is closed")
    return nullcontext(sys.stdin.buffer)


def _decode(raw: bytes, number: int, path: str) -> str:
    try:
        # A byte order mark, as Windows editors write it, is no part of the first text.
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        wide = number == 1 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        if b"\0" in raw and not wide:
            raise Stop(f"{_shown(path)} is not a text file; give one in UTF-8") from None
        name = "UTF-16" if wide else "GB18030"
        raise Stop(
            f"{_shown(path)}: line {number} is not UTF-8; convert the file first, for example "
            f"with: iconv -f {name} -t UTF-8"
        ) from None


def _bare(line: str) -> str:
    """Return a line without its end, which is \\n or \\r\\n."""
    return line.removesuffix("\n").removesuffix("\r")


def _shown(path: str) -> str:
    return "standard input" if path == "-" else path or "''"
