"""Texts that nobody would write: nothing spoken is lost, limits hold, and time grows as they do."""

import contextlib
import re
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from cosy_sync import InvalidTextError, NarrationConfig
from cosy_sync.text import Plan, plan_narration, read_subtitles, split_text

WHOLE = (
    *("3.14", "1,000,000", "12:30", "2024-05-01", "三千五百", "-5℃"),
    *(
        "https://a.bc/d?e=F!g",
        "www.example.com",
        "a.b@c.de",
        "“好的”",
        "「猫」",
        "<strong>要</strong>",
    ),
    *("👨‍👩‍👧", "🇨🇳", "👍🏽", "1️⃣", "e\u0301\u0302", "<|zh|>", "[laughter]"),
)
MARKS = (
    *"()[]{}（）【】“”‘’「」『』《》\"'<>。！？!?.,，、；：:…—-%$#@/_+~～&|·",
    *("<strong>", "</strong>", "<b>", "</b>", "[pause:1s]", "[pause:20ms]", "[pause:", "...", "——"),
)
WORDS = (
    *("a", "A", "Mr.", "U.S.", "don't", "well-known", "0", "7", "好", "今天天气", "的", "𠮷", "ー"),
    *(
        "हिन्दी",
        "ไทย",
        "שלום",
        "مرحبا",
        "한국어",
        "カタカナ",
        "ひらがな",
        "ß",
        "İ",
        "ﬁ",
        "🏽",
        "🇨",
        "https://",
    ),
)
SPACE = (
    "\r\n",
    "\n",
    "\r",
    "\n\n",
    " ",
    "\t",
    "\u3000",
    "\u200b",
    "\u200f",
    "\u202e",
    "\u2028",
    "\x00",
)
TEXTS = st.lists(st.sampled_from((*WHOLE, *MARKS, *WORDS, *SPACE)), max_size=60).map("".join)
PAUSE = re.compile(r"\[pause:(?:1s|20ms)\]")
TAG = re.compile(r"</?[a-z]{1,20}>")


def spoken(text: str) -> list[str]:
    return [char for char in TAG.sub("", text) if char.isalnum()]


def plan(text: str, target: float, max_chars: int) -> Plan:
    return plan_narration(text, NarrationConfig(segment_length=target), max_chars).finish()


@given(TEXTS, st.floats(10, 100), st.integers(30, 200))
@settings(max_examples=400)
def test_every_spoken_character_is_kept_in_order_and_no_piece_is_too_long(
    text: str, target: float, max_chars: int
) -> None:
    try:
        pieces = plan(text, target, max_chars).texts
    except InvalidTextError:
        pieces = []
    assert spoken("".join(pieces)) == spoken(PAUSE.sub("", text))
    assert all(len(piece) <= max_chars for piece in pieces)


@given(
    st.lists(st.sampled_from((*WORDS, "，", "。", " ")), max_size=8).map("".join),
    st.sampled_from(WHOLE),
    st.lists(st.sampled_from((*WORDS, "，", "。", " ")), max_size=8).map("".join),
    st.floats(1, 30),
)
@settings(max_examples=400)
def test_a_number_an_address_or_an_emoji_is_in_one_piece(
    before: str, whole: str, behind: str, target: float
) -> None:
    text = f"好{before} {whole} {behind}好"
    assert any(whole in piece for piece, _ in split_text(text, target=target, max_chars=60))


UNITS = [
    *(
        "(",
        "[",
        "“‘",
        '"',
        "<",
        "<a>",
        "<strong>",
        "[pause:",
        "[pause:1s]",
        "「",
        ")",
        "”）",
        '("a',
    ),
    *(
        "a.b+",
        "_",
        "ab1.",
        "a-",
        "1 000",
        "1,",
        "http://",
        "www.",
        "a@",
        "a@b.",
        "a ",
        "a' ",
        "好",
        "三点",
    ),
    *(
        "👩\u200d",
        "🇩",
        "a\u0301",
        "\u0301",
        "。",
        "...",
        "—",
        "\n",
        " \n",
        "\r",
        "a.\n",
        "&",
        "$",
        "{\\",
    ),
]


def test_time_grows_as_the_text_does() -> None:
    """A guard against hangs: what grows with the square takes some seconds here, not a tenth."""
    for unit in UNITS:
        text = "好" + unit * (12_000 // len(unit)) + "好"
        started = time.process_time()
        plan(text, 80, 20_000)
        with contextlib.suppress(InvalidTextError):  # some of them are no subtitles
            read_subtitles(f"00:01.000 --> 00:02.000\n{text}")
        assert time.process_time() - started < 2, unit
