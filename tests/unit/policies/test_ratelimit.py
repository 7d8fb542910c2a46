from __future__ import annotations

import heapq
import math
import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import pytest

from cosy_sync.policies import AdaptiveRate, RateLimiter

START = 1_000.0
# Seconds between two of 100 requests per second when they flow evenly.
GAP = 1.008 / 100


def flood(limiter: RateLimiter, count: int, now: float = START) -> list[float]:
    """Return when so many requests leave, each as soon as it may."""
    left = []
    for _ in range(count):
        while (wait := limiter.take(now)) > 0.0:
            now = max(now + wait, math.nextafter(now, math.inf))
        left.append(now)
    return left


def busiest(instants: list[float], length: float = 1.0) -> int:
    """Return the most instants that any half-open stretch of this length holds."""
    instants = sorted(instants)
    most = first = 0
    for last, at in enumerate(instants):
        while at - instants[first] >= length:
            first += 1
        most = max(most, last - first + 1)
    return most


def send_all(limiter: RateLimiter, count: int, late: Callable[[int], float]) -> list[float]:
    """Return when so many requests leave that wake `late(n)` seconds too late, and at once where
    they are told another instant."""
    line = [(limiter.next_free(START, n) + late(n), n) for n in range(count)]
    heapq.heapify(line)
    left = []
    while line:
        now, n = heapq.heappop(line)
        due = limiter.next_free(START) if not left else now - late(n)
        wait = limiter.take(now, due)
        if wait == 0.0:
            left.append(now)
        else:
            heapq.heappush(line, (max(now + wait, math.nextafter(now, math.inf)), n))
    return left


@pytest.mark.parametrize(
    ("rate", "burst", "sustained"),
    [
        (100, 5, 100 / 1.008),
        (1, 1, 1 / 1.008),
        (39, 1, 39 / 1.008),
        (40, 2, 40 / 1.008),
        (2.5, 1, 3 / 1.208),
        (0.5, 1, 1 / 2.008),
    ],
)
def test_5_percent_of_the_rate_are_burst_and_the_rest_is_spaced(rate, burst, sustained):
    limiter = RateLimiter(rate)
    assert limiter.burst == burst
    assert limiter.sustained == pytest.approx(sustained)


@pytest.mark.parametrize("rate", [0.3, 0.999, 1.5, 1.999, 2.5, 3.9, 39.99, 60.9])
def test_a_fraction_of_the_rate_is_used_too(rate):
    left = flood(RateLimiter(rate), int(rate * 20) + 2)
    assert (len(left) - 1) / (left[-1] - left[0]) >= 0.98 * rate


def test_two_and_a_half_requests_a_second_are_25_in_10_seconds():
    left = flood(RateLimiter(2.5), 25)
    assert left[-1] - left[0] < 10.0
    assert busiest(left, length=1.2) == 3


def test_a_whole_rate_that_was_worked_out_in_floats_is_whole():
    assert RateLimiter(0.1 * 3 * 10).count == 3


def test_the_first_burst_goes_at_once_and_the_rest_is_spaced():
    left = flood(RateLimiter(100.0), 8)
    assert left[:5] == [START] * 5
    assert left[5:] == pytest.approx([START + n * GAP for n in (1, 2, 3)], abs=1e-5)


@pytest.mark.parametrize("rate", [0.3, 0.999, 1, 1.5, 1.999, 3.9, 20, 39.99, 59.99, 100, 3_000])
@pytest.mark.parametrize(
    "late", [lambda n: 0.0, lambda n: 0.03 * (n % 7 == 0), lambda n: 0.2 * (n % 50 == 3)]
)
def test_a_flood_never_exceeds_the_rate_and_wastes_little(rate, late):
    count = int(2.5 * rate) + 3
    limiter = RateLimiter(rate)
    left = send_all(limiter, count, late)
    assert len(left) == count
    assert busiest(left, length=limiter.span + 0.007 - 1e-6) <= limiter.count
    assert left[-1] - left[0] <= count / rate * 1.02 + 0.4


def test_who_wakes_late_does_not_leave_together_with_the_next():
    limiter = RateLimiter(2.0)
    assert limiter.take(START + 0.4, START + 0.2) == 0.0
    assert limiter.take(START + 0.71, START + 0.71) == 0.0
    assert limiter.take(START + 1.3, START + 1.3) == pytest.approx(0.107)
    assert limiter.take(START + 1.407 + 1e-6) == 0.0


def test_who_wakes_late_costs_the_others_nothing():
    limiter = RateLimiter(20.0)
    assert limiter.take(START) == 0.0
    due = limiter.next_free(START)
    assert limiter.take(due + 0.03, due) == 0.0
    assert limiter.next_free(START) == pytest.approx(START + 2 * 1.008 / 20, abs=1e-5)


def test_who_wakes_very_late_does_not_let_a_crowd_leave_at_once():
    limiter = RateLimiter(20.0)
    assert limiter.take(START) == 0.0
    now = START + 100.0
    assert sum(limiter.take(now, START + 1.0) == 0.0 for _ in range(20)) == 5


def test_a_refusal_is_no_departure():
    limiter = RateLimiter(1.0)
    assert limiter.take(START) == 0.0
    for _ in range(5):
        assert limiter.take(START + 0.5) == pytest.approx(0.508, abs=1e-5)
    assert limiter.take(START + 1.0081) == 0.0


def test_a_turn_that_is_given_back_is_free_again():
    limiter = RateLimiter(2.0)
    assert limiter.take(START) == 0.0
    free = limiter.next_free(START)
    assert limiter.take(free) == 0.0
    limiter.give_back()
    assert limiter.next_free(free) == pytest.approx(free)
    assert limiter.take(free + 1e-6) == 0.0
    later = limiter.next_free(free)
    assert limiter.take(later) == 0.0
    limiter.give_back()
    limiter.give_back()  # only the latest one can be
    assert limiter.next_free(free) == pytest.approx(later)


def test_a_rate_below_1_spaces_by_more_than_a_second():
    assert busiest(flood(RateLimiter(0.5), 4), length=2.0) == 1


def test_an_idle_limiter_saves_up_one_burst_and_no_more():
    limiter = RateLimiter(100.0)
    flood(limiter, 50)
    later = START + 1_000.0
    assert flood(limiter, 6, now=later) == pytest.approx([later] * 5 + [later + GAP], abs=1e-5)


def test_next_free_says_when_the_next_and_those_behind_it_leave():
    limiter = RateLimiter(100.0)
    expected = [limiter.next_free(START, ahead) for ahead in range(100)]
    assert flood(limiter, 100) == pytest.approx(expected, abs=1e-5)


def test_nothing_leaves_inside_a_pause():
    limiter = RateLimiter(100.0)
    limiter.pause(START + 10.0)
    assert limiter.next_free(START) == START + 10.0
    assert limiter.take(START + 9.9) == pytest.approx(0.1)
    expected = [START + 10.0] * 5 + [START + 10.0 + GAP]
    assert [limiter.next_free(START, n) for n in range(6)] == pytest.approx(expected, abs=1e-5)
    assert flood(limiter, 6) == pytest.approx(expected, abs=1e-5)


def test_a_shorter_pause_does_not_end_a_longer_one():
    limiter = RateLimiter(100.0)
    assert limiter.paused_until < START
    limiter.pause(START + 10.0)
    limiter.pause(START + 1.0)
    assert limiter.paused_until == START + 10.0


def test_a_pause_that_is_over_delays_nothing():
    limiter = RateLimiter(100.0)
    limiter.pause(START - 1.0)
    assert limiter.take(START) == 0.0


def test_a_now_from_a_moment_ago_does_not_break_the_rate():
    limiter = RateLimiter(2.0)
    instants = [START, START - 0.4, START + 0.1, START - 0.9, START + 0.2]
    assert busiest([now for now in instants if limiter.take(now) == 0.0]) <= 2


def test_a_lowered_rate_spaces_what_leaves_from_now_on():
    limiter = RateLimiter(100.0)
    assert flood(limiter, 5) == [START] * 5
    limiter.set_rate(50.0)
    later = flood(limiter, 20, now=START + 10)
    assert later[:2] == [START + 10] * 2  # the burst of a limiter for 50 per second
    spaces = [b - a for a, b in pairwise(later[1:])]
    assert spaces == pytest.approx([1.008 / 50] * 18, abs=1e-5)


@pytest.mark.parametrize("low", [1.0, 10.0, 19.0, 50.0, 99.0])
def test_no_second_exceeds_the_first_rate_however_often_it_changes(low):
    limiter, left = RateLimiter(100.0), []
    for step in range(40):
        limiter.set_rate(100.0 if step % 2 else low)
        now = max([START + step * 0.05, *left[-1:]])
        left += flood(limiter, 7, now=now)
    assert busiest(left) <= 100


def test_a_limiter_set_to_its_own_rate_is_as_new():
    limiter, other = RateLimiter(100.0), RateLimiter(100.0)
    limiter.set_rate(100.0)
    assert flood(limiter, 300) == pytest.approx(flood(other, 300))


def test_those_who_come_a_second_later_keep_their_distance_from_what_left_late():
    limiter = RateLimiter(1.0)
    assert limiter.take(START) == 0.0
    limiter.correct(START, START + 0.4)
    assert limiter.take(START + 1.1) == pytest.approx(0.307)
    assert limiter.take(START + 1.41) == 0.0


@pytest.mark.parametrize("rate", [1.0, 3.0, 10_000.0])
def test_a_correction_finds_what_left_wherever_it_is_in_the_log(rate):
    limiter = RateLimiter(rate)
    left = flood(limiter, int(rate) + int(rate) // 2)
    limiter.correct(left[-1], left[-1] + 0.5)
    assert limiter._log[limiter._oldest - 1] == left[-1] + 0.5


def test_a_correction_of_what_is_not_in_the_log_any_more_changes_nothing():
    limiter = RateLimiter(1.0)
    assert limiter.take(START) == 0.0
    assert limiter.take(START + 2) == 0.0
    limiter.correct(START, START + 10)
    assert limiter.take(START + 4) == 0.0


class Asked(float):
    """An instant that counts how often it was compared."""

    count = 0

    def __eq__(self, other: object) -> bool:
        Asked.count += 1
        return float(self) == other

    def __hash__(self) -> int:
        return hash(float(self))


@pytest.mark.parametrize("rate", [2.0, 1_000.0, 40_000.0])
def test_a_correction_looks_at_a_few_instants_however_many_the_log_holds(rate):
    limiter = RateLimiter(rate)
    left = flood(limiter, int(rate) + int(rate) // 2)
    Asked.count = 0
    went = left[-min(900, int(rate))]
    limiter.correct(Asked(went), went + 0.5)
    assert went + 0.5 in limiter._log
    limiter.correct(Asked(START - 1.0), START)  # never went
    assert Asked.count <= 8


def test_of_requests_that_went_at_one_instant_each_is_corrected():
    limiter = RateLimiter(100.0)
    assert flood(limiter, 5) == [START] * 5
    for number in range(6):  # the sixth finds none
        limiter.correct(START, START + 0.1 + 0.01 * number)
    assert sorted(limiter._log)[-5:] == [START + 0.1 + 0.01 * number for number in range(5)]


def test_a_turn_that_was_given_back_is_not_corrected_but_its_twin_is():
    limiter = RateLimiter(100.0)
    assert flood(limiter, 2) == [START] * 2
    limiter.give_back()
    limiter.correct(START, START + 0.1)
    limiter.correct(START, START + 0.2)
    assert sorted(limiter._log)[-2:] == [-math.inf, START + 0.1]


def test_the_latest_thousands_can_be_corrected_and_no_more_is_remembered():
    limiter = RateLimiter(50_000.0)
    left = flood(limiter, 20_000)
    assert len(limiter._places) + len(limiter._older) <= 2 * 4_096
    limiter.correct(left[-4_000], left[-4_000] + 0.5)
    assert left[-4_000] + 0.5 in limiter._log


@pytest.mark.parametrize("rate", [1e6, 1e9, math.inf])
def test_a_rate_that_no_process_reaches_costs_no_log(rate):
    tracemalloc.start()
    limiter = RateLimiter(rate)
    flood(limiter, 20_000)
    limiter.correct(START, START + 0.5)
    limiter.note(START)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000 and len(limiter._log) == 0


def test_without_a_log_no_second_exceeds_the_rate_either():
    limiter = RateLimiter(60_000)
    assert busiest(flood(limiter, 130_000)) <= 60_000


def test_an_infinite_rate_holds_up_nothing_but_in_a_pause():
    limiter = RateLimiter(math.inf)
    assert flood(limiter, 1_000) == [START] * 1_000
    assert limiter.next_free(START, ahead=1_000) == START
    limiter.give_back()
    limiter.set_rate(math.inf)
    limiter.pause(START + 2.0)
    assert limiter.take(START + 1.0) == 1.0
    assert limiter.take(START + 2.0) == 0.0
    limiter.set_rate(100.0)
    assert limiter.take(START + 3.0) == 0.0


def test_an_infinite_rate_has_no_share_to_fall_to():
    pace = AdaptiveRate(math.inf, 0.7, 5.0)
    assert not any(pace.refuse(START + n, START + n + 0.001) for n in range(5))
    assert pace.rate(START + 5) == math.inf and not pace.lowered
