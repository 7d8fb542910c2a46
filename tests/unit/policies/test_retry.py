from __future__ import annotations

import random

import pytest

from cosy_sync.config import RetryConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    ConnectError,
    CosyError,
    DeadlineError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.policies import RetryPolicy

LEAST = 1.0 - 2**-53  # the largest number that random() draws takes the most off a step
DOWN = UnavailableError("down")


def policy(draw: float = 0.0, **settings) -> RetryPolicy:
    return RetryPolicy(RetryConfig(**settings), random=lambda: draw)


def waits(chosen: RetryPolicy, error: CosyError, attempts: int) -> list[float | None]:
    return [chosen.wait([error] * count) for count in range(1, attempts + 1)]


def test_steps_double_from_200_ms_and_end_after_3_retries():
    assert waits(policy(), DOWN, 5) == [0.2, 0.4, 0.8, None, None]


def test_jitter_takes_a_step_down_to_half_of_itself():
    assert waits(policy(LEAST), DOWN, 3) == pytest.approx([0.1, 0.2, 0.4])
    assert waits(policy(0.5), DOWN, 3) == pytest.approx([0.15, 0.3, 0.6])


def test_steps_stop_growing_at_max_wait():
    chosen = policy(base=1.0, max_wait=3.0, max_retries=5)
    assert waits(chosen, DOWN, 6) == [1.0, 2.0, 3.0, 3.0, 3.0, None]


def test_a_base_above_max_wait_is_cut_to_it():
    assert policy(base=5.0, max_wait=3.0).wait([DOWN]) == 3.0


def test_many_retries_cost_a_short_schedule_and_the_last_step_repeats():
    chosen = policy(max_retries=10**9, max_wait=7.0)
    assert len(chosen._steps) == 64
    assert chosen.wait([DOWN] * 1_000) == 7.0


def test_no_retries_means_none():
    assert policy(max_retries=0).wait([DOWN]) is None


@pytest.mark.parametrize(
    "error",
    [AuthError("key"), BadRequestError("bad"), TextError("bad"), DeadlineError("late")],
)
def test_an_error_that_says_so_is_not_repeated(error):
    assert policy().wait([error]) is None
    assert policy().wait([DOWN, error]) is None


def test_only_the_newest_error_decides_whether_to_repeat():
    assert policy().wait([AuthError("a proxy's hiccup"), DOWN]) is not None


def test_an_error_class_from_elsewhere_is_judged_by_its_own_word():
    class Flaky(CosyError):
        retryable = True

    assert policy().wait([Flaky("once")]) == 0.2


def test_bad_audio_is_repeated_twice():
    bad = BadAudioError("silent", reason="silent")
    assert waits(policy(), bad, 4) == [0.2, 0.4, None, None]
    assert policy(max_bad_audio=0).wait([bad]) is None


def test_bad_audio_counts_whatever_came_between():
    bad, cut = BadAudioError("short"), ConnectError("refused")
    assert policy(max_retries=9).wait([bad, cut, bad, cut]) is not None
    assert policy(max_retries=9).wait([bad, cut, bad, cut, bad]) is None
    assert policy(max_retries=9).wait([bad, bad, bad, cut]) is None


def test_retry_after_is_a_lower_bound_with_the_clients_spread_behind_it():
    error = ThrottledError("slow down", retry_after=30.0)
    assert policy(0.0).wait([error]) == 30.2
    assert policy(0.99).wait([error]) == pytest.approx(30.002)


def test_retry_after_may_exceed_max_wait():
    assert policy(max_wait=1.0).wait([ThrottledError("slow", retry_after=5.0)]) > 5.0


def test_a_short_retry_after_does_not_shorten_the_step():
    error = ThrottledError("slow", retry_after=0.0)
    assert policy(LEAST).wait([DOWN, DOWN, error]) == pytest.approx(0.4)


def test_a_retry_after_of_an_earlier_attempt_is_over():
    assert policy().wait([ThrottledError("slow", retry_after=30.0), DOWN]) == 0.4


def test_without_a_source_of_randomness_it_draws_its_own():
    random.seed(1)
    drawn = {RetryPolicy(RetryConfig()).wait([DOWN]) for _ in range(20)}
    assert len(drawn) == 20
    assert all(0.1 < wait <= 0.2 for wait in drawn)


def test_where_another_endpoint_is_ready_nothing_is_waited_for():
    chosen = policy(max_retries=2)
    throttled = ThrottledError("busy", retry_after=30.0)
    assert chosen.wait([throttled], elsewhere=True) == 0.0
    assert chosen.wait([throttled, throttled], elsewhere=True) == 0.0
    assert chosen.wait([throttled] * 3, elsewhere=True) is None
    assert chosen.wait([AuthError("no")], elsewhere=True) is None
    assert chosen.wait([throttled]) > 30.0


def test_naps_double_up_to_two_seconds_and_never_end():
    chosen = policy()
    naps = [chosen.nap(DOWN, times) for times in (1, 2, 3, 4, 5, 6, 1_000)]
    assert naps == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])


def test_a_nap_obeys_retry_after_and_a_longer_base():
    assert policy().nap(ThrottledError("slow", retry_after=9.0), 1) >= 9.0
    assert policy(base=5.0).nap(DOWN, 4) == 5.0


def test_nobody_naps_where_another_endpoint_is_ready():
    assert policy().nap(DOWN, 3, elsewhere=True) == 0.0


def test_spared_errors_use_up_no_attempt():
    chosen = policy()
    assert chosen.wait([DOWN] * 9, spared=8) == pytest.approx(0.2)
    assert chosen.wait([DOWN] * 11, spared=8) == pytest.approx(0.8)
    assert chosen.wait([DOWN] * 12, spared=8) is None


def test_nothing_is_repeated_at_all_without_retries():
    assert policy().repeats and not policy(max_retries=0).repeats
