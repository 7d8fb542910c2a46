"""Which texts one recording may be right for, as far as their spelling tells."""

from __future__ import annotations

import pytest

from cosy_sync.audio.homophones import may_sound_alike

ALIKE = [
    *[
        ("张三", "章三"),
        ("他来了。", "她来了！"),
        ("刘洋", "刘阳"),
        ("李丽", "李莉"),
        ("张三", "張三"),
    ],
    *[("张三", "張三"), ("李婷", "李亭"), ("12", "twelve"), ("12", "十二"), ("2", "两")],
    *[
        ("2024年", "二零二四年"),
        ("第2位", "第二位"),
        ("3:30", "三点半"),
        ("1st", "first"),
        ("twenty-one", "21"),
    ],
    *[("21", "二十一"), ("110", "一百一十"), ("110", "幺幺零"), ("2200", "两千二"), ("28", "廿八")],
    *[("3.14", "三点一四"), ("12th", "twelfth"), ("342", "three hundred and forty-two")],
    *[("$5", "five dollars"), ("$5", "五美元"), ("5kg", "5公斤"), ("5kg", "五公斤")],
    *[("5 kg", "5 kilograms"), ("25℃", "25摄氏度"), ("50%", "百分之五十"), ("R & B", "R and B")],
    *[("two", "too"), ("their", "there"), ("know", "no"), ("write", "right"), ("eight", "ate")],
    *[("one", "won"), ("hour", "our"), ("knight", "night"), ("cell", "sell"), ("scent", "cent")],
    *[("Smyth", "Smith"), ("Catherine", "Kathryn"), ("Sean", "Shawn"), ("Stephen", "Steven")],
    *[("Dr. Lee", "Doctor Lee"), ("colour", "color"), ("José", "Jose"), ("every day", "everyday")],
    *[
        ("橋", "はし"),
        ("はし", "ハシ"),
        ("12", "じゅうに"),
        ("같이", "가치"),
        ("[laughter]好", "好"),
    ],
]
DIFFERENT = [
    *[("张三", "李四"), ("王芳", "李娜"), ("今天", "明天"), ("小明", "小红"), ("一", "二")],
    *[
        ("张三", "张三四"),
        ("12", "15"),
        ("第1位乘客", "第2位乘客"),
        ("12", "thirteen"),
        ("3", "七"),
    ],
    *[
        ("3", "七"),
        ("12", "hello"),
        ("12", "你好"),
        ("5", "五公斤"),
        ("你好", "hello"),
        ("OK", "好的"),
    ],
    *[("13", "十二"), ("22", "twenty-one"), ("2025年", "二零二四年"), ("第2位", "第三位")],
    *[("hello", "goodbye"), ("Tom", "Jerry"), ("yes", "no"), ("好", ""), ("はし", "ねこ")],
    *[("안녕", "감사"), ("今天天气真好", "明天要下大雨"), ("a b", "a b c")],
]


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_these_may_be_read_alike(first: str, second: str) -> None:
    assert may_sound_alike(first, second)
    assert may_sound_alike(second, first)
    assert may_sound_alike(f"请叫{first}来。", f"请叫{second}来。")


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_these_are_not(first: str, second: str) -> None:
    assert not may_sound_alike(first, second)
    assert not may_sound_alike(second, first)
    assert not may_sound_alike(f"请叫{first}来。", f"请叫{second}来。")


def test_without_the_order_of_gb_2312_characters_may_sound_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Bare(str):
        def encode(self, *_: object) -> bytes:  # type: ignore[override]
            raise LookupError("unknown encoding")

    from cosy_sync.audio import homophones

    assert homophones._place(Bare("张")) is None
