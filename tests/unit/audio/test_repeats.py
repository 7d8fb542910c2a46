"""The same recording for different texts: who is refused, and how homophones get theirs."""

from __future__ import annotations

import random
import threading

import pytest

from cosy_sync.audio import Verifier
from cosy_sync.audio import repeats as repeats_module
from cosy_sync.config import VerifyConfig
from cosy_sync.errors import BadAudioError
from cosy_sync.models import Audio, wav_header

RATE = 8_000


def sound(seed: int, seconds: float = 2.0) -> Audio:
    pcm = random.Random(seed).randbytes(round(seconds * RATE) * 2)
    return Audio(pcm, "pcm", RATE, 1, 0, len(pcm))


def words(verifier: Verifier, texts: list[str], audios: list[Audio]) -> list[str]:
    results = verifier.ask(texts, verifier.check(texts, audios))
    return [
        "good"
        if isinstance(result, Audio)
        else f"{getattr(result, 'reason', '')}{' alone' * getattr(result, 'alone', False)}"
        for result in results
    ]


def one(verifier: Verifier, text: str, audio: Audio) -> str:
    (word,) = words(verifier, [text], [audio])
    return word


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(VerifyConfig())


def test_one_recording_for_300_texts_is_refused_from_the_second_text_on(
    verifier: Verifier,
) -> None:
    texts = [f"第{number}位乘客请到{number % 7}号窗口" for number in range(300)]
    assert one(verifier, texts[0], sound(1)) == "good"
    assert {one(verifier, text, sound(1)) for text in texts[1:]} == {"identical"}
    assert one(verifier, texts[0], sound(1)) == "good"
    assert one(verifier, texts[1], sound(2)) == "good"


@pytest.mark.parametrize("place", [0, 200, -256, -2])
def test_recordings_that_differ_only_near_an_end_are_two(verifier: Verifier, place: int) -> None:
    first = sound(1)
    pcm = bytearray(first.data)
    pcm[place] ^= 1
    second = Audio(bytes(pcm), "pcm", RATE, 1, 0, len(pcm))
    assert one(verifier, "你好", first) == "good"
    assert one(verifier, "再见", second) == "good"


@pytest.mark.parametrize("other", ["你好", "你好！", " 你 好。", "<strong>你好</strong>"])
def test_the_same_words_may_have_the_same_recording(verifier: Verifier, other: str) -> None:
    for text in ("你好", other, "你好"):
        assert one(verifier, text, sound(1)) == "good"
    assert words(verifier, ["你好", other], [sound(1), sound(1)]) == ["good", "good"]


@pytest.mark.parametrize("long", [501, 3_000])
def test_of_long_texts_punctuation_makes_no_difference_either(
    verifier: Verifier, long: int
) -> None:
    text, audio = "好" * long, sound(1, 60)
    assert one(verifier, text, audio) == one(verifier, f"{text}。", audio) == "good"
    assert one(verifier, f"{text}吗", audio) == "identical"


@pytest.mark.parametrize(("first", "second"), [("张三", "章三"), ("12", "twelve")])
def test_homophones_that_are_asked_for_alone_may_have_the_same_recording(
    verifier: Verifier, first: str, second: str
) -> None:
    pair, audios = [first, second], [sound(1), sound(1)]
    assert words(verifier, pair, audios) == ["identical alone", "identical alone"]
    assert one(verifier, first, sound(1)) == one(verifier, second, sound(1)) == "good"
    # From now on they are known.
    assert words(verifier, pair, audios) == ["good", "good"]


def test_other_texts_with_the_same_recording_are_refused_together(verifier: Verifier) -> None:
    for _ in range(3):
        assert words(verifier, ["张三", "李四"], [sound(1), sound(1)]) == ["identical"] * 2
    three = ["张三", "章三", "李四"]
    assert words(verifier, three, [sound(1)] * 3) == ["identical"] * 3


def test_a_homophone_in_a_later_batch_is_asked_for_alone_too(verifier: Verifier) -> None:
    assert words(verifier, ["张三", "再见"], [sound(1), sound(2)]) == ["good", "good"]
    assert words(verifier, ["章三", "王五"], [sound(1), sound(3)]) == ["identical alone", "good"]
    assert one(verifier, "章三", sound(1)) == "good"
    assert words(verifier, ["李四", "王五"], [sound(1), sound(3)]) == ["identical", "good"]


def test_refused_audio_is_nobodys(verifier: Verifier) -> None:
    assert one(verifier, "一二三四五六七八九十" * 9, sound(1, 0.5)) == "short"
    assert one(verifier, "你好", sound(1, 0.5)) == "good"


def test_a_recording_that_the_callers_check_refuses_is_nobodys() -> None:
    verifier = Verifier(VerifyConfig(check=lambda text, _: text != "李四"))
    assert one(verifier, "李四", sound(1)) == "check"
    assert one(verifier, "张三", sound(1)) == "good"
    assert one(verifier, "李四", sound(1)) == "identical"
    assert one(verifier, "张三", sound(1)) == "good"


def test_a_recording_of_long_ago_is_forgotten(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats_module, "_RECORDINGS", 10)
    for number in range(11):
        assert one(verifier, f"第{number}句", sound(number)) == "good"
    assert one(verifier, "另一句", sound(10)) == "identical"
    assert one(verifier, "另一句", sound(0)) == "good"


def test_what_is_known_is_bounded(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats_module, "_TEXTS", 3)
    for text in ("张三", "章三", "彰三", "漳三", "樟三"):
        assert one(verifier, text, sound(1)) == "good"
    (known,) = verifier._repeats._known.values()
    assert known == ["张三", "章三", "彰三"]


def test_the_file_around_the_samples_makes_no_difference(verifier: Verifier) -> None:
    bare = sound(1)
    data = wav_header(RATE, 1, len(bare.data)) + bare.data
    file = Audio(data, "wav", RATE, 1, 44, len(bare.data))
    assert one(verifier, "张三", bare) == "good"
    assert one(verifier, "李四", file) == "identical"


def test_a_refusal_shows_no_text(verifier: Verifier) -> None:
    one(verifier, "张三", sound(1))
    (error,) = verifier.check(["李四"], [sound(1)])
    assert isinstance(error, BadAudioError)
    assert "张三" not in str(error) and "李四" not in str(error)


def test_disabled_refuses_no_repeats() -> None:
    verifier = Verifier(VerifyConfig(enabled=False))
    assert one(verifier, "张三", sound(1)) == one(verifier, "李四", sound(1)) == "good"


def test_of_many_threads_with_the_same_recording_one_text_gets_it(verifier: Verifier) -> None:
    start, told = threading.Barrier(8), []

    def work(number: int) -> None:
        start.wait(10)
        told.extend(one(verifier, f"第{number}句话{turn}", sound(1)) for turn in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(told) == ["good"] + ["identical"] * 159
