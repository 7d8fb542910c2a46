"""The share of failures among what was lately tried."""

from __future__ import annotations

from cosy_sync.policies.failure_share import FailureShare

START = 1_000.0


def test_no_failure_is_no_share():
    assert FailureShare().of(100, START) == 0.0


def test_the_share_is_that_of_all_since_the_first_failure():
    share = FailureShare()
    share.add(START, 100, START)
    share.add(START + 1, 105, START + 1)
    assert share.of(108, START + 1) == 2 / 10
    assert share.of(108, START + 1, more=1) == 3 / 11


def test_the_same_failure_counts_once():
    share = FailureShare()
    for _ in range(3):
        share.add(START, 0, START)
    assert share.of(1, START) == 1 / 2


def test_failures_are_forgotten_after_half_a_minute():
    share = FailureShare()
    share.add(START, 0, START)
    share.add(START + 1, 3, START + 30)
    assert share.of(4, START + 30) == 1 / 2
    assert share.of(4, START + 60) == 0.0


def test_any_number_of_failures_takes_little_memory():
    share = FailureShare()
    for number in range(1_000):
        share.add(START + number / 1_000, number, START + number / 1_000)
    assert len(share._marks) == 64
