from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from cosy_sync.policies import RateLimiter

START = 1_000.0
# Seconds between two of 100 requests per second when they flow evenly.
GAP = 1.008 / 100


def book(limiter: RateLimiter, count: int, now: float = START) -> list[float]:
    booked = [limiter.reserve(now, math.inf) for _ in range(count)]
    return [at for at in booked if at is not None]


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
    """Return when so many requests leave, waking `late(n)` seconds too late."""
    return send(limiter, [at + late(n) for n, at in enumerate(book(limiter, count))])


def send(limiter: RateLimiter, instants: list[float]) -> list[float]:
    """Return when those leave who ask at these instants, and again when they are told to."""
    line = [(at, n) for n, at in enumerate(instants)]
    heapq.heapify(line)
    left = []
    while line:
        now, n = heapq.heappop(line)
        wait = limiter.go(now)
        if wait == 0.0:
            left.append(now)
        else:
            heapq.heappush(line, (now + wait, n))
    return left


@pytest.mark.parametrize(
    ("rate", "burst", "sustained"),
    [
        (100, 5, 100 / 1.008),
        (1, 1, 1 / 1.008),
        (39, 1, 39 / 1.008),
        (40, 2, 40 / 1.008),
        (60.9, 3, 60 / 1.008),
        (0.5, 1, 1 / 2.008),
    ],
)
def test_5_percent_of_the_rate_are_burst_and_the_rest_is_spaced(rate, burst, sustained):
    limiter = RateLimiter(rate)
    assert limiter.burst == burst
    assert limiter.sustained == pytest.approx(sustained)


def test_the_first_burst_goes_at_once_and_the_rest_is_spaced():
    booked = book(RateLimiter(100.0), 8)
    assert booked[:5] == [START] * 5
    assert booked[5:] == pytest.approx([START + n * GAP for n in (1, 2, 3)], abs=1e-5)


@pytest.mark.parametrize("rate", [0.3, 0.999, 1, 1.5, 1.999, 3.9, 20, 39.99, 59.99, 100, 3_000])
@pytest.mark.parametrize(
    "late", [lambda n: 0.0, lambda n: 0.03 * (n % 7 == 0), lambda n: 0.4 * (n % 50 == 3)]
)
def test_a_flood_never_exceeds_the_rate_and_wastes_little(rate, late):
    count = int(2.5 * rate) + 3
    left = send_all(RateLimiter(rate), count, late)
    assert len(left) == count
    assert busiest(left, length=1.007 - 1e-6) <= max(rate, 1)
    even = count / min(rate, math.floor(rate) or rate)
    assert left[-1] - left[0] <= even * 1.02 + 0.4


def test_who_wakes_late_does_not_leave_together_with_the_next():
    limiter = RateLimiter(2.0)
    assert limiter.go(START + 0.4) == 0.0  # booked for START
    assert limiter.go(START + 0.5) == 0.0
    assert limiter.go(START + 1.1) == pytest.approx(0.307)
    assert limiter.go(START + 1.407 - 1e-6) > 0.0
    assert limiter.go(START + 1.407 + 1e-6) == 0.0
    assert limiter.go(START + 1.408) == pytest.approx(0.099)


def test_a_refusal_to_go_is_no_departure():
    limiter = RateLimiter(1.0)
    assert limiter.go(START) == 0.0
    for _ in range(5):
        assert limiter.go(START + 0.5) == pytest.approx(0.507)
    assert limiter.go(START + 1.0071) == 0.0


def test_a_rate_below_1_spaces_by_more_than_a_second():
    booked = book(RateLimiter(0.5), 4)
    assert busiest(booked, length=2.0) == 1


def test_booked_instants_never_go_backwards():
    booked = book(RateLimiter(100.0), 300)
    assert booked == sorted(booked)


def test_an_idle_limiter_saves_up_one_burst_and_no_more():
    limiter = RateLimiter(100.0)
    book(limiter, 50)
    later = START + 1_000.0
    assert book(limiter, 6, now=later) == pytest.approx([later] * 5 + [later + GAP], abs=1e-5)


def test_nothing_is_booked_when_the_instant_would_come_too_late():
    limiter = RateLimiter(100.0)
    book(limiter, 5)
    assert limiter.reserve(START, latest=START) is None
    assert limiter.reserve(START, latest=START + 0.01) is None
    free = limiter.next_free(START)
    assert limiter.reserve(START, latest=free) == free


def test_a_latest_in_the_past_books_nothing():
    limiter = RateLimiter(100.0)
    assert limiter.reserve(START, latest=START - 1.0) is None
    assert book(limiter, 5) == [START] * 5


def test_next_free_says_what_reserve_would_book_and_books_nothing():
    limiter = RateLimiter(100.0)
    for _ in range(20):
        expected = limiter.next_free(START)
        assert limiter.next_free(START) == expected
        assert limiter.reserve(START, math.inf) == expected


def test_nothing_is_booked_inside_a_pause():
    limiter = RateLimiter(100.0)
    limiter.pause(START + 10.0)
    assert limiter.next_free(START) == START + 10.0
    assert limiter.reserve(START, latest=START + 9.9) is None
    assert book(limiter, 6) == pytest.approx([START + 10.0] * 5 + [START + 10.0 + GAP], abs=1e-5)


def test_a_pause_leaves_earlier_bookings_and_callers_can_see_it():
    limiter = RateLimiter(100.0)
    assert limiter.paused_until < START
    last = book(limiter, 100)[-1]
    limiter.pause(START + 0.5)
    assert limiter.paused_until == START + 0.5
    assert limiter.reserve(START, math.inf) == pytest.approx(last + GAP, abs=1e-5)


def test_a_shorter_pause_does_not_end_a_longer_one():
    limiter = RateLimiter(100.0)
    limiter.pause(START + 10.0)
    limiter.pause(START + 1.0)
    assert limiter.paused_until == START + 10.0


def test_a_pause_that_is_over_delays_nothing():
    limiter = RateLimiter(100.0)
    limiter.pause(START - 1.0)
    assert limiter.reserve(START, START) == START


def test_a_now_from_a_moment_ago_does_not_break_the_rate():
    limiter = RateLimiter(2.0)
    instants = [START, START - 0.4, START + 0.1, START - 0.9, START + 0.2]
    booked = [limiter.reserve(now, math.inf) for now in instants]
    assert busiest([at for at in booked if at is not None]) <= 2


def test_threads_never_share_a_place():
    limiter = RateLimiter(100.0)
    barrier = threading.Barrier(8)
    booked: list[float] = []

    def work() -> None:
        barrier.wait(10)
        booked.extend(book(limiter, 100))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(booked) == book(RateLimiter(100.0), 800)


def test_a_lowered_rate_spaces_what_is_booked_from_now_on():
    limiter = RateLimiter(100.0)
    assert book(limiter, 5) == [START] * 5
    limiter.set_rate(50.0)
    later = book(limiter, 20, now=START + 10)
    assert later[:2] == [START + 10] * 2  # the burst of a limiter for 50 per second
    spaces = [b - a for a, b in pairwise(later[1:])]
    assert spaces == pytest.approx([1.008 / 50] * 18, abs=1e-5)


def test_a_lowered_rate_leaves_what_is_booked_where_it_is():
    limiter = RateLimiter(100.0)
    booked = book(limiter, 50)
    limiter.set_rate(10.0)
    assert limiter.next_free(START) > booked[-1]
    assert book(limiter, 2)[1] == pytest.approx(limiter.next_free(START) - 1.008 / 10, abs=1e-5)


@pytest.mark.parametrize("low", [1.0, 10.0, 19.0, 50.0, 99.0])
def test_no_second_exceeds_the_first_rate_however_often_it_changes(low):
    limiter, booked = RateLimiter(100.0), []
    for step in range(40):
        limiter.set_rate(100.0 if step % 2 else low)
        booked += book(limiter, 7, now=START + step * 0.05)
    assert busiest(send(limiter, booked)) <= 100


def test_a_limiter_set_to_its_own_rate_is_as_new():
    limiter, other = RateLimiter(100.0), RateLimiter(100.0)
    limiter.set_rate(100.0)
    assert book(limiter, 300) == pytest.approx(book(other, 300))


def test_those_who_come_a_second_later_keep_their_distance_from_what_left_late():
    limiter = RateLimiter(1.0)
    assert limiter.go(START) == 0.0
    limiter.correct(START, START + 0.4)
    assert limiter.go(START + 1.1) == pytest.approx(0.307)
    assert limiter.go(START + 1.41) == 0.0


def test_a_correction_of_what_is_not_in_the_log_any_more_changes_nothing():
    limiter = RateLimiter(1.0)
    assert limiter.go(START) == 0.0
    assert limiter.go(START + 2) == 0.0
    limiter.correct(START, START + 10)
    assert limiter.go(START + 4) == 0.0
