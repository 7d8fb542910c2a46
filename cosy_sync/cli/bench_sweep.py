"""The sweep: a real client, more and more of its calls in flight, until something says stop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from cosy_sync import (
    ClientConfig,
    ClosedError,
    ConnectError,
    CosyClient,
    CosyError,
    Endpoint,
    Event,
    Outcome,
    ServerError,
)
from cosy_sync.cli.bench_steps import (
    Call,
    End,
    Notes,
    Speech,
    Step,
    is_refusal,
    measure,
    too_many,
    verdict,
)
from cosy_sync.cli.exits import is_hopeless, uninterrupted
from cosy_sync.cli.wording import in_options
from cosy_sync.events import AttemptFinished, BreakerChanged

__all__ = ["FEWEST", "Meter", "Plan", "Sweep", "careful"]

# Calls that a step makes at least, however long they take.
FEWEST = 8
# Seconds that the calls in flight at the end of the sweep may still take, and the ends after which
# nobody waits for them.
_PATIENCE = 30.0
_HASTY = ("refused", "errors", "interrupted")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep may do. `seconds` for each step, `rate` in requests per second."""

    texts: Sequence[str]
    batch_size: int
    ladder: Sequence[int]
    seconds: float
    rate: float
    max_texts: int

    @property
    def requests(self) -> int:
        """Return the most requests that it sends, the first one alone included."""
        return min(self.max_texts // self.batch_size, 1 + sum(map(self.share, self.ladder)))

    def share(self, in_flight: int) -> int:
        """Return the most requests of a step: what the rate allows in its time."""
        return max(math.ceil(self.rate * math.ceil(self.seconds)), FEWEST) + in_flight


class Meter:
    """Notes every call; the first refusal is passed on at once, on the thread that met it.

    Until it is armed it only notes. `refusal` says what the refusal was.

    Args:
        on_refusal: called once; must not wait.
    """

    def __init__(self, on_refusal: Callable[[], None]) -> None:
        self._on_refusal = on_refusal
        # Guards: _calls, refusal, _armed.
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._armed = False
        self.refusal: str | None = None

    def arm(self) -> None:
        """Forget what was noted; from now on a refusal counts."""
        with self._lock:
            self._calls, self._armed = [], True

    def on_event(self, event: Event) -> None:
        """Note the end of a call, or that the breaker opened."""
        if isinstance(event, AttemptFinished):
            timing, error = event.timing, event.error
            self._note(Call(timing.started, timing.total, timing.connect, error))
            if error is not None and is_refusal(error):
                self._refuse(in_options(error.message))
        elif isinstance(event, BreakerChanged) and event.new == "open":
            self._refuse("half of the calls fail, and the breaker opened")

    def take(self) -> list[Call]:
        """Return the calls since the last time."""
        with self._lock:
            calls, self._calls = self._calls, []
        return calls

    def _note(self, call: Call) -> None:
        with self._lock:
            if self.refusal is None or call.error is None or _is_an_answer(call.error):
                self._calls.append(call)

    def _refuse(self, words: str) -> None:
        with self._lock:
            first = self._armed and self.refusal is None
            if first:
                self.refusal = words
        if first:
            self._on_refusal()


def _is_an_answer(error: CosyError) -> bool:
    # After a refusal calls are cut off: how they end says nothing of the service.
    return isinstance(error, (ServerError, ConnectError))


class Sweep:
    """Runs the steps of a plan. `steps`, `end` and `requests` hold what came of it.

    Args:
        config: the client's; what would send a text twice is switched off in it.
        on_step: told of every step that ended.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: ClientConfig,
        plan: Plan,
        on_step: Callable[[Step], None] = lambda step: None,
    ) -> None:
        self._plan = plan
        self._on_step = on_step
        self._meter = Meter(self._cut)
        self._client = CosyClient(endpoint, config=careful(config, plan), observers=[self._meter])
        self._cutter = threading.Thread(target=self._client.close, args=(0.0,), name="cosy-cutter")
        self._texts = cycle(plan.texts)
        self._left = plan.requests
        self.steps: list[Step] = []
        self.end: End | None = None

    @property
    def requests(self) -> int:
        """Return how many requests were handed to the client."""
        return self._plan.requests - self._left

    @property
    def texts(self) -> int:
        """Return how many texts were handed to the client."""
        return self.requests * self._plan.batch_size

    def run(self) -> None:
        """Send, until there is a reason to stop: the `end`.

        Waits for the calls in flight, but not after a refusal or Ctrl-C. Raises the CosyError of
        the first request, which goes alone, and KeyboardInterrupt during it or at the very end.
        """
        try:
            self._try_once()
            try:
                self.end = self._climb()
            except KeyboardInterrupt:
                self.end = End("interrupted", "interrupted between two steps")
        finally:
            with uninterrupted():
                orderly = self.end is not None and self.end.kind not in _HASTY
                self._client.close(_PATIENCE if orderly else 0.0)
                if self._meter.refusal is not None:
                    self._cutter.join()

    def _climb(self) -> End:
        for in_flight in self._plan.ladder:
            self._step(in_flight)
            if self.end is not None:
                return self.end
        raise AssertionError("the last step always ends the sweep")

    def _cut(self) -> None:
        # On a worker, which close() waits for: it needs a thread of its own.
        self._cutter.start()

    def _try_once(self) -> None:
        self._left -= 1
        texts = list(islice(self._texts, self._plan.batch_size))
        outcomes = self._client.synth_many(texts, on_error="return")
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        hopeless = [error for error in errors if is_refusal(error) or is_hopeless(error)]
        if hopeless or len(errors) == len(outcomes):
            raise (hopeless or errors)[0]
        self._meter.arm()

    def _step(self, in_flight: int) -> None:
        if self._left < max(FEWEST, 2 * in_flight):
            self.end = self._texts_ran_out()
            return
        # A tenant has one limit, so each step is one of its own.
        view = self._client.with_options(tenant=f"bench-{in_flight}", max_in_flight=in_flight)
        size = self._plan.batch_size
        notes = Notes(in_flight=in_flight, batch_size=size, started=time.monotonic())
        try:
            self._take(view, notes)
        except KeyboardInterrupt:
            self.end = End("interrupted", f"interrupted at {in_flight} in flight")
        except ClosedError:
            if self._meter.refusal is None:
                raise
        notes.ended = notes.ended or time.monotonic()
        if self._meter.refusal is not None and self.end is None:
            words = f"the service refuses at {in_flight} in flight: {self._meter.refusal}"
            self.end = End("refused", words)
        if not notes.whole and self.end is None:
            self.end = self._texts_ran_out()
        notes.whole = self.end is None
        notes.calls = self._meter.take()
        self.steps.append(measure(notes))
        self._on_step(self.steps[-1])
        self.end = self.end or verdict(self.steps, self._plan.rate, self._plan.ladder[-1])

    def _take(self, view: CosyClient, notes: Notes) -> None:
        for outcome in view.synth_iter(self._feed(notes)):
            self._note(notes, outcome)
            if self.end is not None:
                break  # closing the client ends what is in flight

    def _feed(self, notes: Notes) -> Iterator[str]:
        """Yield whole batches until the step's time is over; a started batch is always finished.

        The step counts from when each of the calls that began it has its reply: before, a service
        that queues would seem to work on all of them.
        """
        plan, given, began = self._plan, 0, notes.started
        share, cpu = plan.share(notes.in_flight), time.process_time()
        warm = min(2 * notes.in_flight, math.ceil(plan.rate * plan.seconds))
        while self._meter.refusal is None and given < share:
            now = time.monotonic()
            if given == warm:
                notes.started, cpu = now, time.process_time()
            late = now - began >= plan.seconds and now - notes.started >= plan.seconds / 2
            if late and given > max(FEWEST - 1, warm):
                break
            if not self._left:
                notes.whole = False
                break
            self._left -= 1
            given += 1
            yield from islice(self._texts, plan.batch_size)
        notes.ended = time.monotonic()
        notes.cpu = time.process_time() - cpu

    def _note(self, notes: Notes, outcome: Outcome) -> None:
        audio, error = outcome.audio, outcome.error
        if audio is not None and audio.timing is not None:
            notes.spoken.append(Speech(audio.timing.started, audio.timing.total, audio.duration))
        elif error is not None and (self._meter.refusal is None or _is_an_answer(error)):
            notes.failed += 1
            texts = notes.failed + len(notes.spoken)
            if self._meter.refusal is None and too_many(notes.failed, texts):
                words = f"{notes.failed} of {texts} texts failed at {notes.in_flight} in flight"
                self.end = End("errors", f"{words}; the latest: {in_options(error.message)}")

    def _texts_ran_out(self) -> End:
        words = f"the {self._plan.max_texts:,} texts of --max-texts do not suffice for more"
        return End("texts", words)


def careful(config: ClientConfig, plan: Plan) -> ClientConfig:
    """Return the configuration without what sends a text twice or not at all, repacks batches or
    holds them back.

    A batch is then exactly one request, so that what is sent can be counted before.
    """
    longest = max(map(len, plan.texts))
    batch = replace(
        config.batch,
        max_texts=plan.batch_size,
        max_chars=max(config.batch.max_chars, longest * plan.batch_size),
        sort_window=1,
        halve_refused=False,
    )
    limits = replace(config.limits, max_bytes_waiting=config.limits.max_bytes_in_flight)
    retry = replace(config.retry, max_retries=0)
    config = replace(config, canary=None, variant=None, cache=None)
    return replace(config, batch=batch, limits=limits, retry=retry, serial=False)
