"""Subtitles: what is written and read, and how long lines are cut."""

import pytest

from cosy_sync import InvalidTextError, Word
from cosy_sync.text import Cue, format_srt, format_vtt, read_subtitles, wrap_cue

CUES = [Cue(0.0, 1.2345, "你好，世界。"), Cue(3661.5, 3662.0, "a < b & c")]


def test_srt_has_numbers_and_commas() -> None:
    assert format_srt(CUES) == (
        "1\n00:00:00,000 --> 00:00:01,234\n你好，世界。\n\n"
        "2\n01:01:01,500 --> 01:01:02,000\na < b & c\n\n"
    )


def test_vtt_has_a_head_points_and_escapes() -> None:
    assert format_vtt(CUES) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.234\n你好，世界。\n\n"
        "01:01:01.500 --> 01:01:02.000\na &lt; b &amp; c\n\n"
    )


@pytest.mark.parametrize("write", [format_srt, format_vtt])
def test_what_was_written_is_read_back(write: object) -> None:
    assert callable(write)
    read = read_subtitles(write(CUES))
    assert [cue.text for cue in read] == [cue.text for cue in CUES]
    assert [cue.start for cue in read] == pytest.approx([cue.start for cue in CUES], abs=1e-3)


def test_a_text_cannot_end_its_cue_or_begin_another() -> None:
    evil = "one\n\n2\n00:00:05,000 --> 00:00:06,000\ntwo"
    assert len(read_subtitles(format_srt([Cue(0, 1, evil)]))) == 1


def test_files_as_they_are_met_are_read() -> None:
    text = (
        "\ufeff1\r\n00:00:01,000 --> 00:00:02,5 X1:10\r\n<i>Hello</i>\r\n{\\an8}world\r\n\r\n\r\n"
        "00:03.250 --> 00:04.000 align:start\r\n<v Bob>no number\r\n\r\n3\r\n00:00:05,000 --> "
        "00:00:06,000\r\n\r\n"
    )
    assert read_subtitles(text) == [Cue(1.0, 2.5, "Hello world"), Cue(3.25, 4.0, "no number")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Hello <00:00:01.500><c> my</c> friend", "Hello my friend"),
        ("a&nbsp;b &quot;c&quot; &#39;d&#39; &rlm;e", "a b \"c\" 'd' \u200fe"),
        ("one<br>two<br/>three", "one two three"),
        ("<span class='x'>one</span> <p>two</p>", "one two"),
        ("Hel<b>lo</b>", "Hello"),
        ("a < b > c", "a < b > c"),
    ],
)
def test_markup_and_entities_are_not_spoken(line: str, said: str) -> None:
    assert read_subtitles(f"00:01.000 --> 00:02.000\n{line}\n") == [Cue(1.0, 2.0, said)]


@pytest.mark.parametrize(
    "text",
    [
        "WEBVTT\n00:01.000 --> 00:02.000\nsaid\n",
        "WEBVTT\nKind: captions\nLanguage: en\n\n00:01.000 --> 00:02.000\nsaid\n",
        "WEBVTT\n\nNOTES-1\n00:01.000 --> 00:02.000\nsaid\n",
        "WEBVTT\n\nSTYLE\n::cue {}\n\n00:01.000 --> 00:02.000\nsaid\n",
    ],
)
def test_heads_of_every_kind_end_where_cues_begin(text: str) -> None:
    assert read_subtitles(text) == [Cue(1.0, 2.0, "said")]


def test_headers_notes_and_styles_of_webvtt_are_not_spoken() -> None:
    silent = "WEBVTT - a title\n\nNOTE\nnot said\n\nSTYLE\n::cue {}\n\n"
    text = f"{silent}intro\n00:01.000 --> 00:02.000\nsaid\n"
    assert read_subtitles(text) == [Cue(1.0, 2.0, "said")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1\n00:01.000 --> 00:02.000\na\n2\n00:03.000 --> 00:04.000\nb",
            "line 5: times in the mid",
        ),
        ("just a text", "line 1: expected times"),
        ("1\n00:00:01,000 --> 00:00:02,000\nok\n\n2\nno times\nhere", "line 5: expected times"),
        ("1\n00:00:02,000 --> 00:00:01,000\nbackwards", "line 2: the cue ends before it begins"),
    ],
)
def test_what_is_no_subtitle_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidTextError, match=message):
        read_subtitles(text)


def test_a_long_cue_is_cut_with_shares_of_its_time() -> None:
    cues = wrap_cue(Cue(10.0, 20.0, "春天来了，花儿开了。鸟儿叫了，孩子们出去了。"), (), 12)
    assert [cue.text for cue in cues] == ["春天来了，花儿开了。", "鸟儿叫了，孩子们出去了。"]
    assert (cues[0].start, cues[-1].end) == (10.0, 20.0)
    assert cues[0].end == cues[1].start == pytest.approx(10 + 10 * 10 / 22)


def test_a_long_cue_takes_the_times_of_its_words_where_there_are_any() -> None:
    text = "春天来了，花儿开了。鸟儿叫了，孩子们出去了。"
    words = [Word(char, 10 + n, 10.5 + n) for n, char in enumerate(text) if char.isalnum()]
    cues = wrap_cue(Cue(10.0, 40.0, text), words, 12)
    assert (cues[0].end, cues[1].start) == (18.5, 20.0)


def test_words_that_are_not_those_of_the_text_are_not_believed() -> None:
    text = "买了25个苹果和梨，然后回家了。他们很高兴，吃得很开心。"
    words = [Word("二十五", 10.0, 10.5)]
    assert wrap_cue(Cue(10.0, 20.0, text), words, 15) == wrap_cue(Cue(10.0, 20.0, text), (), 15)
