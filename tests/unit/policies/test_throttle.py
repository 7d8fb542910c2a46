from __future__ import annotations

import pytest

from cosy_sync.config import OverloadConfig
from cosy_sync.policies import Throttle

START = 900.0  # a bucket of either window begins here


class Draws:
    """A source of numbers that are all the same, and counted."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value
        self.count = 0

    def __call__(self) -> float:
        self.count += 1
        return self.value


def throttle(draws: Draws | None = None, **settings) -> Throttle:
    return Throttle(OverloadConfig(**settings), random=draws or Draws())


def feed(chosen: Throttle, good: int, bad: int, now: float = START) -> None:
    for accepted in [True] * good + [False] * bad:
        chosen.record(accepted, now)


@pytest.mark.parametrize(
    ("good", "bad", "share"),
    [
        (100, 0, 0.0),
        (50, 50, 0.0),
        (49, 51, 2 / 101),
        (40, 60, 20 / 101),
        (25, 75, 50 / 101),
        (15, 85, 70 / 101),
        (10, 90, 80 / 101),
        (9, 91, 0.8),
        (0, 100, 0.8),
    ],
)
def test_the_share_held_back_is_that_of_the_book_and_at_most_80_percent(good, bad, share):
    chosen = throttle()
    feed(chosen, good, bad)
    assert chosen.share(START) == pytest.approx(share)


def test_factor_and_cap_are_settings():
    chosen = throttle(throttle_factor=1.0, throttle_cap=0.5)
    feed(chosen, 80, 20)
    assert chosen.share(START) == pytest.approx(20 / 101)
    feed(chosen, 0, 300)
    assert chosen.share(START) == 0.5


def test_nothing_is_held_back_before_20_calls_were_made():
    chosen = throttle()
    feed(chosen, 0, 19)
    assert chosen.share(START) == 0.0
    assert not chosen.refuses(START)
    feed(chosen, 0, 1)
    assert chosen.share(START) == 0.8
    assert chosen.refuses(START)


def test_a_call_is_refused_where_the_draw_falls_below_the_share():
    draws = Draws()
    chosen = throttle(draws)
    feed(chosen, 25, 75)
    share = chosen.share(START)
    draws.value = share
    assert not chosen.refuses(START)
    draws.value = share - 1e-9
    assert chosen.refuses(START)


def test_a_refused_call_counts_as_wanted_and_one_let_through_does_not_yet():
    draws = Draws(0.99)
    chosen = throttle(draws)
    feed(chosen, 25, 75)
    assert not chosen.refuses(START)
    assert chosen.share(START) == pytest.approx(50 / 101)
    draws.value = 0.0
    assert chosen.refuses(START)
    assert chosen.share(START) == pytest.approx(51 / 102)


def test_no_draw_is_made_while_all_is_well():
    draws = Draws()
    chosen = throttle(draws)
    feed(chosen, 50, 50)
    assert not chosen.refuses(START)
    assert draws.count == 0


def test_a_cap_of_0_never_refuses():
    draws = Draws()
    chosen = throttle(draws, throttle_cap=0.0)
    feed(chosen, 0, 100)
    assert not chosen.refuses(START)


def test_calls_are_forgotten_after_3_seconds():
    chosen = throttle()
    feed(chosen, 0, 100, START)
    assert chosen.share(START + 2.99) == 0.8
    assert chosen.refuses(START + 2.99)  # which itself is forgotten later
    assert chosen.share(START + 3.001) == 0.0
    assert not chosen.refuses(START + 3.001)


def test_a_call_notices_by_itself_that_the_failures_are_long_past():
    chosen = throttle()
    feed(chosen, 0, 100, START)
    assert not chosen.refuses(START + 3.001)


def test_its_window_is_a_setting():
    chosen = throttle(throttle_window=30.0)
    feed(chosen, 0, 100, START)
    assert chosen.share(START + 29.9) == 0.8
    assert chosen.share(START + 30.001) == 0.0


def test_with_everything_refused_by_the_service_one_in_five_still_goes():
    numbers = iter([n / 100 for n in range(100)] * 2)
    chosen = Throttle(OverloadConfig(), random=lambda: next(numbers))
    feed(chosen, 0, 100)
    assert sum(not chosen.refuses(START) for _ in range(100)) == 20


def test_what_was_accepted_counts_from_the_first_refusal_on_however_much_it_was() -> None:
    for good in (1, 63, 64, 65, 500):
        chosen = throttle(throttle_cap=0.99)
        feed(chosen, good, 3 * good + 30)
        bad = 3 * good + 30
        assert chosen.share(START) == pytest.approx((bad - good) / (good + bad + 1))


def test_what_was_accepted_counts_at_its_own_instant() -> None:
    chosen = throttle()
    feed(chosen, 50, 0)
    feed(chosen, 0, 50, START + 2.5)
    assert chosen.share(START + 2.5) == 0.0
    assert chosen.share(START + 4.0) > 0.7  # the accepted ones are too old by now


def test_accepted_calls_of_a_moment_are_counted_together():
    chosen = throttle(throttle_window=100.0)
    counted = []
    for seconds in (0.0, 0.5, 0.9, 1.0, 1.5, 2.0):
        chosen.record(True, START + seconds)
        counted.append(chosen.calls.all)
    assert counted == [1, 1, 1, 4, 4, 6]


def test_those_of_the_latest_moment_count_as_soon_as_one_is_refused():
    chosen = throttle(throttle_window=100.0, throttle_min_calls=1)
    feed(chosen, 30, 0)
    feed(chosen, 0, 69, START + 0.5)
    assert (chosen.calls.all, chosen.calls.some) == (99, 30)
    assert chosen.share(START + 0.5) == pytest.approx(39 / 100)


def test_those_of_the_latest_moment_count_for_those_who_ask_for_the_share():
    chosen = throttle(throttle_window=100.0)
    feed(chosen, 30, 0)
    assert chosen.share(START) == 0.0
    assert (chosen.calls.all, chosen.calls.some) == (30, 30)


def test_calls_of_a_moment_leave_the_window_with_its_beginning():
    chosen = throttle(throttle_window=100.0)
    feed(chosen, 3, 0)
    feed(chosen, 2, 0, START + 0.9)
    feed(chosen, 7, 0, START + 50.0)
    chosen.share(START + 99.0)
    assert chosen.calls.all == 12
    chosen.share(START + 100.0)
    assert chosen.calls.all == 7
