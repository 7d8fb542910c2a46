from __future__ import annotations

from random import Random

import pytest

from cosy_sync.policies import AdaptiveRate

START = 1_000.0


def pace(rate: float = 100.0, decrease: float = 0.7, recovery: float = 5.0) -> AdaptiveRate:
    return AdaptiveRate(rate, decrease, recovery)


def refuse_twice(chosen: AdaptiveRate, now: float = START) -> bool:
    """Two 429s at the same instant; return whether the second lowered the rate."""
    assert not chosen.refuse(now, now)
    return chosen.refuse(now, now)


def test_it_starts_at_the_configured_rate():
    chosen = pace()
    assert not chosen.lowered
    assert chosen.rate(START) == 100.0
    assert not chosen.lowered


def test_an_isolated_429_changes_nothing():
    chosen = pace()
    for number in range(20):
        now = START + number * 1.001  # more than 100 requests apart
        assert not chosen.refuse(now, now)
    assert chosen.rate(START + 30) == 100.0
    assert not chosen.lowered


def test_two_429s_within_100_requests_lower_the_rate_at_once():
    chosen = pace()
    assert not chosen.refuse(START, START)
    assert chosen.refuse(START + 1.0, START + 1.0)
    assert chosen.rate(START + 1.0) == pytest.approx(70.0)
    assert chosen.lowered


def test_seconds_of_a_pause_do_not_set_429s_apart():
    chosen = pace()
    assert not chosen.refuse(START, START, pause=30.0)
    assert chosen.refuse(START + 31.0, START + 31.0)
    chosen = pace()
    assert not chosen.refuse(START, START, pause=30.0)
    assert not chosen.refuse(START + 31.1, START + 31.1)


def test_the_rate_comes_back_along_a_cubic_in_the_time_of_recovery():
    chosen = pace()
    assert refuse_twice(chosen)
    # 0.24 (t - 5)^3 + 100
    for seconds, rate in [(0, 70.0), (1, 84.64), (2, 93.52), (4, 99.76), (4.99, 100.0)]:
        assert chosen.rate(START + seconds) == pytest.approx(rate, abs=1e-5)
        assert chosen.lowered
    assert chosen.rate(START + 5.001) == 100.0
    assert not chosen.lowered
    assert chosen.rate(START) == 100.0  # and that was it


def test_decrease_and_recovery_are_settings():
    chosen = pace(decrease=0.5, recovery=10.0)
    assert refuse_twice(chosen)
    assert chosen.rate(START) == pytest.approx(50.0)
    assert chosen.rate(START + 5) == pytest.approx(100 - 50 / 8)
    assert chosen.rate(START + 9.9) < 100.0
    assert chosen.rate(START + 10.1) == 100.0


def test_the_same_curve_serves_every_rate():
    slow, fast = pace(10.0), pace(1_000.0)
    assert refuse_twice(slow) and refuse_twice(fast)
    for seconds in (0, 1, 3, 4.9):
        now = START + seconds
        assert slow.rate(now) * 100 == pytest.approx(fast.rate(now))


def test_it_falls_once_a_second():
    chosen = pace()
    assert refuse_twice(chosen)
    assert not chosen.refuse(START + 0.999, START + 0.999)
    assert not chosen.refuse(START + 0.999, START + 1.5)  # sent before that second was over
    # And these two were no refusals that the next could be close to.
    assert not chosen.refuse(START + 2.5, START + 2.5)
    assert chosen.refuse(START + 2.5, START + 2.5)


def test_the_second_begins_anew_with_each_decrease():
    chosen = pace()
    assert refuse_twice(chosen)
    assert chosen.refuse(START + 1.0, START + 1.0)
    assert not chosen.refuse(START + 1.999, START + 1.999)
    assert chosen.refuse(START + 2.0, START + 2.0)


def test_a_refusal_before_it_is_back_takes_a_lower_top():
    chosen = pace()
    assert refuse_twice(chosen)
    now = START + 1.0
    assert chosen.refuse(now, now)  # at 84.64
    assert chosen.rate(now) == pytest.approx(84.64 * 0.7)
    top = 84.64 * 0.85
    k = ((top - 84.64 * 0.7) / 0.24) ** (1 / 3)
    assert chosen.rate(now + k) == pytest.approx(top)
    assert chosen.rate(now + k + 1) == pytest.approx(top + 0.24)


def test_a_refusal_beyond_the_top_makes_it_the_new_top():
    chosen = pace()
    assert refuse_twice(chosen)
    assert chosen.refuse(START + 1.0, START + 1.0)  # top is 71.94 now
    now = START + 7.0
    rate = chosen.rate(now)
    assert 71.95 < rate < 100.0
    assert not chosen.refuse(now, now)
    assert chosen.refuse(now, now)
    k = (0.3 * rate / 0.24) ** (1 / 3)
    assert chosen.rate(now) == pytest.approx(0.7 * rate)
    assert chosen.rate(now + k) == pytest.approx(rate)


def test_it_never_falls_below_a_hundredth_and_comes_back_from_there():
    chosen = pace()
    assert refuse_twice(chosen)
    for number in range(1, 40):
        now = START + number
        chosen.refuse(now, now)
        assert chosen.rate(now) >= 1.0
    assert chosen.rate(now) < 10.0
    assert chosen.rate(now + 15) == 100.0


def test_with_a_rate_that_hardly_falls_the_least_rate_holds():
    chosen = pace(decrease=0.001)
    assert refuse_twice(chosen)
    assert chosen.rate(START) == pytest.approx(1.0)
    assert chosen.refuse(START + 1.0, START + 1.0)
    assert chosen.rate(START + 1.0) == pytest.approx(1.0)
    assert 1.0 <= chosen.rate(START + 1.5) < 100.0


def test_once_lowered_it_falls_to_just_below_the_middle_of_what_passed_and_what_was_refused():
    chosen = pace()
    assert refuse_twice(chosen)
    chosen.passed = 150  # in 2 s: 75/s of the 93.52/s at which it is refused
    now = START + 2.0
    assert not chosen.refuse(now, now)
    assert chosen.refuse(now, now)
    middle = (75 + 93.52) / 2
    assert chosen.rate(now) == pytest.approx(0.98 * middle)
    assert chosen.passed == 0
    k = (0.02 * middle / 0.24) ** (1 / 3)
    assert chosen.rate(now + k) == pytest.approx(middle)


@pytest.mark.parametrize("passed", [0, 59])
def test_where_far_less_passed_it_falls_as_at_first(passed: int):
    chosen = pace()
    assert refuse_twice(chosen)
    chosen.passed = passed  # in 1 s: less than 0.7 of the 84.64/s at which it is refused
    now = START + 1.0
    assert chosen.refuse(now, now)
    assert chosen.rate(now) == pytest.approx(0.7 * 84.64)


def test_after_a_limit_was_followed_for_long_the_rate_is_soon_back():
    chosen = pace()
    assert refuse_twice(chosen)
    now = START
    for _ in range(20):  # 30/s, with a pause of a second after each refusal
        now += 2.0
        chosen.passed = 30
        chosen.refuse(now, now, 1.0)
    assert chosen.rate(now) < 45
    assert chosen.rate(now + 9.0) == 100.0


def spoken_at(
    limit: float, depth: float, refill: float, seconds: float = 60.0
) -> tuple[float, float]:
    """Send as fast as allowed through a bucket of tokens; return the share of the limit that
    passed after the first 5 s, and the share of all that was refused."""
    chosen, chance = pace(), Random(7)
    now, filled, tokens, sent, passed, late = 0.0, 0.0, depth, 0, 0, 0
    replies: list[float] = []
    while now < seconds:
        now += chance.uniform(0.9, 1.1) / chosen.rate(now)
        fills = (now - filled) // refill if refill else (now - filled)
        filled = filled + fills * refill if refill else now
        tokens = min(depth, tokens + fills * limit * (refill or 1.0))
        while replies and replies[0] <= now:
            del replies[0]
            chosen.passed += chosen.lowered
        sent += 1
        if tokens >= 1.0:
            tokens, passed, late = tokens - 1.0, passed + 1, late + (now > 5.0)
            replies.append(now + 0.2)
        else:
            chosen.refuse(now, now)
    return late / (limit * (seconds - 5.0)), 1 - passed / sent


@pytest.mark.parametrize("limit", [20.0, 50.0, 90.0])
@pytest.mark.parametrize(("depth", "refill"), [(1.0, 0.0), (0.1, 0.0), (1.0, 1.0)])
def test_a_limit_that_is_lower_than_the_rate_is_used_to_97_percent(
    limit: float, depth: float, refill: float
):
    share, refused = spoken_at(limit, depth * limit, refill)
    assert share > 0.97
    assert refused < 0.2  # at a fifth of the configured rate; far less near it
