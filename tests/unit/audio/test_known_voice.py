"""What is refused once a voice is known: synthetic syllables, each a hiss, a tone and a pause."""

from __future__ import annotations

import copy
import random
import sys
from array import array
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from types import FrameType

import pytest

from cosy_sync.audio import Verifier, pace, usual
from cosy_sync.audio.closer import look_closer
from cosy_sync.audio.look import LOOKS, hiss_seconds, look_at
from cosy_sync.audio.pace import Pace, range_of
from cosy_sync.audio.usual import Learned
from cosy_sync.audio.voiced import measure
from cosy_sync.config import VerifyConfig
from cosy_sync.errors import BadAudioError
from cosy_sync.models import Audio

RATE = 24_000
MANDARIN = "今天天气真好，我们一起去公园散步吧，然后回家吃晚饭"  # 23 spoken characters
ENGLISH = "We walk along the river every morning before the town wakes up"  # 51 letters
DRAWN = random.Random(7)


def hiss(seconds: float, peak: int = 4_000) -> array[int]:
    return array("h", [DRAWN.randint(-peak, peak) for _ in range(round(seconds * RATE))])


def tone(seconds: float, peak: int = 9_000, turn: int = 160) -> array[int]:
    """Return a sawtooth of 150 Hz that fades."""
    count = round(seconds * RATE)
    return array(
        "h", [int(peak * (n % turn / turn * 2 - 1) * (1 - n / count)) for n in range(count)]
    )


def zeros(seconds: float) -> array[int]:
    return array("h", bytes(2 * round(seconds * RATE)))


CONSONANTS = [hiss(0.04) for _ in range(8)]
VOWEL, PAUSE = tone(0.17), zeros(0.04)


def speech(syllables: int, *, dull: bool = False) -> Audio:
    """Return a syllable of 0.25 s for each; `dull` has nothing above a sixth of the rate."""
    sound = array("h")
    for _ in range(syllables):
        sound += DRAWN.choice(CONSONANTS) + VOWEL + PAUSE
    return of(muffled(sound) if dull else sound)


def muffled(sound: array[int]) -> array[int]:
    """Return means of 6 samples, of which nothing is left at a sixth of the rate; three times."""
    for _ in range(3):
        sums = [0, *accumulate(sound)]
        sound = array("h", [(end - at) // 6 for at, end in zip(sums, sums[6:], strict=False)])
    return sound


def of(sound: array[int]) -> Audio:
    # Each has a length and a beginning of its own, as real recordings have.
    sound = zeros(0.01) + hiss(DRAWN.uniform(0.001, 0.004), 300) + sound
    return Audio(sound.tobytes(), "pcm", RATE, 1, 0, 2 * len(sound))


def samples(audio: Audio) -> array[int]:
    return array("h", audio.data)


def text_of(number: int, text: str = MANDARIN) -> str:
    return text + "！" * number


@pytest.fixture(scope="module")
def taught() -> Learned:
    verifier = Verifier(VerifyConfig())
    for number in range(60):
        assert verdict(text_of(number), speech(23), verifier) == "good"
        assert verdict(text_of(number, ENGLISH), speech(13), verifier) == "good"
    return verifier.learned


@pytest.fixture
def known(taught: Learned) -> Verifier:
    return Verifier(VerifyConfig(), copied(taught))


def copied(taught: Learned) -> Learned:
    learned = Learned()
    learned.pace, learned.usual = copy.deepcopy(taught.pace), copy.deepcopy(taught.usual)
    return learned


def verdict(text: str, audio: Audio, verifier: Verifier) -> str:
    [result] = verifier.check([text], [audio])
    return result.reason if isinstance(result, BadAudioError) else "good"


def refusal(text: str, audio: Audio, verifier: Verifier) -> BadAudioError:
    [result] = verifier.check([text], [audio])
    assert isinstance(result, BadAudioError)
    return result


# -- pace ---------------------------------------------------------------------------------------


def test_the_pace_is_learned_by_kind_of_character(known: Verifier) -> None:
    wide, letter, _, _ = known.learned.pace.seconds
    assert wide == pytest.approx(0.25, rel=0.1)
    assert letter == pytest.approx(0.064, rel=0.1)
    for text, syllables in ((MANDARIN, 23), (ENGLISH, 13), (MANDARIN + ENGLISH, 36)):
        assert verdict(text * 4, speech(4 * syllables), known) == "good"
        assert verdict(text * 4, speech(4 * syllables // 2), known) == "short"
        assert verdict(text * 5, speech(10 * syllables), known) in ("long", "rate")


def test_a_recording_that_stopped_at_a_limit_is_short_and_told_to_be_split(known: Verifier) -> None:
    error = refusal(MANDARIN * 44, speech(44 * 23 // 3), known)
    assert error.reason == "short"
    assert "narrate" in str(error)
    assert "narrate" not in str(refusal(MANDARIN, speech(6), known))


def test_kinds_that_were_not_met_have_the_widest_bounds_only(known: Verifier) -> None:
    assert verdict("13800138000", speech(40), known) == "good"
    assert verdict("α+β=γ±δ≠ε", speech(30), known) == "good"


def test_a_fifth_more_or_less_is_a_voices_own_business(known: Verifier) -> None:
    for syllables in (18, 20, 26, 28):
        assert verdict(MANDARIN, speech(syllables), known) == "good"


def test_numbers_are_read_in_many_ways() -> None:
    pace = Pace()
    for _ in range(60):
        pace.learn(range_of("一共123元").usual, 1.5)
    plain, number = range_of("今天天气真好").usual, range_of("一共123元").usual
    assert (pace.tolerance(number) or 0) > 0.6
    assert (pace.tolerance(plain) or 0) < (pace.tolerance(number) or 0)


def test_single_words_have_no_learned_bounds(known: Verifier) -> None:
    for seconds in (1, 4, 12):
        assert verdict("好的", speech(seconds), known) == "good"


# -- what is heard ------------------------------------------------------------------------------


def test_silence_in_place_of_speech_is_short(known: Verifier) -> None:
    whole = samples(speech(46))
    half = len(whole) // 2
    behind = of(whole[: half - 20_000] + zeros(half / RATE))
    within = of(whole[: half // 2] + zeros(half / RATE) + whole[-half // 2 :])
    for audio in (behind, within):
        assert verdict(MANDARIN * 2, audio, known) == "short"


def test_a_pause_longer_than_any_of_this_voice_is_doubted(known: Verifier) -> None:
    for silence in (zeros(9), hiss(9, 20)):
        audio = of(samples(speech(23)) + silence)
        assert verdict(text_of(1), audio, Verifier(VerifyConfig(), known.learned)) == "pause"
    assert verdict("今天……" + MANDARIN, audio, known) == "good"


def test_a_second_of_silence_is_good(known: Verifier) -> None:
    parts = samples(speech(12)), zeros(1.2), samples(speech(11))
    assert verdict(MANDARIN, of(parts[0] + parts[1] + parts[2]), known) == "good"


def test_sound_that_breaks_off_is_doubted_where_others_end_softly(known: Verifier) -> None:
    whole = samples(speech(23))
    loud = whole[: len(whole) * 4 // 5]
    loud += VOWEL[: RATE // 50]  # so that it ends within a vowel
    assert verdict(MANDARIN, of(loud), known) == "cut"


def test_a_third_less_or_a_half_more_of_a_steady_voice_is_doubted_once(known: Verifier) -> None:
    for syllables, reason in ((15, "short"), (34, "long")):
        text = text_of(syllables)
        assert verdict(text, speech(syllables), known) in (reason, "rate")
        assert verdict(text, speech(syllables), known) == "good"


def test_a_voice_that_varies_has_the_bounds_of_its_own() -> None:
    verifier = Verifier(VerifyConfig())
    for number in range(90):
        verifier.check([text_of(number)], [speech(DRAWN.choice((17, 20, 26, 31)))])
    assert verdict(text_of(100), speech(15), verifier) == "good"
    assert verdict(text_of(101), speech(34), verifier) == "good"


def test_haste_says_nothing_more_of_a_voice_whose_ends_are_all_as_loud() -> None:
    verifier = Verifier(VerifyConfig())
    for number in range(90):
        loud = of(samples(speech(23)) + VOWEL[: RATE // 50])
        assert verdict(text_of(number), loud, verifier) == "good"
    hasty = of(samples(speech(18)) + VOWEL[: RATE // 50])
    assert verdict(text_of(100), hasty, verifier) == "good"


def softly_cut(seconds: float) -> Audio:
    """Return what ends within a syllable, half as loudly as what would be doubted by itself."""
    return of(samples(speech(18)) + tone(0.1, 2_400)[: -round(seconds * RATE)])


def test_a_loud_end_and_haste_say_together_what_neither_says_alone(known: Verifier) -> None:
    end, calm = softly_cut(0.05), known.learned.usual.calm
    look = look_at(end)
    assert look.end <= calm.end and look.tail <= calm.tail
    assert verdict(text_of(1), end, known) == "cut"
    assert verdict(text_of(2), speech(19), known) == "good"
    assert verdict(text_of(3), of(samples(speech(22)) + samples(end)[-2_000:]), known) == "good"


@pytest.mark.parametrize(
    "text", ["哈" * 60, "KTV和VIP以及CEO还有APP的OK", "100000000000元整的合同金额"]
)
def test_what_can_be_read_in_less_time_or_more_is_not_hurried(text: str, known: Verifier) -> None:
    counted = range_of(text)
    usual = known.learned.pace.expected(counted.usual)
    for kinds in (counted.least, counted.most):
        seconds = known.learned.pace.expected(kinds)
        if usual / 3 < seconds < 3 * usual:
            assert verdict(text, speech(round(seconds / 0.25)), known) == "good"


def test_a_voice_that_always_ends_loudly_may_do_so() -> None:
    verifier = Verifier(VerifyConfig())
    for number in range(130):
        assert (
            verdict(text_of(number), of(samples(speech(23)) + VOWEL[: RATE // 50]), verifier)
            == "good"
        )


def test_noise_before_speech_is_doubted(known: Verifier) -> None:
    assert verdict(MANDARIN, of(hiss(1.5) + samples(speech(23))), known) == "noise"


def test_a_voice_that_whispers_may_hiss() -> None:
    verifier, whisper = Verifier(VerifyConfig()), hiss(1, 3_000) * 6
    for number in range(80):
        assert verdict(text_of(number), of(whisper), verifier) == "good"


# -- rate and band ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 12_000, 16_000, 48_000])
def test_another_rate_on_the_label_is_refused(known: Verifier, rate: int) -> None:
    audio = replace(speech(23), sample_rate=rate)
    assert verdict(MANDARIN, audio, known) in ("rate", "long", "short")


def test_another_rate_that_is_true_is_good(known: Verifier) -> None:
    audio = speech(23)
    half = array("h", samples(audio)[::2]).tobytes()
    assert verdict(MANDARIN, Audio(half, "pcm", RATE // 2, 1, 0, len(half)), known) == "good"


def test_a_narrow_band_is_doubted_where_others_have_consonants(known: Verifier) -> None:
    assert verdict(MANDARIN, speech(23, dull=True), known) == "dull"


def test_a_voice_without_consonants_is_not_dull() -> None:
    verifier = Verifier(VerifyConfig())
    sharp, dull = (samples(speech(23, dull=each)) for each in (False, True))
    for number in range(130):
        assert verdict(text_of(number), of(dull if number % 3 else sharp), verifier) == "good"


# -- doubts -------------------------------------------------------------------------------------


def doubtful() -> dict[str, tuple[str, Audio]]:
    """Return, for each reason that rests on what was learned, a recording of a text."""
    whole = samples(speech(23))
    lead = whole[: len(whole) // 2]
    return {
        "noise": (MANDARIN, of(hiss(1.5) + whole)),
        "cut": (MANDARIN, of(whole[: len(whole) * 4 // 5] + VOWEL[: RATE // 50])),
        "pause": (MANDARIN, of(lead + zeros(3) + lead)),
        "dull": (MANDARIN, speech(23, dull=True)),
        "short": (MANDARIN * 2, speech(26)),
        "long": (MANDARIN * 4, speech(174)),
        "rate": (MANDARIN, replace(speech(23), sample_rate=16_000)),
    }


@pytest.mark.parametrize("reason", ["noise", "cut", "pause", "dull", "short", "long", "rate"])
def test_what_may_be_right_is_refused_once_for_a_text(known: Verifier, reason: str) -> None:
    text, audio = doubtful()[reason]
    error = refusal(text, audio, known)
    assert (error.reason, error.retryable) == (reason, True)
    # Another recording alike, of the same text and of another one.
    text, audio = doubtful()[reason]
    assert verdict(text, audio, known) == "good"
    text, audio = doubtful()[reason]
    assert verdict(text + "？", audio, known) == reason


def test_several_doubts_about_one_text_cost_one_repetition(known: Verifier) -> None:
    assert verdict(MANDARIN, doubtful()["noise"][1], known) == "noise"
    assert verdict(MANDARIN, doubtful()["cut"][1], known) == "good"
    both = of(hiss(1.5) + samples(speech(23)) * 2)
    assert verdict(text_of(3), both, known) == "long"
    both = of(hiss(1.5) + samples(speech(23)) * 2)
    assert verdict(text_of(3), both, known) == "good"


def test_nothing_but_the_widest_bounds_is_known_of_the_first_recordings() -> None:
    verifier = Verifier(VerifyConfig())
    for number, (text, audio) in enumerate(doubtful().values()):
        assert verdict(text + "！" * number, audio, verifier) == "good"


def test_a_voice_that_becomes_slower_costs_some_texts_one_repetition(known: Verifier) -> None:
    refused = 0
    for number in range(120):
        audio = speech(42)
        if verdict(text_of(number), audio, known) != "good":
            refused += 1
            assert verdict(text_of(number), speech(42), known) == "good"
    assert refused < 60


def test_the_doubts_that_are_remembered_are_bounded(known: Verifier) -> None:
    for number in range(1_100):
        known._is_doubted_again(text_of(number))
    assert len(known._doubted) <= 1_024


def test_a_recording_is_judged_whatever_another_thread_has_learned_of_the_next_half_way() -> None:
    learned, slow = Learned(), speech(23)
    look, counted = look_at(slow), range_of(MANDARIN)
    lines = 0

    def judge(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        nonlocal lines
        if frame.f_code.co_filename not in (usual.__file__, pace.__file__):
            return None
        sys.settrace(None)  # what judges is not looked at
        lines += 1
        learned.pace.tolerance(counted.usual)
        seen = look_closer(MANDARIN, counted.usual, slow, look, 0.4, learned)
        assert seen is None or seen.reason == "rate"
        sys.settrace(judge)
        return judge

    verifier = Verifier(VerifyConfig(), learned)
    before = sys.gettrace()
    for number in range(60):
        text, audio = text_of(number), speech(23)
        sys.settrace(judge)
        try:
            verifier.check([text], [audio])
        finally:
            sys.settrace(before)
    assert learned.usual.calm.known
    assert lines > 1_000


def test_what_cannot_be_right_is_refused_each_time(known: Verifier) -> None:
    for _ in range(3):
        assert verdict(MANDARIN * 4, speech(20), known) == "short"


# -- the same length ----------------------------------------------------------------------------


def same_length(syllables: int) -> Audio:
    """Return 5 s with as many syllables."""
    sound = samples(speech(syllables))[: 5 * RATE]
    sound += zeros(5 - len(sound) / RATE)
    return Audio(sound.tobytes(), "pcm", RATE, 1, 0, 2 * len(sound))


def test_very_different_texts_with_exactly_the_same_duration_are_refused() -> None:
    verifier = Verifier(VerifyConfig())
    texts = [MANDARIN, MANDARIN * 3, MANDARIN * 4, ENGLISH * 4]
    verdicts = [verdict(text, same_length(30), verifier) for text in texts]
    assert verdicts[2:] == ["same_length"] * 2
    assert verdicts[0] == "good"


def test_texts_of_about_the_same_length_may_have_the_same_duration() -> None:
    verifier = Verifier(VerifyConfig())
    for number in range(20):
        assert verdict(text_of(number), same_length(23), verifier) == "good"


def test_silence_up_to_a_fixed_length_is_no_fault() -> None:
    verifier = Verifier(VerifyConfig())
    for count, text in (
        (5, "今天天气好"),
        (19, MANDARIN),
        (10, "今天天气真好我们走吧"),
        (3, "好的呀"),
    ):
        assert verdict(text, same_length(count), verifier) == "good"


# -- the look -----------------------------------------------------------------------------------


def test_a_look_at_a_view_sees_the_same_as_at_bytes() -> None:
    audio = speech(20)
    view = replace(audio, data=memoryview(bytearray(audio.data)))  # type: ignore[arg-type]
    seen, again = look_at(audio), look_at(view)
    assert seen.heard.count(1) == pytest.approx(again.heard.count(1), abs=12)
    assert (seen.end, seen.early) == (again.end, again.early)


def test_of_several_channels_the_first_is_looked_at() -> None:
    left = samples(speech(20))
    both = array("h", [each for sample in left for each in (sample, 0)]).tobytes()
    seen = look_at(Audio(both, "pcm", RATE, 2, 0, len(both)))
    assert seen.heard.count(1) > LOOKS / 3


def test_what_is_too_short_shows_nothing() -> None:
    assert not any(look_at(of(zeros(0.0))).heard)
    assert look_at(Audio(b"", "pcm", RATE, 1, 0, 0)).heard == bytes(LOOKS)


def test_hiss_is_measured_where_it_stands() -> None:
    assert hiss_seconds(of(hiss(1.0) + samples(speech(8)))) == pytest.approx(1.0, abs=0.1)
    assert hiss_seconds(of(hiss(1.0, 20) + samples(speech(8)))) < 0.15
    assert hiss_seconds(speech(8)) < 0.15


def test_what_is_measured_is_speech_its_span_and_its_pauses() -> None:
    sound = zeros(1) + tone(1) + zeros(0.5) + tone(1) + zeros(2)
    audio = Audio(sound.tobytes(), "pcm", RATE, 1, 0, 2 * len(sound))
    heard, span, rest, silence = measure(audio)
    assert heard == pytest.approx(2.0, abs=0.1)
    assert span == pytest.approx(2.5, abs=0.1)
    assert (rest, silence) == (pytest.approx(0.5, abs=0.1), pytest.approx(2.0, abs=0.1))
