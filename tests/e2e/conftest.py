"""Senders that are closed when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cosy_sync.config import ClientConfig, PoolConfig, TimeoutConfig
from cosy_sync.net import Sender

Make = Callable[..., Sender]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Sender] = []

    def build(timeouts: TimeoutConfig | None = None, **pool: Any) -> Sender:
        times = timeouts or TimeoutConfig(connect=10, first_byte=10, idle=10)
        sender = Sender(ClientConfig(pool=PoolConfig(**pool), timeouts=times))
        made.append(sender)
        return sender

    yield build
    for sender in made:
        sender.close()


@pytest.fixture
def sender(make: Make) -> Sender:
    return make()
