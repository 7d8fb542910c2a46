"""Long texts: whatever they are, nothing is lost, limits hold, and times add up."""

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosy_sync import CosyClient, NarrationConfig
from cosy_sync.testing import FakeService
from cosy_sync.text import Cue, format_srt, format_vtt, read_subtitles, split_text
from cosy_sync.text.atoms import find_atoms

WORDS = st.sampled_from(
    [
        *(
            "今天",
            "我们的",
            "了",
            "。",
            "，",
            "！”",
            "“",
            "（",
            "）",
            "……",
            "？",
            "《书》",
            "：",
            "、",
        ),
        *(
            "hello",
            "Mr.",
            "U.S.",
            "e.g.",
            "don't",
            ".",
            ",",
            '"',
            " ",
            "\n",
            "\n\n",
            "-",
            "—",
            "...",
        ),
        *("3.14", "1,000", "12:30", "三千五百", "https://a.bc/d?e=f", "a@b.cd", "%", "$5"),
        *(
            "👨‍👩‍👧",
            "🇨🇳",
            "👍🏽",
            "e\u0301",
            "हिन्दी",
            "ไทย",
            "カタカナ",
            "ひらがな",
            "한국어",
            "\u200d",
            "\ufe0f",
        ),
    ]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=60).map("".join), st.text(max_size=120))


def bare(text: str) -> str:
    return "".join(text.split())


@given(TEXTS)
@settings(max_examples=400)
def test_atoms_are_the_text(text: str) -> None:
    assert "".join(find_atoms(text)) == text


@given(TEXTS, st.floats(1, 120), st.integers(1, 60))
@settings(max_examples=400)
def test_pieces_are_the_text_in_order_and_no_longer_than_they_may_be(
    text: str, target: float, max_chars: int
) -> None:
    pieces = [piece for piece, _ in split_text(text, target=target, max_chars=max_chars)]
    assert bare("".join(pieces)) == bare(text)
    assert all(0 < len(piece) <= max_chars and piece == piece.strip() for piece in pieces)


@given(TEXTS.filter(lambda text: any(map(str.isalnum, text)) and text.isprintable()))
@settings(max_examples=40)
def test_times_rise_and_sum_to_the_file(text: str) -> None:
    with CosyClient(
        "http://tts.test/batch",
        http_client=httpx.Client(transport=FakeService()),
        narration=NarrationConfig(segment_length=10, clause_pause=0.1),
    ) as client:
        narration = client.narrate(text, on_error="return")
    at = 0.0
    for segment in narration.segments:
        assert at <= segment.start + 1e-9 and segment.start <= segment.end
        at = segment.end
    assert narration.duration == pytest.approx(at)
    said = bare("".join(segment.text for segment in narration.segments))
    assert [c for c in said if c.isalnum()] == [c for c in text if c.isalnum()]


CUES = st.lists(
    st.tuples(
        st.integers(0, 10**7).map(lambda n: n / 1000),
        st.integers(1, 10**5).map(lambda n: n / 1000),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    ),
    max_size=8,
)


@given(CUES)
@settings(max_examples=200)
@pytest.mark.parametrize("write", [format_srt, format_vtt])
def test_subtitles_are_read_back_whatever_they_say(write: object, rows: object) -> None:
    assert callable(write) and isinstance(rows, list)
    cues = [Cue(start, start + length, text) for start, length, text in rows]
    read = read_subtitles(write(cues))
    assert len(read) <= len(cues)
    starts = [cue.start for cue in cues]
    assert all(min(abs(cue.start - start) for start in starts) < 2e-3 for cue in read)
