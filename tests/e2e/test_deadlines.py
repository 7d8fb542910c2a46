"""Where a caller's time runs out: the error says in which phase, and gives the caller's number."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from scripted import HOLD, READ, Scripted, eventually

from cosy_sync import (
    CosyClient,
    DeadlineError,
    Endpoint,
    LimitConfig,
    PoolConfig,
    RateLimitedError,
    RetryConfig,
    TimeoutConfig,
    UnavailableError,
)
from cosy_sync.events import AttemptFinished
from cosy_sync.testing import FakeClock, FakeService, Server

# Only the deadline can end anything in time for the test.
PATIENT = TimeoutConfig(connect=60, first_byte=60, idle=60)
DEADLINE = 0.4

pytestmark = pytest.mark.timeout(30)


@contextlib.contextmanager
def busy(client: CosyClient, requests: Callable[[], int]) -> Iterator[None]:
    """Let another caller stay in the middle of a call, until the client is closed."""
    before = requests()

    def call() -> None:
        with contextlib.suppress(Exception):
            client.with_options(deadline=60.0).synth("别人的一句话")

    thread = threading.Thread(target=call)
    thread.start()
    assert eventually(lambda: requests() > before)
    try:
        yield
    finally:
        client.close(0)
        thread.join()


def late(client: CosyClient, text: str = "我们的一句话") -> DeadlineError:
    with pytest.raises(DeadlineError) as caught:
        client.with_options(deadline=DEADLINE).synth(text)
    error = caught.value
    assert error.deadline == DEADLINE
    assert "0.4 s" in str(error) and str(error.phase) in str(error)
    return error


def asked(server: Scripted) -> Callable[[], int]:
    return lambda: sum(map(len, server.requests))


def test_waiting_for_a_free_connection() -> None:
    with Scripted([READ, HOLD]) as server:
        client = CosyClient(Endpoint(server.url, max_connections=1), timeouts=PATIENT)
        with busy(client, asked(server)):
            assert late(client).phase == "waiting for a free connection"
        assert asked(server)() == 1


def test_waiting_for_a_free_connection_of_a_pool_that_others_share() -> None:
    with Scripted([READ, HOLD]) as first, Scripted([READ, HOLD]) as second:
        endpoints = [Endpoint(first.url), Endpoint(second.url)]
        pool = PoolConfig(max_connections=1)
        client = CosyClient(endpoints, pool=pool, timeouts=PATIENT)
        with busy(client, lambda: asked(first)() + asked(second)()):
            assert late(client).phase == "waiting for a free connection"


def test_waiting_for_one_of_the_tenants_places() -> None:
    with Scripted([READ, HOLD]) as server:
        client = CosyClient(server.url, tenant="web", max_in_flight=1, timeouts=PATIENT)
        with busy(client, asked(server)):
            assert late(client).phase == "waiting for one of the tenant's 1 places"


def test_waiting_for_a_turn_in_the_rate_limit_that_comes_too_late() -> None:
    with Server(latency=0) as server, CosyClient(Endpoint(server.url, rate=0.1)) as client:
        client.synth("先说一句话")
        with pytest.raises(RateLimitedError, match=r"no slot within the deadline of 0.4 s.*rate"):
            client.with_options(deadline=DEADLINE).synth("再说一句话")
        assert server.stats()["requests"] == 1


def test_connecting() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(3):  # whom nobody accepts: there is no room for more
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}/batch"
        client = stack.enter_context(CosyClient(url, timeouts=PATIENT))
        error = late(client)
        assert error.phase == "waiting for the service (connect)"
        assert error.endpoint == url


def test_greeting_in_tls() -> None:
    with Scripted([HOLD]) as server:
        url = server.url.replace("http:", "https:")
        with CosyClient(url, timeouts=PATIENT) as client:
            assert str(late(client).phase).startswith("waiting for the service (")


def test_waiting_for_the_first_byte() -> None:
    with Scripted([READ, HOLD]) as server, CosyClient(server.url, timeouts=PATIENT) as client:
        assert late(client).phase == "waiting for the service (first byte)"


@pytest.mark.parametrize(
    "begin",
    [b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n--part"],
    ids=["head", "body"],
)
def test_waiting_for_the_rest_of_a_reply(begin: bytes) -> None:
    script = [READ, begin, HOLD]
    with Scripted(script) as server, CosyClient(server.url, timeouts=PATIENT) as client:
        assert late(client).phase == "waiting for the service (idle)"


def test_a_reply_that_drips_for_ever() -> None:
    with Server(latency=0) as server, CosyClient(server.url, timeouts=PATIENT) as client:
        server.inject("drip")
        assert late(client).phase == "waiting for the service (idle)"


def test_waiting_for_room_that_another_reply_takes() -> None:
    began = b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n"
    with Scripted([READ, began, HOLD]) as server:
        limits = LimitConfig(max_bytes_in_flight=70_000)
        client = CosyClient(server.url, limits=limits, timeouts=PATIENT)
        memory = client._core.engine()._memory
        with busy(client, lambda: memory.used):
            assert late(client).phase == "waiting for room in LimitConfig(max_bytes_in_flight)"


@pytest.mark.parametrize("deadline", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("work", [0.0, 0.3, 0.9])
def test_no_attempt_gets_more_than_what_is_left_and_no_wait_goes_beyond(
    deadline: float, work: float
) -> None:
    clock, service = FakeClock(), FakeService()
    start, given = clock.now(), []

    def handle(request: httpx.Request) -> httpx.Response:
        left = start + deadline - clock.now()
        timeouts = request.extensions["timeout"]
        given.append((left, timeouts["connect"], timeouts["read"], timeouts["write"]))
        # What is measured on the system's clock has run on a little.
        assert request.extensions["cosy_deadline"] - time.monotonic() <= left
        clock.advance(min(work, left))
        return service.fail(503).handle_request(request)

    http_client = httpx.Client(transport=httpx.MockTransport(handle))
    retry = RetryConfig(max_retries=20)
    with (
        CosyClient(
            "http://tts.test/batch", http_client=http_client, clock=clock, serial=True, retry=retry
        ) as client,
        pytest.raises((UnavailableError, DeadlineError)),
    ):
        client.with_options(deadline=deadline).synth("一句话")
    assert given
    for left, *timeouts in given:
        assert left > 0
        assert max(timeouts) <= max(left, 0.001)  # a time-out of 0 would mean something else
    assert clock.now() <= start + deadline


@pytest.mark.parametrize("way", ["synth", "synth_many", "submit"])
def test_a_name_server_that_does_not_answer_keeps_no_call_beyond_its_deadline(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    answers, waited_for = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        if not answers.wait(10):
            waited_for.set()  # the call lasted as long as this
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    client = CosyClient("http://tts.example.com/batch", deadline=DEADLINE, timeouts=PATIENT)
    with client, contextlib.closing(Release(answers)):
        if way == "synth_many":
            outcomes = client.synth_many(["第一句", "第二句"], on_error="return")
            errors = [outcome.error for outcome in outcomes]
        elif way == "submit":
            errors = [client.submit("我们的一句话").exception(20)]  # type: ignore[list-item]
        else:
            errors = [late(client)]
        assert not waited_for.is_set()
        assert all(isinstance(error, DeadlineError) for error in errors), errors


@pytest.mark.parametrize("way", ["synth_many", "synth_iter"])
def test_a_call_whose_name_server_hangs_takes_its_deadline_once(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    answers = threading.Event()
    tried: list[AttemptFinished] = []

    def hang(*_: object, **__: object) -> list[object]:
        answers.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    class Watcher:
        def on_event(self, event: object) -> None:
            if isinstance(event, AttemptFinished):
                tried.append(event)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    endpoint = Endpoint("http://tts.example.com/v1", max_connections=2)
    client = CosyClient(
        endpoint, wire="openai", deadline=DEADLINE, timeouts=PATIENT, observers=[Watcher()]
    )
    texts = [f"第{number}句" for number in range(100)]
    with client, contextlib.closing(Release(answers)):
        if way == "synth_many":
            outcomes = client.synth_many(texts, on_error="return")
        else:
            outcomes = list(client.synth_iter(texts))
        assert not answers.is_set()
    assert len(outcomes) == 100 and not any(outcome.ok for outcome in outcomes)
    # Two at a time, and nothing after these; each text would have had a deadline of its own.
    assert len(tried) <= 4
    assert "tts.example.com/v1 has answered nothing for" in str(outcomes[-1].error)


def test_a_call_whose_first_look_up_of_all_addresses_hangs_takes_its_deadline_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        answers.wait(20)  # each text with a deadline of its own would see the end of this
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    endpoint = Endpoint("http://tts.example.com/v1", max_connections=1, per_address=True)
    times = TimeoutConfig(connect=0.2)
    client = CosyClient(endpoint, wire="openai", deadline=DEADLINE, timeouts=times)
    texts = [f"第{number}句" for number in range(200)]
    with client, contextlib.closing(Release(answers)):
        outcomes = client.synth_many(texts, on_error="return")
    assert all("looking the service's name up" in str(outcome.error) for outcome in outcomes)


class Release:
    def __init__(self, answers: threading.Event) -> None:
        self.answers = answers

    def close(self) -> None:
        self.answers.set()
        for thread in threading.enumerate():
            if thread.name == "cosy-lookup":
                thread.join(20)
