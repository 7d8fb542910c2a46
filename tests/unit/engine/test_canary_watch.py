"""What a canary's watch counts, decides and shares."""

import itertools
from dataclasses import replace

import pytest

from cosy_sync.config import CanaryConfig, Variant
from cosy_sync.engine.canary_watch import CanaryNews, CanaryWatch, parse_state
from cosy_sync.errors import (
    BadAudioError,
    BreakerOpenError,
    ClosedError,
    ConnectError,
    CosyError,
    CutError,
    DeadlineError,
    ReplyTimeout,
    ResourceError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.events import Event
from cosy_sync.models import Audio, Timing, Utterance
from cosy_sync.policies.canary import CanaryState

NUMBERS = itertools.count()
ALL = 1e9


def text() -> Utterance:
    return Utterance(f"今天天气很好{next(NUMBERS) % 10**6:06}")


def audio(seconds: float = 1.2, took: float = 0.1) -> Audio:
    timing = Timing(
        started=0, queued=0, connect=0, first_byte=0, total=took, attempts=1, endpoint="",
        request_id="",
    )  # fmt: skip
    return Audio(b"", "pcm", 24_000, pcm_size=int(48_000 * seconds), timing=timing)


class Told:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


def watch_of(share: float = 0.5, **settings: object) -> tuple[CanaryWatch, Told]:
    config = CanaryConfig(variant=Variant(model="v3", share=share), **settings)  # type: ignore[arg-type]
    watch, told = CanaryWatch(config), Told()
    watch.observer = told  # type: ignore[assignment]
    return watch, told


def speak(
    watch: CanaryWatch, arm: str, times: int, result: Audio | CosyError | None = None
) -> None:
    for _ in range(times):
        watch.note(arm, [text()], [result or audio()], None, ALL)


def fail(watch: CanaryWatch, arm: str, times: int, error: CosyError | None = None) -> None:
    for _ in range(times):
        watch.note(arm, [text()], (), error or UnavailableError("away"), 0.0)


def test_one_that_fails_is_rolled_back_and_stays_so() -> None:
    watch, told = watch_of()
    speak(watch, "control", 50)
    fail(watch, "canary", 20)
    assert (watch.state.state, watch.share, watch.is_over) == ("rolled back", 0.0, True)
    assert [event.state for event in told.events] == ["rolled back"]  # type: ignore[union-attr]
    speak(watch, "canary", 500)
    assert watch.is_over and len(told.events) == 1
    assert watch.arm_of("任何") is None


@pytest.mark.parametrize(
    "error",
    [
        BreakerOpenError("open"),
        ResourceError("no descriptors"),
        ThrottledError("too many"),
        DeadlineError("waiting for a slot"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_says_nothing_of_a_model_is_not_counted(error: CosyError) -> None:
    watch, _ = watch_of()
    speak(watch, "control", 50)
    fail(watch, "canary", 50, error)
    assert not watch.is_over and "canary.failed" not in watch.news().counts


@pytest.mark.parametrize(
    "error",
    [ConnectError("refused"), ReplyTimeout("late"), DeadlineError("late", in_flight=True)],
    ids=lambda error: type(error).__name__,
)
def test_a_service_that_is_away_or_late_counts(error: CosyError) -> None:
    watch, _ = watch_of()
    speak(watch, "control", 50)
    fail(watch, "canary", 20, error)
    assert watch.is_over


def test_a_reply_in_more_than_the_new_ones_time_is_a_failure_of_the_old_one_too() -> None:
    watch, _ = watch_of()
    watch.note("control", [text()], [audio(took=2.0)], None, 1.0)
    assert watch.news().counts["control.failed"] == 1


def test_a_text_that_comes_again_counts_once() -> None:
    watch, _ = watch_of()
    speak(watch, "control", 50)
    hard = Utterance("难")
    for _ in range(100):
        watch.note("canary", [hard], (), UnavailableError("away"), 0.0)
        watch.note("canary", [hard, hard], [audio(seconds=9.0)] * 2, None, ALL)
    assert not watch.is_over and watch.news().counts["canary.failed.of"] == 1


def test_a_reply_of_several_texts_without_any_sound_counts_once() -> None:
    watch, _ = watch_of()
    bad = [BadAudioError("silent")] * 3
    watch.note("canary", [text(), text(), text()], bad, None, ALL)
    assert watch.news().counts == {"canary.failed": 1, "canary.failed.of": 1}
    watch.note("canary", [text(), text(), text()], [audio(), *bad[:2]], None, ALL)
    counts = watch.news().counts
    assert (counts["canary.refused"], counts["canary.refused.of"]) == (2, 3)


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        (audio(took=0.3), "took too long"),
        (audio(seconds=2.4), "too long"),
        (audio(seconds=0.6), "too short"),
        (BadAudioError("silent"), "refused"),
    ],
)
def test_slow_long_short_and_bad_ones_are_rolled_back(odd: Audio | CosyError, word: str) -> None:
    watch, _ = watch_of()
    for _ in range(100):
        speak(watch, "control", 1)
        speak(watch, "canary", 1, odd)
    assert watch.is_over and word in watch.state.reason


def test_one_that_is_as_good_gets_more_texts_only_where_that_is_asked_for() -> None:
    many = {
        f"{arm}.{metric}{end}": 4.0 if not end else 5_000.0
        for arm in ("canary", "control", "stable")
        for metric in ("failed", "refused", "long", "short")
        for end in ("", ".of")
    }
    many |= {"pair.slow": 4.0, "pair.slow.of": 5_000.0}
    for promote, states in ((False, []), (True, [0.25, 0.5, 1.0])):
        watch, told = watch_of(0.2, promote=promote)
        for _ in range(5):
            epoch = str(watch.state.epoch)
            share = "" if watch.state.share is None else str(watch.share)
            state = {"epoch": epoch, "state": watch.state.state, "share": share}
            watch.follow(watch.news(), (state, {}, {}))
            watch.follow(watch.news(), (state, many, {}))
        assert [event.share for event in told.events] == states  # type: ignore[union-attr]
    assert watch.state.state == "promoted" and watch.arm_of("任何") == "canary"


def test_a_worse_one_is_found_while_a_breaker_holds_it_back() -> None:
    watch, _ = watch_of()
    fail(watch, "canary", 30)
    assert not watch.is_over  # nothing is known of the old one
    fail(watch, "canary", 30, BreakerOpenError("open"))
    speak(watch, "stable", 60)
    assert watch.is_over


def test_a_breaker_that_holds_the_new_one_back_does_not_put_the_verdict_off() -> None:
    watch, _ = watch_of()
    fail(watch, "canary", 22)
    speak(watch, "stable", 25)  # every 16th of all is looked at: the next one
    assert not watch.is_over
    fail(watch, "canary", 1, BreakerOpenError("open"))
    assert watch.is_over and "22 of 22" in watch.state.reason


def stream(watch: CanaryWatch, arm: str, times: int, result: Audio | CosyError | None) -> None:
    for _ in range(times):
        watch.note_stream(arm, text(), True, result)


def streamed(first: float = 0.1, took: float = 1.0, seconds: float = 1.2) -> Audio:
    plain = audio(seconds, took)
    assert plain.timing is not None
    return replace(plain, timing=replace(plain.timing, first_audio=first))


@pytest.mark.parametrize(
    ("end", "word"),
    [
        (CutError("the connection ended"), "failed"),
        (ReplyTimeout("no sound for 15 s"), "failed"),
        (BadAudioError("silent"), "refused"),
        (streamed(first=0.3), "took too long"),
        (streamed(seconds=2.4), "too long"),
        (streamed(seconds=0.6), "too short"),
    ],
    ids=["cut", "late", "silent", "first sound", "long", "short"],
)
def test_a_stream_counts_as_it_ends(end: Audio | CosyError, word: str) -> None:
    watch, _ = watch_of()
    for _ in range(100):
        stream(watch, "control", 1, streamed())
        stream(watch, "canary", 1, end)
    assert watch.is_over and word in watch.state.reason


@pytest.mark.parametrize("end", [None, ClosedError("closed"), streamed(took=9.0)])
def test_a_stream_that_somebody_left_or_heard_slowly_says_nothing_against_it(
    end: Audio | CosyError | None,
) -> None:
    watch, _ = watch_of()
    stream(watch, "control", 100, streamed())
    stream(watch, "canary", 100, end)
    assert not watch.is_over and not watch.news().counts.get("canary.failed")


def test_a_stream_that_was_given_no_text_is_no_error() -> None:
    watch, _ = watch_of()
    for arm in ("canary", "control"):
        watch.note_stream(arm, Utterance(""), True, streamed())


def test_texts_that_were_the_new_ones_stay_so_while_its_share_grows() -> None:
    watch, _ = watch_of(0.05)
    texts = [f"第{number}句" for number in range(2_000)]
    before = {text for text in texts if watch.arm_of(text) == "canary"}
    watch.state = CanaryState(1, "running", 0.5)
    assert before and before <= {text for text in texts if watch.arm_of(text) == "canary"}


def test_counts_of_other_processes_are_added_and_nothing_twice() -> None:
    watch, _ = watch_of()
    speak(watch, "control", 3)
    news = watch.news()
    assert news.counts["control.failed.of"] == 3
    speak(watch, "control", 2)  # while Redis was asked
    of_all = {"control.failed.of": 10.0, "control.refused.of": 10.0}
    watch.follow(news, ({"epoch": "0", "state": "running"}, of_all, {}))
    assert watch.news().counts == {"control.failed.of": 2, "control.refused.of": 2}
    speak(watch, "control", 1)
    assert watch.news().counts["control.failed.of"] == 3


def test_what_others_decided_is_followed_and_an_own_decision_is_told_first() -> None:
    watch, told = watch_of()
    fields = {"epoch": "4", "state": "rolled back", "share": "0", "reason": "slow"}
    watch.follow(watch.news(), (fields, {}, {}))
    assert watch.state == parse_state(fields) and watch.is_over
    watch.follow(watch.news(), ({"epoch": "5", "state": "running", "share": ""}, {}, {}))
    assert watch.share == 0.5 and len(told.events) == 2
    before: CanaryNews = watch.news()
    speak(watch, "control", 50)
    fail(watch, "canary", 20)
    # It was asked before the decision: what it says is old.
    watch.follow(before, ({"epoch": "5", "state": "running", "share": ""}, {}, {}))
    assert watch.is_over and watch.news().decided
    assert watch.news().state == replace(watch.state, epoch=6)


def test_a_forked_child_keeps_what_was_decided_and_counts_anew() -> None:
    watch, _ = watch_of()
    speak(watch, "control", 3)
    watch.renew()
    assert not watch.news().counts
    speak(watch, "control", 50)
    fail(watch, "canary", 20)
    watch.renew()
    assert watch.is_over
