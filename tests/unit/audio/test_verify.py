"""Which audio is refused as the speech of its text."""

from __future__ import annotations

import importlib
import pickle
import random
import sys
import threading
from array import array
from typing import Any

import pytest

from cosy_sync.audio import Verifier
from cosy_sync.audio import voiced as voiced_module
from cosy_sync.config import VerifyConfig
from cosy_sync.errors import BadAudioError, CosyError, TextError, UnexpectedError
from cosy_sync.models import Audio, wav_header

RATE = 8_000
TEXT = "今天天气真好，我们一起去公园散步吧"  # 16 spoken characters


def sound(seconds: float, seed: int = 0, channels: int = 1) -> Audio:
    size = round(seconds * RATE) * 2 * channels
    pcm = random.Random(f"{seed} {size}").randbytes(size)
    return Audio(wav_header(RATE, channels, size) + pcm, "wav", RATE, channels, 44, size)


def bare(pcm: bytes) -> Audio:
    return Audio(pcm, "pcm", RATE, 1, 0, len(pcm))


def samples(value: int, seconds: float = 4.0) -> Audio:
    return bare(value.to_bytes(2, "little", signed=True) * round(seconds * RATE))


def swing(peak: int, seconds: float) -> bytes:
    """Return a tone of 1 kHz."""
    turn = [0, peak * 7 // 10, peak, peak * 7 // 10, 0, -peak * 7 // 10, -peak, -peak * 7 // 10]
    return array("h", turn * round(seconds * RATE / 8)).tobytes()


def noise(peak: int, seconds: float) -> bytes:
    drawn = random.Random(peak)
    return array("h", [drawn.randint(-peak, peak) for _ in range(round(seconds * RATE))]).tobytes()


def zeros(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


def verdict(text: str, audio: Audio, verifier: Verifier | None = None) -> str:
    [result] = (verifier or Verifier(VerifyConfig())).check([text], [audio])
    if isinstance(result, BadAudioError):
        assert text not in str(result) or text.isdigit()
        return result.reason
    assert result is audio
    return "good"


def learned(pace: float) -> Verifier:
    verifier = Verifier(VerifyConfig())
    for batch in range(2):
        audios = [sound(pace * 16, seed=batch * 100 + index) for index in range(30)]
        verifier.check([TEXT + "！" * index for index in range(30)], audios)
    return verifier


def learned_pace(verifier: Verifier) -> float:
    """Return the seconds that were learned for a Chinese character."""
    return verifier.learned.pace.seconds[0]


@pytest.mark.parametrize("pace", [0.05, 0.15, 0.25, 0.35])
def test_ordinary_speech_is_good(pace: float) -> None:
    assert verdict(TEXT, sound(pace * 16)) == "good"


def test_half_a_second_for_a_word_is_good() -> None:
    assert verdict("Hello", sound(0.5)) == "good"


def test_a_long_text_with_a_snippet_is_short() -> None:
    assert verdict(TEXT * 10, sound(0.5)) == "short"


def test_a_sentence_with_a_minute_is_long() -> None:
    assert verdict(TEXT, sound(60)) == "long"


FEW = ["好", "嗯？", "好的", "Hi!", "Yes", "OK!", "！", "……", "😀😀😀", "1", "12", "777", "你 好。"]


@pytest.mark.parametrize("text", FEW)
def test_one_to_three_characters_are_no_babble_of_12_seconds(text: str) -> None:
    assert verdict(text, sound(12)) == verdict(text, bare(swing(9_000, 12))) == "long"
    assert verdict(text, sound(12), learned(0.3)) == "long"


@pytest.mark.parametrize("text", FEW)
@pytest.mark.parametrize("seconds", [0.4, 1, 2])
@pytest.mark.parametrize("pace", [None, 0.06, 0.35])
def test_one_to_three_characters_may_take_their_time(
    text: str, seconds: float, pace: float | None
) -> None:
    verifier = learned(pace) if pace else None
    assert verdict(text, bare(swing(9_000, seconds)), verifier) == "good"


@pytest.mark.parametrize(("text", "seconds"), [("好的", 5), ("777", 9), ("😀😀😀", 9), ("！", 3)])
def test_a_slow_reader_of_few_characters_is_good(text: str, seconds: float) -> None:
    assert verdict(text, sound(seconds)) == "good"


@pytest.mark.parametrize("text", ["Yes", "好的呀", "abc"])
def test_few_characters_need_some_sound(text: str) -> None:
    assert verdict(text, sound(0.02)) == "short"


def test_the_bounds_of_few_characters_are_configured_too() -> None:
    patient = Verifier(VerifyConfig(max_seconds_per_char=6.0))
    assert verdict("好的", sound(12), patient) == "good"
    assert verdict("好的", sound(15), patient) == "long"
    strict = Verifier(VerifyConfig(min_seconds_per_char=0.3))
    assert verdict("好的", sound(0.5), strict) == "short"


def test_the_learned_pace_brings_the_bounds_closer() -> None:
    text, audio = TEXT, sound(0.25 * 16 * 6 + 6)
    assert verdict(text, audio) == "good"
    assert verdict(text, audio, learned(0.25)) == "long"
    assert verdict(text * 10, sound(4.0), learned(0.25)) == "short"


def test_fifty_texts_are_needed_to_learn() -> None:
    verifier = Verifier(VerifyConfig())
    verifier.check([TEXT] * 49, [sound(4, seed=seed) for seed in range(49)])
    assert verdict(TEXT, sound(30), verifier) == "good"


def test_configured_bounds_are_never_widened() -> None:
    verifier = Verifier(VerifyConfig(max_seconds_per_char=0.3, slack=0.0))
    verifier.check([TEXT] * 60, [sound(4, seed=seed) for seed in range(60)])
    assert verdict(TEXT, sound(0.4 * 16), verifier) == "long"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("777777", 6.5),  # seven hundred seventy-seven thousand ...
        ("WWW IBM XYZ HTTP", 7.5),
        ("😀😀😀 smile", 9.0),
        ("100% + 50% = 150%", 9.0),
    ],
)
def test_english_that_is_long_for_its_letters_is_good(text: str, seconds: float) -> None:
    assert verdict(text, sound(seconds), learned(0.07)) == "good"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("<strong>好</strong>[laughter]" * 8, 2.0),
        ("1000000000000 " * 20, 12.0),
        ("哈" * 300, 6.0),
        ("You are a helpful assistant.<|endofprompt|>今天好", 1.0),
    ],
)
def test_text_that_is_short_for_its_letters_is_good(text: str, seconds: float) -> None:
    assert verdict(text, sound(seconds), learned(0.25)) == "good"


def test_english_after_mandarin_is_good() -> None:
    text = "The quick brown fox jumps over the lazy dog, again and again and again. " * 5
    assert verdict(text, sound(len(text) * 0.05), learned(0.3)) == "good"


def test_the_pace_follows_a_voice_that_changed() -> None:
    verifier = learned(0.06)
    slow = sound(16 * 0.8)
    assert verdict(TEXT, slow, verifier) == "long"
    for seed in range(10):
        verifier.check([TEXT] * 40, [sound(16 * 0.8, seed=seed * 40 + n) for n in range(40)])
    assert verdict(TEXT, slow, verifier) == "good"


def test_single_wrong_recordings_do_not_move_the_pace() -> None:
    verifier = learned(0.25)
    for seed in range(20):
        audios = [sound(4, seed=seed * 10 + n) for n in range(5)] + [sound(30, seed=seed)]
        verifier.check([TEXT] * 6, audios)
    assert learned_pace(verifier) == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize("value", [0, 1, -8, 32, -32])
def test_silence_is_refused(value: int) -> None:
    assert verdict(TEXT, samples(value)) == "silent"


@pytest.mark.parametrize("peak", [40, 255, 300])
def test_quiet_speech_is_good(peak: int) -> None:
    assert verdict(TEXT, bare(swing(peak, 4.0))) == "good"


TWENTY = "今天天气真好啊，我们一起去公园里散步吧好吗"  # 20 spoken characters


@pytest.mark.parametrize(
    ("pcm", "reason"),
    [
        (swing(16_000, 0.4) + zeros(5), "short"),
        (zeros(5) + swing(16_000, 0.4), "short"),
        (swing(16_000, 0.2) + zeros(5) + swing(16_000, 0.2), "short"),
        (swing(16_000, 0.4) + noise(5, 5), "short"),
        (swing(16_000, 0.4) + samples(8_000, 5).data, "short"),
        (noise(5, 5), "silent"),
        (noise(31, 5), "silent"),
        (samples(8_000, 5).data, "silent"),
        (samples(-20_000, 5).data, "silent"),
        (zeros(2.5) + b"\x00\x40" + zeros(2.5), "silent"),
        (zeros(2.5) + samples(8_000, 2.5).data, "silent"),
        ((zeros(0.5) + b"\xff\x7f") * 10, "short"),
    ],
)
def test_what_is_heard_counts_and_not_the_file(pcm: bytes, reason: str) -> None:
    assert verdict(TWENTY, bare(pcm)) == reason
    assert verdict(TWENTY, as_view(bare(pcm))) == reason


@pytest.mark.parametrize(
    "pcm",
    [
        swing(16_000, 2) + zeros(1) + swing(16_000, 2),
        swing(16_000, 2) + zeros(5),
        zeros(3) + swing(400, 3),
        swing(16_000, 1) + noise(20, 2),
    ],
)
def test_speech_with_long_pauses_is_good(pcm: bytes) -> None:
    assert verdict(TWENTY, bare(pcm)) == "good"


@pytest.mark.parametrize("text", ["好", "Yes", "好的", "7"])
def test_a_click_is_no_word(text: str) -> None:
    assert verdict(text, bare(zeros(0.5) + b"\x00\x40" + zeros(0.5))) == "silent"


def test_of_several_channels_one_that_is_heard_is_enough_and_constants_are_not() -> None:
    left = array("h", swing(9_000, 4))
    still = array("h", [8_000] * len(left))
    other = array("h", [-8_000] * len(left))

    def both(first: array[int], second: array[int]) -> Audio:
        mixed = array("h", [each for pair in zip(first, second, strict=True) for each in pair])
        return Audio(mixed.tobytes(), "pcm", RATE, 2, 0, 4 * len(left))

    assert verdict(TEXT, both(left, still)) == verdict(TEXT, both(still, left)) == "good"
    assert verdict(TEXT, both(still, other)) == "silent"


def test_silence_for_a_text_without_words_is_good() -> None:
    assert verdict("……", samples(0)) == "good"
    assert verdict("<break time='2s'/>", samples(0)) == "good"


def test_no_samples_at_all_are_too_short() -> None:
    assert verdict("好", bare(b"")) == "short"


def test_silence_is_the_same_on_a_big_endian_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Swapped(voiced_module.array):  # type: ignore[name-defined,misc]
        def byteswap(self) -> None:
            pass

    monkeypatch.setattr(sys, "byteorder", "big")
    monkeypatch.setattr(voiced_module, "array", Swapped)
    assert verdict(TEXT, samples(1)) == "silent"


def test_all_texts_with_the_same_audio_are_refused() -> None:
    same, other = sound(4), sound(4, seed=1)
    texts = [TEXT, "另外一句完全不同的话", "第三句话也不一样呢", "这一句是好的没有问题"]
    results = Verifier(VerifyConfig()).check(texts, [same, same, same, other])
    assert [getattr(result, "reason", "good") for result in results] == ["identical"] * 3 + ["good"]
    assert all(text not in str(result) for text in texts for result in results)


def test_the_same_samples_in_another_file_are_the_same_audio() -> None:
    audio = sound(4)
    results = Verifier(VerifyConfig()).check([TEXT, TEXT + "好"], [audio, bare(audio.pcm())])
    assert all(isinstance(result, BadAudioError) for result in results)


def test_texts_that_sound_alike_may_have_the_same_audio() -> None:
    audio = sound(1)
    texts = ["Good morning!", "good  morning", "ＧＯＯＤ ＭＯＲＮＩＮＧ"]
    assert Verifier(VerifyConfig()).check(texts, [audio] * 3) == [audio] * 3


def test_the_same_middle_is_not_the_same_audio() -> None:
    first = bytearray(sound(4).pcm())
    first[32_000:32_064] = bytes(64)
    second = bytes([first[0] ^ 0x55]) + bytes(first[1:])
    audios = [bare(bytes(first)), bare(second)]
    assert Verifier(VerifyConfig()).check([TEXT, "另外一句话"], audios) == audios


def test_errors_pass_through() -> None:
    error = TextError("no")
    audio = sound(4)
    results: list[Audio | CosyError] = [error, audio]
    assert Verifier(VerifyConfig()).check(["x", TEXT], results) == [error, audio]


def test_disabled_refuses_nothing() -> None:
    verifier = Verifier(VerifyConfig(enabled=False))
    audios = [samples(0, 0.1), samples(0, 0.1)]
    assert verifier.check([TEXT, "另外一句"], audios) == audios


@pytest.mark.parametrize("enabled", [True, False])
def test_the_callers_check_sees_what_passed_and_may_refuse(enabled: bool) -> None:
    seen: list[str] = []

    def check(text: str, audio: Audio) -> bool:
        seen.append(text)
        return text == TEXT

    verifier = Verifier(VerifyConfig(enabled=enabled, check=check))
    texts = [TEXT, "另外一句话", "坏的"]
    passed = verifier.check(texts, [sound(4), sound(2), TextError("no")])
    assert seen == []
    good, bad, error = verifier.ask(texts, passed)
    assert seen == texts[:2]
    assert isinstance(good, Audio)
    assert isinstance(error, TextError)
    assert isinstance(bad, BadAudioError)
    assert bad.reason == "check"


def test_a_check_that_raises_ends_its_text_with_the_cause_and_without_a_retry() -> None:
    def check(text: str, audio: Audio) -> bool:
        raise KeyError(text)

    [error] = Verifier(VerifyConfig(check=check)).ask([TEXT], [sound(4)])
    assert isinstance(error, UnexpectedError)
    assert (error.retryable, type(error.__cause__)) == (False, KeyError)
    assert TEXT not in str(error)


def test_refusals_survive_pickling() -> None:
    [error] = Verifier(VerifyConfig()).check([TEXT], [samples(0)])
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.reason, str(copy)) == (BadAudioError, "silent", str(error))


def test_many_threads_may_check_at_once() -> None:
    verifier = Verifier(VerifyConfig())
    audios = [sound(4, seed=seed) for seed in range(8)]
    barrier = threading.Barrier(8)
    failures: list[object] = []

    def work() -> None:
        barrier.wait(10)
        for _ in range(50):
            failures.extend(
                result
                for result in verifier.check([TEXT] * 8, audios)
                if not isinstance(result, Audio)
            )

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert learned_pace(verifier) == pytest.approx(0.25, abs=0.005)


def as_view(audio: Audio) -> Audio:
    """Let the sound lie in a reply, as it does until it is detached."""
    view = memoryview(bytearray(audio.data))
    return Audio(
        *(view, audio.format, audio.sample_rate, audio.channels),  # type: ignore[arg-type]
        *(audio.pcm_start, audio.pcm_size),
    )


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (sound(4), "good"),
        (samples(0), "silent"),
        (samples(-31), "silent"),
        (bare(swing(40, 4)), "good"),
        (sound(60), "long"),
    ],
)
def test_sound_that_still_lies_in_its_reply_is_judged_like_any_other(
    audio: Audio, reason: str
) -> None:
    assert verdict(TEXT, audio) == verdict(TEXT, as_view(audio)) == reason


def test_the_same_sound_twice_in_a_reply_is_refused() -> None:
    audios = [as_view(sound(4)), as_view(sound(4)), as_view(sound(4, seed=1))]
    first, second, third = Verifier(VerifyConfig()).check([TEXT, TEXT + "吗", TEXT], audios)
    assert isinstance(first, BadAudioError) and isinstance(second, BadAudioError)
    assert first.reason == "identical" and third is audios[2]


def test_a_check_of_the_callers_own_is_given_bytes() -> None:
    kinds: list[type] = []
    verifier = Verifier(VerifyConfig(check=lambda _, audio: not kinds.append(type(audio.data))))
    [result] = verifier.ask([TEXT], [as_view(sound(4))])
    assert isinstance(result, Audio) and kinds == [bytes]


PARTS = ["verify.look_at", "verify.Verifier._judge", "repeats.digest_of"]


@pytest.mark.parametrize("part", PARTS)
def test_a_bug_of_the_verification_costs_the_text_that_meets_it_and_no_other(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [TEXT, "张三", "李四", TEXT + "吗"]
    audios = [sound(4, seed=1), sound(1, seed=2), sound(1, seed=3), sound(4, seed=4)]
    module, *classes, name = part.split(".")
    owner: Any = importlib.import_module(f"cosy_sync.audio.{module}")
    for each in classes:
        owner = getattr(owner, each)
    true = getattr(owner, name)

    def broken(*given: object) -> object:
        if any(each is audios[2] or each == texts[2] for each in given):
            raise ValueError("expected a positive input")
        return true(*given)

    monkeypatch.setattr(owner, name, broken)
    results = Verifier(VerifyConfig()).check(texts, audios)
    assert isinstance(results[2], UnexpectedError)
    assert isinstance(results[2].__cause__, ValueError)
    assert [*results[:2], results[3]] == [*audios[:2], audios[3]]


def test_what_was_refused_stays_so_where_another_text_meets_a_bug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(audio: Audio) -> int:
        raise ValueError("expected a positive input")

    verifier = learned(0.25)
    monkeypatch.setattr("cosy_sync.audio.repeats.digest_of", broken)
    doubtful = TEXT + "呢"
    audio = bare(sound(2, seed=5).data[44:] + zeros(2.5) + sound(2, seed=6).data[44:])
    refused, crashed = verifier.check([doubtful, TEXT], [audio, sound(4, seed=7)])
    assert isinstance(refused, BadAudioError) and refused.reason == "pause"
    assert isinstance(crashed, UnexpectedError)
