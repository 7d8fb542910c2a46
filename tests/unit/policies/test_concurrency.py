from __future__ import annotations

import pytest

from cosy_sync.policies import Concurrency

START = 1_000.0
RTT = 0.25  # exact in binary, so that sums of it are


def overloaded(chosen: Concurrency, count: int, used: int = 50, now: float = START) -> list[bool]:
    return [chosen.overload(used, now - RTT, now) for _ in range(count)]


def lowered(limit: int = 50, ceiling: int = 50) -> Concurrency:
    """Return one whose limit was lowered to this at START."""
    chosen = Concurrency(ceiling, limit / ceiling)
    assert chosen.overload(1, START - RTT, START)
    assert chosen.limit == limit
    return chosen


def test_it_starts_at_the_ceiling():
    assert Concurrency(50, 0.7).limit == 50


def test_more_than_a_tenth_of_the_requests_in_flight_lowers_it():
    chosen = Concurrency(50, 0.7)
    assert overloaded(chosen, 6) == [False] * 5 + [True]
    assert chosen.limit == 35


def test_few_in_flight_make_every_sign_count():
    chosen = Concurrency(50, 0.7)
    assert overloaded(chosen, 1, used=9) == [True]
    chosen = Concurrency(50, 0.7)
    assert overloaded(chosen, 2, used=10) == [False, True]


def test_strays_of_different_round_trips_do_not_add_up():
    chosen = Concurrency(50, 0.7)
    for trip in range(20):
        now = START + trip * RTT  # each was sent just when the one before came back
        assert overloaded(chosen, 5, now=now) == [False] * 5
    assert chosen.limit == 50


def test_strays_sent_before_the_first_one_came_back_belong_together():
    chosen = Concurrency(50, 0.7)
    assert overloaded(chosen, 3) == [False] * 3
    later = [chosen.overload(50, START - 0.001, START + 0.1) for _ in range(3)]
    assert later == [False, False, True]


def test_what_was_sent_before_the_decrease_does_not_lower_it_again():
    chosen = Concurrency(50, 0.7)
    overloaded(chosen, 6)
    assert not any(chosen.overload(3, START - 1e-6, START + RTT) for _ in range(50))
    assert chosen.limit == 35
    assert chosen.overload(3, START, START + RTT)
    assert chosen.limit == 24  # 50 x 0.7 x 0.7 = 24.5


def test_refusals_that_come_back_at_once_lower_it_once_in_the_round_trip_of_good_replies():
    chosen = Concurrency(50, 0.7)
    chosen.succeed(50, START - RTT, START)
    overloaded(chosen, 6)
    assert not chosen.overload(3, START + 0.01, START + RTT - 1e-6)
    assert chosen.overload(3, START + 0.01, START + RTT)


def test_strays_start_anew_after_a_decrease():
    chosen = Concurrency(50, 0.7)
    overloaded(chosen, 6)
    assert chosen.limit == 35
    assert [chosen.overload(30, START, START + RTT) for _ in range(4)] == [False] * 3 + [True]


def test_it_never_falls_below_1_and_says_when_nothing_changed():
    chosen = Concurrency(3, 0.7)
    fell = [chosen.overload(1, START + n, START + n) for n in range(6)]
    assert fell == [True, True, True, True, False, False]  # 2.1, 1.47, 1.03, 1
    assert chosen.limit == 1


def test_it_rises_by_1_in_a_round_trip():
    chosen = lowered(20)
    assert chosen.succeed(20, START, START + RTT)
    assert chosen.limit == 21
    assert not chosen.succeed(20, START + RTT - 1e-6, START + RTT + 0.1)
    assert chosen.succeed(20, START + RTT, START + 2 * RTT)
    assert chosen.limit == 22


def test_replies_to_what_was_sent_before_the_decrease_do_not_raise_it():
    chosen = lowered(20)
    assert not chosen.succeed(20, START - 1e-6, START + RTT)
    assert chosen.limit == 20


@pytest.mark.parametrize(("used", "rises"), [(9, False), (10, True), (11, True)])
def test_it_rises_only_while_half_of_it_is_used(used, rises):
    chosen = lowered(20)
    assert chosen.succeed(used, START, START + RTT) is rises


def test_a_limit_with_a_fraction_counts_as_the_whole_number_below():
    chosen = Concurrency(3, 0.7)
    assert chosen.overload(1, START, START)
    assert chosen.limit == 2  # 2.1: one of them is half
    assert chosen.succeed(1, START, START + RTT)
    assert chosen.limit == 3


def test_it_stops_at_the_ceiling():
    chosen = lowered(49)
    assert chosen.succeed(49, START, START + 1)
    assert not chosen.succeed(50, START + 1, START + 2)
    assert chosen.limit == 50
    assert chosen._limit == 50.0


def test_a_decrease_after_a_rise_waits_for_no_more_than_its_own_round_trip():
    chosen = lowered(20)
    assert chosen.succeed(20, START, START + RTT)
    assert chosen.overload(1, START, START + RTT)


def test_refusals_that_come_back_at_once_belong_to_one_round_trip_of_good_replies():
    chosen = Concurrency(50, 0.7)
    chosen.succeed(20, START - RTT, START)
    fell = [chosen.overload(20, START + n / 64, START + (n + 1) / 64) for n in range(3)]
    assert fell == [False, False, True]


def test_strays_a_round_trip_of_good_replies_apart_do_not_add_up():
    chosen = Concurrency(50, 0.7)
    chosen.succeed(20, START - RTT, START)
    now = [START + RTT * n for n in range(12)]
    assert not any(chosen.overload(20, at, at) for at in now)


# -- what the service tells of its own limit ------------------------------------------------------


def crowded(chosen: Concurrency, used: int, started: float = START, now: float = START) -> bool:
    return chosen.crowd(used, started, now)


def test_a_service_that_says_how_many_were_too_many_is_believed_at_once():
    chosen = Concurrency(16, 0.7)
    # 16 were sent, 4 accepted; the refused ones come back one after the other.
    fell = [crowded(chosen, used, START - RTT) for used in range(16, 4, -1)]
    assert fell == [True] * 12
    assert chosen.limit == 4


def test_refusals_that_come_back_together_count_once():
    chosen = Concurrency(16, 0.7)
    # All places were given back before the first refusal was looked at.
    fell = [crowded(chosen, 5, START - RTT) for _ in range(12)]
    assert fell == [True] + [False] * 11
    assert chosen.limit == 4


def test_a_request_that_knew_of_the_limit_shows_that_it_is_too_high_by_one():
    chosen = Concurrency(16, 0.7)
    crowded(chosen, 5, START - RTT)
    assert not crowded(chosen, 5, START - 1e-6, START + RTT)  # it was sent before
    assert crowded(chosen, 5, START, START + RTT)
    assert chosen.limit == 3


def test_what_is_told_never_goes_below_one():
    chosen = Concurrency(16, 0.7)
    assert crowded(chosen, 1)
    assert chosen.limit == 1
    assert not crowded(chosen, 1, START, START + RTT)
    assert not crowded(chosen, 5, START, START + RTT)
    assert chosen.limit == 1


def told(limit: int, trip: float) -> Concurrency:
    """Return one that was told this limit at START, when round trips took so long."""
    chosen = Concurrency(16, 0.7)
    chosen.succeed(16, START - trip, START)
    assert crowded(chosen, limit + 1)
    return chosen


def test_a_told_limit_is_kept_for_sixteen_round_trips():
    chosen = told(4, RTT)
    assert not chosen.succeed(4, START + RTT, START + 16 * RTT - 1e-6)
    assert chosen.limit == 4
    chosen = told(4, RTT)
    assert chosen.succeed(4, START + RTT, START + 16 * RTT)
    assert chosen.limit == 5


def test_a_told_limit_is_kept_for_a_second_at_least():
    chosen = told(4, 0.001)
    assert not chosen.succeed(4, START + 0.9, START + 1 - 1e-6)
    assert chosen.succeed(4, START + 0.9, START + 1)


def test_below_what_was_told_it_rises_as_always():
    chosen = told(4, RTT)
    assert chosen.overload(4, START + RTT, START + 2 * RTT)
    assert chosen.limit == 2
    limits = []
    for step in range(3):
        now = START + (3 + step) * RTT
        chosen.succeed(4, now - RTT, now)
        limits.append(chosen.limit)
    assert limits == [3, 4, 4]


def test_the_ceiling_stays():
    chosen = told(15, RTT)
    assert chosen.succeed(16, START + 20 * RTT, START + 21 * RTT)
    assert not chosen.succeed(16, START + 21 * RTT, START + 22 * RTT)
    assert chosen.limit == 16


def test_a_few_quick_replies_do_not_make_a_slow_one_forgotten() -> None:
    subject = Concurrency(10, 0.7)
    subject.succeed(1, 0.0, 2.0)
    for number in range(5):
        subject.succeed(1, 10.0 + number, 10.1 + number)
    assert 1.5 < subject.longest_trip <= 2.0
    for number in range(100):
        subject.succeed(1, 100.0 + number, 100.1 + number)
    assert subject.longest_trip < 0.2
