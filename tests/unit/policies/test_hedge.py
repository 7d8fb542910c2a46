"""When a call is late: an exact quantile over a window."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosy_sync import ConfigError, HedgeConfig
from cosy_sync.policies import HedgePolicy


def policy(**settings: float) -> HedgePolicy:
    return HedgePolicy(HedgeConfig(enabled=True, **{"min_samples": 4, **settings}))  # type: ignore[arg-type]


def test_nothing_is_late_before_enough_calls_are_known() -> None:
    hedge = policy()
    for _ in range(3):
        hedge.note(1.0, 1, 0.0)
    assert hedge.delay(1, 0.0) is None
    hedge.note(1.0, 1, 0.0)
    assert hedge.delay(1, 0.0) == 1.0


def test_late_is_beyond_the_quantile_of_seconds_per_character_times_the_characters() -> None:
    hedge = policy(quantile=0.95)
    for number in range(100, 0, -1):
        hedge.note(number * 0.02, 2, 0.0)  # 0.01 to 1.00 s a character
    assert hedge.delay(1, 0.0) == pytest.approx(0.95)
    assert hedge.delay(20, 0.0) == pytest.approx(19.0)
    hedge.note(9.0, 1, 0.0)  # of 101 calls 95 are less than 95 %
    assert hedge.delay(1, 0.0) == pytest.approx(0.96)


def test_a_call_counts_until_the_window_is_over_and_no_longer() -> None:
    hedge = policy(window=10.0)
    for _ in range(4):
        hedge.note(9.0, 1, 100.0)
    for _ in range(4):
        hedge.note(1.0, 1, 105.0)
    assert hedge.delay(1, math.nextafter(110.0, 0.0)) == 9.0
    assert hedge.delay(1, 110.0) == 1.0
    assert hedge.delay(1, 115.0) is None


def test_only_the_latest_thousand_calls_count() -> None:
    hedge = policy(quantile=0.0001)
    for _ in range(4):
        hedge.note(0.1, 1, 0.0)
    for _ in range(996):
        hedge.note(5.0, 1, 0.0)
    assert hedge.delay(1, 0.0) == 0.1
    for _ in range(3):
        hedge.note(5.0, 1, 0.0)
    assert hedge.delay(1, 0.0) == 0.1
    hedge.note(5.0, 1, 0.0)
    assert hedge.delay(1, 0.0) == 5.0


def test_more_samples_may_be_asked_for_than_are_kept_otherwise() -> None:
    hedge = policy(min_samples=1_200)
    for _ in range(1_200):
        hedge.note(1.0, 1, 0.0)
    assert hedge.delay(1, 0.0) == 1.0


@given(
    st.lists(st.tuples(st.floats(0.001, 100), st.integers(1, 50)), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
)
def test_at_most_the_rest_of_the_calls_were_later(
    calls: list[tuple[float, int]], quantile: float
) -> None:
    hedge = policy(quantile=quantile, min_samples=1)
    for seconds, chars in calls:
        hedge.note(seconds, chars, 0.0)
    pace = hedge.delay(1, 0.0)
    assert pace is not None
    paces = [seconds / chars for seconds, chars in calls]
    assert sum(each <= pace for each in paces) >= quantile * len(paces) - 1e-6
    assert sum(each < pace for each in paces) < quantile * len(paces) + 1e-6


@pytest.mark.parametrize(
    "settings",
    [{"quantile": 1.0}, {"quantile": 0}, {"min_samples": 0}, {"window": 0}, {"enabled": 1}],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        HedgeConfig(**settings)
