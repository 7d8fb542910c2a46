"""Under a lock: no I/O, no user code, no other lock. Watched while clients work in every way."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import locks
import pytest

from cosy_sync import (
    BreakerConfig,
    CanaryConfig,
    CosyClient,
    CosyError,
    Endpoint,
    HedgeConfig,
    LimitConfig,
    RetryConfig,
    VerifyConfig,
)
from cosy_sync.clock import SystemClock
from cosy_sync.config import ClientConfig
from cosy_sync.net import Sender, sender
from cosy_sync.testing import FakeService
from cosy_sync.wires import BatchWire, SpeechOptions

URL, OTHER = "http://tts.test/batch", "http://other.test/batch"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    with locks.watched(monkeypatch) as found:
        yield found


class Users(httpx.BaseTransport):
    """Everything that a user can bring. Whatever of it is called asks whether a lock is held."""

    def __init__(self) -> None:
        self.service = FakeService()
        self._clock = SystemClock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        locks.check("sending")
        return self.service.handle_request(request)

    def on_event(self, event: object) -> None:
        locks.check(f"telling of {type(event).__name__}")

    def now(self) -> float:
        locks.check("the clock")
        return self._clock.now()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        locks.check("waiting")
        return self._clock.wait(event, seconds)

    def check(self, text: str, audio: object) -> bool:
        locks.check("the check of audio")
        return True

    def call_back(self, _: object) -> None:
        locks.check("a callback")

    def tell(self, done: int, total: int) -> None:
        locks.check("telling of progress")

    def texts(self, count: int) -> Iterator[str]:
        for number in range(count):
            locks.check("pulling a text")
            yield f"第{number}句话"

    def client(self, *urls: str | Endpoint, **settings: Any) -> CosyClient:
        http_client = httpx.Client(transport=self)
        settings.setdefault("verify", VerifyConfig(check=self.check))
        settings.setdefault("retry", RetryConfig(base=0.001, max_retries=2, outlast=0))
        return CosyClient(
            list(urls) or URL,
            http_client=http_client,
            observers=[self],
            clock=self,
            **settings,
        )


def crowd(work: Callable[[int], object], count: int = 12) -> None:
    def run(number: int) -> None:
        start.wait()
        with contextlib.suppress(CosyError):
            work(number)

    start = threading.Barrier(count)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def work_in_every_way(client: CosyClient, users: Users) -> None:
    crowd(lambda number: client.synth(f"你好{number % 5}"))
    crowd(lambda number: client.synth_many([f"{number}号", f"路口{number}"], on_error="return"))
    futures = [client.submit(f"前方{n}", users.call_back) for n in range(8)]
    for future in futures:
        future.exception()
    client.synth_many(users.texts(200), on_error="return", progress=users.tell)
    assert len(list(client.synth_iter(users.texts(200)))) == 200
    client.with_options(speed=1.25, tenant="a", max_in_flight=2).synth_many(
        users.texts(100), on_error="return"
    )
    client.stats()


def test_the_watch_sees_a_nested_lock_a_wait_io_and_an_event(
    found: list[str], tmp_path: Any
) -> None:
    lock, other, gate = (locks.WatchedLock(name) for name in ("first", "second", "gate"))
    gate.acquire()
    with lock:
        with other:
            pass
        gate.acquire(timeout=0.001)
        gate.acquire(blocking=False)  # this cannot wait
        (tmp_path / "file").touch()
        threading.Event().set()
    with lock, open(tmp_path / "file"):
        pass
    kinds = [each.partition(" under the lock of first")[0] for each in found]
    assert "taking the lock of second" in kinds[0] and "waiting at a gate" in kinds[1]
    seen = 0 if "coverage" in sys.modules else 2  # beside a tracer I/O is not watched
    assert "setting an Event" in kinds and kinds.count("open") == seen


def test_nothing_happens_under_a_lock_while_all_goes_well(found: list[str]) -> None:
    users = Users()
    with users.client(Endpoint(URL, rate=500), batch_size=8) as client:
        work_in_every_way(client, users)
    assert found == []


def test_nothing_happens_under_a_lock_where_several_endpoints_fail(found: list[str]) -> None:
    users = Users()
    breaker = BreakerConfig(min_calls=2, window=1.0, open_for=0.02, dead_after=0.001)
    limits = LimitConfig(rate=400.0)
    endpoints = Endpoint(URL, max_connections=4, rate=300), Endpoint(OTHER, rate=300)
    with users.client(
        *endpoints, batch_size=8, breaker=breaker, limits=limits, hedge=HedgeConfig(enabled=True)
    ) as client:
        for status in (500, 503, 429, 413, 400):
            users.service.fail(
                status, times=6, **({"retry_after": "0.01"} if status == 429 else {})
            )
            work_in_every_way(client, users)
        assert client.drain(URL)
        client.resume(URL)
        with contextlib.suppress(CosyError):
            client.synth("再见")
    assert found == []


def test_nothing_happens_under_a_canarys_lock(found: list[str]) -> None:
    users = Users()
    endpoints = Endpoint(URL, rate=500), Endpoint(OTHER, rate=500, weight=0.3)
    with users.client(*endpoints, batch_size=8, canary=CanaryConfig(promote=True)) as client:
        work_in_every_way(client, users)
        users.service.fail(500, times=10)
        work_in_every_way(client, users)
        client.synth("再见", variant="canary")
    assert found == []


def test_texts_of_many_callers_are_packed_without_asking_others_under_the_lock(
    found: list[str],
) -> None:
    # The endpoint has learned what it takes, so the next batch asks it.
    users = Users()
    with users.client(batch_size=8) as client:
        client.synth("你好")
        sizes = client._core.engine().endpoints.endpoints[0].sizes
        sizes.learn(failed=8, passed=4, now=0.0)
        assert sizes.limit is not None
        work_in_every_way(client, users)
    assert found == []


def test_somebody_elses_wire_is_made_without_a_lock(
    found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Wire(BatchWire):
        def __init__(self, url: str, options: SpeechOptions) -> None:
            locks.check("making a wire")
            made.append(url)
            super().__init__(url, options)

    monkeypatch.setattr(
        "cosy_sync.wire_rules.create_wire", lambda _, url, options: Wire(url, options)
    )
    users = Users()
    with users.client() as client:
        client.synth("你好")
        client.with_options(speed=1.5).synth("你好")
    assert len(made) > 2 and found == []


def test_of_two_threads_that_make_the_same_wires_both_go_on_with_one_of_them() -> None:
    users, meet = Users(), threading.Barrier(2, timeout=20)
    with users.client() as client:
        runners = client._core.engine()._runners
        make, config = runners._make, client._interactive

        def slowly(config: ClientConfig) -> Any:
            made = make(config)
            meet.wait()
            return made

        runners._make = slowly  # type: ignore[method-assign]
        got: list[Any] = []
        crowd(lambda _: got.append(runners.of(config)), 2)
        assert len(got) == 2 and got[0] is got[1]


class Carrier:
    """A carrier that notes whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def cut(self) -> None:
        pass


def test_a_carrier_is_made_without_a_lock_and_the_second_of_two_is_closed(
    found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    meet, made = threading.Barrier(2, timeout=20), []

    def create(kind: str, config: ClientConfig) -> Carrier:
        locks.check("making a carrier")
        meet.wait()
        made.append(Carrier())
        return made[-1]

    monkeypatch.setattr(sender, "create_transport", create)
    mover = Sender(ClientConfig())
    got: list[Any] = []
    crowd(lambda _: got.append(mover._task_transport("grpc")), 2)
    assert found == []
    assert len(made) == 2 and got[0] is got[1] and not got[0].closed
    assert [carrier.closed for carrier in made].count(True) == 1
    mover.cut()
    with pytest.raises(CosyError, match="closed"):
        mover._task_transport("grpc")
    mover.close()


def test_a_carrier_that_is_made_while_the_client_closes_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mover, carrier = Sender(ClientConfig()), Carrier()

    def create(kind: str, config: ClientConfig) -> Carrier:
        mover.cut()
        return carrier

    monkeypatch.setattr(sender, "create_transport", create)
    with pytest.raises(CosyError, match="closed"):
        mover._task_transport("grpc")
    assert carrier.closed
    mover.close()
