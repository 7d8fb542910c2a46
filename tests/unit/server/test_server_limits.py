"""Limits and counters decide by the time that they are given."""

import math

import pytest

from cosy_sync.server.counters import Counters, PeakMeter
from cosy_sync.server.limits import CallLimit, ConnectionLimit, SlidingWindow


def test_a_window_refuses_the_event_beyond_its_limit() -> None:
    window = SlidingWindow(100)
    assert all(window.admit(5.0 + i / 1000) == 0 for i in range(100))
    assert window.admit(5.1) == pytest.approx(0.9)


def test_a_window_slides_and_does_not_start_anew_each_second() -> None:
    window = SlidingWindow(2)
    assert window.admit(0.9) == 0
    assert window.admit(0.95) == 0
    assert window.admit(1.05) > 0
    assert window.admit(1.9) == 0
    assert window.admit(1.92) > 0


@pytest.mark.parametrize(("share", "granted"), [(1.0, 100), (0.3, 30), (0.29, 29), (0.001, 1)])
def test_a_share_of_the_limit_is_granted_and_never_nothing(share: float, granted: int) -> None:
    window = SlidingWindow(100)
    assert [window.admit(5.0, share) for _ in range(101)].count(0.0) == granted


def test_a_lower_share_waits_for_so_many_to_leave_the_window() -> None:
    window = SlidingWindow(4)
    for now in (0.0, 0.1, 0.2, 0.3):
        assert window.admit(now) == 0
    assert window.admit(0.5, 0.5) == pytest.approx(0.7)
    assert window.admit(1.2, 0.5) == 0


def test_a_refused_event_takes_no_place() -> None:
    window = SlidingWindow(1)
    window.admit(0.0)
    assert all(window.admit(0.1 * i) > 0 for i in range(1, 10))
    assert window.admit(1.0) == 0


@pytest.mark.parametrize("start", [0.9, 0.1 + 0.2, 1e6 / 3])
def test_a_refusal_never_reports_a_wait_of_nothing(start: float) -> None:
    window = SlidingWindow(1)
    window.admit(start)
    for now in (start, start + 0.5, math.nextafter(start + 1.0, 0)):
        assert window.admit(now) > 0
    assert window.admit(start + 1.0) == 0


def test_addresses_do_not_share_a_window() -> None:
    limit = CallLimit(1)
    assert limit.admit("a", 0.0) == 0
    assert limit.admit("b", 0.0) == 0
    assert limit.admit("a", 0.0) == 1.0


def test_quiet_addresses_are_forgotten() -> None:
    limit = CallLimit(1)
    for i in range(5000):
        limit.admit(str(i), float(i))
    assert len(limit._windows) <= 1024


def test_a_limit_of_zero_admits_all() -> None:
    calls, connections = CallLimit(0), ConnectionLimit(0)
    for _ in range(1000):
        connections.enter("a")
        assert calls.admit("a", 0.0) == 0
    assert not connections.is_exceeded("a")


def test_connections_are_counted_for_each_address() -> None:
    limit = ConnectionLimit(1)
    limit.enter("a")
    limit.enter("b")
    assert not limit.is_exceeded("a")
    limit.enter("a")
    assert limit.is_exceeded("a")
    limit.leave("a")
    assert not limit.is_exceeded("a")


def test_the_peak_is_that_of_the_worst_sliding_second() -> None:
    meter = PeakMeter()
    for now in (0.0, 0.6, 0.7, 1.2, 1.5, 1.65, 5.0):
        meter.add(now)
    assert meter.peak == 4


def test_a_snapshot_does_not_change_any_more() -> None:
    counters = Counters()
    counters.count_reply(200)
    before = counters.snapshot()
    counters.count_reply(200)
    counters.count_fault("cut")
    assert before["status"] == {"200": 1}
    assert before["faults"] == {}
