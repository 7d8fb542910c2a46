"""An attempt is admitted in one step under the endpoint's lock, and an answer is settled in one."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from lanes import eventually

from cosy_sync.config import BreakerConfig, ClientConfig, Endpoint, OverloadConfig
from cosy_sync.endpoints.endpoint import Attempt, EndpointState
from cosy_sync.endpoints.limiter import EndpointLimiter, SlotWaiter
from cosy_sync.errors import ClosedError, ThrottledError, UnavailableError, server_error
from cosy_sync.events import Event
from cosy_sync.models import Utterance
from cosy_sync.policies import Call, RateLimiter
from cosy_sync.testing import FakeClock
from cosy_sync.threads.stop import Stop

NOW = 1_000.0
ANY = Call()
TEXT = [Utterance("你好")]


class CountingLock:
    """A lock that counts how often it is taken, and by whom it is held."""

    def __init__(self) -> None:
        self.taken = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        assert self._lock.acquire(timeout=10), "taken again under itself"
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, rate: float = 100.0, **more: Any) -> None:
        self.lock = CountingLock()
        self.events: list[Event] = []
        monkeypatch.setattr(threading, "Lock", lambda: self.lock)
        settings = {"overload": OverloadConfig(start=4), **more}
        endpoint = Endpoint("http://tts.test/batch", max_connections=4, rate=rate)
        self.endpoint = EndpointState(endpoint, ClientConfig(**settings), self, FakeClock())
        monkeypatch.undo()
        self.lock.taken = 0

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def admit(self, now: float = NOW, *, urgent: bool = True) -> Attempt | None:
        self.endpoint.join(now)
        attempt = self.endpoint.admit(urgent, ANY, now)
        if attempt is None:
            self.endpoint.leave(now)
        return attempt

    def admitted(self, now: float = NOW) -> Attempt:
        attempt = self.admit(now)
        assert attempt is not None
        return attempt

    def held(self) -> tuple[int, int]:
        return self.endpoint.slots.used, self.endpoint.busy


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_an_attempt_and_its_answer_take_the_lock_once_each(rig: Rig) -> None:
    attempt = rig.admitted()
    assert rig.lock.taken == 1 and rig.held() == (1, 1)
    assert (attempt.sent, attempt.call, attempt.holds) == (NOW, ANY, True)
    assert rig.endpoint.settle(attempt, None, NOW + 0.1, 0.1, TEXT) is None
    assert rig.lock.taken == 2 and rig.held() == (0, 0)
    assert rig.endpoint.breaker._failed.all == 1


def test_one_that_is_admitted_has_used_a_slot_of_the_rate_limit(rig: Rig) -> None:
    limiter = rig.endpoint.limiter
    assert isinstance(limiter, EndpointLimiter)
    other = RateLimiter(100.0)
    for _ in range(3):
        rig.admitted()
        other.take(NOW)
    assert limiter.next_free(NOW, False) == other.next_free(NOW)
    while rig.endpoint.limiter.go(NOW, True):
        pass
    assert rig.admit() is None


def test_where_the_rate_limit_says_no_the_place_goes_back(rig: Rig) -> None:
    while rig.endpoint.limiter.go(NOW, True):
        pass
    assert rig.admit() is None
    assert rig.held() == (0, 0)
    assert rig.admit(NOW + 1.0) is not None


def test_where_no_place_is_free_no_slot_is_used(rig: Rig) -> None:
    while rig.endpoint.slots.acquire():
        pass
    before = rig.endpoint.limiter.next_free(NOW + 0.5, True)
    assert rig.admit() is None
    assert rig.endpoint.limiter.next_free(NOW + 0.5, True) == before
    assert rig.endpoint.slots.used == 4


def test_no_place_is_given_over_a_limit_that_fell(rig: Rig) -> None:
    for _ in range(2):
        rig.admitted()
    rig.endpoint.slots.resize(1)
    assert rig.admit() is None
    for _ in range(2):
        assert rig.admit() is None
        rig.endpoint.slots.release()
    assert rig.admit() is not None


def test_an_open_breaker_admits_nobody_in_one_step(rig: Rig) -> None:
    rig.endpoint.breaker.follow("open", NOW)
    assert rig.endpoint.breaker.state == "open"
    assert rig.admit() is None
    # Nor while it lets probes through, which are few: each has its lease.
    assert rig.admit(NOW + 100.0) is None
    assert rig.held() == (0, 0)


def test_a_lowered_rate_is_asked_step_by_step(rig: Rig) -> None:
    overload = rig.endpoint.overload
    for sent in (NOW, NOW + 0.01):
        overload.record(server_error(429, "busy"), sent, sent)
    assert overload.limits(NOW + 0.02)[0] < 100.0
    assert rig.admit(NOW + 0.02) is None


def test_calls_that_are_held_back_by_their_share_are_drawn_step_by_step(rig: Rig) -> None:
    for _ in range(30):
        rig.endpoint.overload.record(ThrottledError("busy", crowded=True), NOW, NOW)
    assert rig.admit(NOW + 0.1) is None


def test_a_few_refusals_hold_nobody_back(rig: Rig) -> None:
    rig.endpoint.overload.record(UnavailableError("busy", status=503), NOW, NOW)
    assert rig.admit() is not None


def test_those_who_wait_for_a_slot_go_first(rig: Rig) -> None:
    limiter = rig.endpoint.limiter
    limiter.join(SlotWaiter("", True, NOW + 60.0, Stop()), NOW)
    assert rig.admit() is None
    assert rig.held() == (0, 0)


def test_those_who_wait_for_a_place_go_first(rig: Rig) -> None:
    slots = rig.endpoint.slots
    while slots.acquire():
        pass
    came: list[bool] = []
    waits = threading.Thread(target=lambda: came.append(slots.acquire(seconds=10)))
    waits.start()
    eventually(lambda: slots.wanted == 5)
    slots.free += 1  # as if one came back and nobody was told yet
    assert rig.admit() is not None  # an urgent one overtakes one that is not
    slots.free += 1
    assert rig.admit(urgent=False) is None
    slots.free -= 1
    slots.release()
    waits.join(10)
    assert came == [True]


def test_an_answer_hands_the_place_to_who_waits_for_it(rig: Rig) -> None:
    attempts = [rig.admitted() for _ in range(4)]
    came: list[bool] = []
    waits = threading.Thread(target=lambda: came.append(rig.endpoint.slots.acquire(seconds=10)))
    waits.start()
    eventually(lambda: rig.endpoint.slots.wanted == 5)
    rig.endpoint.settle(attempts[0], None, NOW + 0.1, 0.1, TEXT)
    waits.join(10)
    assert came == [True] and rig.endpoint.slots.used == 4


def test_an_attempt_that_lost_its_place_gives_none_back(rig: Rig) -> None:
    attempt = rig.admitted()
    rig.endpoint.slots.release()
    attempt.holds = False
    rig.endpoint.settle(attempt, None, NOW + 0.1, 0.1, TEXT)
    assert rig.held() == (0, 0)
    lost = rig.admitted()
    rig.endpoint.slots.release()
    lost.holds = False
    rig.endpoint.settle(lost, UnavailableError("down"), NOW + 0.1, 0.1, TEXT)
    assert rig.held() == (0, 0)


def test_a_failure_gives_the_place_back_as_well(rig: Rig) -> None:
    error = UnavailableError("down", status=502)
    assert rig.endpoint.settle(rig.admitted(), error, NOW + 0.1, 0.1, TEXT) is error
    assert rig.held() == (0, 0)
    assert rig.endpoint.breaker._failed.some == 1


def test_a_slow_answer_counts_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, breaker=BreakerConfig(slow_call=2.0, min_calls=2))
    for seconds in (1.9, 2.0):
        rig.endpoint.settle(rig.admitted(), None, NOW + seconds, seconds, TEXT)
    breaker = rig.endpoint.breaker
    assert (breaker._failed.all, breaker._slow.some) == (2, 1)
    assert breaker.state == "open"


def test_a_listener_hears_of_answers_outside_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Listener:
        def success(self, cb: object) -> None:
            with rig.lock:  # else this would wait for ever
                heard.append("success")

        def failure(self, cb: object, exc: BaseException) -> None:
            heard.append("failure")

        def state_change(self, cb: object, old: object, new: object) -> None: ...

        def before_call(self, *_: object) -> None: ...

    rig = Rig(monkeypatch, breaker=BreakerConfig(listeners=[Listener()]))  # type: ignore[list-item]
    rig.endpoint.settle(rig.admitted(), None, NOW + 0.1, 0.1, TEXT)
    rig.endpoint.settle(rig.admitted(), UnavailableError("down"), NOW + 0.2, 0.1, TEXT)
    assert heard == ["success", "failure"]


def test_answers_raise_the_limit_that_begins_low(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, rate=1e4, overload=OverloadConfig(start=1))
    assert rig.endpoint.places == 1
    for number in range(40):
        now = NOW + number
        attempts = [rig.admitted(now) for _ in range(rig.endpoint.places)]
        for attempt in attempts:
            rig.endpoint.settle(attempt, None, now + 0.1, 0.1, TEXT)
    assert rig.endpoint.places == 4 and rig.held() == (0, 0)


def test_a_limit_of_all_endpoints_together_is_asked_by_itself(rig: Rig) -> None:
    rig.endpoint.limit_with(EndpointLimiter(RateLimiter(100.0), FakeClock()))
    assert rig.admit() is None


def test_a_closed_endpoint_admits_nobody(rig: Rig) -> None:
    rig.endpoint.close_slots()
    assert rig.admit() is None
    with pytest.raises(ClosedError):
        rig.endpoint.slots.acquire()


def test_whoever_waits_for_the_last_attempt_hears_of_it(rig: Rig) -> None:
    assert rig.endpoint.wait_idle(0.0)
    first, second = rig.admitted(), rig.admitted()
    assert not rig.endpoint.wait_idle(0.0)
    came: list[bool] = []
    waits = threading.Thread(target=lambda: came.append(rig.endpoint.wait_idle(10)))
    waits.start()
    eventually(lambda: rig.endpoint._idle_waiters)
    rig.endpoint.settle(first, None, NOW + 0.1, 0.1, TEXT)
    assert waits.is_alive()
    rig.endpoint.settle(second, UnavailableError("down"), NOW + 0.1, 0.1, TEXT)
    waits.join(10)
    assert came == [True] and not rig.endpoint._idle_waiters


def test_eight_threads_leave_no_place_and_no_attempt_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, most, lock = Rig(monkeypatch, rate=1e5), [0], threading.Lock()
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(10)
        for number in range(200):
            attempt = rig.admit(NOW + number)
            if attempt is None:
                continue
            with lock:
                most[0] = max(most[0], rig.endpoint.slots.used)
            error = UnavailableError("down", status=502) if number % 97 == 0 else None
            rig.endpoint.settle(attempt, error, NOW + number, 0.1, TEXT)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert rig.held() == (0, 0)
    assert most[0] <= 4
