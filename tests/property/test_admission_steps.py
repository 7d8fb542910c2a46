"""Requests are admitted and settled in any order: in one step, or asked for one by one."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cosy_sync import ClientConfig, Endpoint
from cosy_sync.endpoints.endpoint import Attempt, EndpointState
from cosy_sync.errors import ConnectError, CosyError, ReplyTimeout, server_error
from cosy_sync.events import Event
from cosy_sync.models import Utterance
from cosy_sync.policies import Call
from cosy_sync.testing import FakeClock

RATE, PLACES = 20, 6
TEXT = [Utterance("你好")]
ENDS = [
    *(None, None, None, server_error(429, "slow"), server_error(503, "full")),
    *(server_error(502, "away"), ReplyTimeout("late"), ConnectError("refused")),
]


class AdmittedAttempts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        endpoint = Endpoint("http://tts.test/batch", max_connections=PLACES, rate=RATE)
        self.endpoint = EndpointState(endpoint, ClientConfig(), self, FakeClock())
        self.flying: list[Attempt] = []
        self.sent: list[float] = []
        self.calm = True  # nothing failed yet

    def on_event(self, event: Event) -> None:
        pass

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(urgent=st.booleans())
    def admit(self, urgent: bool) -> None:
        endpoint = self.endpoint
        free = endpoint.slots.used < endpoint.slots.limit
        at = endpoint.limiter.next_free(self.now, urgent)
        state = endpoint.breaker.state
        endpoint.join(self.now)
        attempt = endpoint.admit(urgent, Call(), self.now)
        if attempt is None:
            assert not (free and self.calm and at <= self.now)
            endpoint.leave(self.now)
            return
        assert free and state == "closed" and at <= self.now
        self.flying.append(attempt)
        self.sent.append(self.now)

    @rule()
    def admit_one_by_one(self) -> None:
        endpoint = self.endpoint
        if endpoint.breaker.ticket is None or not endpoint.slots.acquire(urgent=True):
            return
        if not endpoint.limiter.go(self.now, True):
            endpoint.slots.release()
            return
        endpoint.join(self.now)
        admission = endpoint.breaker.admit(self.now)
        self.flying.append(Attempt(endpoint, admission, self.now, Call(), holds=True))
        self.sent.append(self.now)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), error=st.sampled_from(ENDS))
    def settle(self, data: st.DataObject, error: CosyError | None) -> None:
        attempt = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        self.calm &= error is None
        self.endpoint.settle(attempt, error, self.now, self.now - attempt.sent, TEXT)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def lose_the_place(self, data: st.DataObject) -> None:
        """Its connection broke, and it was sent a second time: no place is left to give back."""
        attempt = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        attempt.holds = False
        self.endpoint.slots.release()
        self.endpoint.settle(attempt, None, self.now, self.now - attempt.sent, TEXT)

    @rule(state=st.sampled_from(["open", "closed", "half-open"]))
    def follow(self, state: str) -> None:
        self.endpoint.breaker.follow(state, self.now)
        self.calm &= state == "closed"

    @invariant()
    def what_is_in_flight_is_what_is_taken(self) -> None:
        assert self.endpoint.slots.used == self.endpoint.busy == len(self.flying)
        assert 1 <= self.endpoint.places <= PLACES

    @invariant()
    def no_sliding_second_holds_more_than_the_rate(self) -> None:
        latest = self.sent[-RATE - 1 :]
        assert len(latest) <= RATE or latest[-1] - latest[0] > 1.0


TestAdmittedAttempts = AdmittedAttempts.TestCase
TestAdmittedAttempts.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
