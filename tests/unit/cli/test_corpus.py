"""The corpus: a thousand distinct, readable sentences of about twenty characters."""

import unicodedata
from collections import Counter
from itertools import combinations
from statistics import mean

import pytest

from cosy_sync.cli.corpus import Sentence, load_sentences

CATEGORIES = ("navigation", "announcement", "advert", "service")


@pytest.fixture(scope="module")
def sentences() -> list[Sentence]:
    return load_sentences()


def bare(text: str) -> str:
    """Keep letters and digits alone: what is left when a voice ignores punctuation."""
    return "".join(char for char in text if char.isalnum())


def test_every_category_has_its_quarter_of_a_thousand(sentences: list[Sentence]) -> None:
    assert Counter(s.category for s in sentences) == dict.fromkeys(CATEGORIES, 250)


def test_any_prefix_is_balanced(sentences: list[Sentence]) -> None:
    assert tuple(s.category for s in sentences[:4]) == CATEGORIES


def test_lengths_are_about_twenty_characters(sentences: list[Sentence]) -> None:
    lengths = [len(s.text) for s in sentences]
    assert min(lengths) >= 16 and max(lengths) <= 26
    assert 19 <= mean(lengths) <= 21


def test_texts_stay_distinct_without_punctuation(sentences: list[Sentence]) -> None:
    assert len({bare(s.text) for s in sentences}) == len(sentences)


def test_no_frame_with_only_the_numbers_exchanged(sentences: list[Sentence]) -> None:
    numerals = set("0123456789零一二三四五六七八九十百千两半点")
    frames = {"".join(c for c in bare(s.text) if c not in numerals) for s in sentences}
    assert len(frames) == len(sentences)


def test_no_two_texts_are_nearly_the_same(sentences: list[Sentence]) -> None:
    pairs = [bare(s.text) for s in sentences]
    grams = [{text[i : i + 2] for i in range(len(text) - 1)} for text in pairs]
    close = [(a, b) for a, b in combinations(grams, 2) if 2 * len(a & b) > len(a | b)]
    assert close == []


def test_characters_are_what_a_speech_front_end_expects(sentences: list[Sentence]) -> None:
    text = "".join(s.text for s in sentences)
    assert {unicodedata.category(char)[0] for char in text} <= set("LNPZ")
    assert set(char for char in text if not char.isalnum()) <= set("，。？！：、%- ")
    assert all(s.text == s.text.strip() for s in sentences)


def test_most_characters_are_chinese_and_some_are_not(sentences: list[Sentence]) -> None:
    text = "".join(s.text for s in sentences)
    assert sum("\u4e00" <= char <= "\u9fff" for char in text) > 0.85 * len(text)
    assert sum(any(c.isascii() and c.isalnum() for c in s.text) for s in sentences) >= 50
