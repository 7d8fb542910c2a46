"""The time that a batch has on either of a canary's models."""

import pytest

from cosy_sync.engine.batch import ANY_TIME, Batch
from cosy_sync.engine.canary_runner import CanaryRunner
from cosy_sync.errors import BreakerOpenError
from cosy_sync.events import Observers
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline
from cosy_sync.testing import FakeClock
from cosy_sync.threads.stop import Stop


class Refusing:
    """The new model's runner: waits for a place, and then its breaker is open."""

    def __init__(self, clock: FakeClock, waits: float, *, seals: bool) -> None:
        self.clock, self.waits, self.seals = clock, waits, seals

    def run(self, batch: Batch) -> None:
        self.clock.advance(self.waits)
        batch.queued(self.waits)
        if self.seals:
            batch.seal(batch.texts)
        for text in batch.texts:
            batch.fail(text, BreakerOpenError("open"))


class Old:
    def __init__(self) -> None:
        self.deadlines: list[Deadline] = []

    def run(self, batch: Batch, texts: object) -> None:
        self.deadlines.append(batch.deadline)


@pytest.mark.parametrize("seals", [False, True])
@pytest.mark.parametrize("bulk", [False, True])
def test_what_bulk_work_waits_for_the_new_ones_places_is_no_part_of_the_old_ones_time(
    seals: bool, bulk: bool
) -> None:
    clock, old = FakeClock(), Old()
    began = clock.now()
    deadline = Deadline(began, 15.0)
    batch = Batch([Utterance("你好")], deadline, interactive=not bulk, tenant="", stop=Stop())
    if bulk:
        batch.queue_deadline = ANY_TIME
    new = Refusing(clock, 20.0, seals=seals)
    runner = CanaryRunner(new, old, None, Observers([]), clock)  # type: ignore[arg-type]
    runner.run(batch)
    (left,) = old.deadlines
    assert left.at - began == pytest.approx(35.0 if bulk else 15.0)
