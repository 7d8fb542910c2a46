"""What a long text is cut into: paragraphs, marked pauses, and the silence between pieces."""

import pytest

from cosy_sync import InvalidTextError, NarrationConfig
from cosy_sync.config.narration import Splitter
from cosy_sync.text import Plan, plan_narration

FIRST, SECOND, THIRD = (
    "今天的天气真是好得不得了。",
    "我们一起出去走一走吧朋友！",
    "你觉得去哪里比较合适呢？",
)
CONFIG = NarrationConfig(sentence_pause=0.2, paragraph_pause=0.7, clause_pause=0.1)


def plan(text: str, config: NarrationConfig = CONFIG, max_chars: int = 100) -> Plan:
    return plan_narration(text, config, max_chars).finish()


def test_pauses_follow_sentences_and_paragraphs_and_nothing_follows_the_last() -> None:
    made = plan(f"{FIRST}{SECOND}\n\n{THIRD}\n\n")
    assert made.texts == [FIRST, SECOND, THIRD]
    assert made.pauses == [0.2, 0.7, 0.0]


def test_a_sentence_that_was_cut_has_the_pause_of_a_clause_within() -> None:
    made = plan(
        "春天来了，花儿开了，鸟儿叫了，孩子们都跑出去了。",
        NarrationConfig(segment_length=14, clause_pause=0.1),
    )
    assert len(made.texts) == 2 and made.pauses == [0.1, 0.0]


@pytest.mark.parametrize(
    ("text", "lead", "pauses"),
    [
        (f"{FIRST}[pause:1.5s]{SECOND}", 0, [1.5, 0]),
        (f"{FIRST} [PAUSE: 300ms] {SECOND}", 0, [0.3, 0]),
        (f"{FIRST}[pause:1s][pause:1s]{SECOND}", 0, [2, 0]),
        (f"[pause:2s]{FIRST}", 2, [0]),
        (f"{FIRST}[pause:2s]", 0, [2]),
        (f"{FIRST}[pause:0.1s]\n\n{SECOND}", 0, [0.7, 0]),
        (f"{FIRST}\n\n[pause:3s]\n\n{SECOND}", 0, [3, 0]),
        (f"{FIRST}\r\n\r\n{SECOND}", 0, [0.7, 0]),
        (f"\n\n{FIRST}\n \n \n{SECOND}", 0, [0.7, 0]),
        (f"{FIRST}[pause:0s]{SECOND}", 0, [0, 0]),
    ],
)
def test_marked_pauses_and_blank_lines_are_silence(
    text: str, lead: float, pauses: list[float]
) -> None:
    made = plan(text)
    assert (made.lead, made.pauses) == (lead, pytest.approx(pauses))


@pytest.mark.parametrize(
    "text", ["[laughter]你好", "[pause]你好", "[pause:soon]你好", "[1]你好", "[]你好"]
)
def test_other_brackets_are_words_as_any(text: str) -> None:
    assert plan(text).texts == [text]


def test_what_has_no_letter_is_not_spoken() -> None:
    assert plan(f"{FIRST}\n\n* * *\n\n……\n\n{SECOND}").texts == [FIRST, SECOND]


@pytest.mark.parametrize("text", ["", " \n", "……", "[pause:1s]"])
def test_a_text_with_nothing_to_say_is_refused(text: str) -> None:
    with pytest.raises(InvalidTextError, match="nothing to say"):
        plan(text)


def test_a_pause_of_more_than_a_minute_is_refused() -> None:
    with pytest.raises(InvalidTextError, match=r"\[pause:61s\].*at most 60 s"):
        plan(f"{FIRST}[pause:61s]")


def test_a_splitter_of_the_users_own_replaces_ours_paragraph_by_paragraph() -> None:
    given = []

    def split(text: str) -> list[str]:
        given.append(text)
        return text.split("|")

    made = plan(
        "一|二\n\n三", NarrationConfig(split=split, sentence_pause=0.2, paragraph_pause=0.7)
    )
    assert given == ["一|二", "三"]
    assert (made.texts, made.pauses) == (["一", "二", "三"], [0.2, 0.7, 0.0])


def fail(_: str) -> list[str]:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (fail, "fail raised ZeroDivisionError"),
        (lambda text: None, "raised TypeError, or returned no pieces"),
        (lambda text: text, "returned a text"),
    ],
)
def test_a_splitter_that_returns_no_pieces_is_told(split: Splitter, message: str) -> None:
    with pytest.raises(InvalidTextError, match=message):
        plan(FIRST, NarrationConfig(split=split))


@pytest.mark.parametrize(
    ("piece", "message"),
    [("好" * 101, "101 characters.*at most 100"), (3, "pieces of text, got int")],
)
def test_a_bad_piece_of_the_users_splitter_is_refused_before_anything_is_sent(
    piece: object, message: str
) -> None:
    with pytest.raises(InvalidTextError, match=message):
        plan(FIRST, NarrationConfig(split=lambda text: [piece]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("今天[pause:1s]，天气好。", ["今天，", "天气好。"]),
        ("他说：“走[pause:1s]。”[pause:1s]！好", ["他说：“走。”！", "好"]),
        ("one[pause:1s] ... two [pause:1s], three", ["one...", "two,", "three"]),
        ("[pause:1s]，好", ["好"]),
        ("好[pause:1s]“走”", ["好", "“走”"]),
    ],
)
def test_no_piece_begins_with_the_punctuation_behind_a_mark(text: str, texts: list[str]) -> None:
    assert plan(text).texts == texts


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        (
            "<strong>今天[pause:1s]天气</strong>很好",
            ["<strong>今天</strong>", "<strong>天气</strong>很好"],
        ),
        (
            "<laughter><strong>a[pause:1s]b[pause:1s]c</strong></laughter>",
            [f"<laughter><strong>{letter}</strong></laughter>" for letter in "abc"],
        ),
        ("if a <b> c[pause:1s]then d", ["if a <b> c", "then d"]),
        ("<strong>a[pause:1s]</strong>", ["<strong>a</strong>"]),
    ],
)
def test_tags_around_a_marked_pause_are_closed_before_it_and_opened_behind_it(
    text: str, texts: list[str]
) -> None:
    assert plan(text).texts == texts


def test_tags_around_more_words_than_a_piece_has_are_in_each_piece() -> None:
    text = f"<strong>{FIRST}{SECOND}{FIRST}{SECOND}{FIRST}</strong>{THIRD}"
    made = plan(text)
    middle = [f"<strong>{sentence}</strong>" for sentence in (FIRST, SECOND, FIRST, SECOND, FIRST)]
    assert made.texts == [*middle, THIRD]
    assert plan(text, max_chars=25).texts[0] == f"<strong>{FIRST}"  # the limit counts for more


def test_a_text_is_cut_while_its_pieces_are_taken() -> None:
    made = plan_narration("\n\n".join([FIRST] * 100), CONFIG, 100)
    assert len(made.texts) == 1
    utterances = iter(made.utterances())
    assert next(utterances).index == 0 and 1 < len(made.texts) < 70
    cut = len(made.texts)
    assert made.after(cut - 1) == 0.7 and len(made.texts) == cut + 1
    assert [each.index for each in utterances] == list(range(1, 100))
    assert made.pauses == [0.7] * 99 + [0.0] and made.count() == 100


def test_few_pieces_are_a_list_as_they_may_share_a_request_with_other_calls() -> None:
    made = plan_narration(f"{FIRST}\n\n{SECOND}", CONFIG, 100).utterances()
    assert isinstance(made, list) and [each.text for each in made] == [FIRST, SECOND]
