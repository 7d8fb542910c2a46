"""What is said of a Markdown document: its words, without marks, links and code."""

from __future__ import annotations

import importlib
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
_ENDS = "。！？!?….:：;；,，、"


def plain_from_markdown(text: str) -> str:
    """Return what is to be said of a Markdown document (CommonMark, with tables).

    Paragraphs, headings, items and rows become paragraphs, which `narrate` keeps apart; links and
    images are said by their words; code blocks, HTML and rules are left out. What ends without
    punctuation gets a full stop, so that it sounds finished.

    Raises ConfigError where markdown-it-py is not installed.
    """
    try:
        parser = importlib.import_module("markdown_it").MarkdownIt("commonmark")
    except ImportError as error:
        raise ConfigError(
            f"plain_from_markdown: it needs markdown-it-py: {install_line('markdown')}"
        ) from error
    tokens = parser.enable(["table", "strikethrough"]).parse(text)
    said = (" ".join(block.split()) for block in _blocks(tokens))
    return "\n\n".join(_finish(block) for block in said if any(map(str.isalnum, block)))


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
        elif token.type in ("softbreak", "hardbreak"):
            yield "\n"
        elif token.type == "image":
            yield from _words(token.children or ())


def _finish(block: str) -> str:
    block = block.rstrip(", ")
    if block[-1] in _ENDS or not block[-1].isalnum():
        return block
    return block + ("." if block[-1].isascii() else "。")
