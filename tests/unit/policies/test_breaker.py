from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import suppress

import pybreaker
import pytest
from interrupts import interrupt_at

from cosy_sync.config import BreakerConfig
from cosy_sync.errors import (
    BadRequestError,
    BreakerOpenError,
    ClosedError,
    ReplyTimeout,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.policies import Admission, Breaker, Call

START = 1_000.0
DOWN = UnavailableError("down")
THROTTLED = ThrottledError("too many")
HALF = 0.5  # the draw that leaves the open time as configured


def breaker(
    *,
    on_change: Callable[[str, str], None] | None = None,
    listeners: tuple[pybreaker.CircuitBreakerListener, ...] = (),
    draw: float = HALF,
    **settings,
) -> Breaker:
    config = BreakerConfig(**settings)
    return Breaker(config, "tts", on_change=on_change, listeners=listeners, random=lambda: draw)


def calls(subject: Breaker, good: int, bad: int, now: float = START) -> None:
    """Make calls that end at once, the good ones first."""
    for error in [None] * good + [DOWN] * bad:
        subject.record(subject.admit(now), error, now)


def opened(**settings) -> Breaker:
    subject = breaker(**settings)
    calls(subject, 0, subject._config.min_calls)
    assert subject.state == "open"
    return subject


def probing(**settings) -> tuple[Breaker, list[Admission]]:
    """Return a half-open breaker with all its probes under way, at START + 30."""
    subject = opened(**settings)
    return subject, [subject.admit(START + 30.0) for _ in range(subject._config.probes)]


def refusal(subject: Breaker, now: float) -> BreakerOpenError:
    with pytest.raises(BreakerOpenError) as caught:
        subject.admit(now)
    return caught.value


class Diary(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.entries: list[str] = []

    def success(self, cb):
        self.entries.append("success")

    def failure(self, cb, exc):
        self.entries.append(f"failure {exc}")

    def state_change(self, cb, old_state, new_state):
        self.entries.append(f"{old_state.name} -> {new_state.name}")


class Broken(pybreaker.CircuitBreakerListener):
    def success(self, cb):
        raise ValueError("success")

    def failure(self, cb, exc):
        raise ValueError("failure")

    def state_change(self, cb, old_state, new_state):
        raise ValueError("state_change")


# Closed


def test_a_new_breaker_is_closed_and_admits():
    subject = breaker()
    assert subject.state == "closed"
    assert subject.remaining(START) == 0.0
    assert not subject.admit(START).probe
    assert repr(subject) == "<Breaker tts closed>"


def test_a_new_breaker_does_not_seem_dead():
    assert not breaker(min_calls=1).seems_dead


def test_while_closed_it_admits_without_its_lock():
    subject = breaker()
    subject._lock = None  # whoever took it would fail
    assert not subject.admit(START).probe


def test_it_opens_at_half_failures_of_20_calls():
    subject = breaker()
    calls(subject, 10, 9)
    assert subject.state == "closed"
    calls(subject, 0, 1)
    assert subject.state == "open"


def test_it_never_opens_below_min_calls():
    subject = breaker()
    calls(subject, 0, 19)
    assert subject.state == "closed"


def test_it_stays_closed_below_the_ratio():
    subject = breaker()
    calls(subject, 500, 499)
    assert subject.state == "closed"


def fail(subject: Breaker, times: int, now: float, error: Exception = DOWN) -> None:
    for _ in range(times):
        if subject.state == "closed":
            subject.record(subject.admit(now), error, now)


def test_nothing_but_failures_for_a_while_opens_it_whatever_came_before():
    subject = breaker()
    calls(subject, 1_000, 0)
    fail(subject, 30, START + 1.0)
    fail(subject, 1, START + 2.5 - 1e-6)
    assert subject.state == "closed"
    fail(subject, 1, START + 2.5)
    assert subject.state == "open"
    assert "32 calls in a row failed in 1.5 s" in str(refusal(subject, START + 2.5))


def test_a_few_failures_in_a_row_do_not_open_it():
    subject = breaker()
    calls(subject, 1_000, 0)
    fail(subject, 10, START + 1.0)
    fail(subject, 9, START + 4.0)
    assert subject.state == "closed"
    fail(subject, 1, START + 4.0)
    assert subject.state == "open"


def test_one_success_ends_the_row():
    subject = breaker()
    calls(subject, 1_000, 0)
    fail(subject, 30, START + 1.0)
    subject.record(subject.admit(START + 2.0), None, START + 2.0)
    fail(subject, 30, START + 3.0)
    fail(subject, 1, START + 4.5 - 1e-6)
    assert subject.state == "closed"
    assert subject.seems_dead


def test_a_row_that_outlasts_the_window_begins_anew():
    subject = breaker(window=2.0)
    calls(subject, 1_000, 0)
    fail(subject, 19, START + 1.0)
    calls(subject, 0, 0)
    fail(subject, 1, START + 3.0)
    assert not subject.seems_dead


def test_late_answers_are_no_sign_of_death():
    subject = breaker()
    calls(subject, 1_000, 0)
    fail(subject, 30, START + 1.0, ReplyTimeout("late"))
    fail(subject, 30, START + 4.0, ReplyTimeout("late"))
    assert subject.state == "closed" and not subject.seems_dead


def test_it_seems_dead_from_min_calls_failures_in_a_row_until_it_is_closed_again():
    subject = breaker(dead_after=9.0)
    calls(subject, 1_000, 0)
    fail(subject, 19, START)
    assert not subject.seems_dead
    fail(subject, 1, START)
    assert subject.seems_dead and subject.state == "closed"
    subject = opened()
    assert subject.seems_dead
    for probe in [subject.admit(START + 30.0) for _ in range(5)]:
        subject.record(probe, None, START + 30.0)
    assert subject.state == "closed" and not subject.seems_dead


def test_it_counts_a_share_not_a_row():
    subject = breaker()
    for _ in range(4):
        calls(subject, 1, 4)
    assert subject.state == "open"


def test_only_a_failure_opens_it():
    subject = breaker()
    calls(subject, 0, 19)
    calls(subject, 1, 0)
    assert subject.state == "closed"
    calls(subject, 0, 1)
    assert subject.state == "open"


def test_a_ratio_is_met_exactly_in_spite_of_rounding():
    subject = breaker(failure_ratio=0.55)
    calls(subject, 9, 11)
    assert subject.state == "open"


@pytest.mark.parametrize("later", [10.0, 11.0, 15.0, 19.0, 20.0, 25.0, 3_600.0])
def test_calls_leave_the_window_after_its_length(later):
    subject = breaker()
    calls(subject, 0, 19, now=START)
    calls(subject, 0, 19, now=START + later)
    assert subject.state == "closed"
    calls(subject, 0, 1, now=START + later)
    assert subject.state == "open"


def test_calls_stay_in_the_window_for_nine_tenths_of_its_length():
    subject = breaker()
    calls(subject, 0, 19, now=START)
    calls(subject, 0, 1, now=START + 9.0)
    assert subject.state == "open"


@pytest.mark.parametrize(("later", "calls_left"), [(4.5, 2), (5.0, 1)])
@pytest.mark.parametrize("error", [None, DOWN])
def test_the_window_may_have_another_length(later, calls_left, error):
    subject = breaker(window=5.0)
    for now in (START, START + later):
        subject.record(subject.admit(now), error, now)
    assert subject._failed.all == calls_left


def test_the_window_slides_bucket_by_bucket():
    subject = breaker(min_calls=20)
    for second in range(60):  # 10 calls of which 2 failed in any 10 seconds: then it gets worse
        subject.record(
            subject.admit(START + second), DOWN if second % 5 == 0 else None, START + second
        )
    assert (subject._failed.all, subject._failed.some) == (10, 2)
    calls(subject, 0, 9, now=START + 59.0)
    assert subject.state == "closed"
    calls(subject, 0, 1, now=START + 59.0)
    assert subject.state == "open"


def test_a_now_from_a_moment_ago_counts_in_the_newest_bucket():
    subject = breaker()
    calls(subject, 0, 10, now=START + 5.0)
    calls(subject, 0, 10, now=START - 5.0)
    assert subject.state == "open"


@pytest.mark.parametrize("error", [THROTTLED, BadRequestError("no"), ClosedError("closed")])
def test_what_does_not_trip_neither_fails_nor_heals(error):
    subject = breaker()
    for _ in range(100):
        subject.record(subject.admit(START), error, START)
    assert subject._failed.all == 0
    calls(subject, 0, 20)
    assert subject.state == "open"


# Open


def test_an_open_breaker_refuses_and_says_how_long_and_why():
    subject = breaker(min_calls=40, failure_ratio=0.62)
    calls(subject, 15, 25)
    error = refusal(subject, START + 17.7)
    assert error.message == (
        "breaker open after 62 % of 40 calls failed in 10 s; it lets probes through in 12.3 s"
    )
    assert error.retry_after == pytest.approx(12.3)
    assert error.endpoint == "tts"
    assert not error.sent and error.retryable


def test_remaining_counts_down_to_0():
    subject = opened()
    assert subject.remaining(START) == 30.0
    assert subject.remaining(START + 29.0) == 1.0
    assert subject.remaining(START + 31.0) == 0.0


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 27.0), (HALF, 30.0), (1.0, 33.0)])
def test_the_open_time_is_jittered(draw, seconds):
    assert opened(draw=draw).remaining(START) == pytest.approx(seconds)


def test_each_opening_draws_its_own_time():
    draws = iter([0.0] * 20 + [1.0])
    subject = Breaker(BreakerConfig(), "tts", random=lambda: next(draws))
    calls(subject, 0, 20)
    assert subject.remaining(START) == pytest.approx(27.0)
    subject.record(subject.admit(START + 27.1), DOWN, START + 27.1)
    assert subject.remaining(START + 27.1) == pytest.approx(33.0)


def test_results_from_before_the_opening_neither_extend_nor_end_it():
    subject = breaker()
    late = [subject.admit(START) for _ in range(3)]
    calls(subject, 0, 20)
    for admission, error in zip(late, [None, DOWN, THROTTLED], strict=True):
        subject.record(admission, error, START + 20.0)
    assert subject.state == "open"
    assert subject.remaining(START + 20.0) == 10.0


# Half-open


def test_after_the_open_time_exactly_the_probes_go_through():
    subject, probes = probing()
    assert len(probes) == 5
    assert all(admission.probe for admission in probes)
    assert subject.state == "half-open"
    error = refusal(subject, START + 30.0)
    assert error.message == ("breaker half-open, all its probes are in flight; ask again in 0.5 s")
    assert error.retry_after == subject.remaining(START + 30.0) == 0.5


def test_all_probes_must_succeed_to_close():
    subject, probes = probing()
    for admission in probes[:-1]:
        subject.record(admission, None, START + 31.0)
        assert subject.state == "half-open"
        refusal(subject, START + 31.0)
    subject.record(probes[-1], None, START + 31.0)
    assert subject.state == "closed"
    assert subject.remaining(START + 31.0) == 0.0


def test_a_closed_breaker_has_forgotten_the_old_failures():
    subject = opened(open_for=1.0, probes=1)
    subject.record(subject.admit(START + 1.0), None, START + 1.0)
    calls(subject, 0, 19, now=START + 1.0)
    assert subject.state == "closed"


def test_a_closed_breaker_counts_from_nothing_and_opens_again():
    subject, probes = probing(probes=1, min_calls=1)
    subject.record(probes[0], None, START + 31.0)
    assert not subject.seems_dead
    calls(subject, 0, 1, now=START + 31.0)
    assert subject.state == "open"


def test_the_good_probes_of_a_failed_round_do_not_count_in_the_next():
    subject, probes = probing(probes=3)
    subject.record(probes[0], None, START + 31.0)
    subject.record(probes[1], None, START + 31.0)
    subject.record(probes[2], DOWN, START + 31.0)
    again = [subject.admit(START + 61.0) for _ in range(3)]
    subject.record(again[0], None, START + 61.0)
    assert subject.state == "half-open"


def test_one_failed_probe_opens_it_afresh():
    subject, probes = probing()
    subject.record(probes[0], None, START + 31.0)
    subject.record(probes[1], ReplyTimeout("slow"), START + 40.0)
    assert subject.state == "open"
    error = refusal(subject, START + 40.0)
    assert error.message == "breaker open after a probe failed; it lets probes through in 30.0 s"


def test_the_other_probes_of_a_failed_round_count_for_nothing():
    subject, probes = probing()
    subject.record(probes[0], DOWN, START + 31.0)
    for admission, error in zip(probes[1:], [None, DOWN, THROTTLED, None], strict=True):
        subject.record(admission, error, START + 35.0)
    assert subject.remaining(START + 35.0) == 26.0
    again = [subject.admit(START + 61.0) for _ in range(5)]
    for admission in probes:
        subject.record(admission, DOWN, START + 61.0)
    refusal(subject, START + 61.0)
    for admission in again:
        subject.record(admission, None, START + 61.0)
    assert subject.state == "closed"


def test_a_lost_place_is_given_away_beside_probes_that_succeeded():
    subject, probes = probing(probes=2)
    subject.record(probes[0], None, START + 31.0)
    assert subject.admit(START + 90.0).probe
    refusal(subject, START + 90.0)


def test_a_throttled_probe_gives_its_place_back():
    subject, probes = probing()
    subject.record(probes[0], THROTTLED, START + 31.0)
    assert subject.state == "half-open"
    assert subject.remaining(START + 31.0) == 0.0
    assert subject.admit(START + 31.0).probe
    refusal(subject, START + 31.0)


def test_a_throttled_probe_that_lost_its_place_takes_nobodys():
    subject, probes = probing(probes=1)
    another = subject.admit(START + 90.0)
    subject.record(probes[0], THROTTLED, START + 91.0)
    refusal(subject, START + 91.0)
    subject.record(another, None, START + 91.0)
    assert subject.state == "closed"


def test_a_probe_counts_once_however_often_it_reports():
    subject, probes = probing(probes=2)
    for _ in range(3):
        subject.record(probes[0], None, START + 31.0)
    subject.record(probes[0], DOWN, START + 31.0)
    assert subject.state == "half-open"
    subject.record(probes[1], None, START + 31.0)
    assert subject.state == "closed"


def test_a_probe_that_never_reports_gives_its_place_away_after_its_lease():
    subject, probes = probing(probes=1)
    refusal(subject, START + 89.9)
    assert subject.remaining(START + 89.9) == pytest.approx(0.1)
    assert subject.remaining(START + 90.0) == 0.0
    another = subject.admit(START + 90.0)
    refusal(subject, START + 90.0)
    subject.record(probes[0], DOWN, START + 91.0)  # its place is another's
    assert subject.state == "half-open"
    subject.record(another, None, START + 91.0)
    assert subject.state == "closed"


def test_a_probe_past_its_lease_counts_while_nobody_has_its_place():
    subject, probes = probing(probes=1)
    subject.record(probes[0], None, START + 200.0)
    assert subject.state == "closed"


def test_only_the_expired_place_is_given_away():
    subject = opened(probes=2)
    subject.admit(START + 30.0)
    subject.admit(START + 60.0)
    subject.admit(START + 90.0)
    refusal(subject, START + 90.0)


def test_a_call_that_waited_for_the_lock_finds_the_breaker_closed():
    subject, probes = probing(probes=1)
    subject.record(probes[0], None, START + 31.0)
    # As if it had looked for a ticket before that and waited for the lock since.
    assert not subject._admit_probe(START + 31.0, Call()).probe
    assert subject.remaining(START + 31.0) == 0.0


def test_remaining_asks_again_under_the_lock():
    subject = breaker()
    subject.ticket = None  # as another thread's half-done change would look without the lock
    assert subject.remaining(START) == 0.0


# Slow calls


def slow_calls(subject: Breaker, quick: int, slow: int, seconds: float = 2.0) -> None:
    for each in [1.9] * quick + [seconds] * slow:
        subject.record(subject.admit(START), None, START, each)


def test_slow_calls_count_only_when_asked_for():
    subject = breaker()
    slow_calls(subject, 0, 100, seconds=3_600.0)
    assert subject.state == "closed"


def test_a_call_of_which_no_length_is_known_is_not_slow():
    subject = breaker(slow_call=0.5)
    calls(subject, 100, 0)
    assert (subject.state, subject._slow.some) == ("closed", 0)


def test_it_opens_at_the_share_of_slow_calls_exactly_and_says_so():
    subject = breaker(slow_call=2.0, slow_ratio=0.55)
    slow_calls(subject, 9, 10)
    assert subject.state == "closed"
    slow_calls(subject, 0, 1)
    assert subject.state == "open"
    assert refusal(subject, START).message == (
        "breaker open after 55 % of 20 calls took 2 s or longer in 10 s; "
        "it lets probes through in 30.0 s"
    )


def test_half_of_the_calls_slow_is_enough_unless_said_otherwise():
    subject = breaker(slow_call=2.0)
    slow_calls(subject, 11, 10)
    assert subject.state == "closed"
    slow_calls(subject, 0, 1)
    assert subject.state == "open"


def test_slow_calls_never_open_it_below_min_calls():
    subject = breaker(slow_call=2.0)
    slow_calls(subject, 0, 19)
    assert subject.state == "closed"


def test_only_a_slow_call_opens_it_for_slowness():
    subject = breaker(slow_call=2.0)
    slow_calls(subject, 0, 19)
    slow_calls(subject, 1, 0)
    assert subject.state == "closed"


def test_a_slow_failure_counts_as_both():
    subject = breaker(slow_call=2.0, failure_ratio=1.0)
    slow_calls(subject, 10, 0)
    for _ in range(10):
        subject.record(subject.admit(START), DOWN, START, 2.0)
    assert refusal(subject, START).message.startswith("breaker open after 50 % of 20 calls took")
    subject = breaker(slow_call=2.0, slow_ratio=1.0)
    slow_calls(subject, 10, 0)
    for _ in range(10):
        subject.record(subject.admit(START), DOWN, START, 2.0)
    assert "50 % of 20 calls failed" in refusal(subject, START).message


def test_a_quick_failure_is_not_slow():
    subject = breaker(slow_call=2.0, failure_ratio=1.0)
    slow_calls(subject, 10, 0)
    for _ in range(10):
        subject.record(subject.admit(START), DOWN, START, 1.9)
    assert (subject.state, subject._slow.some) == ("closed", 0)


def test_what_does_not_trip_is_not_slow_either():
    subject = breaker(slow_call=2.0)
    for _ in range(30):
        subject.record(subject.admit(START), THROTTLED, START, 9.0)
    assert (subject._failed.all, subject._slow.some) == (0, 0)


def test_slow_calls_leave_the_window():
    subject = breaker(slow_call=2.0)
    slow_calls(subject, 0, 19)
    subject.record(subject.admit(START + 10.0), None, START + 10.0, 2.0)
    assert (subject._failed.all, subject._slow.some) == (1, 1)


def test_a_slow_probe_opens_it_afresh():
    subject, probes = probing(slow_call=2.0)
    subject.record(probes[0], None, START + 31.0, 1.9)
    assert subject.state == "half-open"
    subject.record(probes[1], None, START + 32.0, 2.0)
    error = refusal(subject, START + 32.0)
    assert error.message == "breaker open after a probe was slow; it lets probes through in 30.0 s"


def test_a_slow_success_is_a_success_to_listeners():
    diary = Diary()
    subject = breaker(listeners=(diary,), slow_call=2.0)
    slow_calls(subject, 0, 1)
    assert diary.entries == ["success"]


# Early probes

BULK = Call(patient=True)
FAILED_BULK = Call(patient=True, again=True)


def early_probes(subject: Breaker, error: Exception, until: float) -> list[float]:
    """Let a patient caller ask as soon as it may, until that instant; return when it was let in."""
    now, seconds = START, []
    while now < until and subject.state == "open":
        wait = subject.remaining(now, BULK)
        if wait:
            now += wait
            continue
        subject.record(subject.admit(now, BULK), error, now)
        seconds.append(now - START)
    return seconds


def test_a_patient_caller_probes_an_open_breaker_early_and_ever_more_rarely():
    seconds = early_probes(opened(), DOWN, START + 9.5)
    assert seconds == pytest.approx([0.5, 1.25, 2.25, 3.25, 4.25, 5.25, 6.25, 7.25, 8.25, 9.25])


def test_the_early_probes_follow_the_open_time():
    seconds = early_probes(opened(open_for=300.0), DOWN, START + 50.0)
    assert seconds == pytest.approx([5.0, 12.5, 22.5, 32.5, 42.5])


def test_an_impatient_caller_waits_for_the_whole_open_time():
    subject = opened()
    early_probes(subject, DOWN, START + 5.0)
    assert subject.remaining(START + 10.0) == 20.0
    assert refusal(subject, START + 10.0).retry_after == 20.0


def test_an_early_probe_that_fails_changes_no_state_and_ends_no_open_time():
    told: list[tuple[str, str]] = []
    subject = opened(on_change=lambda old, new: told.append((old, new)))
    early_probes(subject, DOWN, START + 29.9)
    assert told == [("closed", "open")]
    assert subject.remaining(START + 30.0) == 0.0


def test_early_probes_go_one_at_a_time():
    subject = opened()
    subject.admit(START + 0.5, BULK)
    with pytest.raises(BreakerOpenError) as caught:
        subject.admit(START + 0.6, BULK)
    assert caught.value.retry_after == pytest.approx(0.5)  # it may be half-open by then
    assert subject.remaining(START + 0.6) == pytest.approx(29.4)


def test_an_early_probe_that_does_not_report_is_not_the_last_one():
    subject = opened()
    subject.admit(START + 0.5, BULK)
    with pytest.raises(BreakerOpenError):
        subject.admit(START + 5.4, BULK)
    assert subject.admit(START + 5.5, BULK).probe


def test_an_early_probe_that_succeeds_lets_the_other_probes_through():
    subject = opened()
    subject.record(subject.admit(START + 0.5, BULK), None, START + 0.6)
    assert subject.state == "half-open"
    others = [subject.admit(START + 0.6) for _ in range(4)]
    refusal(subject, START + 0.6)
    for probe in others:
        subject.record(probe, None, START + 0.7)
    assert subject.state == "closed"


def test_an_early_probe_may_close_it_alone():
    subject = opened(probes=1)
    subject.record(subject.admit(START + 0.5, BULK), None, START + 0.6)
    assert subject.state == "closed"


def test_an_early_probe_that_says_nothing_lets_another_go():
    subject = opened()
    subject.record(subject.admit(START + 0.5, BULK), THROTTLED, START + 0.6)
    assert subject.remaining(START + 0.6, BULK) == pytest.approx(0.5)
    assert subject.admit(START + 1.1, BULK).probe


def test_early_probes_begin_anew_with_each_opening():
    subject, probes = probing()
    subject.record(probes[0], DOWN, START + 30.0)
    assert subject.remaining(START + 30.0, BULK) == 0.5


@pytest.mark.parametrize("state", ["early", "half-open"])
def test_texts_that_have_not_failed_go_first(state):
    subject = opened()
    now = START + (0.5 if state == "early" else 30.0)
    if state == "half-open":
        lost = subject.admit(now)
        subject.record(lost, THROTTLED, now)
    assert subject.remaining(now, FAILED_BULK) == pytest.approx(0.25)
    assert subject.remaining(now, BULK) == 0.0
    assert subject.admit(now + 0.25, FAILED_BULK).probe


def test_a_failed_text_needs_no_patience_once_a_probe_succeeded():
    subject = opened()
    subject.record(subject.admit(START + 0.5, BULK), None, START + 0.6)
    assert subject.remaining(START + 0.6, FAILED_BULK) == 0.0


# One kind of request


def opened_by(kind: int) -> Breaker:
    subject = breaker()
    for _ in range(20):
        subject.record(subject.admit(START, Call(kind)), DOWN, START, failing_kind=kind)
    assert subject.state == "open"
    return subject


def test_where_one_kind_of_request_failed_others_are_probes_at_any_time():
    subject = opened_by(7)
    probes = [subject.admit(START, Call(8)) for _ in range(5)]
    assert all(probe.probe for probe in probes)
    with pytest.raises(BreakerOpenError):
        subject.admit(START, Call(8))
    with pytest.raises(BreakerOpenError):
        subject.admit(START, Call(7))


def test_the_success_of_another_kind_closes_it():
    told: list[str] = []
    subject = breaker(on_change=lambda old, new: told.append(new))
    for _ in range(20):
        subject.record(subject.admit(START), DOWN, START, failing_kind=0)
    subject.record(subject.admit(START + 1.0, Call(8)), None, START + 1.1)
    assert subject.state == "closed"
    assert told == ["open", "half-open", "closed"]


def test_once_two_kinds_failed_it_is_open_for_all():
    subject = opened_by(7)
    subject.record(subject.admit(START, Call(8)), DOWN, START, failing_kind=None)
    for kind in (7, 8, 9):
        with pytest.raises(BreakerOpenError):
            subject.admit(START, Call(kind))


# What others decided


@pytest.mark.parametrize(("age", "left"), [(0.0, 30.0), (12.0, 18.0), (30.0, 0.0), (99.0, 0.0)])
def test_it_opens_with_others_for_what_is_left(age, left):
    subject = breaker()
    subject.follow("open", START, age)
    assert subject.state == "open"
    assert subject.remaining(START) == left


def test_the_refusal_says_that_others_had_troubles():
    subject = breaker()
    subject.follow("open", START, 18.0)
    assert refusal(subject, START).message == (
        "breaker open after troubles that another process had; it lets probes through in 12.0 s"
    )


def test_following_draws_an_open_time_of_its_own():
    subject = breaker(draw=1.0)
    subject.follow("open", START, 1.0)
    assert subject.remaining(START) == pytest.approx(32.0)


@pytest.mark.parametrize("state", ["open", "half-open"])
def test_an_open_breaker_keeps_its_own_time_whatever_others_do(state):
    subject = opened()
    subject.follow(state, START + 20.0)
    assert subject.state == "open"
    assert subject.remaining(START + 20.0) == 10.0


def test_a_half_open_breaker_opens_with_others_and_forgets_its_probes():
    subject, probes = probing()
    subject.follow("open", START + 31.0)
    assert subject.remaining(START + 31.0) == 30.0
    subject.record(probes[0], DOWN, START + 40.0)
    assert subject.remaining(START + 40.0) == 21.0


def test_a_half_open_breaker_goes_on_probing_while_others_probe():
    subject, probes = probing()
    subject.follow("half-open", START + 31.0)
    refusal(subject, START + 31.0)
    for probe in probes:
        subject.record(probe, None, START + 31.0)
    assert subject.state == "closed"


def test_a_closed_breaker_only_probes_while_others_probe():
    subject = breaker(probes=2)
    before = subject.admit(START)
    subject.follow("half-open", START)
    probes = [subject.admit(START), subject.admit(START)]
    assert all(probe.probe for probe in probes)
    refusal(subject, START)
    subject.record(before, DOWN, START)
    assert subject.state == "half-open"


@pytest.mark.parametrize("make", [opened, lambda: probing()[0]], ids=["open", "half-open"])
def test_it_closes_with_others_and_has_forgotten_the_old_failures(make):
    subject = make()
    subject.follow("closed", START)
    assert (subject.state, subject._failed.all) == ("closed", 0)
    assert not subject.admit(START).probe


def test_a_closed_breaker_stays_as_it_is_when_others_close():
    told: list[tuple[str, str]] = []
    subject = breaker(on_change=lambda old, new: told.append((old, new)))
    calls(subject, 0, 19)
    subject.follow("closed", START)
    assert (subject._failed.all, told) == (19, [])


def test_what_is_followed_is_told_like_every_change():
    told: list[tuple[str, str]] = []
    subject = breaker(on_change=lambda old, new: told.append((old, new)))
    subject.follow("open", START)
    subject.follow("closed", START)
    assert told == [("closed", "open"), ("open", "closed")]
    assert subject.ledger.current_state == "closed"


# Ledger and listeners


def test_changes_are_told_in_order():
    told: list[tuple[str, str]] = []
    subject, probes = probing(on_change=lambda old, new: told.append((old, new)), probes=1)
    subject.record(probes[0], DOWN, START + 31.0)
    subject.record(subject.admit(START + 61.0), None, START + 61.0)
    assert told == [
        ("closed", "open"),
        ("open", "half-open"),
        ("half-open", "open"),
        ("open", "half-open"),
        ("half-open", "closed"),
    ]


def test_the_ledger_follows_every_change():
    subject = breaker(probes=1)
    assert isinstance(subject.ledger, pybreaker.CircuitBreaker)
    assert subject.ledger.name == "tts"
    states = [subject.ledger.current_state]
    calls(subject, 0, 20)
    states.append(subject.ledger.current_state)
    admission = subject.admit(START + 30.0)
    states.append(subject.ledger.current_state)
    subject.record(admission, None, START + 30.0)
    states.append(subject.ledger.current_state)
    assert states == ["closed", "open", "half-open", "closed"]


def test_listeners_hear_of_changes_and_of_calls_that_counted():
    diary = Diary()
    subject = breaker(listeners=(diary,), min_calls=2, probes=1)
    late = subject.admit(START)
    calls(subject, 1, 1)
    subject.record(late, None, START)
    probe = subject.admit(START + 30.0)
    subject.record(probe, None, START + 30.0)
    subject.record(probe, None, START + 30.0)
    subject.record(subject.admit(START + 30.0), THROTTLED, START + 30.0)
    assert diary.entries == [
        "success",
        "failure down",
        "closed -> open",
        "open -> half-open",
        "success",
        "half-open -> closed",
    ]


def test_listeners_hear_of_a_failed_probe_and_of_no_late_failure():
    diary = Diary()
    subject = breaker(listeners=(diary,), min_calls=1, probes=1)
    late = subject.admit(START)
    calls(subject, 0, 1)
    subject.record(late, DOWN, START)
    lost = subject.admit(START + 30.0)
    probe = subject.admit(START + 90.0)  # takes the place of the lost one
    for error in (None, DOWN):
        subject.record(lost, error, START + 90.0)
    subject.record(probe, DOWN, START + 90.0)
    assert diary.entries == [
        "failure down",
        "closed -> open",
        "open -> half-open",
        "failure down",
        "half-open -> open",
    ]


def test_listeners_are_told_whose_call_it_was():
    class Register(pybreaker.CircuitBreakerListener):
        def success(self, cb):
            names.append(cb.name)

        def failure(self, cb, exc):
            names.append(cb.name)

        def state_change(self, cb, old_state, new_state):
            names.append(cb.name)

    names: list[str] = []
    subject = breaker(listeners=(Register(),), min_calls=2)
    calls(subject, 1, 1)
    assert names == ["tts"] * 3


def test_a_listener_added_to_the_ledger_hears_of_changes():
    diary = Diary()
    subject = breaker()
    subject.ledger.add_listener(diary)
    calls(subject, 0, 20)
    assert diary.entries == ["closed -> open"]


def test_a_listener_that_raises_disturbs_nobody_and_is_reported(monkeypatch):
    reported: list[str] = []
    types: set[type[BaseException]] = set()

    def hook(told: threading.ExceptHookArgs) -> None:
        reported.append(str(told.exc_value))
        types.add(told.exc_type)

    monkeypatch.setattr(threading, "excepthook", hook)

    def on_change(old: str, new: str) -> None:
        raise ValueError(f"on_change {new}")

    diary = Diary()
    subject = breaker(listeners=(Broken(), diary), on_change=on_change, min_calls=2, probes=1)
    calls(subject, 1, 1)
    subject.record(subject.admit(START + 30.0), None, START + 30.0)
    assert subject.state == subject.ledger.current_state == "closed"
    assert len(diary.entries) == 6
    assert reported[:4] == ["success", "failure", "state_change", "on_change open"]
    assert types == {ValueError}


def test_ctrl_c_in_a_listener_reaches_the_thread_and_later_changes_are_told():
    told: list[str] = []

    def on_change(old: str, new: str) -> None:
        told.append(new)
        if new == "open":
            raise KeyboardInterrupt

    subject = breaker(on_change=on_change, min_calls=1)
    with pytest.raises(KeyboardInterrupt):
        calls(subject, 0, 1)
    subject.admit(START + 30.0)
    assert told == ["open", "half-open"]


def test_a_callback_may_use_the_breaker():
    told: list[str] = []

    def on_change(old: str, new: str) -> None:
        told.append(new)
        if new == "open":
            subject.admit(START + 60.0)  # half-open, told after this one

    subject = breaker(on_change=on_change, min_calls=1)
    calls(subject, 0, 1)
    assert told == ["open", "half-open"]


# Threads


def together(count: int, work: Callable[[], None]) -> None:
    """Run the work on so many threads that start at once; raise what one of them raised."""
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            barrier.wait(10)
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]


def test_16_threads_share_exactly_the_probes_of_a_round():
    subject = opened()
    admitted: list[Admission] = []
    refused: list[BreakerOpenError] = []

    def ask() -> None:
        try:
            admitted.append(subject.admit(START + 30.0))
        except BreakerOpenError as error:
            refused.append(error)

    together(16, ask)
    assert len(admitted) == len(set(admitted)) == 5
    assert len(refused) == 11
    assert subject.ledger.current_state == "half-open"
    together(5, lambda: subject.record(admitted.pop(), None, START + 31.0))
    assert subject.state == subject.ledger.current_state == "closed"


@pytest.mark.parametrize("listeners", [(), (Diary(),)], ids=["bare", "with a listener"])
def test_overlapping_calls_do_not_serialise(listeners):
    subject = breaker(listeners=listeners)
    inside = threading.Barrier(16)

    def call() -> None:
        admission = subject.admit(START)
        inside.wait(10)  # passes only with all 16 in their calls at the same time
        subject.record(admission, None, START)

    together(16, call)
    assert subject._failed.all == 16


def test_overlapping_probes_do_not_serialise():
    subject = opened()
    inside = threading.Barrier(5)

    def probe() -> None:
        admission = subject.admit(START + 30.0)
        inside.wait(10)
        subject.record(admission, None, START + 31.0)

    together(5, probe)
    assert subject.state == "closed"


def test_a_slow_listener_holds_up_no_other_thread():
    entered, leave = threading.Event(), threading.Event()
    told: list[tuple[str, str]] = []

    def on_change(old: str, new: str) -> None:
        if new == "open":
            entered.set()
            assert leave.wait(60)
        told.append((old, new))

    subject = breaker(on_change=on_change, min_calls=1, probes=1)
    slow = threading.Thread(target=calls, args=(subject, 0, 1))
    slow.start()
    assert entered.wait(60)
    refusal(subject, START + 1.0)
    subject.record(subject.admit(START + 30.0), None, START + 30.0)
    assert subject.state == "closed"
    assert told == []  # not ahead of the change that is being told
    leave.set()
    slow.join(10)
    assert told == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]


def test_changes_by_many_threads_are_told_once_each_and_in_order():
    told: list[tuple[str, str]] = []
    subject = breaker(
        on_change=lambda old, new: told.append((old, new)), min_calls=1, probes=1, jitter=0.0
    )

    def work() -> None:
        for step in range(200):
            now = START + 40.0 * step
            with suppress(BreakerOpenError):
                subject.record(subject.admit(now), DOWN if step % 2 else None, now)

    together(8, work)
    assert not subject._changes
    assert [old for old, _ in told[1:]] == [new for _, new in told[:-1]]
    assert told[0][0] == "closed"
    assert told[-1][1] == subject.state == subject.ledger.current_state
    assert len(told) == subject._generation


def test_counts_are_exact_under_threads():
    subject = breaker(failure_ratio=1.0)
    together(8, lambda: calls(subject, 300, 200))
    assert (subject._failed.all, subject._failed.some) == (4_000, 1_600)


# -- few requests that wait for long --------------------------------------------------------------


def test_it_opens_after_as_many_silent_calls_in_a_row_as_there_are_probes() -> None:
    subject = breaker(probes=3, window=10.0)
    for number in range(3):
        assert subject.state == "closed"
        late = ReplyTimeout("late")
        subject.record(subject.admit(START), late, START + 30.0 * number, 30.0)
    assert subject.state == "open"
    assert "3 calls in a row got no answer in 30.0 s" in str(refusal(subject, START + 61.0))


def test_an_answer_between_them_begins_the_count_anew() -> None:
    subject = breaker(probes=2)
    for number in range(5):
        now = START + 60.0 * number
        subject.record(subject.admit(now), ReplyTimeout("late"), now + 30.0, 30.0)
        subject.record(subject.admit(now), None, now + 31.0)
    assert subject.state == "closed"


def test_calls_that_had_little_time_are_no_silence() -> None:
    subject = breaker(probes=2, window=10.0)
    for number in range(10):
        now = START + 60.0 * number
        subject.record(subject.admit(now), ReplyTimeout("late"), now, 9.9)
    assert subject.state == "closed"


def test_a_call_that_waited_while_it_opened_is_not_made() -> None:
    subject = breaker(min_calls=2)
    waiting = subject.admit(START)
    assert subject.still_admits(waiting)
    calls(subject, 0, 2)
    assert not subject.still_admits(waiting)
    probe = subject.admit(START + 60.0)
    assert probe.probe and subject.still_admits(probe)


# Of the others every line is a step; no signal comes before the first one of a `finally`.
STEPS = ["admit", "record", "succeed", "_troubled", "_enter", "_open", "_half_open", "_close"]
STEPS += ["_change", "report", "_announce", "_tell_next"]


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_breaker_that_ctrl_c_interrupts_at_any_step_opens_closes_and_tells(
    step: str, early: bool
) -> None:
    for number in itertools.count(1):
        told: list[str] = []
        breaker = Breaker(
            BreakerConfig(min_calls=1, probes=1),
            "tts",
            on_change=lambda old, new, told=told: told.append(new),  # type: ignore[misc]
            random=lambda: 0.5,
        )
        probed = Call(patient=True), 1.0 if early else 31.0

        def open_and_close(
            breaker: Breaker = breaker, call: Call = probed[0], at: float = probed[1]
        ) -> None:
            breaker.record(breaker.admit(0.0), DOWN, 0.0)
            breaker.record(breaker.admit(at, call), None, at)

        came = interrupt_at(number, open_and_close, only=getattr(Breaker, step))
        for now in (100.0, 200.0):
            breaker.record(breaker.admit(now), None, now)
        assert breaker.state == "closed" and breaker.ticket is not None
        told.clear()
        breaker.record(breaker.admit(300.0), DOWN, 300.0)
        breaker.record(breaker.admit(400.0), None, 400.0)
        assert told[-3:] == ["open", "half-open", "closed"]
        assert breaker.state == breaker.ledger.current_state == "closed"
        if not came:
            return
