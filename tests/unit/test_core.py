"""What views share: built once whoever is first, forgotten in a child, ended with the process."""

import os
import threading
import weakref
from collections.abc import Iterator

import httpx
import pybreaker
import pytest
from lanes import eventually

from cosy_sync import (
    BreakerConfig,
    CanaryConfig,
    ClosedError,
    CosyClient,
    Endpoint,
    MemoryCache,
    core,
)
from cosy_sync.engine import Engine
from cosy_sync.net import Sender
from cosy_sync.testing import FakeService

A, B = "http://a.test/batch", "http://b.test/batch"


@pytest.fixture
def client() -> Iterator[CosyClient]:
    with over(FakeService()) as made:
        yield made


def over(transport: httpx.BaseTransport, **settings: object) -> CosyClient:
    http_client = httpx.Client(transport=transport)
    return CosyClient([A, B], http_client=http_client, **settings)  # type: ignore[arg-type]


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Stand in for the flag that says that the main thread has come to its end."""
    flag = threading.Event()
    monkeypatch.setattr(core, "_ending", flag)
    return flag


def test_a_client_that_sent_nothing_has_counters_and_asks_for_no_machines(
    client: CosyClient,
) -> None:
    stats = client.stats()
    assert (stats.requests, stats.in_flight, stats.breakers, stats.limits) == (0, 0, {}, {})
    assert client._core._engine is None


def test_the_counters_tell_of_each_endpoint_once_something_was_sent(client: CosyClient) -> None:
    assert client.synth("你好").duration > 0
    stats = client.stats()
    assert stats.requests == 1
    assert len(stats.breakers) == len(stats.limits) == 2


def test_of_two_threads_that_build_at_once_one_is_taken_and_the_other_ends_what_it_built(
    client: CosyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, build, discarded = threading.Barrier(2), core.Core._build, []

    def build_together(built: core.Core) -> Engine:
        made = build(built)
        both.wait(10)
        return made

    def discard(engine: Engine, seconds: float) -> None:
        discarded.append(engine)
        forget(engine, seconds)

    forget = Engine.discard
    monkeypatch.setattr(core.Core, "_build", build_together)
    monkeypatch.setattr(Engine, "discard", discard)
    found: list[object] = []
    others = [
        threading.Thread(target=lambda: found.append(client._core.engine())) for _ in range(2)
    ]
    for each in others:
        each.start()
    for each in others:
        each.join()
    assert found == [client._core._engine] * 2
    assert len(discarded) == 1 and discarded[0] is not client._core._engine


def test_a_client_that_is_closed_while_it_is_built_is_closed_and_ends_what_was_built(
    client: CosyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, discard, made, ended = core.Core._build, Engine.discard, [], []

    def build_and_close(built: core.Core) -> Engine:
        made.append(build(built))
        client.close()
        return made[0]

    def end(engine: Engine, seconds: float) -> None:
        ended.append(engine)
        discard(engine, seconds)

    monkeypatch.setattr(core.Core, "_build", build_and_close)
    monkeypatch.setattr(Engine, "discard", end)
    with pytest.raises(ClosedError, match="make a new one"):
        client.synth("你好")
    assert made == ended and client._core._engine is None


def test_an_address_that_cannot_be_prepared_leaves_no_pool_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[Sender] = []
    close = Sender.close

    def fail(_: Sender, url: str) -> None:
        raise OSError(f"no certificate for {url}")

    def count(sender: Sender) -> None:
        closed.append(sender)
        close(sender)

    monkeypatch.setattr(Sender, "prepare", fail)
    monkeypatch.setattr(Sender, "close", count)
    with over(FakeService()) as client, pytest.raises(OSError, match=A):
        client._core.engine()
    assert len(closed) == 1


def test_a_child_forgets_what_was_its_parents_and_keeps_what_the_user_said() -> None:
    service, hosts = FakeService(), set()

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.add(request.url.host)
        return service.handle_request(request)

    with over(httpx.MockTransport(answer)) as client:
        assert client.drain(B, 1)
        assert client.synth("你好").duration > 0
        shared, parents = client._core, client._core._engine
        assert parents is not None
        shared.renew()  # as the hooks do in a child, where the threads of the parent are none
        try:
            assert shared._engine is None and client.stats().requests == 0
            assert all(client.synth(text).duration > 0 for text in ("你好", "再见", "早上好"))
            assert shared._engine is not parents and hosts == {"a.test"}
        finally:
            parents.close(1)


def test_a_child_that_was_forked_without_hooks_lets_its_parents_engine_be(
    client: CosyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Sender] = []
    monkeypatch.setattr(Sender, "abandon", lambda sender: left.append(sender))
    engine = client._core._build()
    core._reap(engine, os.getpid() + 1)
    assert left == [engine.network] and engine not in core._dropped
    engine.discard(0.0)


def test_submitted_work_is_spoken_when_the_program_ends_and_nothing_begins_afterwards(
    ending: threading.Event,
) -> None:
    gate = threading.Event()
    service = FakeService()

    def answer(request: httpx.Request) -> httpx.Response:
        assert gate.wait(10)
        return service.handle_request(request)

    client = over(httpx.MockTransport(answer))
    spoken = client.submit("你好")
    eventually(lambda: client.stats().in_flight == 1)
    ending.set()
    release = threading.Timer(0.05, gate.set)
    release.start()
    client._core.finish()
    release.join()
    assert spoken.result(0).duration > 0
    with pytest.raises(ClosedError, match="ending"):
        client.synth("再见")
    client.close()


def test_what_the_main_thread_asks_for_in_an_atexit_function_is_refused(
    client: CosyClient, ending: threading.Event
) -> None:
    ending.set()
    with pytest.raises(ClosedError, match="ending"):
        client.synth("你好")
    assert client._core._engine is None


def test_a_client_that_is_dropped_in_an_atexit_function_starts_no_thread(
    ending: threading.Event, client: CosyClient
) -> None:
    engine = client._core._build()
    ending.set()
    core._reap(engine, os.getpid())
    assert engine not in core._dropped
    engine.discard(0.0)


class Listener(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.heard = 0

    def success(self, cb: object) -> None:
        self.heard += 1


def test_the_machines_hold_nothing_of_the_users_breaker_and_tell_it_all_the_same() -> None:
    listener = Listener()

    def storage(_: object) -> pybreaker.CircuitBreakerStorage:
        return pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)

    settings = BreakerConfig(listeners=[listener], storage=storage)
    with over(FakeService(), breaker=settings) as user:
        lent = user._core.lent(user.config).breaker
        assert listener not in lent.listeners and lent.storage is not storage
        assert user.synth("你好").duration > 0
        eventually(lambda: listener.heard == 1)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[CosyClient]:
    """A client that is the only one of the process, as far as its end and forks are concerned."""
    monkeypatch.setattr(core, "_cores", weakref.WeakSet())
    monkeypatch.setattr(core, "_dropped", set())
    with over(FakeService()) as made:
        yield made


def test_the_end_of_the_program_ends_every_client_and_what_dropped_ones_left(
    alone: CosyClient, ending: threading.Event
) -> None:
    assert alone.synth("你好").duration > 0
    left = alone._core._build()
    core._dropped.add(left)
    core._finish_all()
    assert ending.is_set() and alone._core.closed
    left.discard(0.0)


def test_a_child_renews_every_client_and_forgets_what_its_parent_had_dropped(
    alone: CosyClient, ending: threading.Event
) -> None:
    ending.set()
    assert alone._core._engine is None
    left = alone._core._build()
    core._dropped.add(left)
    core._renew_all()
    assert not ending.is_set() and not core._dropped
    assert alone.synth("你好").duration > 0
    left.discard(0.0)


def test_a_client_with_a_canary_and_a_cache_ends_both_with_the_program(
    ending: threading.Event,
) -> None:
    endpoints = [Endpoint(A), Endpoint(B, weight=0.5)]
    http_client = httpx.Client(transport=FakeService())
    client = CosyClient(
        endpoints, http_client=http_client, canary=CanaryConfig(), cache=MemoryCache()
    )
    assert client.synth("你好").duration > 0
    ended: list[str] = []
    assert client._core.canary is not None
    client._core.canary.close = lambda: ended.append("canary")  # type: ignore[method-assign]
    close = client._core.cache.close
    client._core.cache.close = lambda: (ended.append("cache"), close())  # type: ignore
    client._core.finish()
    assert sorted(ended) == ["cache", "canary"]
    engine = client._core._engine
    client._core.renew()  # what a child would do: it begins without the parent's engine
    assert engine is not None and client._core._engine is None
    engine.close(1)
