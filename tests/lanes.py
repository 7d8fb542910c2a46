"""A coalescer over a caller that answers as the test says, and threads that use it."""

import threading
import time
from collections.abc import Callable

from cosy_sync.clock import Clock, SystemClock
from cosy_sync.engine.batch import Batch
from cosy_sync.engine.pending_texts import QueueOptions
from cosy_sync.engine.queue_workers import QueueWorkers
from cosy_sync.engine.text_future import TextFuture
from cosy_sync.engine.text_queue import TextQueue
from cosy_sync.engine.waiters import BlockingWaiter, FutureWaiter
from cosy_sync.errors import ClosedError, CosyError, RefusedError
from cosy_sync.events import Event
from cosy_sync.models import Audio, Outcome, Timing, Utterance
from cosy_sync.policies import Deadline
from cosy_sync.threads import open_schedule
from cosy_sync.threads.lifo_pool import LifoThreadPool

PACKING = {
    "max_texts": 4,
    "max_chars": 100,
    "linger": 0.005,
    "single_flight": True,
    "interactive": True,
    "tenant": "",
}


def eventually(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 60  # a guard against hanging alone
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


class Service:
    """Runs jobs like a Caller: at the door until `open`, then under way until `reply`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.open, self.reply = threading.Event(), threading.Event()
        self.open.set()
        self.reply.set()
        self.batches: list[Batch] = []
        self.sent: list[list[str]] = []
        self.errors: dict[str, CosyError] = {}
        self.refusal: CosyError | None = None

    def run(self, batch: Batch) -> None:
        self.batches.append(batch)
        assert self.open.wait(60)
        try:
            if batch.stop.is_set():
                raise ClosedError("cancelled before it was sent")
            if self.refusal is not None:
                raise self.refusal
            texts = batch.seal(batch.texts)
        except (ClosedError, RefusedError) as error:
            for utterance in batch.texts:
                batch.fail(utterance, error)
            return
        started = self.clock.now()
        self.sent.append([utterance.text for utterance in texts])
        assert self.reply.wait(60)
        for utterance in texts:
            error = self.errors.get(utterance.text)
            if error is not None:
                batch.fail(utterance, error)
            else:
                text = utterance.text
                audio = audio_of(text, started - batch.accepted_at, started)
                batch.outcomes.append(Outcome(utterance.index, text, audio))
        batch.deliver()


def audio_of(text: str, queued: float = 0.0, started: float = 0.0) -> Audio:
    timing = Timing(
        started=started,
        queued=queued,
        connect=0.01,
        first_byte=0.1,
        total=0.2,
        attempts=1,
        endpoint="e",
        request_id="r",
    )
    return Audio(text.encode(), "pcm", 24_000, 1, 0, len(text.encode()), timing)


class Lane:
    """A coalescer with everything that it needs."""

    def __init__(self, clock: Clock | None = None, gate: object = None, **packing: object) -> None:
        clock = clock or SystemClock()
        self.service, self.events, self.free = Service(clock), [], True
        self.workers, self.calls = LifoThreadPool(8), LifoThreadPool(8)
        self.alarms = open_schedule()
        self.crew = QueueWorkers(
            executor=self.workers,
            alarms=self.alarms,
            free=lambda: self.free,
            clock=clock,
            observer=self,
        )
        packed = QueueOptions(**{**PACKING, **packing})  # type: ignore[arg-type]
        self.coalescer = TextQueue(packed, self.crew, self.service, gate)  # type: ignore[arg-type]
        self.outcomes: dict[str, list[Outcome]] = {}
        self.threads: list[threading.Thread] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def deadline(self, seconds: float = 20.0) -> Deadline:
        return Deadline(self.crew.clock.now(), seconds)

    def busy(self) -> Callable[[], None]:
        """Have something under way; return what ends it."""
        pending = self.coalescer.try_send_alone(Utterance("under way"))
        assert pending is not None
        deadline = self.deadline()
        outcome = Outcome(0, "under way", audio_of("under way"))
        return lambda: self.coalescer.finish_alone(pending, deadline, outcome)

    def ask(self, *texts: str, seconds: float = 20.0) -> list[BlockingWaiter]:
        """Stand in line with texts, in this order, and wait on a thread each."""
        return [self._ask(text, seconds) for text in texts]

    def waiter(self, text: str) -> BlockingWaiter:
        """Stand in line with a text, and do not wait."""
        waiter = BlockingWaiter(self.deadline())
        self.coalescer.join(Utterance(text), waiter)
        return waiter

    def _ask(self, text: str, seconds: float) -> BlockingWaiter:
        waiter = BlockingWaiter(self.deadline(seconds))
        self.coalescer.join(Utterance(text), waiter)

        def wait() -> None:
            outcome = self.coalescer.wait(Utterance(text), waiter)
            self.outcomes.setdefault(text, []).append(outcome)

        thread = threading.Thread(target=wait)
        self.threads.append(thread)
        thread.start()
        return waiter

    def promise(self, text: str, seconds: float = 20.0) -> TextFuture:
        """Stand in line with a future, as `submit` does."""
        future = TextFuture(self.calls)
        waiter = FutureWaiter(self.deadline(seconds), future)
        self.coalescer.join(Utterance(text), waiter)
        return future

    def outcome(self, text: str) -> Outcome:
        """Wait for the one outcome of a text."""
        eventually(lambda: text in self.outcomes)
        (outcome,) = self.outcomes[text]
        return outcome

    def close(self) -> None:
        self.service.open.set()
        self.service.reply.set()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        assert self.workers.drain(20) and self.calls.drain(20)
        self.alarms.close(20)
        self.workers.close()
        self.calls.close()
