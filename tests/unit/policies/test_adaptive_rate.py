from __future__ import annotations

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
