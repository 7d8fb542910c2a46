"""How much of a text is spoken."""

from __future__ import annotations

import pytest

from cosy_sync.audio.speakable import fewest_spoken, most_spoken, sounds_like, spoken_chars


@pytest.mark.parametrize(
    ("text", "count"), [("你好，世界！", 4), ("room 12", 8), ("……！？", 0), ("", 0), ("😀", 0)]
)
def test_letters_count_once_digits_twice_punctuation_never(text: str, count: int) -> None:
    assert spoken_chars(text) == count


@pytest.mark.parametrize("text", ["你好", "777", "100%", "😀😀", "<b>hm</b>", "AT&T 5G"])
def test_the_fewest_never_exceed_the_most(text: str) -> None:
    assert fewest_spoken(text) <= spoken_chars(text) + 2 <= most_spoken(text) + 2


def test_tags_long_numbers_and_stretched_letters_may_be_short() -> None:
    assert fewest_spoken("<strong>[laughter]") == 0
    assert fewest_spoken("100000000000") == 2
    assert fewest_spoken("哈" * 50) == 2


def test_symbols_and_digits_may_be_long() -> None:
    assert most_spoken("😀 9") == 8


def test_case_width_spaces_and_punctuation_do_not_sound() -> None:
    assert sounds_like("Hello, ＷＯＲＬＤ!") == sounds_like("hello world")
    assert sounds_like("你好") != sounds_like("您好")
