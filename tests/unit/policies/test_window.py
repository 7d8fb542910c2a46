from __future__ import annotations

import pytest

from cosy_sync.policies.window import Window

START = 1_000.0


def counts(window: Window) -> tuple[int, int]:
    return window.all, window.some


def test_it_adds_both_counts():
    window = Window(10.0)
    window.add(START, 3, 1)
    window.add(START, 4, 2)
    assert counts(window) == (7, 3)


def test_a_count_stays_for_more_than_nine_tenths_and_leaves_with_its_bucket():
    window = Window(10.0)
    window.add(START, 3, 1)
    window.forget(START + 9.999)
    assert counts(window) == (3, 1)
    window.forget(START + 10.0)
    assert counts(window) == (0, 0)


def test_what_came_late_in_a_bucket_leaves_with_it():
    window = Window(10.0)
    window.add(START + 0.999, 3, 1)
    window.forget(START + 9.999)
    assert counts(window) == (3, 1)
    window.add(START + 10.0, 1, 1)
    assert counts(window) == (1, 1)


@pytest.mark.parametrize("seconds", [0.5, 3.0, 60.0])
def test_its_length_is_what_was_asked_for(seconds):
    window = Window(seconds)
    window.add(0.0, 1, 0)
    window.forget(seconds * 0.999)
    assert window.all == 1
    window.forget(seconds)
    assert window.all == 0


def test_buckets_leave_one_after_the_other():
    window = Window(10.0)
    for second in range(10):
        window.add(START + second, 1, second % 2)
    assert counts(window) == (10, 5)
    left = []
    for second in range(10):
        window.forget(START + 10 + second)
        left.append(counts(window))
    assert left == [(9, 5), (8, 4), (7, 4), (6, 3), (5, 3), (4, 2), (3, 2), (2, 1), (1, 1), (0, 0)]


def test_after_a_long_silence_nothing_is_left_and_it_counts_on():
    window = Window(10.0)
    window.add(START, 5, 5)
    window.add(START + 1e6, 2, 1)
    assert counts(window) == (2, 1)
    window.forget(START + 1e6 + 9.5)
    assert counts(window) == (2, 1)


def test_an_instant_that_has_passed_counts_as_the_latest():
    window = Window(10.0)
    window.add(START + 5, 1, 0)
    window.add(START + 1, 1, 1)
    window.forget(START + 3)
    assert counts(window) == (2, 1)
    window.forget(START + 14.9)
    assert counts(window) == (2, 1)
    window.forget(START + 15)
    assert counts(window) == (0, 0)


def test_a_bucket_that_was_left_is_empty_when_its_turn_comes_again():
    window = Window(10.0)
    window.add(START, 3, 2)
    for silence in (10, 20, 30):
        window.forget(START + silence)
        assert counts(window) == (0, 0)


def test_adding_alone_leaves_the_old_behind():
    window = Window(5.0)
    window.add(START, 3, 2)
    window.add(START + 4.9, 1, 0)
    assert counts(window) == (4, 2)
    window.add(START + 5.0, 1, 0)
    assert counts(window) == (2, 0)
