"""Each contract test runs once for every wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from wires import Case, Connect, Serve, cases

from cosy_sync import CosyClient
from cosy_sync.server import Server


@pytest.fixture(scope="module", params=cases(), ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    case: Case = request.param
    if case.missing:
        pytest.skip(case.missing)
    return case


@pytest.fixture
def serve(case: Case) -> Iterator[Serve]:
    """Start servers that answer at once and refuse nobody, but for what the test says."""
    with ExitStack() as stack:

        def start(**options: Any) -> Server:
            usual = {"latency": 0.0, "rate": 0, "max_connections": 0}
            return stack.enter_context(Server(**{**usual, **case.server, **options}))

        yield start


@pytest.fixture
def connect(case: Case) -> Iterator[Connect]:
    """Make clients of a server, which are closed after the test."""
    with ExitStack() as stack:

        def make(server: Server, **settings: Any) -> CosyClient:
            return stack.enter_context(case.client(server, **settings))

        yield make
