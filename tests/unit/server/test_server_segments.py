"""How the runtimes' side of the server cuts a text."""

import pytest

from cosy_sync.server.wires.segments import split_segments


def run(length: int, end: str = "。") -> str:
    """Return a sentence of so many characters, its end among them."""
    return "字" * (length - 1) + end


@pytest.mark.parametrize("text", ["你好", "你好。", "  你好。 ", "一，二，三", "a b"])
def test_a_short_text_is_one_segment(text: str) -> None:
    assert split_segments(text) == [text.strip()]


@pytest.mark.parametrize("end", "。？！；：、.?!;:")
def test_every_end_of_a_sentence_may_end_a_segment(end: str) -> None:
    assert split_segments(run(61, end) + run(30)) == [run(61, end), run(30)]


@pytest.mark.parametrize(
    ("lengths", "segments"),
    [
        ((60, 30), [90]),  # too short to end
        ((61, 19), [80]),  # short enough together
        ((61, 20), [61, 20]),
        ((61, 30, 30), [61, 60]),
        ((30, 30, 30), [90]),
        ((61, 61, 19), [61, 80]),
        ((200,), [200]),  # nothing to cut it at
    ],
)
def test_sentences_are_joined_up_to_80(lengths: tuple[int, ...], segments: list[int]) -> None:
    cut = split_segments("".join(map(run, lengths)))
    assert [len(segment) for segment in cut] == segments


@pytest.mark.parametrize(("rest", "segments"), [(19, [119]), (20, [100, 20])])
def test_a_short_rest_joins_the_one_before(rest: int, segments: list[int]) -> None:
    cut = split_segments(run(100) + run(rest))
    assert [len(segment) for segment in cut] == segments


def test_a_rest_without_an_end_is_spoken() -> None:
    assert split_segments(run(61) + "字" * 30) == [run(61), "字" * 30]


@pytest.mark.parametrize("quote", ['"', "”"])
def test_a_closing_quote_stays_with_its_sentence(quote: str) -> None:
    assert split_segments(run(61) + quote + run(30)) == [run(61) + quote, run(30)]


@pytest.mark.parametrize("text", ["。", "！？…", "...", "+=$", "——", ""])
def test_punctuation_alone_is_dropped(text: str) -> None:
    assert split_segments(text) == []


def test_a_text_with_both_marks_stays_whole() -> None:
    text = "<|en|>" + run(100) * 3
    assert split_segments(text) == [text]
    assert split_segments("<|。|>") == ["<|。|>"]
    for mark in ("<|", "|>"):
        assert len(split_segments(mark + run(100) * 3)) == 3
