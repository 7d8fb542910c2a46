"""The directory: answers replace answers, failures keep them, and a thread that ends."""

from __future__ import annotations

import _thread
import gc
import itertools
import threading
from collections.abc import Callable

import pytest
from interrupts import interrupt_at, interrupt_entry
from lanes import eventually
from naming import DOWN, Names

from cosy_sync.config import PoolConfig
from cosy_sync.endpoints.dns import DnsWatcher
from cosy_sync.testing import FakeClock


class Told:
    def __init__(self) -> None:
        self.answers: list[tuple[str, list[str]]] = []
        self.failures: list[str] = []
        self.threads: set[str] = set()

    def answer(self, url: str, addresses: object) -> None:
        self.threads.add(threading.current_thread().name)
        self.answers.append((url, list(addresses)))  # type: ignore[call-overload]

    def failure(self, url: str, error: object) -> None:
        self.failures.append(url)


def directory(names: Names, clock: FakeClock, told: Told, **pool: float) -> DnsWatcher:
    urls = list(names.answers)
    return DnsWatcher(urls, names, PoolConfig(**pool), clock, told.answer, told.failure)


def threads() -> list[threading.Thread]:
    ours = "cosy-keeper", "cosy-lookup"
    return [t for t in threading.enumerate() if t.name in ours and t.ident is not None]


def test_every_name_is_looked_up_and_told() -> None:
    names, told = Names(one=["1", "2"], two=["3"]), Told()
    book = directory(names, FakeClock(), told)
    assert not book.answered.is_set()
    assert 27.0 < book.look() <= 30.0
    assert told.answers == [("one", ["1", "2"]), ("two", ["3"])]
    assert book.answered.is_set()


def test_an_answer_replaces_the_one_before() -> None:
    names, clock, told = Names(one=["1", "2"]), FakeClock(), Told()
    book = directory(names, clock, told)
    book.look()
    clock.advance(30)
    names.answers["one"] = ["2", "3"]
    book.look()
    assert sorted(told.answers[-1][1]) == ["2", "3"]


def test_an_address_is_kept_for_as_long_as_told_after_its_last_answer() -> None:
    names, clock, told = Names(one=["1"]), FakeClock(), Told()
    book = directory(names, clock, told, dns_keep=60)
    book.look()
    names.answers["one"] = ["2"]
    clock.advance(59.999)
    book.look()
    assert told.answers[-1][1] == ["1", "2"]
    clock.advance(0.001)
    book.look()
    assert told.answers[-1][1] == ["2"]


def test_a_failure_is_told_and_the_other_names_are_looked_up() -> None:
    names, told = Names(one=["1"], two=["2"]), Told()
    names.answers["one"] = DOWN
    book = directory(names, FakeClock(), told)
    assert book.look() == 1.0  # there is a name without any address
    assert (told.failures, told.answers) == (["one"], [("two", ["2"])])
    assert book.answered.is_set()


def test_a_failure_changes_nothing_where_there_are_addresses() -> None:
    names, told = Names(one=["1"]), Told()
    book = directory(names, FakeClock(), told)
    book.look()
    names.answers["one"] = DOWN
    assert book.look() > 20.0
    assert len(told.answers) == 1


def test_a_short_schedule_is_kept_also_after_a_failure() -> None:
    names = Names(one=["1"])
    names.answers["one"] = DOWN
    assert directory(names, FakeClock(), Told(), dns_refresh=0.5).look() == 0.5


def test_trouble_brings_a_look_up_but_not_one_after_the_other() -> None:
    names, clock, told = Names(one=["1"]), FakeClock(), Told()
    book = directory(names, clock, told, dns_refresh=1000)
    book.open()
    try:
        eventually(lambda: names.asked == ["one"])
        eventually(book.answered.is_set)
        book.look_soon(clock.now() + 4.9)
        book.look_soon(clock.now() + 5.0)
        eventually(lambda: len(names.asked) == 2)
    finally:
        book.close(10)
    assert len(names.asked) == 2 and told.threads == {"cosy-lookup"}


def test_trouble_right_after_trouble_brings_nothing() -> None:
    names, clock = Names(one=["1"]), FakeClock()
    book = directory(names, clock, Told(), dns_refresh=1000)
    book.open()
    eventually(lambda: len(names.asked) == 1 and book._places)
    clock.advance(5.0)
    book.look_soon(clock.now())
    eventually(lambda: len(names.asked) == 2 and book._places)
    book.look_soon(clock.now() + 4.9)
    book.close(10)
    assert len(names.asked) == 2


def test_trouble_within_a_round_brings_one_more() -> None:
    names, inside, go_on = Names(one=["1"]), threading.Event(), threading.Event()
    asked: list[str] = []

    def hold(url: str) -> list[str]:
        asked.append(url)
        inside.set()
        go_on.wait(30)
        return ["1"]

    names.addresses = hold  # type: ignore[method-assign]
    book = directory(names, FakeClock(), Told(), dns_refresh=1000)
    book.open()
    assert inside.wait(60)
    book.look_soon(1e6)
    book.look_soon(2e6)
    go_on.set()
    eventually(lambda: len(asked) == 2)
    book.close(10)
    assert len(asked) == 2


@pytest.mark.parametrize("error", [ValueError("a bug"), MemoryError()])
def test_what_breaks_is_a_failure_like_any_other_and_not_the_last_look_up(error: Exception) -> None:
    names, told = Names(one=["1"]), Told()

    def fail_once(url: str) -> list[str]:
        del names.addresses
        raise error

    names.addresses = fail_once  # type: ignore[method-assign]
    book = directory(names, FakeClock(), told, dns_refresh=0.01)
    book.open()
    eventually(lambda: told.answers)
    assert book.answered.is_set() and told.failures == ["one"]
    book.close(10)


def test_who_is_told_may_break_though_the_log_breaks_too(
    broken_log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.endpoints.dns.AGAIN", 0.01)
    told, tell = Told(), [True]

    def answer(url: str, addresses: object) -> None:
        if tell:
            tell.clear()
            raise SystemExit
        told.answer(url, addresses)

    names = Names(one=["1"])
    book = DnsWatcher(["one"], names, PoolConfig(), FakeClock(), answer, told.failure)
    book.open()
    eventually(lambda: told.answers)
    book.close(10)


def test_the_schedule_is_kept() -> None:
    names = Names(one=["1"])
    book = directory(names, FakeClock(), Told(), dns_refresh=0.01)
    book.open()
    try:
        eventually(lambda: len(names.asked) >= 3)
    finally:
        book.close(10)


def test_nothing_is_looked_up_after_the_end_and_no_thread_is_left() -> None:
    gc.collect()  # what other tests dropped
    eventually(lambda: not threads())
    names = Names(one=["1"])
    book = directory(names, FakeClock(), Told(), dns_refresh=0.01)
    book.open()
    book.open()
    eventually(lambda: names.asked)
    book.close(10)
    eventually(lambda: not threads())
    asked = len(names.asked)
    book.open()
    book.look_soon(1e6)
    assert len(names.asked) == asked
    closed = directory(Names(one=["1"]), FakeClock(), Told())
    closed.close(10)
    closed.open()
    eventually(lambda: not threads())


def test_without_names_there_is_no_thread_and_nothing_to_wait_for() -> None:
    book = directory(Names(), FakeClock(), Told())
    book.open()
    assert threads() == []
    assert book.answered.is_set()


def test_a_look_up_that_hangs_does_not_hold_up_the_end() -> None:
    names, hanging, go_on = Names(one=["1"]), threading.Event(), threading.Event()

    def hang(url: str) -> list[str]:
        hanging.set()
        go_on.wait(30)
        return ["1"]

    names.addresses = hang  # type: ignore[method-assign]
    book = directory(names, FakeClock(), Told())
    book.open()
    assert hanging.wait(60)
    book.close(0.01)
    assert [thread.name for thread in threads()] == ["cosy-lookup"]
    go_on.set()
    eventually(lambda: not threads())


def test_the_thread_does_not_keep_a_forgotten_directory_alive() -> None:
    book = directory(Names(one=["1"]), FakeClock(), Told(), dns_refresh=1000)
    book.open()
    assert book.answered.wait(60)
    del book

    def ended() -> bool:
        gc.collect()
        return not threads()

    eventually(ended)


def test_no_more_threads_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    names = Names(one=["1"])
    book = directory(names, FakeClock(), Told(), dns_refresh=1000)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        patch.setattr(_thread, "start_new_thread", fail)
        book.open()
    assert names.asked == []
    book.open()
    eventually(lambda: names.asked)
    book.close(10)


@pytest.mark.parametrize("interrupt", [interrupt_at, interrupt_entry])
def test_a_first_look_up_that_ctrl_c_ends_hinders_no_other(interrupt: Callable[..., bool]) -> None:
    for number in itertools.count(1):
        names = Names(one=["1"])
        book = directory(names, FakeClock(), Told())
        came = interrupt(number, book.open)
        book.open()
        assert book.answered.wait(20)
        book.close(20)
        if not came:
            return


def test_a_round_that_found_no_thread_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(one=["1"])
    book = directory(names, FakeClock(), Told())
    book.open()
    assert book.answered.wait(20)
    eventually(lambda: book._places)
    later: list[float] = []
    monkeypatch.setattr(book, "end_round", later.append)

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", fail)
        book.look_next(1)
    assert later == [1.0]
    book.look_next(1)
    eventually(lambda: len(names.asked) == 2 and book._places)
    book.close(20)
