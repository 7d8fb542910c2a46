"""The caller's own httpx.Client works as always; httpx's errors come as ours."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import respx

import cosy_sync.net.sender as sender_module
from cosy_sync.config import ClientConfig, TimeoutConfig
from cosy_sync.errors import (
    BadAudioError,
    ClosedError,
    ConfigError,
    ConnectError,
    CosyError,
    CutError,
    ReplyTimeout,
    ShedError,
    TransportError,
)
from cosy_sync.messages import Reply, Request
from cosy_sync.net import Sender
from cosy_sync.net.exchange_limits import no_room_needed

URL = "https://tts.example.com/batch?a=1"
Handler = Callable[[httpx.Request], httpx.Response]


def post(
    sender: Sender, max_bytes: int = 1000, make_room: Callable[[int], None] = no_room_needed
) -> Reply:
    headers = (("Content-Type", "application/json"), ("Accept-Encoding", "gzip"))
    return sender.post(Request(URL, headers, b"{}"), 10.0, max_bytes, make_room)


def sender_over(handler: Handler, **options: Any) -> Sender:
    client = httpx.Client(transport=httpx.MockTransport(handler), **options)
    return Sender(ClientConfig(), client)


class Pieces(httpx.SyncByteStream):
    """A body that comes in pieces, and does something before each."""

    def __init__(self, *pieces: bytes, before: Callable[[], object] = lambda: None) -> None:
        self.pieces = pieces
        self.before = before
        self.given = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.before()
            self.given += 1
            yield piece

    def close(self) -> None:
        self.closed = True


# -- the caller's own client ----------------------------------------------------------------------


def test_a_mock_transport_gets_the_request_and_answers() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, headers={"X-Request-Id": "7"}, content=b"audio")

    reply = post(sender_over(handle))
    assert (reply.status, bytes(reply.body), reply.received) == (201, b"audio", 5)
    assert reply.headers["x-request-id"] == "7"
    assert (seen[0].method, str(seen[0].url), seen[0].content) == ("POST", URL, b"{}")
    assert seen[0].headers["accept-encoding"] == "gzip"


def test_hooks_auth_and_default_headers_of_the_client_apply() -> None:
    seen: list[httpx.Request] = []
    answered: list[int] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    def note(response: httpx.Response) -> None:
        answered.append(response.status_code)

    hooks: dict[str, list[Any]] = {"response": [note]}
    post(sender_over(handle, auth=("me", "secret"), headers={"X-Team": "a"}, event_hooks=hooks))
    assert seen[0].headers["authorization"].startswith("Basic ")
    assert seen[0].headers["x-team"] == "a"
    assert answered == [200]


def test_a_hook_may_read_the_reply() -> None:
    packed = gzip.compress(b"audio")

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Pieces(packed))

    sender = sender_over(handle, event_hooks={"response": [lambda r: r.read()]})
    assert bytes(post(sender).body) == b"audio"
    with pytest.raises(BadAudioError):
        post(sender, max_bytes=4)


def test_a_streamed_reply_is_inflated_and_counted_as_it_came() -> None:
    packed = gzip.compress(b"audio" * 100)

    def handle(request: httpx.Request) -> httpx.Response:
        pieces = Pieces(packed[:9], packed[9:])
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=pieces)

    reply = post(sender_over(handle))
    assert (bytes(reply.body), reply.received) == (b"audio" * 100, len(packed))


def test_a_reply_that_grows_too_large_is_refused_while_it_is_read() -> None:
    pieces = Pieces(*[b"a" * 100] * 1000)
    with pytest.raises(BadAudioError) as caught:
        post(sender_over(lambda _: httpx.Response(200, stream=pieces)), max_bytes=500)
    assert caught.value.reason == "too_large"
    assert pieces.given == 6 and pieces.closed


def test_a_reply_that_announces_too_much_is_refused_unread() -> None:
    pieces = Pieces(b"a" * 1001)
    response = httpx.Response(200, headers={"Content-Length": "1001"}, stream=pieces)
    rooms: list[int] = []
    with pytest.raises(BadAudioError):
        post(sender_over(lambda _: response), make_room=rooms.append)
    assert pieces.given == 0 and pieces.closed and rooms == []


def test_a_bomb_is_refused_while_it_is_inflated() -> None:
    pieces = Pieces(gzip.compress(bytes(100_000)))
    response = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=pieces)
    with pytest.raises(BadAudioError) as caught:
        post(sender_over(lambda _: response))
    assert caught.value.reason == "too_large"


def test_a_reply_that_dribbles_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    instants = itertools.count(0.0, 0.002)  # each piece takes its time
    monkeypatch.setattr(sender_module, "time", SimpleNamespace(monotonic=lambda: next(instants)))
    pieces = Pieces(*[b"a"] * 100)
    sender = sender_over(lambda _: httpx.Response(200, stream=pieces))
    with pytest.raises(ReplyTimeout) as caught:
        sender.post(Request(URL, (), b""), 0.05, 1 << 30)
    assert caught.value.phase == "idle" and pieces.closed


def test_room_is_made_before_the_body_is_read() -> None:
    pieces = Pieces(b"12345")
    response = httpx.Response(200, headers={"Content-Length": "5"}, stream=pieces)
    rooms: list[tuple[int, int]] = []
    post(sender_over(lambda _: response), make_room=lambda n: rooms.append((n, pieces.given)))
    assert rooms == [(5, 0)]


def test_no_room_closes_the_reply() -> None:
    def refuse(size: int) -> None:
        raise ShedError("no room")

    pieces = Pieces(b"12345")
    with pytest.raises(ShedError):
        post(sender_over(lambda _: httpx.Response(200, stream=pieces)), make_room=refuse)
    assert pieces.closed


def test_an_error_that_cannot_be_inflated_keeps_its_status() -> None:
    headers = {"Content-Encoding": "br"}
    reply = post(sender_over(lambda _: httpx.Response(503, headers=headers, stream=Pieces(b"x"))))
    assert (reply.status, bytes(reply.body)) == (503, b"")
    with pytest.raises(BadAudioError, match="'br' was not asked for"):
        post(sender_over(lambda _: httpx.Response(200, headers=headers, stream=Pieces(b"x"))))


def test_the_time_outs_are_ours_and_never_more_than_what_is_left() -> None:
    seen: list[dict[str, float]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200)

    client = httpx.Client(transport=httpx.MockTransport(handle), timeout=None)
    sender = Sender(ClientConfig(timeouts=TimeoutConfig(connect=3, first_byte=30)), client)
    sender.post(Request(URL, (), b""), 60.0, 10)
    sender.post(Request(URL, (), b""), 1.0, 10)
    assert (seen[0]["connect"], seen[0]["read"]) == (3, 30)
    assert max(seen[1].values()) <= 1.0


def test_no_time_left_is_refused_unsent() -> None:
    sender = sender_over(lambda _: pytest.fail("it was sent"))
    with pytest.raises(ReplyTimeout) as caught:
        sender.post(Request(URL, (), b""), 0.0, 10)
    assert not caught.value.sent


def test_a_closed_client_is_refused_at_the_start() -> None:
    client = httpx.Client()
    client.close()
    with pytest.raises(ConfigError, match="closed"):
        Sender(ClientConfig(), client)


def test_a_client_that_was_closed_later_is_a_closed_error() -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    sender = Sender(ClientConfig(), client, owned=False)
    client.close()
    with pytest.raises(ClosedError):
        post(sender)


def test_the_callers_client_is_closed_only_where_it_was_handed_over() -> None:
    for owned in (True, False):
        client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
        sender = Sender(ClientConfig(), client, owned=owned)
        sender.cut()
        sender.abandon()
        assert sender.connections() == (0, 0)
        sender.close()
        assert client.is_closed == owned
        client.close()


def test_a_hooks_own_exception_is_left_alone() -> None:
    def broken(response: httpx.Response) -> None:
        raise RuntimeError("the hook's own fault")

    sender = sender_over(lambda _: httpx.Response(200), event_hooks={"response": [broken]})
    with pytest.raises(RuntimeError, match="own fault"):
        post(sender)


# -- httpx's errors -------------------------------------------------------------------------------


def family(cls: type[Exception]) -> Iterator[type[Exception]]:
    yield cls
    for child in cls.__subclasses__():
        yield from family(child)


FOREIGN = sorted(
    # Other packages, such as httpx_sse, derive errors of their own.
    {c for c in family(httpx.HTTPError) if c.__module__.partition(".")[0] == "httpx"},
    key=lambda cls: cls.__name__,
)
EXPECTED: dict[str, tuple[type[CosyError], dict[str, object]]] = {
    "ConnectTimeout": (ConnectError, {"phase": "connect", "retryable": True, "sent": False}),
    "ConnectError": (ConnectError, {"phase": "connect", "retryable": True, "sent": False}),
    "PoolTimeout": (ConnectError, {"phase": "pool", "trips": False, "sent": False}),
    "ProxyError": (ConnectError, {"retryable": True}),
    "ReadTimeout": (ReplyTimeout, {"sent": True, "retryable": True, "trips": True}),
    "WriteTimeout": (ReplyTimeout, {"phase": "send"}),
    "TimeoutException": (ReplyTimeout, {}),
    "ReadError": (CutError, {"retryable": True, "trips": True}),
    "WriteError": (CutError, {}),
    "CloseError": (CutError, {}),
    "NetworkError": (CutError, {}),
    "RemoteProtocolError": (CutError, {"retryable": True}),
    "LocalProtocolError": (TransportError, {"retryable": False, "sent": False, "trips": False}),
    "UnsupportedProtocol": (ConnectError, {"retryable": False, "trips": False}),
    "DecodingError": (BadAudioError, {"reason": "encoding"}),
    "TooManyRedirects": (TransportError, {"retryable": False}),
}
ABSTRACT = {"HTTPError", "RequestError", "TransportError", "ProtocolError", "HTTPStatusError"}


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda cls: cls.__name__)
def test_every_error_of_httpx_becomes_ours(foreign: type[Exception]) -> None:
    def fail(*_: object) -> httpx.Response:
        if foreign is httpx.HTTPStatusError:
            request, response = httpx.Request("POST", URL), httpx.Response(500)
            raise httpx.HTTPStatusError("secret", request=request, response=response)
        raise foreign("secret")

    own, details = EXPECTED.get(foreign.__name__, (TransportError, {}))
    assert foreign.__name__ in EXPECTED or foreign.__name__ in ABSTRACT
    streamed = httpx.Response(200, stream=Pieces(b"a", before=fail))
    for handler in (fail, lambda _: streamed):
        with pytest.raises(CosyError) as caught:
            post(sender_over(handler))
        assert type(caught.value) is own
        assert type(caught.value.__cause__) is foreign
        assert {name: getattr(caught.value, name) for name in details} == details
        assert foreign.__name__ in str(caught.value) and "secret" not in str(caught.value)


def test_a_reply_whose_stream_a_hook_has_closed_is_a_transport_error() -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Pieces(b"a"))

    sender = sender_over(handle, event_hooks={"response": [lambda r: r.close()]})
    with pytest.raises(TransportError, match="StreamClosed"):
        post(sender)


# -- our own client, mocked -----------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[Sender]:
    sender = Sender(ClientConfig())
    yield sender
    sender.close()


def test_respx_intercepts_our_own_client(own: Sender) -> None:
    with respx.mock(using="httpx") as mock:
        packed = gzip.compress(b"audio")
        answer = httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=packed)
        route = mock.post("https://tts.example.com/batch").mock(return_value=answer)
        assert bytes(post(own).body) == b"audio"
        assert route.calls[0].request.content == b"{}"
        assert own.connections() == (0, 0)


def test_respx_may_raise_and_refuse(own: Sender) -> None:
    with respx.mock(using="httpx") as mock:
        mock.post(URL).mock(side_effect=httpx.ReadTimeout)
        with pytest.raises(ReplyTimeout):
            post(own)
        mock.post(URL).respond(503, text="busy")
        assert post(own).status == 503


def test_a_header_with_a_line_break_is_never_sent(own: Sender) -> None:
    for name, value in [("X-A", "b\r\nX-C: d"), ("X-A", "b\nc"), ("X\r\nA", "b"), ("X", "你")]:
        with pytest.raises(ConfigError, match="headers"):
            own.post(Request(URL, ((name, value),), b""), 1.0, 10)
    assert own.connections() == (0, 0)


def test_a_given_client_looks_its_names_up_itself() -> None:
    with httpx.Client() as client:
        assert not Sender(ClientConfig(), client).resolves(URL)
