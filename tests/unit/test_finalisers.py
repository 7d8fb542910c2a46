"""What is dropped unended: its finaliser takes no lock, whatever the thread that it runs on holds,
and what it leaves behind is done."""

import _thread
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from lanes import eventually
from streams import URL as STREAM_URL
from streams import install, play_net, tone

from cosy_sync import CosyClient, core
from cosy_sync.testing import FakeClock, FakeService
from cosy_sync.threads import open_schedule

URL = "http://tts.test/batch"


@pytest.fixture
def client() -> Iterator[CosyClient]:
    with over(FakeService()) as made:
        yield made


def over(service: FakeService) -> CosyClient:
    return CosyClient(URL, http_client=httpx.Client(transport=service), batch_size=1)


def texts(count: int = 1_000) -> Iterator[str]:
    return (f"这是第{number}句话" for number in range(count))


def in_time(work: Callable[[], object]) -> bool:
    """Do the work on a thread that is left alone if it hangs; return whether it did not."""
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    _thread.start_new_thread(run, ())
    return done.wait(20)


def no_thread(*_: Any) -> int:
    raise RuntimeError("can't start new thread")


class Knot:
    """Something that only the collector takes apart."""

    def __init__(self, held: object) -> None:
        self.held, self.myself = held, self


def test_a_lazy_call_in_a_circle_takes_no_lock_where_the_collector_finds_it(
    client: CosyClient,
) -> None:
    tenant = client.with_options(tenant="a", max_in_flight=2)
    outcomes = tenant.synth_iter(texts())
    assert next(outcomes).ok
    call = outcomes.gi_frame.f_locals["call"]  # type: ignore[attr-defined]
    (gate,) = client._core.engine()._tenant_limits.everybody()
    Knot(outcomes)
    del outcomes
    locks = gate._permits._lock, call._reorder._lock, call._lock

    def collect() -> None:
        with locks[0], locks[1], locks[2]:
            gc.collect()

    assert in_time(collect)
    eventually(lambda: gate._permits.used == 0)


def test_a_lazy_call_takes_no_lock_when_the_machine_is_out_of_threads(
    client: CosyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = client.with_options(tenant="a", max_in_flight=2)
    outcomes = tenant.synth_iter(texts())
    assert next(outcomes).ok
    call = outcomes.gi_frame.f_locals["call"]  # type: ignore[attr-defined]
    (gate,) = client._core.engine()._tenant_limits.everybody()

    def drop() -> None:
        with monkeypatch.context() as patch, gate._permits._lock, call._reorder._lock:
            patch.setattr(_thread, "start_new_thread", no_thread)
            outcomes.close()  # type: ignore[attr-defined]

    assert in_time(drop)
    tenant.submit("下一句话").result(10)  # its alarm finds a thread again
    eventually(lambda: gate._permits.used == 0)


def test_a_dropped_client_is_closed_when_the_machine_has_threads_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, other = set(threading.enumerate()), open_schedule()
    held = [over(FakeService())]
    assert held[0].synth("你好").duration > 0
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", no_thread)
        held.clear()
    other.after(0.0, lambda: None)
    other.close(20)
    eventually(lambda: set(threading.enumerate()) <= before)


def test_a_client_is_dropped_where_python_itself_is_starting_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "_ending", threading.Event())
    core._ending.set()
    held = [over(FakeService())]
    engine = held[0]._core._build()
    held[0]._core._reaper = weakref.finalize(held[0]._core, core._reap, engine, os.getpid())

    def drop() -> None:
        # Its own locks are taken then, and the thread that the collector runs on is no Thread yet.
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            held.clear()

    assert in_time(drop)
    core._ending.clear()
    eventually(lambda: engine not in core._dropped)


def test_an_abandoned_stream_is_closed_when_the_machine_has_threads_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    install(monkeypatch)
    net, other = play_net(monkeypatch, clock), open_schedule()
    with CosyClient(STREAM_URL, wire="drip", clock=clock) as client:
        play = net.script(tone("你好"), *[tone("你好")] * 3)
        stream = client.stream("你好")
        with monkeypatch.context() as patch, pytest.warns(ResourceWarning, match="dropped"):
            patch.setattr(_thread, "start_new_thread", no_thread)
            del stream
        assert client.stats().in_flight == 1
        other.after(0.0, lambda: None)
        eventually(lambda: play.closed and client.stats().in_flight == 0)
    other.close(20)
