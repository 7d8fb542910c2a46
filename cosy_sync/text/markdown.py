"""What is said of a Markdown document: its words, without marks, links and code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ConfigError
from ..hints import install_line

__all__ = ["plain_from_markdown"]

# Elements behind which a paragraph ends.
_BLOCKS = frozenset(
    ("paragraph_close", "heading_close", "list_item_close", "tr_close", "blockquote_close")
)
_CELLS = frozenset(("td_close", "th_close"))
# What stands between lines of --- (YAML) or +++ (TOML) at the beginning is about the document. A
# blank line would tell of prose between two rules.
_FRONT_MATTER = re.compile(
    r"---[^\S\n]*\n(?:[^\S\n]*#[^\n]*\n)*[\w\"'][^\n:]*:(?:[^\S\n][^\n]*)?\n"
    r"(?:(?!---|\.\.\.)[^\S\n]*[^\s][^\n]*\n)*(?:---|\.\.\.)[^\S\n]*(?:\n|$)"
    r"|\+\+\+[^\S\n]*\n(?:(?!\+\+\+)[^\n]*\n)*\+\+\+[^\S\n]*(?:\n|$)"
)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_FOOTNOTE = re.compile(r" {0,3}\[\^([^\]\s]+)\]:")
_REFERENCE = re.compile(r"\[\^([^\]\s\[]+)\]")
# Chinese has no spaces: CommonMark sees no end of **this：**here. With a space around it does.
_BOLD = re.compile(r"(?<![\\*])\*\*(?=[^\s*])(?:[^*\n]|\*(?!\*))*?[^\s*\\]\*\*(?!\*)")
_SPACE = "\u205f"
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_ENDS = "。！？!?….:：;；,，、"


def plain_from_markdown(text: str) -> str:
    """Return what is to be said of a Markdown document (CommonMark, with tables).

    Paragraphs, headings, items and rows become paragraphs, which `narrate` keeps apart; links and
    images are said by their words; code blocks, HTML, rules, footnotes and front matter (YAML or
    TOML) are left out. What ends without punctuation gets a full stop, so that it sounds finished.

    Raises ConfigError where markdown-it-py is not installed.
    """
    try:
        parser = importlib.import_module("markdown_it").MarkdownIt("commonmark")
    except ImportError as error:
        raise ConfigError(
            f"plain_from_markdown: it needs markdown-it-py: {install_line('markdown')}"
        ) from error
    document = _drop_notes(_drop_front_matter(text)).replace(_SPACE, " ")
    document = _BOLD.sub(lambda found: f"{_SPACE}{found.group()}{_SPACE}", document)
    tokens = parser.enable(["table", "strikethrough"]).parse(document)
    said = (" ".join(block.replace(_SPACE, "").split()) for block in _blocks(tokens))
    return "\n\n".join(_finish(block) for block in said if any(map(str.isalnum, block)))


def _drop_front_matter(text: str) -> str:
    whole = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    found = _FRONT_MATTER.match(whole)
    return whole if found is None else whole[found.end() :]


def _drop_notes(text: str) -> str:
    """Return a text without its footnotes, and without what refers to them."""
    kept: list[str] = []
    names: set[str] = set()
    fence, inside, blank = "", False, False
    for line in text.split("\n"):
        fenced = _FENCE.match(line)
        note = None if fence else _FOOTNOTE.match(line)
        if note is not None:
            names.add(note.group(1))
            inside = True
        elif inside and line.strip() and blank and not line.startswith((" " * 4, "\t")):
            inside = False
        blank = not line.strip()
        if inside:
            continue
        if fenced is not None:
            mark = fenced.group(1)
            closes = mark[0] == fence[:1] and len(mark) >= len(fence)
            fence = ("" if closes else fence) if fence else mark
        kept.append(line)
    if not names:
        return text
    said = "\n".join(kept)
    return _REFERENCE.sub(lambda found: "" if found.group(1) in names else found.group(), said)


def _blocks(tokens: Iterable[Any]) -> Iterator[str]:
    said = ""
    for token in tokens:
        if token.type == "inline":
            said += "".join(_words(token.children or ()))
        elif token.type in _CELLS:
            said += ", "
        elif token.type in _BLOCKS:
            yield said
            said = ""
    yield said


def _words(tokens: Iterable[Any]) -> Iterator[str]:
    for token in tokens:
        if token.type in ("text", "code_inline"):
            yield token.content
        elif token.type in ("softbreak", "hardbreak") or _is_break(token):
            yield "\n"
        elif token.type == "image":
            yield from _words(token.children or ())


def _is_break(token: Any) -> bool:
    return token.type == "html_inline" and _BREAK.fullmatch(token.content) is not None


def _finish(block: str) -> str:
    block = block.rstrip(", ")
    if block[-1] in _ENDS or not block[-1].isalnum():
        return block
    return block + ("." if block[-1].isascii() else "。")
