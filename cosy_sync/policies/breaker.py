"""The breaker: leaves an endpoint alone for a while after too many of its calls failed.

States, all changed under `_lock`; each change is announced after it, in order, by one thread at a
time (`_announce`):

    closed      every call is let through, with `ticket`, which may be read without the lock
    open        calls are refused until `_until`, but for early probes of patient callers, one at a
                time, and for calls of another kind than the only one that failed
    half-open   some calls are let through as probes, each with a lease

    closed -> open          `record`: too many calls of the window failed or were slow, or too many
                            in a row failed or got no answer
    open -> half-open       `admit`: the open time is over; or `record`: an early probe succeeded
    open -> open            `record`: an early probe failed, which only makes the next one later
    open -> closed          `record`: a call of another kind succeeded (through half-open, at once)
    half-open -> closed     `record`: all probes succeeded
    half-open -> open       `record`: a probe failed or was slow
    any -> closed, open     `follow`: another process decided
    closed -> half-open     the same

A result counts only in the state in which its call was let through (`_generation`). A probe that
does not report loses its lease to the next one.
"""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ..config import BreakerConfig
from ..errors import BreakerOpenError, CosyError, ReplyTimeout
from .admission import Admission, Call
from .early_probes import EarlyProbes
from .lean_import import without_extras
from .listeners import RaisingLog, ShieldedListener, guarded
from .window import Window

with without_extras():
    import pybreaker

__all__ = ["Breaker", "redis_storage"]

CLOSED: str = pybreaker.STATE_CLOSED
OPEN: str = pybreaker.STATE_OPEN
HALF_OPEN: str = pybreaker.STATE_HALF_OPEN

# For callers that say nothing about their call.
_ANY = Call()


class Breaker:
    """Opens when too many calls of the last seconds failed, or were slow, then lets probes try.

    Admit a call, make it, then record its result: no lock is held between.

    Early probes go one at a time, and only of patient callers. Texts that have not failed before
    go first. An early probe that fails changes no state.

    `ledger`, a breaker of pybreaker's, follows every change of state and calls its listeners, one
    change at a time and in order. `listeners` given here are also called with `success` and
    `failure` for each call that counted, on the thread that recorded it, several threads at once;
    `before_call` is never called. What they raise is reported through `threading.excepthook`.
    Opening or closing the ledger by hand changes nothing here.

    Args:
        config: When it opens, for how long, and how it closes again.
        name: The endpoint's label; in the ledger and in errors.
        on_change: Called with the old and the new state after each change.
        listeners: pybreaker listeners.
        random: Draws a number in [0, 1).
        lock: Its owner's, which then counts a success in a step of its own (`succeed`).
    """

    def __init__(
        self,
        config: BreakerConfig,
        name: str,
        *,
        on_change: Callable[[str, str], None] | None = None,
        listeners: Sequence[pybreaker.CircuitBreakerListener] = (),
        random: Callable[[], float] = random.random,
        lock: threading.Lock | None = None,
    ) -> None:
        self._config = config
        self._name = name
        self._random = random
        self._on_change = on_change
        self._listeners: Any = tuple(ShieldedListener(listener) for listener in listeners)
        self.ledger = pybreaker.CircuitBreaker(name=name, listeners=self._listeners)
        self._ledger_moves: dict[str, Callable[[], object]] = {
            OPEN: self.ledger.open,
            HALF_OPEN: self.ledger.half_open,
            CLOSED: self.ledger.close,
        }
        self.slow_call = math.inf if config.slow_call is None else config.slow_call
        self._peek = config.open_for / 60  # after so long to ask again while all probes are out
        # Guards everything below.
        self._lock = lock or threading.Lock()
        self._state = CLOSED
        self._generation = 0
        # What every call is admitted with while closed, None otherwise. Read without the lock: a
        # call that picks it up just before the breaker opens was simply admitted before.
        self.ticket: Admission | None = Admission(0)
        self._failed, self._slow = Window(config.window), Window(config.window)
        self._row = 0  # failures since the last success
        self._silent = 0  # those among them that got no answer for long
        self._row_began = 0.0
        self._until = 0.0  # when the open time ends
        self._early = EarlyProbes()
        self._half_at = 0.0  # when it was last half-opened
        self._failing_kind: int | None = None  # the only kind of request whose failures opened it
        self._reason = ""  # why a call is refused
        self._leases: dict[Admission, float] = {}  # probes in flight: when each lease ends
        self._good_probes = 0
        self._changes: deque[tuple[str, str]] = deque()  # decided, not yet announced
        self._announcing = False  # a thread is announcing

    @property
    def state(self) -> str:
        """Return "closed", "open" or "half-open"; open turns half-open when the next call asks."""
        return self._state

    @property
    def seems_dead(self) -> bool:
        """Return whether the endpoint is left alone, or nothing but failures came lately."""
        return self._state != CLOSED or self.dies_of(0)

    def dies_of(self, more: int) -> bool:
        """Return whether so many more failures in a row are many."""
        return self._row + more >= self._config.min_calls

    def admit(self, now: float, call: Call = _ANY) -> Admission:
        """Let one call through; its result must be recorded. Raises BreakerOpenError."""
        ticket = self.ticket
        return ticket if ticket is not None else self._admit_probe(now, call)

    def still_admits(self, admission: Admission) -> bool:
        """Return whether a call that has waited since it was admitted may still be made."""
        return admission is self.ticket or admission.probe

    def record(
        self,
        admission: Admission,
        error: CosyError | None,
        now: float,
        seconds: float = 0.0,
        failing_kind: int | None = None,
    ) -> None:
        """Count what became of a call: success, failure (`error.trips`) or neither.

        Results of calls from before the last change of state count for nothing.

        Args:
            admission: What `admit` returned for the call.
            error: None for a success.
            now: The instant.
            seconds: How long the service took, for the share of slow calls.
            failing_kind: The only kind of request that failed lately, if there is one.
        """
        if error is None:
            if seconds < self.slow_call:
                with self._lock:
                    counted = self.succeed(admission, now)
            else:
                counted = self._troubled(admission, now, None, seconds)
        elif error.trips:
            counted = self._troubled(admission, now, error, seconds, failing_kind)
        else:
            # Says nothing about the endpoint's health: a probe only gives its place back.
            if admission.probe:
                with self._lock:
                    if self._leases.pop(admission, None) is not None:
                        self._early.end(now, failed=False)
            return
        self.report(counted, error)

    def succeed(self, admission: Admission, now: float) -> bool:
        """Count a call that succeeded, and was not slow; return whether `report` must follow. The
        lock is held."""
        if admission.generation != self._generation:
            return False
        if not admission.probe:
            self._failed.add(now, 1, 0)
            self._row = self._silent = 0
            return bool(self._listeners)
        if self._leases.pop(admission, None) is None:
            return False
        if self._state == OPEN:
            self._half_open(now)
        if admission.other or self._good_probes + 1 >= self._config.probes:
            self._close()
        else:
            self._good_probes += 1
        return True

    def report(self, counted: bool, error: CosyError | None) -> None:
        """Tell listeners of a call that counted, and announce changes. The lock is not held."""
        for listener in self._listeners if counted else ():
            if error is None:
                listener.success(self.ledger)
            else:
                listener.failure(self.ledger, error)
        if self._changes:
            self._announce()

    def remaining(self, now: float, call: Call = _ANY) -> float:
        """Return the seconds after which a refused call should ask again; 0 when it may now."""
        if self.ticket is not None:
            return 0.0
        with self._lock:
            return self._wait(now, call)

    def follow(self, state: str, now: float, age: float = 0.0) -> None:
        """Obey a change that was decided elsewhere `age` seconds ago.

        It opens for what is left of its own open time, and closes. While others let their probes
        through, a closed one lets only its own through; an open one waits for its own time.
        """
        pause = self._draw_pause()
        with self._lock:
            if state == CLOSED and self._state != CLOSED:
                self._close()
            elif state == HALF_OPEN and self._state == CLOSED:
                self._half_open(now)
            elif state == OPEN and self._state != OPEN:
                self._open(now, max(0.0, pause - age), "troubles that another process had")
        if self._changes:
            self._announce()

    def _admit_probe(self, now: float, call: Call) -> Admission:
        with self._lock:
            wait = self._wait(now, call)
            if wait <= 0.0:
                admission = self._enter(now, call)
            reason = self._reason
        if wait > 0.0:
            message = f"{reason} {wait:.1f} s"
            raise BreakerOpenError(message, retry_after=wait, endpoint=self._name)
        if self._changes:
            self._announce()
        return admission

    # The rest of the decisions: with the lock held, or taking it for one block.

    def _wait(self, now: float, call: Call) -> float:
        if self._state == CLOSED:
            return 0.0
        courtesy = self._peek / 2 if call.again else 0.0  # texts that have not failed go first
        if self._state == OPEN:
            if self._is_other(call) and len(self._leases) < self._config.probes:
                return 0.0
            wait = self._until - now
            if call.patient:
                wait = min(wait, self._early.wait(now, bool(self._leases)))
            return max(0.0, wait + courtesy)
        if len(self._leases) + self._good_probes < self._config.probes:
            return 0.0 if self._good_probes else max(0.0, self._half_at + courtesy - now)
        # All places are taken, so there is a lease: the oldest comes first.
        lease_ends = next(iter(self._leases.values()))
        return max(0.0, min(self._peek, lease_ends - now))

    def _is_other(self, call: Call) -> bool:
        return self._failing_kind is not None and call.kind != self._failing_kind

    def _enter(self, now: float, call: Call) -> Admission:
        if self.ticket is not None:  # closed by the last probe while we waited for the lock
            return self.ticket
        other = False
        if self._state == OPEN and now < self._until:
            other = self._is_other(call)
            self._early.take(now)
        elif self._state == OPEN:
            self._half_open(now)
        elif len(self._leases) + self._good_probes >= self._config.probes:
            # A probe that never reported gives its place to this one.
            del self._leases[next(iter(self._leases))]
        admission = Admission(self._generation, probe=True, other=other)
        self._leases[admission] = now + self._config.probe_lease
        return admission

    def _troubled(
        self,
        admission: Admission,
        now: float,
        error: CosyError | None,
        seconds: float,
        failing_kind: int | None = None,
    ) -> bool:
        failed, slow = int(error is not None), int(seconds >= self.slow_call)
        pause = self._draw_pause()
        with self._lock:
            if admission.generation != self._generation:
                return False
            if not admission.probe:
                self._failed.add(now, 1, failed)
                self._slow.add(now, 1, slow)
                cause = ""
                if isinstance(error, ReplyTimeout):
                    # A service that is only too busy answers late: a pause would not help it.
                    cause = self._mute(seconds)
                elif error is not None:
                    cause = self._dead(now)
                cause = cause or self._cause(failed, slow)
                if cause:
                    self._open(now, pause, cause, failing_kind)
                return True
            if self._leases.pop(admission, None) is None:
                return False
            if self._state == OPEN:
                self._early.end(now, failed=True)
                self._failing_kind = failing_kind
            else:
                cause = "a probe failed" if failed else "a probe was slow"
                self._open(now, pause, cause, failing_kind)
            return True

    def _draw_pause(self) -> float:
        # Before the lock is taken: the source of randomness may be the user's.
        return self._config.open_for * (1.0 + self._config.jitter * (2.0 * self._random() - 1.0))

    def _dead(self, now: float) -> str:
        """Count a failure; return why it opens the breaker, whatever came before, or nothing."""
        if not self._row or now - self._row_began >= self._config.window:
            self._row, self._row_began = 0, now
        self._row += 1
        seconds = now - self._row_began
        if self._row < self._config.min_calls or seconds < self._config.dead_after:
            return ""
        return f"{self._row} calls in a row failed in {seconds:.1f} s"

    def _mute(self, seconds: float) -> str:
        """Count a time-out; return why it opens the breaker, whatever came before, or nothing.

        Where few requests are in flight, and each waits for long, the window never sees enough.
        """
        self._silent += int(seconds >= self._config.window)
        if self._silent < self._config.probes:
            return ""
        return f"{self._silent} calls in a row got no answer in {seconds:.1f} s"

    def _cause(self, failed: int, slow: int) -> str:
        """Return why this call opens the breaker, or nothing."""
        config, calls = self._config, self._failed.all
        if calls < config.min_calls:
            return ""
        # Quotients, not products: 0.55 * 20 is above 11.
        share = self._failed.some / calls
        if failed and share >= config.failure_ratio:
            return f"{100 * share:.0f} % of {calls} calls failed in {config.window:g} s"
        share = self._slow.some / calls
        if slow and share >= config.slow_ratio:
            took = f"took {config.slow_call:g} s or longer"
            return f"{100 * share:.0f} % of {calls} calls {took} in {config.window:g} s"
        return ""

    # The state changes last, in one step: Ctrl-C may come between any two.
    def _open(self, now: float, pause: float, cause: str, failing_kind: int | None = None) -> None:
        self._until = now + pause
        self._early.begin(now, pause)
        self._failing_kind = failing_kind
        self._leases = {}
        self._reason = f"breaker open after {cause}; it lets probes through in"
        self._change(OPEN)

    def _half_open(self, now: float) -> None:
        self._half_at = now
        self._leases = {}
        self._good_probes = 0
        self._reason = "breaker half-open, all its probes are in flight; ask again in"
        self._change(HALF_OPEN)

    def _close(self) -> None:
        self._failed, self._slow = Window(self._config.window), Window(self._config.window)
        self._row = self._silent = 0
        self._change(CLOSED, Admission(self._generation + 1))

    def _change(self, new: str, ticket: Admission | None = None) -> None:
        old, generation = self._state, self._generation + 1
        self._state, self._generation, self.ticket = new, generation, ticket
        self._changes.append((old, new))

    def _announce(self) -> None:
        # One thread at a time, or two changes could be told in the wrong order. A thread that comes
        # meanwhile leaves its change in the queue: the one at it looks again before it goes.
        while self._announce_next():
            pass

    def _announce_next(self) -> bool:
        announces: list[bool] = []  # noted first: Ctrl-C may come at once
        try:
            return self._tell_next(announces)
        finally:
            if announces:
                with self._lock:
                    self._announcing = False

    def _tell_next(self, announces: list[bool]) -> bool:
        """Tell the next change, unless another thread does; return whether there was one."""
        with self._lock:
            if self._announcing or not self._changes:
                return False
            announces.append(True)
            self._announcing, (old, new) = True, self._changes.popleft()
        guarded(self._ledger_moves[new])
        if self._on_change is not None:
            guarded(self._on_change, old, new)
        return True

    def __repr__(self) -> str:
        return f"<Breaker {self._name} {self._state}>"


def redis_storage(redis: Any, namespace: str) -> Any:
    """Return pybreaker's storage in Redis; it raises what the Redis client raises."""
    storage: Any = pybreaker.CircuitRedisStorage("closed", redis, namespace=namespace)
    storage.logger = RaisingLog()
    return storage
