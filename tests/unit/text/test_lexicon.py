"""Words and what is said for them."""

from pathlib import Path
from typing import Any

import pytest

from cosy_sync import ConfigError
from cosy_sync.text import Lexicon


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        ({"SQL": "sequel"}, "SQL, MySQL and SQL's", "sequel, MySQL and sequel's"),
        ({"重庆": "崇庆"}, "我在重庆。", "我在崇庆。"),
        ({"a": "b", "b": "a"}, "a b", "b a"),
        ({"重": "虫", "重庆": "崇庆"}, "重庆的重", "崇庆的虫"),
        ({"C++": "C plus plus"}, "C++是C", "C plus plus是C"),
        ({"API": "A P I"}, "用API吧", "用A P I吧"),
        (
            {"мир": "покой", "caf": "x", "ß": "s"},
            "мировой мир, café, Straße",
            "мировой покой, café, Straße",
        ),
        ({"cafe": "x"}, "cafe\u0301 cafe", "cafe\u0301 x"),
        ({"서울": "써울", "é": "e"}, "서울에서 é 用é吧", "써울에서 e 用e吧"),
        ({".": "点"}, "a.b", "a点b"),
        ({}, "a", "a"),
    ],
)
def test_the_longest_word_that_fits_is_replaced_once(
    words: dict[str, str], text: str, said: str
) -> None:
    assert Lexicon(words)(text) == said


def test_pinyin_goes_to_the_wire_that_takes_it_and_is_refused_elsewhere() -> None:
    lexicon = Lexicon({"重庆": "chong2 qing4", "SQL": "sequel", "abc": "abc1"})
    assert lexicon.hot_fix() == {
        "pronunciation": [{"重庆": "chong2 qing4"}],
        "replace": [{"SQL": "sequel"}, {"abc": "abc1"}],
    }
    assert lexicon("SQL") == "sequel" and len(lexicon) == 3
    with pytest.raises(ConfigError, match=r"'重庆' has pinyin.*hot_fix"):
        lexicon("我在重庆")


def test_a_file_has_a_word_a_tab_and_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("\ufeff# names\n\n重庆\t崇庆\nSQL \t sequel\n", "utf-8")
    assert Lexicon.from_file(path)("重庆 SQL") == "崇庆 sequel"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a b\n", "line 1: expected"),
        ("a\tb\n\tc\n", "line 2: expected"),
        ("a\tb\na\tc\n", "line 2.*twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "words.tsv"
    path.write_text(lines, "utf-8")
    with pytest.raises(ConfigError, match=message):
        Lexicon.from_file(path)


def test_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_bytes("café\tx".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"words\.tsv is not UTF-8"):
        Lexicon.from_file(path)


@pytest.mark.parametrize(
    "words",
    [{"": "a"}, {" ": "a"}, {"a": " "}, {"a": 3}, {3: "a"}, [("a", "b")], "words.tsv", None],
)
def test_what_are_no_words_is_refused(words: Any) -> None:
    with pytest.raises(ConfigError, match="lexicon"):
        Lexicon(words)
