"""The way to an endpoint: nobody leaves without a turn, and nobody who gives up keeps a place."""

from __future__ import annotations

import threading

import pytest

from cosy_sync import ClientConfig, Endpoint
from cosy_sync.engine.admission import Entry
from cosy_sync.engine.job import Job, Stop
from cosy_sync.engine.station import Station
from cosy_sync.errors import ClosedError
from cosy_sync.events import Event
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline
from cosy_sync.testing import FakeClock


class Rig:
    """One endpoint in virtual time, and batches that want to be sent there."""

    def __init__(self, rate: float = 100.0) -> None:
        self.clock = FakeClock()
        endpoint = Endpoint("http://tts.test/batch", rate=rate)
        self.station = Station(endpoint, ClientConfig(), self, self.clock)
        self.entry = Entry(None, self.clock)

    def on_event(self, event: Event) -> None:
        pass

    def job(self, stop: threading.Event | None = None) -> Job:
        now = self.clock.now()
        return Job(
            [Utterance(0, "好")],
            Deadline(now, 60.0),
            interactive=True,
            tenant="",
            stop=stop or Stop(),
        )


def test_each_that_leaves_took_a_turn_even_where_one_seems_free() -> None:
    rig = Rig()
    limiter = rig.station.limiter
    refused = iter([False, False])
    taken: list[float] = []
    real = limiter.go

    def go(now: float, urgent: bool) -> bool:
        # Somebody else was quicker, though by now a turn is there again.
        gone = next(refused, None) is None and real(now, urgent)
        if gone:
            taken.append(now)
        return gone

    limiter.go = go  # type: ignore[method-assign, union-attr]
    left = rig.entry.wait(rig.job(), rig.station)
    assert taken == [left]


@pytest.mark.parametrize("rate", [100.0, 20.0])
def test_who_is_cancelled_while_waiting_for_a_turn_keeps_no_place(rate: float) -> None:
    rig = Rig(rate)
    while rig.station.limiter.go(rig.clock.now(), True):
        pass
    stop = Stop()
    stop.set()
    with pytest.raises(ClosedError):
        rig.entry.wait(rig.job(stop), rig.station)
    assert rig.station.slots.used == 0
