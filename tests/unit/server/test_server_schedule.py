"""Trouble by the clock: what holds at which instant."""

import math

import pytest

from cosy_sync.server import Outage, Shortage
from cosy_sync.server.schedule import Schedule


@pytest.mark.parametrize(
    ("now", "fault"),
    [(9.9, ""), (10.0, "stall"), (14.9, "stall"), (15.0, ""), (20.0, "refuse"), (30.0, "")],
)
def test_an_outage_holds_from_its_start_for_its_seconds(now: float, fault: str) -> None:
    outages = [Outage(start=10, seconds=5, fault="stall"), Outage(start=20, seconds=1)]
    assert Schedule(outages, []).fault(now) == fault


@pytest.mark.parametrize(("now", "share"), [(1.9, 1.0), (2.0, 0.3), (6.9, 0.3), (7.0, 1.0)])
def test_a_shortage_holds_from_its_start_for_its_seconds(now: float, share: float) -> None:
    assert Schedule([], [Shortage(start=2, seconds=5, share=0.3)]).share(now) == share


def test_of_several_the_first_in_the_list_decides() -> None:
    outages = [Outage(start=1, seconds=1, fault="cut"), Outage(start=0, seconds=9, fault="reset")]
    schedule = Schedule(outages, [])
    assert [schedule.fault(now) for now in (0.5, 1.5, 2.5)] == ["reset", "cut", "reset"]
    shares = [Shortage(start=1, seconds=1, share=0.1), Shortage(start=0, seconds=9, share=0.5)]
    schedule = Schedule([], shares)
    assert [schedule.share(now) for now in (0.5, 1.5, 2.5)] == [0.5, 0.1, 0.5]


def test_listening_may_change_at_the_edges_of_what_refuses() -> None:
    stalls = Outage(start=2, seconds=2, fault="stall")
    assert Schedule([stalls], []).closures() == []
    assert Schedule([Outage(start=5, seconds=5), Outage(start=8, seconds=1)], []).closures() == [
        *(5, 8, 9, 10)
    ]
    schedule = Schedule([stalls, Outage(start=1, seconds=5)], [])
    assert [(at, schedule.fault(at)) for at in schedule.closures()] == [
        *((1, "refuse"), (2, "stall"), (4, "refuse"), (6, ""))
    ]


@pytest.mark.parametrize("span", [(-1, 5), (math.nan, 5), (math.inf, 5), (0, 0), (0, math.inf)])
def test_a_span_that_cannot_be_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="outages: from"):
        Outage(start=span[0], seconds=span[1])
    with pytest.raises(ValueError, match="shortages: from"):
        Shortage(start=span[0], seconds=span[1], share=0.5)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, math.nan])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Shortage(start=0, seconds=1, share=share)


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'reset'"):
        Outage(start=0, seconds=1, fault="rest")
