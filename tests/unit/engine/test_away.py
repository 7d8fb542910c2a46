"""Bulk work and bad requests at a service that goes away, refuses or fails, in virtual time."""

from __future__ import annotations

import random
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from virtual import World

import cosy_sync.endpoints.limiter as turns_module
import cosy_sync.threads.permits as budget_module
from cosy_sync import ClientConfig, Endpoint, OverloadConfig, RetryConfig
from cosy_sync import VerifyConfig as Verify
from cosy_sync.audio import Verifier
from cosy_sync.endpoints.endpoint import EndpointState
from cosy_sync.engine.attempt import AttemptRunner
from cosy_sync.engine.batch import ANY_TIME, Batch
from cosy_sync.engine.reply_bounds import ReplyBounds
from cosy_sync.engine.retry_planner import RetryPlanner
from cosy_sync.engine.retrying import BatchRunner
from cosy_sync.engine.splitting import Splitter
from cosy_sync.errors import (
    ConnectError,
    CosyError,
    CutError,
    DeadlineError,
    ReplyTimeout,
    server_error,
)
from cosy_sync.events import BreakerChanged, Event
from cosy_sync.messages import Payload, Reply, Request
from cosy_sync.models import Utterance, wav_header
from cosy_sync.policies import AcceptedKeys, Deadline, RetryBudget, RetryPolicy
from cosy_sync.threads.permits import Permits
from cosy_sync.threads.stop import Stop
from cosy_sync.wires.base import Capabilities, HttpWire

# Thousands of threads, one at a time: a guard against hanging, not a measure of the machine.
pytestmark = pytest.mark.timeout(600)

START = 1_000.0
SOUND = wav_header(24_000, 1, 4_800) + bytes(range(1, 241)) * 20
REFUSED = ConnectError("refused", phase="connect")
CUT = CutError("cut")


class Telling(HttpWire):
    """A wire whose requests say their texts, and whose replies hold nothing."""

    name = "telling"
    capabilities = Capabilities(max_texts_per_call=64)

    def encode(self, texts: Sequence[str], request_id: str) -> Request:
        return Request("http://tts.test/batch", (), "".join(texts).encode())

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        return [Payload(SOUND, "audio/wav") for _ in texts]


@dataclass
class Play:
    """A service, one endpoint, and callers with their outcomes. `fault` says what a request meets.

    Seconds count from the start.
    """

    world: World
    fault: Callable[[float, str], CosyError | None]
    latency: float = 0.1
    sent: list[float] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    errors: dict[str, list[CosyError | None]] = field(default_factory=dict)
    ended: float = 0.0
    endpoint: EndpointState = field(init=False)

    def __post_init__(self) -> None:
        config = ClientConfig(overload=OverloadConfig())
        endpoint = Endpoint("http://tts.test/batch")
        self.endpoint = EndpointState(endpoint, config, self, self.world)

    @property
    def age(self) -> float:
        return self.world.now() - START

    # As an observer, as a sender and as a cluster of one station.

    def on_event(self, event: Event) -> None:
        if isinstance(event, BreakerChanged):
            self.states.append(event.new)

    def post(self, request: Request, left: float, *_: object) -> Reply:
        self.sent.append(self.age)
        began = self.age
        error = self.fault(began, request.body.decode())
        if isinstance(error, ReplyTimeout):
            self.world.sleep(min(left, 30.0))
            raise error.with_details()
        self.world.sleep(0.01 if error else self.latency)
        error = error or self.fault(self.age, request.body.decode())
        if error is not None:  # or it died with the request in flight
            raise error.with_details()
        return Reply(200, {}, b"")

    def choose(self, *_: object, patient: bool) -> EndpointState:
        self.endpoint.join(self.world.now())
        return self.endpoint

    def elsewhere(self, *_: object) -> bool:
        return False

    def silent_since(self) -> float:
        return self.endpoint.silence.since

    def went_silent(self, deadline: Deadline, now: float) -> CosyError:
        return self.endpoint.went_silent(deadline, now)

    def caller(self, kind: int = 0) -> BatchRunner:
        config = ClientConfig(verify=Verify(enabled=False))
        attempter = AttemptRunner(
            wires={self.endpoint.endpoint.url: Telling()},
            sender=self,  # type: ignore[arg-type]
            memory=Permits(1 << 30),
            connections=None,
            silent_since=self.silent_since,
            bounds=ReplyBounds(config),
            verifier=Verifier(config.verify),
            observer=self,
            clock=self.world,
            sample_rate=24_000,
            format="wav",
            kind=kind,
        )
        retry, budget = RetryPolicy(RetryConfig()), RetryBudget(OverloadConfig())
        splitter = Splitter(attempter.wires, AcceptedKeys(), 0, True, self.world)  # type: ignore[arg-type]
        me: Any = self
        planner = RetryPlanner(retry, budget, me, splitter, me, me.world)
        return BatchRunner(attempter, me, splitter, planner, me, me.world)

    # The callers.

    def batch(self, name: str, texts: Sequence[str], workers: int, kind: int = 0) -> None:
        """Speak texts one by one on so many workers, as bulk work of 60 s each."""
        waiting, caller = list(texts), self.caller(kind)

        def work() -> None:
            while waiting:
                self.call(name, caller, waiting.pop(0), 60.0, interactive=False)

        for _ in range(workers):
            self.world.start(START, work)

    def bulk(self, name: str, texts: Sequence[str], workers: int, at: float = 0.0) -> None:
        """Speak texts as one call of many does, from that instant on."""
        waiting, caller, began = list(texts), self.caller(), START + at

        def work() -> None:
            while waiting:
                batch = self.make(waiting.pop(0), 60.0, interactive=False)
                batch.queue_deadline, now = ANY_TIME, self.world.now()
                batch.begin(Deadline(now, 60.0), now, began, self.silent_since())
                self.run(name, caller, batch)

        for _ in range(workers):
            self.world.start(began, work)

    def visitors(self, name: str, rate: float, seconds: float, kind: int = 0) -> None:
        """Speak single texts evenly, interactively."""
        caller = self.caller(kind)
        for number in range(int(rate * seconds)):
            text = f"第{number}位"
            at = START + number / rate
            self.world.start(at, lambda text=text: self.call(name, caller, text, 10.0, True))

    def call(
        self, name: str, caller: BatchRunner, text: str, deadline: float, interactive: bool
    ) -> None:
        self.run(name, caller, self.make(text, deadline, interactive))

    def make(self, text: str, deadline: float, interactive: bool) -> Batch:
        return Batch(
            [Utterance(text)],
            Deadline(self.world.now(), deadline),
            interactive=interactive,
            tenant="",
            stop=Stop(),
        )

    def run(self, name: str, caller: BatchRunner, batch: Batch) -> None:
        caller.run(batch)
        self.errors.setdefault(name, []).append(batch.outcomes[0].error)
        self.ended = self.age

    def good(self, name: str) -> int:
        return self.errors[name].count(None)

    def during(self, began: float, ended: float) -> int:
        return sum(began <= at < ended for at in self.sent)


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Play]:
    def stage(fault: Callable[[float, str], CosyError | None], **settings: float) -> Play:
        random.seed(1)
        world = World()
        locks = types.SimpleNamespace(Lock=world.lock, TIMEOUT_MAX=threading.TIMEOUT_MAX)
        monkeypatch.setattr(budget_module, "threading", locks)
        monkeypatch.setattr(turns_module, "Flag", world.event)
        return Play(world, fault, **settings)

    return stage


def away(began: float, ended: float, error: CosyError) -> Callable[[float, str], CosyError | None]:
    return lambda age, _: error if began <= age < ended else None


def texts(count: int) -> list[str]:
    return [f"第{number}句" for number in range(count)]


ERRORS = {
    "refused": REFUSED,
    "cut": CUT,
    "500": server_error(500, "broken"),
    "502": server_error(502, "bad gateway"),
    "503": server_error(503, "down"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
@pytest.mark.parametrize(("count", "workers"), [(1, 1), (5, 5), (10, 10), (300, 50)])
@pytest.mark.parametrize("seconds", [4.0, 25.0])
def test_a_service_that_is_away_from_the_start_costs_a_bulk_call_nothing_but_its_time(
    staged, error, count, workers, seconds
) -> None:
    play = staged(away(0.0, seconds, error))
    play.batch("bulk", texts(count), workers)
    play.world.run()
    assert play.good("bulk") == count
    assert min(at for at in play.sent if at >= seconds) < seconds + 2.5
    assert play.ended < seconds + 6.0
    assert play.during(0.0, seconds) < workers + 20 + seconds


@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
@pytest.mark.parametrize(("count", "workers"), [(20, 4), (300, 5), (1_000, 50)])
def test_a_service_that_dies_in_the_middle_costs_a_bulk_call_nothing_but_its_time(
    staged, error, count, workers
) -> None:
    play = staged(away(0.33, 4.33, error))
    play.batch("bulk", texts(count), workers)
    play.world.run()
    assert play.good("bulk") == count
    assert min(at for at in play.sent if at >= 4.33) < 4.33 + 2.5
    assert play.during(0.5, 4.33) < 2 * workers + 20


def test_visitors_profit_from_the_early_probes_of_bulk_work(staged) -> None:
    play = staged(away(5.0, 10.0, REFUSED))
    play.batch("bulk", texts(1_500), 20)
    play.visitors("visitors", 10, 20)
    play.world.run()
    assert play.good("bulk") == 1_500
    assert play.good("visitors") >= 200 - 10 * 5 - 10 * 3


def test_alone_visitors_wait_for_the_whole_open_time(staged) -> None:
    play = staged(away(5.0, 10.0, REFUSED))
    play.visitors("visitors", 10, 45)
    play.world.run()
    assert play.states == ["open", "half-open", "closed"]
    assert play.good("visitors") < 450 - 10 * 25


def nobody(age: float, text: str) -> CosyError | None:
    """A service that hangs up on a text with a 坏, or with a voice that it does not know."""
    return CUT if "坏" in text else None


@pytest.mark.parametrize("rate", [5, 1])
def test_a_voice_that_always_fails_takes_the_service_down_for_nobody_else(staged, rate) -> None:
    play = staged(nobody)
    play.batch("bulk", [f"坏{number}" for number in range(100)], 50, kind=2)
    play.visitors("visitors", rate, 40, kind=1)
    play.world.run()
    assert play.good("visitors") == 40 * rate
    assert play.good("bulk") == 0
    assert play.ended < 60


def test_a_job_with_a_voice_that_always_fails_ends_by_itself_once_others_had_success(staged):
    play = staged(nobody)
    play.batch("bulk", [f"坏{number}" for number in range(100)], 4, kind=2)
    play.visitors("visitors", 5, 4, kind=1)
    play.world.run()
    assert play.good("visitors") == 20
    assert play.ended < 60


def test_texts_that_always_fail_take_the_service_down_for_nobody_else(staged) -> None:
    broken = server_error(500, "broken")
    play = staged(lambda age, text: broken if "坏" in text else None)
    play.batch("bulk", [f"{'坏' if n % 5 == 4 else '好'}{n}" for n in range(100)], 50)
    play.visitors("visitors", 10, 10)
    play.world.run()
    assert play.good("bulk") == 80
    assert play.good("visitors") == 100
    assert play.states == []
    assert play.ended < 20


def test_60_percent_of_different_texts_failing_opens_the_breaker(staged) -> None:
    broken = server_error(500, "broken")
    play = staged(lambda age, text: broken if "坏" in text else None)
    play.batch("bulk", [f"{'坏' if n % 5 < 3 else '好'}{n}" for n in range(100)], 10)
    play.world.run()
    assert "open" in play.states


def test_60_percent_of_many_voices_failing_opens_the_breaker(staged) -> None:
    play = staged(nobody)
    for number in range(100):
        play.batch("bulk", [f"{'坏' if number % 5 < 3 else '好'}{number}"], 1, kind=number)
    play.world.run()
    assert "open" in play.states


def throttle(limit: int) -> Callable[[float, str], CosyError | None]:
    """Answer 429 without Retry-After above so many calls in a second."""
    served: list[float] = []
    refusal = server_error(429, "too many")

    def fault(age: float, text: str) -> CosyError | None:
        if text in asked:  # the second look at the same request, at its end
            asked.discard(text)
            return None
        served[:] = [at for at in served if at > age - 1.0]
        if len(served) >= limit:
            return refusal
        served.append(age)
        asked.add(text)
        return None

    asked: set[str] = set()
    return fault


@pytest.mark.parametrize("limit", [20, 5])
def test_a_throttled_bulk_call_loses_nothing_and_keeps_most_of_the_services_rate(
    staged, limit
) -> None:
    play = staged(throttle(limit))
    count = 30 * limit
    play.batch("bulk", texts(count), 50)
    play.world.run()
    assert play.good("bulk") == count
    assert play.ended < 30 * 1.5
    assert len(play.sent) < 2.5 * count


MUTE = ReplyTimeout("the server did not answer", phase="first byte")


@pytest.mark.parametrize("error", [*ERRORS.values(), MUTE], ids=[*ERRORS, "mute"])
def test_a_large_call_to_a_dead_service_takes_its_deadline_once(staged, error) -> None:
    play = staged(lambda age, text: error)
    play.bulk("bulk", texts(2_000), 50)
    play.world.run()
    assert play.good("bulk") == 0 and len(play.errors["bulk"]) == 2_000
    assert play.ended < 61.0
    late = [each for each in play.errors["bulk"] if "has answered nothing" in str(each)]
    assert len(late) > 1_500 and all(isinstance(each, DeadlineError) for each in late)
    assert all(each.endpoint == play.endpoint.label for each in late)
    assert f" s (the latest failure: {error.message}): is it up" in late[0].message


@pytest.mark.parametrize("error", [*ERRORS.values(), MUTE], ids=[*ERRORS, "mute"])
def test_a_call_whose_service_dies_ends_a_deadline_after_the_last_answer(staged, error) -> None:
    play = staged(lambda age, text: error if age >= 5.0 else None)
    play.bulk("bulk", texts(1_500), 20)
    play.world.run()
    assert play.good("bulk") > 200
    assert 64.0 < play.ended < 66.5


@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
@pytest.mark.parametrize(("began", "ended"), [(0.0, 4.0), (0.0, 50.0), (10.0, 40.0)])
def test_an_outage_shorter_than_the_deadline_costs_a_large_call_nothing(
    staged, error, began, ended
) -> None:
    play = staged(away(began, ended, error))
    play.bulk("bulk", texts(1_500), 50)
    play.world.run()
    assert play.good("bulk") == 1_500


def test_a_service_that_is_only_slow_loses_no_text_however_long_they_wait(staged) -> None:
    """Each request of a service with one worker takes 20 s, and 60 texts wait for 20 minutes."""
    free_at = [0.0]

    def serve(age: float, text: str) -> None:
        if text in asked:
            return None
        asked.add(text)
        free_at[0] = max(age, free_at[0]) + 20.0
        play.world.sleep(free_at[0] - age)
        return None

    asked: set[str] = set()
    play = staged(serve, latency=0.0)
    play.endpoint.slots.resize(1)
    play.bulk("bulk", texts(60), 50)
    play.world.run()
    assert play.good("bulk") == 60 and play.ended == pytest.approx(1200.0, abs=20.0)


def test_a_call_that_comes_to_a_service_that_has_been_dead_for_long_has_its_whole_deadline(
    staged,
) -> None:
    play = staged(lambda age, text: REFUSED if age < 130.0 else None)
    play.bulk("early", texts(300), 50)
    play.bulk("late", texts(300), 50, at=100.0)
    play.world.run()
    assert play.good("early") == 0
    assert play.good("late") == 300
