"""Long texts in pieces: where sentences end, what stays whole, how a long sentence is cut."""

import pytest

from cosy_sync.text import Cut, split_text
from cosy_sync.text.atoms import find_atoms, is_ideograph
from cosy_sync.text.cuts import judge_cuts
from cosy_sync.text.splitting import measure


def pieces(text: str, target: float = 80, max_chars: int = 2000) -> list[str]:
    return [piece for piece, _ in split_text(text, target=target, max_chars=max_chars)]


# Each row: a text, and its sentences. They are long enough to stand alone.
SENTENCES = [
    # Chinese
    ["今天的天气真是好得不得了。", "我们一起出去走一走吧！", "你觉得去哪里比较合适呢？"],
    ["他说：“今天我们不去学校了。”", "然后他就慢慢地走开了……", "再也没有人见过他的影子。"],
    ["她大声喊道：“你们快一点跑啊！！”", "没有一个人回过头来看她。"],
    ["这件衣服的价格是3.14元左右。", "昨天它还要1,000,000元呢！"],
    ["会议在12:30的时候准时开始。", "请带好2024-05-01的那份文件。"],
    ["请访问https://example.com/a.b?c=1。", "那里有更多有用的详细信息。"],
    ["“我不知道，”她轻轻地说，“真的不知道。”", "他点了点头没有再说什么话。"],
    ["第一，要认真听老师讲课；第二，要按时完成作业。", "这样才能学好功课啊同学们。"],
    ["（这是括号里的一句完整的话。）", "这是括号外的一句完整的话。"],
    ["「こんにちは、今日はいい天気ですね。」", "と彼は静かに言ったのである。"],
    ["吾輩は猫である、名前はまだ無いのだ。", "どこで生れたかとんと見当がつかぬ。"],
    ["真系唔使咁客气嘅，大家都系街坊嚟嘅啫！", "得闲就嚟我屋企饮茶倾偈啦。"],
    # English
    ["The quick brown fox jumps over the dog.", "It was not amused by any of this at all!"],
    [
        "Mr. and Mrs. Smith went to Washington, D.C. on Jan. 5 with Dr. J. K. Rowling.",
        "They came back.",
    ],
    [
        "It costs $3.50, or 1,000.75 in total for all of us.",
        "Is that too much for you, my dear friend?",
    ],
    [
        "Version 2.0.1 of example.com was released at 10:30 a.m. yesterday.",
        "Nobody noticed it at all.",
    ],
    ['"Stop right there, you fool!" he said to the old man.', "The old man did not stop, however."],
    [
        "We saw cats, dogs, birds, etc. and many other animals there.",
        "It was great fun for everyone.",
    ],
    [
        "Wait for it... and then it all happened at the same time.",
        "Everybody was very happy about it.",
    ],
    [
        "See Fig. 3 and No. 7 in vol. 2 of the collected works, please.",
        "There is a copy in the library.",
    ],
    [
        "He was born in the U.S. Army hospital of the small town.",
        "She was born in the other hospital.",
    ],
    [
        'She asked, "Why would anyone want to do this?"',
        "Nobody in the room had any answer to that.",
    ],
    [
        "Das ist z.B. ein ganz normaler deutscher Satz, oder nicht?",
        "Ja, das ist er ganz gewiss, mein Freund.",
    ],
    [
        "„Kommst du heute denn gar nicht mehr?“, fragte die Nr. 5 leise.",
        "„Nein, heute nicht.“",
        "Sie ging.",
    ],
    ["»Kommst du heute denn nicht mehr?«, fragte er sie.", "»Nein!«", "Sie ging."],
    ["«Неужели это правда?» — тихо спросил он.", "«Да, это правда.»", "Она ушла."],
    ["« Tu ne viens donc pas ? » demanda-t-il.", "« Non ! »", "Elle s'en alla."],
    ["今天的天气<strong>真是好得不得了。</strong>", "<strong>我们</strong>一起出去走一走吧！"],
    # Mixed, and other scripts
    ["我在Google工作了3年，用的是Python 3.11。", "后来我去了OpenAI Inc.做研究员。"],
    ["Это первое предложение в этом тексте.", "А это второе предложение, и оно последнее."],
    ["यह इस पाठ का पहला वाक्य है जो लंबा है।", "और यह दूसरा वाक्य है जो भी लंबा है।"],
    ["هذه هي الجملة الأولى في هذا النص الطويل؟", "وهذه هي الجملة الثانية فيه أيضا."],
    ["이것은 첫 번째 문장입니다만 조금 깁니다.", "이것은 두 번째 문장이고 역시 조금 깁니다."],
]


def sentences_of(text: str) -> list[str]:
    found, said = [], ""
    atoms = find_atoms(text)
    for atom, cut in zip(atoms, judge_cuts(atoms), strict=True):
        said += atom
        if cut is Cut.SENTENCE:
            found.append(said.strip())
            said = ""
    return found


@pytest.mark.parametrize("sentences", SENTENCES, ids=lambda row: row[0][:12])
def test_sentences_are_found(sentences: list[str]) -> None:
    between = "" if is_ideograph(sentences[0][1]) else " "
    assert sentences_of(between.join(sentences)) == sentences


@pytest.mark.parametrize(
    "whole",
    [
        *("3.14", "1,000,000", "12:30", "2024-05-01", "50%", "-5℃", "1 000 000", "2~3", "3/4"),
        *("三千五百", "二十一点五", "https://example.com/a,b?c=1#d", "www.example.com", "a.b@c.de"),
        *("“好的”", "「猫」", '"ok"', "don't", "well-known", "naïve", "e\u0301te\u0301", "हिन्दी"),
        *(
            "👨‍👩‍👧‍👦",
            "🇨🇳",
            "👍🏽",
            "1️⃣",
            "<strong>要</strong>",
            "[laughter]",
            "<|zh|>",
            "……",
            "？！",
            "U.S.A.",
        ),
    ],
)
def test_it_stays_whole_however_short_pieces_must_be(whole: str) -> None:
    for text in (f"我们要说{whole}然后再继续", f"we say {whole} and go on"):
        assert any(whole in piece for piece in pieces(text, target=1)), pieces(text, target=1)


def test_a_sentence_is_cut_at_its_clauses_into_even_pieces() -> None:
    text = "春天来了，花儿开了，鸟儿叫了，孩子们都跑出去玩了，只有老人坐在家里等着他们回来。"
    cut = pieces(text, target=20)
    assert cut == [
        "春天来了，花儿开了，鸟儿叫了，",
        "孩子们都跑出去玩了，",
        "只有老人坐在家里等着他们回来。",
    ]


def test_without_a_clause_it_is_cut_between_words() -> None:
    text = "this sentence has no comma at all and yet it is much longer than what is wanted here"
    for piece in pieces(text, target=10):
        assert measure(piece) <= 15
        assert set(piece.split()) <= set(text.split())


def test_chinese_without_a_comma_is_cut_after_a_particle_rather_than_elsewhere() -> None:
    assert pieces("他慢慢地走进了那个已经很久没有人住的房间里面", target=12)[0][-1] in "地了的"


def test_no_piece_begins_with_what_closes_or_ends_with_what_opens() -> None:
    text = "他问（虽然他知道）：“你去吗？”她说：“去。”然后“啪”的一声，门（很旧的那扇）关了！" * 5
    for target in range(3, 30):
        for piece in pieces(text, target=target):
            assert piece[0] not in "，。：！？）”" and piece[-1] not in "（“"


def test_very_short_sentences_are_spoken_with_their_neighbour() -> None:
    assert pieces("嗯。好。我知道了。那我们明天早上八点在学校门口见面吧。") == [
        "嗯。好。我知道了。那我们明天早上八点在学校门口见面吧。"
    ]


def test_sentences_that_are_long_enough_stay_alone() -> None:
    assert pieces("今天的天气真是好得不得了。我们一起出去走一走吧朋友！") == [
        "今天的天气真是好得不得了。",
        "我们一起出去走一走吧朋友！",
    ]


@pytest.mark.parametrize("text", ["a" * 95, "好" * 95, "https://x.yz/" + "a" * 95, "👨‍👩‍👧" * 30])
def test_what_cannot_stay_whole_still_fits(text: str) -> None:
    cut = pieces(text, max_chars=10)
    assert "".join(cut) == text and max(map(len, cut)) <= 10


@pytest.mark.parametrize("long", ["https://example.com/" + "a" * 250, "Donaudampfschifffahrt" * 9])
def test_a_word_that_is_longer_than_a_piece_keeps_its_full_stop_and_its_pause(long: str) -> None:
    cut = split_text(f"See {long}. And here is one more sentence, too.")
    assert [kind for piece, kind in cut if piece.endswith(f"{long}.")] == [Cut.SENTENCE]


def test_lines_of_even_width_are_one_sentence_and_chinese_lines_are_sentences() -> None:
    assert sentences_of("The quick brown\nfox jumps over\nthe dog.") == [
        "The quick brown\nfox jumps over\nthe dog."
    ]
    assert sentences_of("床前明月光\n疑是地上霜") == ["床前明月光", "疑是地上霜"]


def test_within_a_piece_white_space_is_one_space() -> None:
    assert pieces("The quick  brown\nfox\tjumps.") == ["The quick brown fox jumps."]


def test_a_text_of_nothing_has_no_pieces() -> None:
    assert pieces("") == pieces(" \n ") == []


def test_no_piece_ends_with_the_tag_before_its_words_or_begins_with_the_one_behind() -> None:
    text = "春天来了花儿<strong>开了鸟儿叫了孩子们跑了" * 2 + "</strong>老人坐在家里等着"
    for target in range(3, 30):
        for piece in pieces(text, target=target):
            assert not piece.endswith("<strong>") and not piece.startswith("</strong>")


@pytest.mark.parametrize("emoji", ["👨‍👩‍👧", "🇨🇳", "👍🏽", "e\u0301\u0302"])
def test_a_word_without_an_end_is_cut_between_characters(emoji: str) -> None:
    for size in range(len(emoji), 12):
        for piece in pieces(f"x{emoji}" * 40, max_chars=size):
            assert piece.replace("x", "").replace(emoji, "") == ""
