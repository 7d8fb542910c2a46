"""What an attempt tells the rate limit of when its request really left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cosy_sync.engine.batch import Batch
from cosy_sync.engine.sending import Sending
from cosy_sync.errors import ConnectError, CosyError, CutError, ReplyTimeout
from cosy_sync.messages import Reply, Request
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline
from cosy_sync.testing import FakeClock
from cosy_sync.threads.permits import Permits
from cosy_sync.threads.stop import Stop

HELD = 0.4


class Held:
    """Sends after its thread was held up, or fails then; knows what the limit was told."""

    def __init__(self, *answers: CosyError | None) -> None:
        self.clock, self.told = FakeClock(), list[tuple[float, float]]()
        self._answers = list(answers)
        at = SimpleNamespace(url="http://tts.test/batch")
        limiter = SimpleNamespace(correct=lambda *told: self.told.append(told))
        self.began = self.clock.now()
        attempt: Any = SimpleNamespace(
            sent=self.began,
            endpoint=SimpleNamespace(endpoint=at, address=None, limiter=limiter),
        )
        parts: Any = SimpleNamespace(
            memory=Permits(100),
            clock=self.clock,
            sender=self,
            bounds=SimpleNamespace(most=lambda texts: 1_000),
        )
        batch = Batch(
            [Utterance("a")],
            Deadline(self.began, 60.0),
            interactive=False,
            tenant="",
            stop=Stop(),
        )
        self._sending = Sending(parts, batch, attempt, ["a"], "an id", 1)

    def post(self, *_: object) -> Reply:
        self.clock.advance(HELD)
        left = self.clock.now()
        answer = self._answers.pop(0)
        if answer is not None:
            raise answer
        return Reply(200, {}, b"", 0.0, 0.1, 0, left)

    def send(self) -> None:
        self._sending.send(Request("http://tts.test/batch", (), b""))


def test_a_request_that_was_held_up_is_counted_where_it_left() -> None:
    held = Held(None)
    held.send()
    assert held.told == [(held.began, held.began + HELD)]


@pytest.mark.parametrize(
    "error", [CutError("the connection broke"), ReplyTimeout("no answer", phase="first byte")]
)
def test_one_that_failed_after_it_left_is_counted_at_the_latest_instant(error: CosyError) -> None:
    held = Held(error)
    with pytest.raises(type(error)):
        held.send()
    assert held.told == [(held.began, held.began + HELD)]


def test_one_that_never_left_changes_nothing() -> None:
    held = Held(ConnectError("refused", phase="connect"))
    with pytest.raises(ConnectError):
        held.send()
    assert held.told == []


def test_a_wires_second_request_has_no_turn_of_its_own_to_correct() -> None:
    held = Held(None, CutError("the connection broke"))
    held.send()
    with pytest.raises(CutError):
        held.send()
    assert len(held.told) == 1
