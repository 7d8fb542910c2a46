"""The process-wide client: made once, and never under a lock."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import cosy_sync
from cosy_sync import CosyClient
from cosy_sync import default as module


@pytest.fixture(autouse=True)
def nobody_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_client", None)


def test_threads_that_make_it_at_the_same_time_wait_for_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each constructor ends only when all have begun, as those of greenlets that ask the service.
    inside, made = threading.Barrier(4, timeout=20), []

    def make(*_: Any, **__: Any) -> CosyClient:
        inside.wait()
        made.append(CosyClient("http://tts.test/batch"))
        return made[-1]

    monkeypatch.setattr(module, "CosyClient", make)
    got: list[CosyClient] = []
    threads = [
        threading.Thread(target=lambda: got.append(cosy_sync.default_client())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(got) == 4 and len({id(client) for client in got}) == 1
    assert [client.closed for client in made].count(False) == 1
    assert not got[0].closed
    got[0].close()


def test_it_is_made_anew_once_it_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSY_SYNC_URL", "http://tts.test/batch")
    first = cosy_sync.default_client()
    assert cosy_sync.default_client() is first
    first.close()
    second = cosy_sync.default_client()
    assert second is not first and not second.closed
    second.close()
