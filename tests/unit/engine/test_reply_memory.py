"""The memory of one attempt's replies."""

from __future__ import annotations

import pytest

from cosy_sync.engine.batch import Batch
from cosy_sync.engine.reply_memory import ReplyMemory
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline
from cosy_sync.testing import FakeClock
from cosy_sync.threads.permits import Permits
from cosy_sync.threads.stop import Stop


class Book:
    """Stands for a backlog: counts what it is told."""

    def __init__(self) -> None:
        self.held = 0

    def enter(self, _first: int, size: int, _seconds: float) -> None:
        self.held += size

    def settle(self, size: int, kept: int) -> None:
        self.held += kept - size


@pytest.mark.parametrize("sizes", [(), (30,), (30, 40), (90, 80), (300, 500, 0)])
def test_what_every_reply_of_an_attempt_took_is_given_back(sizes: tuple[int, ...]) -> None:
    clock, memory, book = FakeClock(), Permits(100), Book()
    batch = Batch(
        [Utterance("a")],
        Deadline(clock.now(), 10.0),
        interactive=False,
        tenant="",
        stop=Stop(),
        reorder=book,  # type: ignore[arg-type]
    )
    room = ReplyMemory(batch, memory, clock)
    for size in sizes:
        room.make(size)
        assert (memory.used, book.held) == (min(size, 100), size)
    room.leave(7)
    assert (memory.used, book.held) == (0, 7)
