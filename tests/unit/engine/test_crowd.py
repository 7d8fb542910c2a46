"""A crowd of callers and a service that falls short, in virtual time, with the real machines."""

from __future__ import annotations

import random
import threading
import types
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pytest
from virtual import World

import cosy_sync.endpoints.limiter as turns_module
import cosy_sync.threads.permits as budget_module
from cosy_sync import BreakerConfig, ClientConfig, Endpoint, OverloadConfig, RetryConfig
from cosy_sync import VerifyConfig as Verify
from cosy_sync.audio import Verifier
from cosy_sync.endpoints.endpoint import EndpointState
from cosy_sync.engine.attempt import AttemptRunner
from cosy_sync.engine.batch import Batch
from cosy_sync.engine.reply_bounds import ReplyBounds
from cosy_sync.engine.retry_planner import RetryPlanner
from cosy_sync.engine.retrying import BatchRunner
from cosy_sync.engine.splitting import Splitter
from cosy_sync.errors import CosyError, ReplyTimeout, ServerError, server_error
from cosy_sync.events import Event, LimitsLowered
from cosy_sync.messages import Payload, Reply, Request
from cosy_sync.models import Utterance, wav_header
from cosy_sync.policies import AcceptedKeys, Deadline, RetryBudget, RetryPolicy
from cosy_sync.threads.permits import Permits
from cosy_sync.threads.stop import Stop
from cosy_sync.wires.base import Capabilities, HttpWire

# Thousands of threads, one at a time: a guard against hanging, not a measure of the machine.
pytestmark = pytest.mark.timeout(600)

START = 1_000.0
OFFERED = 80  # calls a second
SECONDS = 45
FALLS, RETURNS = 10, 15  # the service does 30 instead of 100 calls a second between these
SOUND = wav_header(24_000, 1, 4_800) + bytes(range(1, 241)) * 20
USUAL_BREAKER = BreakerConfig()
# The breaker judges by the first replies, and refusals are the fastest of them. Where a test is
# about what the others do, it stays out.
NEVER_OPEN = BreakerConfig(min_calls=10**9)
UNHINDERED = OverloadConfig(
    retry_share=1.0, retry_floor=1e6, throttle_cap=0.0, decrease=0.999, patience=1e6, start=1_000
)


class Service(Protocol):
    sent: list[float]

    def post(
        self, request: Request, seconds: float, max_bytes: int, make_room: Callable[[int], None]
    ) -> Reply: ...


class Queueing:
    """Works in the order of arrival, also on what nobody waits for any more: 100 calls may wait.

    Whoever has no reply after a second goes away. So once the queue is full nobody gets one, and
    it stays full for as long as more than the capacity is sent.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: list[float] = []
        self._end = 0.0  # the work taken up so far, in calls since the beginning of time

    def post(self, request: Request, seconds: float, *_: object) -> Reply:
        now = self.world.now()
        self.sent.append(now)
        done = work_done(now)
        if self._end - done >= 100:
            self.world.sleep(0.01)
            raise server_error(503, "the queue is full")
        self._end = max(self._end, done) + 1
        wait = instant_of(self._end) - now + 0.05
        self.world.sleep(min(wait, 1.0, seconds))
        if wait > min(1.0, seconds):
            raise ReplyTimeout("no reply", phase="first byte")
        return Reply(200, {}, b"")


class Counting:
    """Serves so many calls in any sliding second and refuses the others at once."""

    def __init__(
        self,
        world: World,
        capacity: Callable[[float], float],
        status: int = 429,
        retry_after: float | None = None,
    ) -> None:
        self.world = world
        self.sent: list[float] = []
        self.refused: list[float] = []
        self._capacity = capacity
        self._status = status
        self._retry_after = retry_after
        self._served: deque[float] = deque()

    def post(self, *_: object) -> Reply:
        now = self.world.now()
        self.sent.append(now)
        while self._served and self._served[0] + 1 <= now:
            self._served.popleft()
        if len(self._served) >= self._capacity(now):
            self.refused.append(now)
            self.world.sleep(0.01)
            raise self._refusal()
        self._served.append(now)
        self.world.sleep(0.2)
        return Reply(200, {}, b"")

    def _refusal(self) -> ServerError:
        return server_error(self._status, "too many", retry_after=self._retry_after)


def capacity(now: float) -> float:
    return 30.0 if FALLS <= now - START < RETURNS else 100.0


def work_done(now: float) -> float:
    """Return how many calls a busy service has served until then."""
    return 100 * now - 70 * (min(max(now, START + FALLS), START + RETURNS) - START - FALLS)


def instant_of(work: float) -> float:
    fall, end = work_done(START + FALLS), work_done(START + RETURNS)
    if work <= fall:
        return work / 100
    return (
        START + FALLS + (work - fall) / 30 if work <= end else START + RETURNS + (work - end) / 100
    )


class Mute(HttpWire):
    """A wire without bytes: what is measured here is when calls are sent."""

    name = "mute"
    capabilities = Capabilities(max_texts_per_call=64)

    def encode(self, texts: Sequence[str], request_id: str) -> Request:
        return Request("http://tts.test/batch", (), b"")

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        return [Payload(SOUND, "audio/wav") for _ in texts]


@dataclass
class Crowd:
    """What became of the calls: when each was wanted, its error, the seconds until then."""

    world: World
    service: Service
    events: list[Event] = field(default_factory=list)
    ended: list[tuple[float, CosyError | None]] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def most_sent(self, seconds: int) -> float:
        """Return the most that was sent in any so many seconds, by what was wanted in them."""
        window: deque[float] = deque()
        most = 0
        for at in sorted(self.service.sent):
            window.append(at)
            while window[0] <= at - seconds:
                window.popleft()
            most = max(most, len(window))
        return most / (OFFERED * seconds)

    def success(self, first: int, last: int) -> float:
        """Return the smallest share of good calls in any of these seconds."""
        wanted = Counter(int(at - START) for at, _ in self.ended)
        good = Counter(int(at - START) for at, error in self.ended if error is None)
        return min(good[second] / wanted[second] for second in range(first, last))


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Crowd]:
    """Return a function that makes a crowd, its machines and its service, and lets it call."""

    def gather(
        service: Callable[[World], Service],
        overload: OverloadConfig,
        endpoint: Endpoint,
        workers: int = 0,
        breaker: BreakerConfig = USUAL_BREAKER,
    ) -> Crowd:
        random.seed(1)
        world = World()
        locks = types.SimpleNamespace(Lock=world.lock, TIMEOUT_MAX=threading.TIMEOUT_MAX)
        monkeypatch.setattr(budget_module, "threading", locks)
        monkeypatch.setattr(turns_module, "Flag", world.event)
        crowd = Crowd(world, service(world))
        config = ClientConfig(breaker=breaker, overload=overload)
        endpoint = EndpointState(endpoint, config, crowd, crowd.world)
        caller = make_caller(crowd, endpoint, overload)
        if workers:
            for number in range(workers):
                world.start(START, lambda n=number: work(crowd, caller, n, workers))
        else:
            for number in range(OFFERED * SECONDS):
                world.start(START + number / OFFERED, lambda n=number: call(crowd, caller, n))
        world.run()
        return crowd

    return gather


class Alone:
    """A cluster of one station."""

    def __init__(self, endpoint: EndpointState) -> None:
        self._endpoint = endpoint

    def choose(
        self, deadline: Deadline, stop: Stop, avoid: object, now: float, *, patient: bool
    ) -> EndpointState:
        self._endpoint.join(now)
        return self._endpoint

    def elsewhere(self, avoid: object, now: float) -> bool:
        return False


def make_caller(crowd: Crowd, endpoint: EndpointState, overload: OverloadConfig) -> BatchRunner:
    config = ClientConfig(verify=Verify(enabled=False))
    attempter = AttemptRunner(
        wires={endpoint.endpoint.url: Mute()},
        sender=crowd.service,
        memory=Permits(1 << 30),
        connections=None,
        silent_since=lambda: endpoint.silence.since,
        bounds=ReplyBounds(config),
        verifier=Verifier(config.verify),
        observer=crowd,
        clock=crowd.world,
        sample_rate=24_000,
        format="wav",
    )
    retry, budget = RetryPolicy(RetryConfig()), RetryBudget(overload)
    splitter = Splitter(attempter.wires, AcceptedKeys(), 0, True, crowd.world)  # type: ignore[arg-type]
    endpoints: Any = Alone(endpoint)
    planner = RetryPlanner(retry, budget, endpoints, splitter, crowd, crowd.world)  # type: ignore[arg-type]
    return BatchRunner(attempter, endpoints, splitter, planner, crowd, crowd.world)  # type: ignore[arg-type]


def call(crowd: Crowd, caller: BatchRunner, number: int, interactive: bool = True) -> None:
    wanted = crowd.world.now()
    batch = Batch(
        [Utterance(f"第{number}句话", index=number)],
        Deadline(wanted, 5.0 if interactive else 60.0),
        interactive=interactive,
        tenant="",
        stop=Stop(),
    )
    caller.run(batch)
    crowd.ended.append((wanted, batch.outcomes[0].error))
    crowd.took.append(crowd.world.now() - wanted)


def work(crowd: Crowd, caller: BatchRunner, first: int, step: int) -> None:
    """Call one after the other, like a worker of a large job."""
    number = first
    while crowd.world.now() < START + SECONDS:
        call(crowd, caller, number, interactive=False)
        number += step


FAST = Endpoint("http://tts.test/batch", max_connections=1_000, rate=1_000.0)
USUAL = Endpoint("http://tts.test/batch")
SERVICES = {
    "queueing": (Queueing, FAST),
    "429": (lambda world: Counting(world, capacity), USUAL),
    "429 with Retry-After": (lambda world: Counting(world, capacity, 429, 1.0), USUAL),
    "502": (lambda world: Counting(world, capacity, 502), USUAL),
    "503": (lambda world: Counting(world, capacity, 503), USUAL),
}


def test_without_our_policies_retries_keep_the_service_down_for_good(gathered) -> None:
    crowd = gathered(Queueing, UNHINDERED, FAST, breaker=NEVER_OPEN)
    assert crowd.most_sent(10) > 3
    assert crowd.success(40, 45) < 0.2


@pytest.mark.parametrize("name", SERVICES)
def test_when_capacity_falls_traffic_stays_and_success_is_back_in_15_seconds(gathered, name):
    service, endpoint = SERVICES[name]
    crowd = gathered(service, OverloadConfig(start=50), endpoint)
    assert crowd.success(0, FALLS) == 1.0
    assert crowd.success(FALLS, RETURNS) < 0.7  # it did fall
    assert crowd.success(RETURNS + 15, SECONDS) >= 0.95
    # The retry budget: 10 % of the texts, and one a second.
    assert crowd.most_sent(10) <= 1.1 + 1 / OFFERED
    if name.startswith("429"):  # the line is short when the rate is back
        assert crowd.most_sent(1) <= 1.1


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_is_too_small_for_good_makes_nobody_wait_long(gathered, status) -> None:
    def service(world: World) -> Service:
        return Counting(world, lambda now: 30.0, status)

    crowd = gathered(service, OverloadConfig(), USUAL, 0, NEVER_OPEN)
    good = sum(error is None for at, error in crowd.ended if at >= START + 10)
    assert good > 0.9 * 30 * (SECONDS - 10)
    assert max(crowd.took) < 3.0  # with retries; the deadline would be 5 s
    assert sorted(crowd.took)[int(0.9 * len(crowd.took))] < 1.2


def test_a_rate_that_is_twice_what_the_service_allows_settles_near_the_limit(gathered) -> None:
    crowd = gathered(lambda world: Counting(world, lambda now: 50.0), OverloadConfig(), USUAL, 50)
    sent = [at for at in crowd.service.sent if at >= START + 10]
    refused = [at for at in crowd.service.refused if at >= START + 10]
    assert len(refused) < 0.04 * len(sent)
    passed = len(sent) - len(refused)
    # In so many seconds there may be a second more than that of the service's.
    assert 0.9 * 50 * (SECONDS - 10) < passed <= 50 * (SECONDS - 9)
    assert all(error is None for _, error in crowd.ended)


def test_a_rate_that_the_service_allows_is_never_lowered(gathered) -> None:
    crowd = gathered(lambda world: Counting(world, lambda now: 100.0), OverloadConfig(), USUAL, 50)
    assert not [event for event in crowd.events if isinstance(event, LimitsLowered)]
    assert len(crowd.service.sent) > 0.94 * 100 * SECONDS


def test_a_request_that_is_held_up_after_its_turn_makes_no_second_hold_one_more(gathered) -> None:
    class HeldUp(Counting):
        def post(self, *args: object) -> Reply:
            self.asked = getattr(self, "asked", 0) + 1
            if self.asked % 70 == 0:
                self.world.sleep(0.03)
            left = self.world.now()
            return replace(super().post(*args), left=left)

    crowd = gathered(lambda world: HeldUp(world, lambda now: 1e9), OverloadConfig(), USUAL, 50)
    sent = sorted(crowd.service.sent)
    assert len(sent) > 0.94 * 100 * SECONDS
    assert all(later - at >= 1.0 for at, later in zip(sent, sent[100:], strict=False))


def test_an_isolated_429_costs_a_worker_its_wait_and_nobody_else_anything(gathered) -> None:
    class Grumpy(Counting):
        def post(self, *args: object) -> Reply:
            if len(self.sent) % 400 == 399:
                self.sent.append(self.world.now())
                raise self._refusal()
            return super().post(*args)

    crowd = gathered(lambda world: Grumpy(world, lambda now: 100.0), OverloadConfig(), USUAL, 50)
    assert not [event for event in crowd.events if isinstance(event, LimitsLowered)]
    assert len(crowd.service.sent) > 0.94 * 100 * SECONDS


def test_more_connections_than_the_service_allows_settle_near_its_number(gathered) -> None:
    class Narrow:
        """Takes 20 calls at once and answers 503 to the others."""

        def __init__(self, world: World) -> None:
            self.world, self.inside = world, 0
            self.sent: list[float] = []
            self.refused: list[float] = []

        def post(self, *_: object) -> Reply:
            self.sent.append(self.world.now())
            if self.inside >= 20:
                self.refused.append(self.world.now())
                self.world.sleep(0.01)
                raise server_error(503, "too many connections")
            self.inside += 1
            self.world.sleep(0.5)
            self.inside -= 1
            return Reply(200, {}, b"")

    crowd = gathered(Narrow, OverloadConfig(), USUAL, 50, NEVER_OPEN)
    sent = [at for at in crowd.service.sent if at >= START + 10]
    refused = [at for at in crowd.service.refused if at >= START + 10]
    assert len(refused) < 0.1 * len(sent)
    assert (len(sent) - len(refused)) / (SECONDS - 10) > 0.75 * 20 / 0.5


def test_with_30_percent_failing_interactive_traffic_grows_by_a_tenth_and_77_percent_succeed(
    gathered,
) -> None:
    class Flaky(Counting):
        def post(self, *args: object) -> Reply:
            if random.random() < 0.3:
                self.sent.append(self.world.now())
                self.world.sleep(0.2)
                raise server_error(500, "bad luck")
            return super().post(*args)

    crowd = gathered(
        lambda world: Flaky(world, lambda now: 1e9), OverloadConfig(), FAST, 0, NEVER_OPEN
    )
    good = sum(error is None for _, error in crowd.ended)
    assert len(crowd.service.sent) <= 1.1 * OFFERED * SECONDS
    assert good / len(crowd.ended) >= 0.75
    failed = {type(error).__name__ for _, error in crowd.ended if error is not None}
    assert failed == {"UnavailableError"}  # the service's own
