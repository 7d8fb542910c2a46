"""A request that was lost unread with its connection is sent again: counted, in its turn, and
within the same attempt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx
import pytest

from cosy_sync import CosyClient, DeadlineError, Endpoint, RateLimitedError, RetryConfig
from cosy_sync.errors import CutError
from cosy_sync.net.exchange_limits import StaleConnection
from cosy_sync.testing import FakeClock, FakeService

URL = "http://tts.test/batch"


class Losing(httpx.BaseTransport):
    """Loses the first sending of each request, as our connections do when one was dead."""

    def __init__(self, service: FakeService, clock: FakeClock) -> None:
        self.service, self.clock = service, clock
        self.sendings: list[float] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sendings.append(self.clock.now())
        lost = CutError("the connection was closed before the reply")
        request.extensions["cosy_limits"].ask_again(StaleConnection(lost))
        self.sendings.append(self.clock.now())
        return self.service.handle_request(request)


@pytest.fixture
def net() -> Losing:
    return Losing(FakeService(), FakeClock())


@contextlib.contextmanager
def client_of(net: Losing, rate: float = 100.0, **settings: object) -> Iterator[CosyClient]:
    with CosyClient(
        Endpoint(URL, rate=rate),
        http_client=httpx.Client(transport=net),
        clock=net.clock,
        serial=True,
        retry=RetryConfig(max_retries=0),
        **settings,  # type: ignore[arg-type]
    ) as client:
        yield client


def test_it_counts_as_a_request_and_a_retry_and_as_no_failure_of_the_endpoint(net: Losing) -> None:
    with client_of(net, batch_size=1) as client:
        assert len(client.synth_many([f"第{n}句话要说" for n in range(30)])) == 30
        stats = client.stats()
    assert (stats.requests, stats.retries, stats.errors) == (60, 30, {"CutError": 30})
    assert (stats.texts_ok, stats.texts_failed, stats.in_flight) == (30, 0, 0)
    assert stats.breakers == {URL: "closed"}


def test_no_second_holds_more_sendings_than_the_rate(net: Losing) -> None:
    with client_of(net, rate=5.0, batch_size=1) as client:
        client.synth_many([f"第{n}句话要说" for n in range(20)])
    sent = net.sendings
    assert len(sent) == 40
    assert all(later - first > 1.0 for first, later in zip(sent, sent[5:], strict=False))


def test_without_a_turn_before_the_deadline_nothing_is_sent_again(net: Losing) -> None:
    with client_of(net, rate=0.01, deadline=5.0) as client:
        with pytest.raises((RateLimitedError, DeadlineError)):
            client.synth("只有一次机会")
        stats = client.stats()
    assert (len(net.sendings), len(net.service.calls)) == (1, 0)
    assert (stats.requests, stats.in_flight) == (1, 0)


def test_it_is_the_same_attempt_and_keeps_its_request_id(net: Losing) -> None:
    with client_of(net) as client:
        audio = client.synth("早上好")
    assert audio.timing is not None and audio.timing.attempts == 1
