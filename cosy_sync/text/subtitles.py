"""Subtitles: SRT and WebVTT, written and read."""

from __future__ import annotations

import html
import itertools
import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import InvalidTextError
from ..models import Word
from .splitting import measure, split_text

__all__ = ["Cue", "find_words", "format_srt", "format_vtt", "read_subtitles", "wrap_cue"]

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[,.](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_MARKUP = re.compile(
    r"</?(?:[bius]|c|v|span|lang|ruby|rt|font)(?:[\s./][^<>]*)?>|<[\d:.]+>|\{\\[^{}]*\}",
    re.IGNORECASE,
)
_BREAKS = re.compile(r"</?(?:br|p|div)(?:[\s/][^<>]*)?>", re.IGNORECASE)
# Blocks of WebVTT that hold nothing to say.
_SILENT = re.compile(r"\s*(?:NOTE|STYLE|REGION)(?:\s|$)")
_HEAD = re.compile(r"WEBVTT(?:[^\S\n][^\n]*)?(?:\n|$)")


class Cue(NamedTuple):
    """A line of subtitles: shown from `start` to `end`, in seconds."""

    start: float
    end: float
    text: str


def format_srt(cues: Iterable[Cue]) -> str:
    """Write cues as SubRip (SRT) does, times in milliseconds."""
    return "".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_one_block(cue.text)}\n\n"
        for number, cue in enumerate(cues, 1)
    )


def format_vtt(cues: Iterable[Cue]) -> str:
    """Write cues as WebVTT (W3C), times in milliseconds."""
    return "WEBVTT\n\n" + "".join(
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escape(_one_block(cue.text))}\n\n"
        for cue in cues
    )


def wrap_cue(cue: Cue, words: Sequence[Word], max_chars: int) -> list[Cue]:
    """Cut a cue whose text is longer than a line of `max_chars`, where a long sentence would be.

    A line's times are those of its words, if these have any; else its share of the cue's time by
    length, good to some tenths of a second.
    """
    lines = [line for line, _ in split_text(cue.text, target=max_chars)]
    if len(lines) < 2:
        return [cue]
    shares = [0.0, *itertools.accumulate(map(measure, lines))]
    seconds = (cue.end - cue.start) / shares[-1]
    heard = find_words(lines, words)
    if heard is not None:
        return [
            Cue(said[0].start, said[-1].end, line) for line, said in zip(lines, heard, strict=True)
        ]
    return [
        Cue(cue.start + before * seconds, cue.start + after * seconds, line)
        for line, before, after in zip(lines, shares, shares[1:], strict=False)
    ]


def find_words(lines: Sequence[str], words: Sequence[Word]) -> list[tuple[Word, ...]] | None:
    """Return which words are heard in each line; None where that is not known.

    Words are told in order, but not always as they are written: a number may be spelled out. So
    they are counted out to lines by their letters, and only if all of them fit.
    """
    left = deque(words)
    heard: list[tuple[Word, ...]] = []
    for line in lines:
        said = []
        letters = _letters(line)
        at = 0
        while left and at < len(letters) and letters.startswith(word := _letters(left[0].text), at):
            said.append(left.popleft())
            at += len(word)
        if at < len(letters) or not said:
            return None
        while left and not _letters(left[0].text):  # its full stop
            said.append(left.popleft())
        heard.append(tuple(said))
    return heard


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def read_subtitles(text: str) -> list[Cue]:
    """Read SRT or WebVTT: cues in the order of the file, lines of one cue joined, markup gone.

    Raises InvalidTextError for a block that has no times, or that ends before it begins; it names
    the line.
    """
    cues: list[Cue] = []
    whole = _unify(text)
    head = _HEAD.match(whole)
    number = 1
    if head is not None:
        whole, number = whole[head.end() :], 1 + head.group().count("\n")
        # What follows it without a blank line is part of the head, unless it is a cue.
        first, blank, rest = whole.partition("\n\n")
        if first.strip() and "-->" not in first and not _SILENT.match(first):
            whole, number = rest, number + (first + blank).count("\n")
    number += len(whole) - len(whole.lstrip("\n"))
    for block in re.split(r"(\n[^\S\n]*(?:\n[^\S\n]*)+)", whole.lstrip("\n")):
        if block.strip() and not (_SILENT.match(block) and "-->" not in block):
            cue = _read_block(block, number)
            if cue.text:
                cues.append(cue)
        number += block.count("\n")
    return cues


def _unify(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _read_block(block: str, number: int) -> Cue:
    lines = block.split("\n")
    # A number or a name may stand before the times.
    found = [(place, _TIMES.fullmatch(line)) for place, line in enumerate(lines[:2])]
    place, times = next((each for each in found if each[1] is not None), (0, None))
    if times is None:
        raise InvalidTextError(
            f"subtitles: line {number}: expected times such as 00:00:01,000 --> 00:00:02,500 in "
            "the first or second line of a block"
        )
    start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
    if end < start:
        raise InvalidTextError(f"subtitles: line {number + place}: the cue ends before it begins")
    for later, line in enumerate(lines[place + 1 :], place + 1):
        if _TIMES.fullmatch(line):
            raise InvalidTextError(
                f"subtitles: line {number + later}: times in the middle of a cue; is there a blank "
                "line missing before it?"
            )
    said = " ".join(line.strip() for line in lines[place + 1 :] if line.strip())
    return Cue(start, end, " ".join(html.unescape(_MARKUP.sub("", _BREAKS.sub(" ", said))).split()))


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    whole = 3600 * int(hours) + 60 * int(minutes) + int(seconds)
    return whole + int(fraction.ljust(3, "0")) / 1000


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(max(0.0, seconds) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _one_block(text: str) -> str:
    """Return a text without blank lines, which would end its block, or an arrow of times."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line).replace("-->", "→")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
