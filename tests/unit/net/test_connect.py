"""The process's TLS context: made once, by one thread, and without a lock."""

from __future__ import annotations

import threading

import locks
import pytest

from cosy_sync.net import connect as dial


@pytest.fixture(autouse=True)
def none_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "_contexts", {})


def test_it_is_made_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    with locks.watched(monkeypatch) as found:
        context = dial.default_ssl_context(True)
    assert found == [] and dial.default_ssl_context(True) is context


def test_who_comes_while_it_is_made_waits_for_it_and_makes_it_where_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, begun, go_on, made = dial._make_context, threading.Event(), threading.Event(), []

    def make(verify: bool) -> object:
        made.append(verify)
        if len(made) == 1:
            begun.set()
            assert go_on.wait(60)
            raise OSError(24, "Too many open files")
        return real(verify)

    monkeypatch.setattr(dial, "_make_context", make)
    got: list[object] = []

    def work() -> None:
        try:
            got.append(dial.default_ssl_context(True))
        except OSError as error:
            got.append(error.errno)

    threads = [threading.Thread(target=work) for _ in range(5)]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(made) == 2 and got.count(24) == 1
    assert len({id(each) for each in got if each != 24}) == 1
