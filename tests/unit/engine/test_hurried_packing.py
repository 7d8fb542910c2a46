"""The thread that packs batches goes before others as soon as the workers have few left."""

from __future__ import annotations

import itertools

import httpx
import pytest

from cosy_sync import CosyClient
from cosy_sync.engine import bulk
from cosy_sync.testing import FakeService
from cosy_sync.threads import Turn

URL = "https://tts.example.com/batch"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> list[Turn]:
    """Return the turns that somebody hurried."""
    turns: list[Turn] = []

    class WatchedTurn(Turn):
        __slots__ = ()

        def hurry(self) -> None:
            turns.append(self)
            super().hurry()

    monkeypatch.setattr(bulk, "Turn", WatchedTurn)
    return turns


@pytest.mark.parametrize("serial", [True, False])
def test_who_ends_a_batch_and_finds_few_ready_hurries_the_packing_thread(
    hurried: list[Turn], serial: bool
) -> None:
    service = httpx.Client(transport=FakeService())
    with CosyClient(URL, http_client=service, batch_size=2, serial=serial) as client:
        outcomes = client.synth_iter(f"第{number}句话" for number in itertools.count())
        assert all(next(outcomes).ok for _ in range(20))
        outcomes.close()
    assert hurried and len(set(hurried)) == 1
