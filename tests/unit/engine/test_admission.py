"""The way to an endpoint: nobody leaves without a turn, and nobody who gives up keeps a place."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from cosy_sync import ClientConfig, Endpoint
from cosy_sync.endpoints.endpoint import EndpointState
from cosy_sync.endpoints.limiter import SlotWaiter
from cosy_sync.engine.admission import Entry
from cosy_sync.engine.batch import ANY_TIME, Batch
from cosy_sync.errors import ClosedError, DeadlineError
from cosy_sync.events import Event
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline
from cosy_sync.testing import FakeClock
from cosy_sync.threads.stop import Stop


class Rig:
    """One endpoint in virtual time, and batches that want to be sent there."""

    def __init__(self, rate: float = 100.0) -> None:
        self.clock = FakeClock()
        self.silent_since = math.inf
        endpoint = Endpoint("http://tts.test/batch", rate=rate)
        self.endpoint = EndpointState(endpoint, ClientConfig(), self, self.clock)
        self.entry = Entry(None, self.clock, lambda: self.silent_since)

    def on_event(self, event: Event) -> None:
        pass

    def batch(self, stop: threading.Event | None = None) -> Batch:
        now = self.clock.now()
        return Batch(
            [Utterance("好")],
            Deadline(now, 60.0),
            interactive=True,
            tenant="",
            stop=stop or Stop(),
        )


def test_each_that_leaves_took_a_turn_even_where_one_seems_free() -> None:
    rig = Rig()
    limiter = rig.endpoint.limiter
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
    left = rig.entry.wait(rig.batch(), rig.endpoint, rig.clock.now())
    assert taken == [left]


@pytest.mark.parametrize("rate", [100.0, 20.0])
def test_who_is_cancelled_while_waiting_for_a_turn_keeps_no_place(rate: float) -> None:
    rig = Rig(rate)
    while rig.endpoint.limiter.go(rig.clock.now(), True):
        pass
    stop = Stop()
    stop.set()
    with pytest.raises(ClosedError):
        rig.entry.wait(rig.batch(stop), rig.endpoint, rig.clock.now())
    assert rig.endpoint.slots.used == 0


@pytest.mark.parametrize(("interactive", "sent"), [(False, 0.0), (False, 5.0), (True, 5.0)])
def test_bulk_work_that_was_sent_before_waits_before_what_never_was(
    interactive: bool, sent: float
) -> None:
    # Its deadline runs; behind the line of a slow service it would run out.
    rig = Rig(rate=20.0)
    while rig.endpoint.limiter.go(rig.clock.now(), True):
        pass
    batch = rig.batch()
    batch.interactive, batch.sent = interactive, sent
    asked: list[bool] = []
    acquire = rig.endpoint.slots.acquire

    def noted(cost: int = 1, *, again: bool = False, **kind: Any) -> bool:
        asked.append(again)
        return acquire(cost, again=again, **kind)

    rig.endpoint.slots.acquire = noted  # type: ignore[method-assign]
    waiters: list[SlotWaiter] = []
    join = rig.endpoint.limiter.join
    rig.endpoint.limiter.join = lambda waiter, now: waiters.append(waiter) or join(waiter, now)  # type: ignore[method-assign, func-returns-value, union-attr]
    rig.entry.wait(batch, rig.endpoint, rig.clock.now())
    first = not interactive and sent > 0.0
    assert asked[0] is first
    assert [waiter.first for waiter in waiters] == [first]


class TestSilentService:
    """Bulk texts that wait for a place while their service answers nothing."""

    def batch(self, rig: Rig) -> Batch:
        now = rig.clock.now()
        batch = Batch(
            [Utterance("好")], Deadline(now, 60.0), interactive=False, tenant="", stop=Stop()
        )
        batch.queue_deadline = ANY_TIME
        batch.begin(batch.deadline, now, now, rig.silent_since)
        return batch

    def test_who_has_waited_for_a_whole_deadline_is_told_of_its_silence(self) -> None:
        rig = Rig()
        rig.silent_since = rig.clock.now()
        rig.endpoint.silence.ask("another", rig.clock.now())
        batch = self.batch(rig)
        rig.clock.advance(60.0)
        with pytest.raises(DeadlineError, match=r"has answered nothing for 60\.0 s") as caught:
            rig.entry.wait(batch, rig.endpoint, rig.clock.now())
        assert caught.value.endpoint == rig.endpoint.label
        assert caught.value.phase == "waiting to be sent"
        assert rig.endpoint.slots.used == 0

    def test_who_gets_a_place_late_has_the_rest_of_the_time(self) -> None:
        rig = Rig()
        began = rig.silent_since = rig.clock.now()
        batch = self.batch(rig)
        rig.clock.advance(50.0)
        rig.entry.wait(batch, rig.endpoint, rig.clock.now())
        assert batch.deadline.at == began + 60.0

    def test_an_answer_gives_it_all_of_its_time(self) -> None:
        rig = Rig()
        rig.silent_since = rig.clock.now()
        batch = self.batch(rig)
        rig.clock.advance(100.0)
        rig.silent_since = math.inf
        rig.entry.wait(batch, rig.endpoint, rig.clock.now())
        assert rig.endpoint.slots.used == 1
