"""Bounds that hold whatever comes, in whatever order: budget, throttle, concurrency, permits."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cosy_sync import ClientConfig, Endpoint, OverloadConfig
from cosy_sync.endpoints.limiter import EndpointLimiter
from cosy_sync.endpoints.overload import OverloadControl
from cosy_sync.errors import ConnectError, CosyError, OverloadError, ReplyTimeout, server_error
from cosy_sync.events import Event
from cosy_sync.policies import AdaptiveRate, Concurrency, RateLimiter, RetryBudget, Throttle
from cosy_sync.testing import FakeClock
from cosy_sync.threads.permits import Permits

STEPS = st.one_of(st.just(0.0), st.floats(0.0, 2.0), st.sampled_from([1.0, 3.0, 10.0, 100.0]))
ENDS = [
    *(None, None, server_error(429, "slow"), server_error(503, "full")),
    *(ReplyTimeout("late"), ConnectError("refused")),
]


class BudgetMachine(RuleBasedStateMachine):
    """Texts are sent and repeated in any order: what is repeated stays within its share."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.budget = RetryBudget(OverloadConfig())
        self.sent: list[tuple[float, int]] = []
        self.repeated: list[tuple[float, int]] = []
        self.failed: list[tuple[float, int]] = []

    @rule(seconds=STEPS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(texts=st.integers(1, 500), failed=st.integers(0, 20))
    def send(self, texts: int, failed: int) -> None:
        self.budget.deposit(texts, self.now)
        self.sent.append((self.now, texts))
        for _ in range(min(failed, texts)):
            self.budget.note_failure(self.now)
        self.failed.append((self.now, min(failed, texts)))

    @property
    def share(self) -> float:
        # However much of its length the window of failures covers.
        few = self.latest(self.failed, 1.8) <= 0.2 * self.latest(self.sent, 2.0)
        return 0.2 if few else 0.1

    @rule(texts=st.integers(1, 64))
    def repeat(self, texts: int) -> None:
        before = self.budget.balance(self.now)
        assert self.budget.withdraw(texts, self.now) == (texts <= before)
        if texts <= before:
            self.repeated.append((self.now, texts))
            # The balance that is shown stops at 0; what it is made of must not be below either.
            assert self.budget._left() >= 0.0
            assert abs(self.budget.balance(self.now) - (before - texts)) < 1e-9

    def latest(self, counts: list[tuple[float, int]], seconds: float) -> int:
        return sum(count for at, count in counts if at > self.now - seconds)

    @invariant()
    def it_is_never_negative_and_never_above_its_cap(self) -> None:
        cap = max(10.0, self.share * self.latest(self.sent, 10.0))
        assert 0.0 <= self.budget.balance(self.now) <= cap

    @invariant()
    def repetitions_stay_within_the_share_of_what_was_sent(self) -> None:
        # The window covers at least nine tenths of its length.
        if self.repeated and self.repeated[-1][0] == self.now:
            allowed = max(10.0, 0.2 * self.latest(self.sent, 10.0))
            assert self.latest(self.repeated, 9.0) <= allowed + 1e-9


class ThrottleMachine(RuleBasedStateMachine):
    """Calls end well or badly in any order: never more than 80 % are held back."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.draw = 0.0
        self.throttle = Throttle(OverloadConfig(), random=lambda: self.draw)
        self.calls: list[tuple[float, bool]] = []

    @rule(seconds=STEPS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(ends=st.lists(st.booleans(), max_size=40))
    def calls_end(self, ends: list[bool]) -> None:
        for accepted in ends:
            self.throttle.record(accepted, self.now)
            self.calls.append((self.now, accepted))

    @rule(draw=st.floats(0.0, 1.0, exclude_max=True))
    def ask(self, draw: float) -> None:
        self.draw = draw
        share = self.throttle.share(self.now)
        assert self.throttle.refuses(self.now) == (draw < share)

    @invariant()
    def one_in_five_is_always_let_through(self) -> None:
        assert 0.0 <= self.throttle.share(self.now) <= 0.8

    @invariant()
    def a_service_that_accepts_all_is_never_spared(self) -> None:
        latest = [accepted for at, accepted in self.calls if at > self.now - 3.0]
        if all(latest) and not self.throttle.calls.all > len(latest):
            assert self.throttle.share(self.now) == 0.0


@given(
    ceiling=st.integers(1, 800),
    decrease=st.floats(0.01, 0.99),
    events=st.lists(
        st.tuples(st.booleans(), st.integers(1, 900), st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
        max_size=80,
    ),
)
def test_concurrency_stays_between_1_and_its_ceiling(ceiling, decrease, events) -> None:
    concurrency, now = Concurrency(ceiling, decrease), 1_000.0
    for good, used, took, step in events:
        before = concurrency.limit
        move = concurrency.succeed if good else concurrency.overload
        changed = move(used, now - took, now)
        assert 1 <= concurrency.limit <= ceiling
        if not changed:
            assert concurrency.limit == before
        elif good:
            assert before <= concurrency.limit <= before + 1
        else:
            assert concurrency.limit <= before
        now += step


@given(
    rate=st.floats(0.1, 5_000.0),
    decrease=st.floats(0.01, 0.99),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0.0, 5.0)), max_size=60),
)
def test_a_pace_stays_between_a_hundredth_and_the_whole_of_its_rate(rate, decrease, steps) -> None:
    pace, now = AdaptiveRate(rate, decrease, 5.0), 1_000.0
    for refused, step in steps:
        now += step
        before = pace.rate(now)
        fell = refused and pace.refuse(now, now)
        after = pace.rate(now)
        assert 0.01 * rate * (1 - 1e-9) <= after <= rate
        if fell:
            assert after < before or math.isclose(after, 0.01 * rate, rel_tol=1e-6)
        else:
            assert after == before
    assert pace.rate(now + 100) == rate


class GovernedPermits(RuleBasedStateMachine):
    """Requests come and go, while the service's answers resize what is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.slots = Permits(20)
        self.limiter = EndpointLimiter(RateLimiter(100.0), FakeClock())
        endpoint = Endpoint("http://tts.test/batch", max_connections=20)
        self.overload = OverloadControl(endpoint, ClientConfig(), self.slots, self.limiter, self)
        self.started: list[float] = []

    def on_event(self, event: Event) -> None:
        pass

    @rule(seconds=st.floats(0.0, 0.5))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(urgent=st.booleans(), seconds=st.sampled_from([0.0, 0.0, 0.0001]))
    def start(self, urgent: bool, seconds: float) -> None:
        try:
            self.overload.admit(urgent, self.now)
        except OverloadError as error:
            assert error.retry_after > 0.0
            return
        free = len(self.started) < self.slots.limit
        assert self.slots.acquire(urgent=urgent, seconds=seconds) == free
        if free:
            self.started.append(self.now)

    @precondition(lambda self: self.started)
    @rule(
        data=st.data(),
        error=st.sampled_from(ENDS),
    )
    def end(self, data: st.DataObject, error: CosyError | None) -> None:
        started = self.started.pop(data.draw(st.integers(0, len(self.started) - 1)))
        self.slots.release()
        self.overload.record(error, started, self.now)

    @invariant()
    def used_is_what_is_in_flight_and_never_above_the_ceiling(self) -> None:
        assert self.slots.used == len(self.started) <= 20
        assert 1 <= self.slots.limit <= 20

    @invariant()
    def the_slots_follow_the_governor(self) -> None:
        rate, in_flight = self.overload.limits(self.now)
        assert self.slots.limit == in_flight
        assert 1.0 <= rate <= 100.0 or math.isclose(rate, 1.0)


class ResizedPermits(RuleBasedStateMachine):
    """Permits of any cost under a limit that moves: what is used is what is held."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = Permits(10)
        self.held: list[int] = []

    @rule(cost=st.integers(1, 15), seconds=st.sampled_from([0.0, 0.0, 0.0001]))
    def acquire(self, cost: int, seconds: float) -> None:
        used = sum(min(each, 10) for each in self.held)
        fits = used + min(cost, 10) <= self.permits.limit or not self.held
        assert self.permits.acquire(cost, seconds=seconds) == fits
        if fits:
            self.held.append(cost)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.permits.release(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @rule(limit=st.integers(1, 10))
    def resize(self, limit: int) -> None:
        self.permits.resize(limit)

    @invariant()
    def used_is_what_is_held(self) -> None:
        assert self.permits.used == sum(min(cost, 10) for cost in self.held) <= 10

    def teardown(self) -> None:
        for cost in self.held:
            self.permits.release(cost)
        assert self.permits.used == 0


MANY = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestBudget = BudgetMachine.TestCase
TestThrottle = ThrottleMachine.TestCase
TestGovernedPermits = GovernedPermits.TestCase
TestResizedPermits = ResizedPermits.TestCase
for case in (TestBudget, TestThrottle, TestGovernedPermits, TestResizedPermits):
    case.settings = MANY
