"""The demo's sentences: 1 000 short Chinese texts in four categories, shipped as data.

The categories alternate line by line, so that any prefix is a balanced sample.
"""

from dataclasses import dataclass
from importlib.resources import files

__all__ = ["Sentence", "load_sentences"]


@dataclass(frozen=True)
class Sentence:
    """One text to be spoken, with the kind of speech that it belongs to."""

    category: str
    text: str


def load_sentences() -> list[Sentence]:
    """Read every sentence of the package, in the order of the file."""
    table = files(__name__).joinpath("sentences.tsv").read_text(encoding="utf-8")
    return [_parse(line) for line in table.splitlines()]


def _parse(line: str) -> Sentence:
    category, text = line.split("\t")
    return Sentence(category, text)
