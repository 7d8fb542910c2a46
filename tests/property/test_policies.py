from __future__ import annotations

import heapq
import math

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from cosy_sync.config import BreakerConfig, RetryConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BreakerOpenError,
    ConnectError,
    CosyError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.policies import Admission, Breaker, Deadline, RateLimiter, RetryPolicy

# Seconds on a monotonic clock: days of uptime, where a float's steps are coarser.
STARTS = st.floats(0.0, 1e7)
DRAWS = st.floats(0.0, 1.0, exclude_max=True)


# Deadline


@given(started=STARTS, seconds=st.floats(1e-3, 1e6), later=st.floats(0.0, 2e6))
def test_a_deadline_has_expired_exactly_when_nothing_remains(started, seconds, later):
    deadline, now = Deadline(started, seconds), started + later
    assert deadline.expired(now) == (deadline.remaining(now) == 0.0)
    assert 0.0 <= deadline.cut(3.0, now) <= min(3.0, deadline.remaining(now))


# Rate


def busiest_second(instants: list[float]) -> int:
    instants = sorted(instants)
    most = first = 0
    for last, at in enumerate(instants):
        while at - instants[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(
    rate=st.integers(1, 8),
    delays=st.lists(st.sampled_from([0.0, 0.0, 0.02, 0.3]), min_size=10, max_size=60),
    news=st.sampled_from([0.0, 0.2, 0.6]),
)
def test_what_leaves_late_makes_no_second_hold_more_where_it_is_told_in_time(rate, delays, news):
    # All want to go at once; each is held up between its turn and its leaving, and when that was
    # is known only with the reply.
    limiter, left, number = RateLimiter(rate), [], 0
    events = [(100.0, 0, delay) for delay in delays]
    heapq.heapify(events)
    while events:
        now, _, what = heapq.heappop(events)
        if isinstance(what, tuple):
            limiter.correct(*what)
            continue
        number += 1
        if (wait := limiter.take(now)) > 0.0:
            heapq.heappush(events, (after(now, wait), number, what))
            continue
        left.append(now + what)
        heapq.heappush(events, (now + what + news, number, (now, now + what)))
    assert busiest_second(left) <= rate


def after(now: float, wait: float) -> float:
    return max(now + wait, math.nextafter(now, math.inf))


RATES = st.one_of(st.floats(0.05, 5.0), st.floats(1.0, 300.0), st.integers(1, 1_000))


class Sending(RuleBasedStateMachine):
    """Threads that ask when they like, also late for the instant that they were told."""

    def __init__(self):
        super().__init__()
        self.now, self.left, self.due = 0.0, [], []

    @initialize(rate=RATES, start=STARTS)
    def begin(self, rate, start):
        self.rate, self.limiter, self.now = rate, RateLimiter(rate), start

    @rule(seconds=st.one_of(st.floats(0.0, 0.02), st.floats(0.0, 3.0)))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(count=st.integers(1, 60))
    def some_are_told_when_to_come(self, count):
        told = [self.limiter.next_free(self.now, ahead) for ahead in range(count)]
        assert told == sorted(told) and told[0] >= max(self.now, self.limiter.paused_until)
        self.due = (self.due + told)[-100:]

    @rule()
    def all_whose_instant_came_try_to_go(self):
        for due in sorted(at for at in self.due if at <= self.now):
            wait = self.limiter.take(self.now, due)
            assert wait >= 0.0
            if wait == 0.0:
                self.due.remove(due)
                self.left.append(self.now)

    @rule(count=st.integers(1, 20))
    def some_come_at_the_very_instant_that_they_were_told(self, count):
        for due in sorted(self.due)[:count]:
            self.now = max(self.now, due)
            while (wait := self.limiter.take(self.now, due)) > 0.0:
                self.now = after(self.now, wait)
            self.due.remove(due)
            self.left.append(self.now)

    @rule(count=st.integers(1, 20))
    def some_come_without_being_told(self, count):
        self.left += [self.now for _ in range(count) if self.limiter.take(self.now) == 0.0]

    @rule()
    def the_latest_is_given_back(self):
        if self.left and self.left[-1] == self.now and self.limiter._replaced is not None:
            self.limiter.give_back()
            self.left.pop()

    @rule(seconds=st.floats(0.0, 2.0))
    def pause(self, seconds):
        self.limiter.pause(self.now + seconds)

    @rule(share=st.one_of(st.just(1.0), st.floats(0.01, 1.0)))
    def the_rate_changes(self, share):
        self.limiter.set_rate(self.rate * share)

    @invariant()
    def no_sliding_second_holds_more_than_the_rate(self):
        # Only whole requests can be sent: 2.5 a second are 3 in 1.2 s.
        assert busiest_second(self.left) <= math.ceil(self.rate)

    @invariant()
    def no_longer_stretch_holds_more_either(self):
        if self.left:
            scale = math.ceil(self.rate) / self.rate
            assert busiest_second([at / scale for at in self.left]) <= math.ceil(self.rate)


TestSending = Sending.TestCase


@settings(max_examples=100, deadline=None)
@given(rate=RATES, start=STARTS)
def test_a_flood_leaves_at_99_percent_of_the_rate(rate, start):
    limiter = RateLimiter(rate)
    count = int(rate * 3) + 2
    seconds = limiter.next_free(start, count) - limiter.next_free(start, limiter.burst)
    assert (count - limiter.burst) / seconds >= 0.99 * rate


# Retry

ERRORS = st.sampled_from(
    [
        UnavailableError("down"),
        ConnectError("refused"),
        BadAudioError("silent"),
        AuthError("key"),
        ThrottledError("slow"),
        ThrottledError("slow", retry_after=0.0),
        ThrottledError("slow", retry_after=7.0),
        UnavailableError("down", retry_after=0.3),
    ]
)
RETRIES = st.builds(
    RetryConfig,
    max_retries=st.integers(0, 8),
    base=st.floats(1e-3, 20.0),
    max_wait=st.floats(1e-3, 60.0),
    max_bad_audio=st.integers(0, 4),
)


@given(config=RETRIES, errors=st.lists(ERRORS, min_size=1, max_size=12), draw=DRAWS)
def test_a_wait_is_never_0_and_never_beyond_max_wait_or_retry_after(config, errors, draw):
    wait = RetryPolicy(config, random=lambda: draw).wait(errors)
    assume(wait is not None)
    retry_after = getattr(errors[-1], "retry_after", None)
    step = min(config.base * 2 ** (len(errors) - 1), config.max_wait)
    assert wait >= step / 2 > 0.0
    if retry_after is None:
        assert wait <= config.max_wait
    else:
        assert wait >= retry_after
        assert wait <= retry_after + config.max_wait


@given(config=RETRIES, errors=st.lists(ERRORS, min_size=12, max_size=12), draw=DRAWS)
def test_a_text_is_sent_again_at_most_max_retries_times(config, errors, draw):
    policy = RetryPolicy(config, random=lambda: draw)
    failed: list[CosyError] = []
    for error in errors:
        failed.append(error)
        if policy.wait(failed) is None:
            break
    else:
        raise AssertionError("it never gave up")
    assert len(failed) - 1 <= config.max_retries
    assert sum(isinstance(error, BadAudioError) for error in failed[:-1]) <= config.max_bad_audio
    assert all(error.retryable for error in failed[:-1])


# Breaker

CONFIG = BreakerConfig(
    min_calls=4, window=10.0, open_for=30.0, probes=3, probe_lease=60.0, slow_call=2.0
)
DOWN = UnavailableError("down")
OTHER = ThrottledError("too many")
SECONDS = st.sampled_from([0.0, 1.9, 2.0, 60.0])


class BreakerMachine(RuleBasedStateMachine):
    """Calls come, end well, badly or never, in any order and as late as they like."""

    admissions = Bundle("admissions")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.draw = 0.5
        self.told: list[tuple[str, str]] = []
        self.breaker = Breaker(CONFIG, "tts", on_change=self.changed, random=lambda: self.draw)
        self.until = 0.0  # when the open time ends
        self.age = 0.0  # how long ago others decided it
        self.generation = 0
        self.leases: dict[Admission, float] = {}

    @rule(state=st.sampled_from(["closed", "open", "half-open"]), age=st.floats(0.0, 60.0))
    def others_decide(self, state, age):
        before, until = self.breaker.state, self.until
        self.age = age
        self.breaker.follow(state, self.now, age)
        self.age = 0.0
        if before == "open" and state != "closed":
            assert (self.breaker.state, self.until) == ("open", until)
        else:
            probing = before == state == "half-open"
            joins = (before, state) == ("closed", "half-open")
            assert self.breaker.state == ("half-open" if probing or joins else state)

    def changed(self, old: str, new: str) -> None:
        assert old == (self.told[-1][1] if self.told else "closed")
        self.told.append((old, new))
        self.generation += 1
        self.leases.clear()
        if new == "open":
            pause = CONFIG.open_for * (1 + CONFIG.jitter * (2 * self.draw - 1))
            self.until = self.now + max(0.0, pause - self.age)

    @rule(seconds=st.one_of(st.floats(0.0, 2.0), st.sampled_from([9.9, 10.0, 29.9, 33.0, 60.0])))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(draw=DRAWS)
    def luck_changes(self, draw):
        self.draw = draw

    @rule(target=admissions, count=st.integers(1, 6))
    def ask(self, count):
        for _ in range(count - 1):
            self.knock()
        return self.knock()

    def knock(self) -> Admission | None:
        wait = self.breaker.remaining(self.now)
        before = self.breaker.state
        try:
            admission = self.breaker.admit(self.now)
        except BreakerOpenError as error:
            assert error.retry_after == wait > 0.0
            assert self.breaker.state == before != "closed"
            return None
        assert wait == 0.0
        assert admission.probe == (self.breaker.state == "half-open")
        if before == "open":
            assert self.now >= self.until
        if admission.probe:
            self.leases[admission] = self.now + CONFIG.probe_lease
        return admission

    @rule(
        admission=consumes(admissions),
        error=st.sampled_from([None, None, DOWN, DOWN, OTHER]),
        seconds=SECONDS,
    )
    def end(self, admission, error, seconds):
        if admission is not None:
            self.report(admission, error, seconds)

    @rule(admission=admissions, error=st.sampled_from([None, DOWN, OTHER]))
    def end_twice(self, admission, error):
        if admission is not None and admission.probe:
            self.report(admission, error)
            self.report(admission, error)

    @rule(errors=st.lists(st.sampled_from([None, DOWN, DOWN]), max_size=8), seconds=SECONDS)
    def calls_that_end_at_once(self, errors, seconds):
        for error in errors:
            admission = self.knock()
            if admission is not None:
                self.report(admission, error, seconds)

    def report(self, admission: Admission, error: CosyError | None, seconds: float = 0.0) -> None:
        late = admission.generation != self.generation
        before = self.seen()
        leased = admission in self.leases
        self.leases.pop(admission, None)
        self.breaker.record(admission, error, self.now, seconds)
        if late or (error is OTHER and not admission.probe):
            assert self.seen() == before
        elif leased and (error is DOWN or (error is None and seconds >= 2.0)):
            # Whose lease has ended may have lost its place.
            assert self.breaker.state == "open" or before == self.seen()

    def seen(self) -> tuple[object, ...]:
        breaker = self.breaker
        failed, slow = breaker._failed, breaker._slow
        counts = failed.all, failed.some, slow.some
        return breaker.state, breaker.remaining(self.now), counts, len(self.told)

    @invariant()
    def no_more_leases_than_probes(self):
        assert sum(end > self.now for end in self.leases.values()) <= CONFIG.probes

    @invariant()
    def open_never_ends_early(self):
        if self.breaker.state == "open":
            assert self.breaker.remaining(self.now) == max(0.0, self.until - self.now)

    @invariant()
    def everybody_knows_the_state(self):
        state = self.told[-1][1] if self.told else "closed"
        assert self.breaker.state == self.breaker.ledger.current_state == state

    @invariant()
    def it_never_shuts_for_ever(self):
        wait = self.breaker.remaining(self.now)
        assert wait <= CONFIG.open_for * (1 + CONFIG.jitter) + 1e-9


BreakerMachine.TestCase.settings = settings(max_examples=75, stateful_step_count=50, deadline=None)
TestBreaker = BreakerMachine.TestCase
