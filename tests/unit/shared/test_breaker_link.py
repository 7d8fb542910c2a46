"""A breaker and a pybreaker storage in step; the links' steps are taken by the test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pybreaker
import pytest

from cosy_sync.config import BreakerConfig
from cosy_sync.errors import UnavailableError
from cosy_sync.policies import Breaker, redis_storage
from cosy_sync.shared import BreakerLink

START = 1000.0
DOWN = UnavailableError("down")


class Bell:
    def __init__(self) -> None:
        self.rings = 0

    def ring(self) -> None:
        self.rings += 1

    def close(self, seconds: float) -> None:
        self.closed_within = seconds


class Process:
    """A breaker with its link, as one process has them."""

    def __init__(self, storage: Callable[[str], Any]) -> None:
        self.now = START
        self.told: list[tuple[bool, str]] = []
        self.breaker = Breaker(
            BreakerConfig(min_calls=2, probes=1),
            "tts",
            on_change=lambda old, new: self.link.publish(new),
            random=lambda: 0.5,
        )
        self.link = BreakerLink(
            storage,
            "tts",
            lambda state, age: self.breaker.follow(state, self.now, age),
            lambda *told: self.told.append(told),
        )
        self.bell = self.link._keeper = Bell()  # type: ignore[assignment]

    @property
    def state(self) -> str:
        return self.breaker.state

    def fail(self) -> None:
        for _ in range(2):
            self.breaker.record(self.breaker.admit(self.now), DOWN, self.now)

    def probe(self, error: UnavailableError | None = None) -> None:
        self.breaker.record(self.breaker.admit(self.now), error, self.now)

    def step(self) -> float:
        return self.link._step()


class Flaky(pybreaker.CircuitMemoryStorage):
    """Hides its errors as pybreaker's Redis storage does: None, and the state it falls back to."""

    def __init__(self) -> None:
        super().__init__("closed")
        self.gone = False

    @property
    def state(self) -> str:
        return "closed" if self.gone else super().state

    @state.setter
    def state(self, state: str) -> None:
        if not self.gone:
            self._state = state

    @property
    def opened_at(self) -> datetime | None:
        return None if self.gone else super().opened_at

    @opened_at.setter
    def opened_at(self, instant: datetime) -> None:
        if not self.gone:
            self._opened_at = instant


@pytest.fixture(params=["memory", "redis"])
def storage(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    if request.param == "memory":
        shared = pybreaker.CircuitMemoryStorage("closed")
        return lambda name: shared
    server = request.getfixturevalue("redis_server")
    clients = []

    def make(name: str) -> Any:
        clients.append(server.client(socket_timeout=5.0))
        return pybreaker.CircuitRedisStorage("closed", clients[-1], namespace=name)

    request.addfinalizer(lambda: [client.close() for client in clients])
    return make


@pytest.fixture
def pair(storage: Callable[[str], Any]) -> tuple[Process, Process]:
    one, other = Process(storage), Process(storage)
    one.step(), other.step()
    return one, other


def test_what_one_opens_opens_for_the_other_and_so_does_the_closing(pair) -> None:
    one, other = pair
    one.fail()
    assert one.bell.rings == 1
    assert (one.step(), other.step()) == (0.5, 0.5)
    assert (one.state, other.state) == ("open", "open")
    assert other.breaker.remaining(START) == 30.0
    one.now += 30.0
    one.probe()
    assert one.state == "closed"
    one.step(), other.step()
    assert other.state == "closed"


def test_what_was_followed_is_not_written_back(pair) -> None:
    one, other = pair
    one.fail()
    one.step(), other.step()
    assert not other.link._news
    assert other.bell.rings == 0
    before = one.link._storage.opened_at
    other.step()
    assert one.link._storage.opened_at == before


def test_while_one_probes_the_other_waits_for_its_own_time(pair) -> None:
    one, other = pair
    one.fail()
    one.step(), other.step()
    one.now += 30.0
    one.breaker.admit(one.now)
    one.step(), other.step()
    assert (one.state, other.state) == ("half-open", "open")
    assert other.breaker.remaining(START + 29.0) == 1.0


def test_a_probe_that_fails_elsewhere_opens_a_half_open_breaker(pair) -> None:
    one, other = pair
    one.fail()
    one.step(), other.step()
    one.now = other.now = START + 30.0
    late = other.breaker.admit(other.now)
    other.step(), one.step()
    one.probe(DOWN)
    one.step(), other.step()
    assert other.state == "open"
    other.breaker.record(late, None, other.now)
    assert other.state == "open" and other.breaker.remaining(other.now) == 30.0


def test_a_process_that_comes_later_obeys_what_is_left_of_the_open_time(storage) -> None:
    one = Process(storage)
    one.step()
    one.fail()
    one.step()
    ledger = one.link._storage
    late = Process(storage)
    ledger.opened_at = datetime.now(timezone.utc) + timedelta(seconds=600)  # a clock ahead of ours
    late.step()
    assert late.breaker.remaining(START) == 30.0


def test_an_opening_of_long_ago_leaves_only_the_probes() -> None:
    shared = pybreaker.CircuitMemoryStorage("open")
    shared.opened_at = datetime.now(timezone.utc) - timedelta(seconds=20)
    late = Process(lambda name: shared)
    late.step()
    assert late.state == "open" and 5.0 < late.breaker.remaining(START) < 10.5
    shared.opened_at = datetime.now(timezone.utc) - timedelta(seconds=40)
    later = Process(lambda name: shared)
    later.step()
    assert later.state == "open" and later.breaker.remaining(START) == 0.0


def test_a_process_that_comes_while_others_probe_only_probes(storage) -> None:
    one = Process(storage)
    one.step()
    one.fail()
    one.now += 30.0
    one.breaker.admit(one.now)
    one.step()
    late = Process(storage)
    late.step()
    assert late.state == "half-open"
    assert late.breaker.admit(START).probe


def test_it_writes_what_pybreaker_would(pair) -> None:
    one, _ = pair
    ledger = one.link._storage
    ledger.increment_counter(), ledger.increment_success_counter()
    one.fail()
    one.step()
    assert (ledger.state, ledger.counter, ledger.success_counter) == ("open", 1, 0)
    assert abs((datetime.now(timezone.utc) - ledger.opened_at).total_seconds()) < 60
    ledger.increment_success_counter()
    one.now += 30.0
    one.probe()
    one.step()
    assert (ledger.state, ledger.counter, ledger.success_counter) == ("closed", 0, 0)


def test_of_several_changes_the_last_is_written(pair) -> None:
    one, other = pair
    one.fail()
    one.now += 30.0
    one.probe()
    one.step(), other.step()
    assert one.link._storage.state == other.state == "closed"
    assert not one.link._news


def test_a_storage_that_does_not_answer_changes_nothing_and_is_told_once() -> None:
    shared = Flaky()
    one = Process(lambda name: shared)
    one.step()
    one.fail()
    one.step()
    shared.gone = True
    assert [one.step(), one.step()] == [2.0, 2.0]
    assert one.state == "open"
    assert one.told == [(False, "ConnectionError: the storage does not answer")]
    shared.gone = False
    assert one.step() == 0.5
    assert one.told[1:] == [(True, "")]
    assert one.state == shared.state == "open"


def test_a_change_without_the_storage_is_written_when_it_is_back() -> None:
    shared = Flaky()
    one = Process(lambda name: shared)
    one.step()
    shared.gone = True
    one.fail()
    one.step()
    assert one.state == "open"
    shared.gone = False
    one.step()
    assert shared.state == one.state == "open"


def test_a_write_that_was_lost_is_written_again() -> None:
    class Forgetful(Flaky):
        forgets = True

        @property
        def state(self) -> str:
            return self._state

        @state.setter
        def state(self, state: str) -> None:
            if not self.forgets:
                self._state = state

    shared = Forgetful()
    one = Process(lambda name: shared)
    one.step()
    one.fail()
    one.step()
    assert one.state == "open"
    assert one.told == [(False, "ConnectionError: the storage does not keep what is written")]
    shared.forgets = False
    one.step()
    assert shared.state == one.state == "open"


def test_a_state_that_was_only_fallen_back_to_is_not_followed() -> None:
    class Stutter(pybreaker.CircuitMemoryStorage):
        reads = 0

        @property
        def state(self) -> str:
            self.reads += 1
            return "closed" if self.reads == 1 else "open"

    shared = Stutter("open")
    shared.opened_at = datetime.now(timezone.utc)
    one = Process(lambda name: shared)
    one.breaker.follow("open", START)
    one.link._news.clear()
    one.link._seen = "open"
    one.step()
    assert one.state == "open"


def test_a_storage_that_cannot_be_made_is_tried_again() -> None:
    shared = pybreaker.CircuitMemoryStorage("closed")
    tries = []

    def make(name: str) -> Any:
        tries.append(name)
        if len(tries) < 3:
            raise OSError("refused")
        return shared

    one = Process(make)
    assert [one.step(), one.step(), one.step(), one.step()] == [2.0, 2.0, 0.5, 0.5]
    assert tries == ["tts"] * 3
    assert one.told == [(False, "OSError: refused"), (True, "")]


def test_decode_responses_is_explained(redis_server) -> None:
    client = redis_server.client(decode_responses=True)
    one = Process(lambda name: pybreaker.CircuitRedisStorage("closed", client))
    one.step()
    client.close()
    hint = "the storage's Redis client must be made with decode_responses=False"
    assert one.told == [(False, hint)]


def test_another_attribute_error_is_told_as_it_is() -> None:
    one = Process(lambda name: object())
    one.step()
    assert one.told[0][1].startswith("AttributeError: ")


def test_what_another_has_written_already_is_not_written_again(pair) -> None:
    one, other = pair
    one.fail(), other.fail()
    one.step()
    before = one.link._storage.opened_at
    other.step()
    assert one.link._storage.opened_at == before
    assert not other.link._news


def test_closing_waits_for_its_thread_as_long_as_was_said(pair) -> None:
    pair[0].link.close(3.0)
    assert pair[0].bell.closed_within == 3.0


def test_it_starts_once(pair) -> None:
    one, _ = pair
    one.link.start(), one.link.start()
    assert one.bell.rings == 1


@pytest.mark.parametrize("first", [0, 1])
def test_a_redis_that_was_emptied_closes_no_breaker(redis_server, first: int) -> None:
    clients = [redis_server.client() for _ in range(2)]
    processes = [
        Process(lambda name, client=client: redis_storage(client, name)) for client in clients
    ]
    one = processes[0]
    for each in processes:
        each.step()
    one.fail()
    for each in processes:
        each.step()
    redis_server.client().flushall()
    for each in (processes[first], processes[1 - first], *processes):
        each.step()
    assert [each.state for each in processes] == ["open", "open"]
    assert one.link._storage.state == "open"
    one.now += 30.0
    one.probe()
    for each in processes:
        each.step()
    assert [each.state for each in processes] == ["closed", "closed"]
    for client in clients:
        client.close()


def test_who_comes_to_a_redis_that_was_emptied_closes_nobodys_breaker(redis_server) -> None:
    clients = [redis_server.client() for _ in range(2)]
    one, late = (
        Process(lambda name, client=client: redis_storage(client, name)) for client in clients
    )
    one.step()
    one.fail()
    one.step()
    clients[0].flushall()
    late.step()
    one.step(), late.step()
    assert (one.state, late.state) == ("open", "open")
    for client in clients:
        client.close()
