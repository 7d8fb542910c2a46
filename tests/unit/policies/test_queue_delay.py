"""Patience: a burst may wait, a line does not stand."""

import pytest

from cosy_sync.policies import QueueDelay

START = 1_000.0
RATE = 100.0


def test_a_burst_waits_as_long_as_the_setting_says():
    patience = QueueDelay(0.5)
    assert patience.bears(0.5, RATE, START)
    assert not patience.bears(0.51, RATE, START)


def test_a_line_that_has_stood_for_a_second_is_joined_only_for_the_next_turns():
    patience = QueueDelay(0.5)
    for tenth in range(10):
        assert patience.bears(0.3, RATE, START + tenth / 10)
    assert not patience.bears(0.3, RATE, START + 1.0)
    assert not patience.bears(0.051, RATE, START + 1.0)
    assert patience.bears(0.05, RATE, START + 1.0)


def test_calls_that_find_a_short_line_do_not_end_it_while_others_find_a_long_one():
    patience = QueueDelay(0.5)
    for tenth in range(30):
        patience.bears(0.06, RATE, START + tenth / 10)
        assert patience.bears(0.04, RATE, START + tenth / 10)
    assert not patience.bears(0.06, RATE, START + 3.0)


def test_a_line_counts_as_gone_after_a_second_without_long_waits():
    patience = QueueDelay(0.5)
    patience.bears(0.3, RATE, START)
    assert not patience.bears(0.3, RATE, START + 1.0)
    assert not patience.bears(0.3, RATE, START + 2.0)
    assert patience.bears(0.3, RATE, START + 3.01)
    assert patience.bears(0.3, RATE, START + 4.0)
    assert not patience.bears(0.3, RATE, START + 4.01)


@pytest.mark.parametrize(("rate", "longest"), [(100.0, 0.05), (50.0, 0.08), (8.0, 0.5), (0.5, 0.5)])
def test_four_turns_may_always_be_waited_for_within_the_setting(rate, longest):
    patience = QueueDelay(0.5)
    patience.bears(0.5, rate, START)
    patience.bears(longest + 0.01, rate, START + 0.9)
    assert patience.bears(longest, rate, START + 1.5)
    assert not patience.bears(longest + 0.01, rate, START + 1.5)


def test_without_patience_nothing_is_waited_for():
    patience = QueueDelay(0.0)
    assert patience.bears(0.0, RATE, START)
    assert not patience.bears(0.001, RATE, START)
