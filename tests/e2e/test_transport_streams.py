"""Replies read as they come, over real sockets: nothing is held up, nothing dirty is kept."""

from __future__ import annotations

import contextlib
import gzip
import ssl
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
import respx
from scripted import (
    CHUNKED,
    FINISH,
    HOLD,
    INTERIM,
    MANY,
    OK,
    READ,
    RESET,
    Peer,
    Scripted,
    eventually,
    reply,
)

from cosy_sync.config import ClientConfig, TimeoutConfig
from cosy_sync.errors import (
    BadAudioError,
    ClosedError,
    ConnectError,
    CosyError,
    CutError,
    ReplyTimeout,
    TransportError,
)
from cosy_sync.messages import Request, RpcRequest
from cosy_sync.net import Sender
from cosy_sync.net.reply_stream import ReplyStream
from cosy_sync.net.task_transport import kind_of

Make = Callable[..., Sender]

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("each_way_of_waiting")]


def open_(
    sender: Sender, server: Scripted | str, seconds: float = 15.0, max_bytes: int = MANY
) -> ReplyStream:
    url = server if isinstance(server, str) else server.url
    return sender.open(Request(url, (("X-Team", "a"),), b"{}"), seconds, max_bytes)


def rest(stream: ReplyStream, seconds: float = 15.0) -> bytes:
    return b"".join(iter(lambda: stream.read(seconds), b""))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"


class Step:
    """A step of a script that waits until the test says so."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, peer: Peer) -> None:
        assert self.go.wait(60)


FRAMINGS = {
    "length": (OK + b"Content-Length: 15\r\n\r\n", [b"hello", b"there", b"world"], b""),
    "chunked": (CHUNKED, [chunk(b"hello"), chunk(b"there"), chunk(b"world")], LAST),
    "close": (OK + b"\r\n", [b"hello", b"there", b"world"], b""),
    "interim": (INTERIM + CHUNKED, [chunk(b"hello"), chunk(b"there"), chunk(b"world")], LAST),
}


@pytest.fixture(params=["own", "foreign"])
def either(request: pytest.FixtureRequest, make: Make) -> Iterator[Sender]:
    """Our own connections, and an httpx.Client of the caller's."""
    if request.param == "own":
        yield make()
        return
    with httpx.Client() as client:
        yield Sender(ClientConfig(), client, owned=False)


@pytest.mark.parametrize("name", FRAMINGS)
def test_what_was_sent_can_be_read_before_more_is_sent(name: str, either: Sender) -> None:
    head, parts, end = FRAMINGS[name]
    gates = [Step(), Step(), Step(), Step()]
    script = [READ, head, gates[0], parts[0], gates[1], parts[1], gates[2], parts[2], gates[3], end]
    with Scripted(script) as server:
        stream = open_(either, server)
        assert stream.status == 200
        for gate, said in zip(gates, (b"hello", b"there", b"world"), strict=False):
            gate.go.set()
            assert stream.read(15.0) == said
        gates[3].go.set()
        assert stream.read(15.0) == b"" == stream.read(15.0)
        assert stream.received == 15
        stream.close()
        stream.close()


@pytest.mark.parametrize("name", ["length", "chunked", "interim"])
def test_a_connection_whose_reply_ended_is_used_again(name: str, sender: Sender) -> None:
    head, parts, end = FRAMINGS[name]
    wire = head + b"".join(parts) + end
    with Scripted([READ, wire, READ, wire, READ, wire, HOLD]) as server:
        for turn in range(3):
            stream = open_(sender, server)
            assert (stream.connect > 0) == (turn == 0)
            assert sender.connections() == (1, 0)
            assert rest(stream) == b"hellothereworld"
            stream.close()
            assert sender.connections() == (1, 1)
        assert [len(requests) for requests in server.requests] == [3]


@pytest.mark.parametrize(
    "wire",
    [
        OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        reply(b"hello") + b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_a_connection_that_is_not_fit_for_more_is_closed(wire: bytes, sender: Sender) -> None:
    with Scripted([READ, wire, HOLD]) as server:
        stream = open_(sender, server)
        assert rest(stream) == b"hello"
        stream.close()
        assert sender.connections() == (0, 0)


def test_the_end_of_the_connection_ends_a_reply_without_a_length(sender: Sender) -> None:
    with Scripted([READ, OK + b"\r\nhello", FINISH]) as server:
        stream = open_(sender, server)
        assert rest(stream) == b"hello"
        stream.close()
        assert sender.connections() == (0, 0)


@pytest.mark.parametrize("name", ["length", "chunked"])
@pytest.mark.parametrize("end", [FINISH, RESET])
def test_a_cut_is_told_after_what_came_before_it(name: str, end: str, either: Sender) -> None:
    head, parts, _ = FRAMINGS[name]
    gate = Step()
    with Scripted([READ, head, parts[0], gate, end]) as server:
        stream = open_(either, server)
        assert stream.read(15.0) == b"hello"
        gate.go.set()
        with pytest.raises(CutError):
            stream.read(15.0)
        stream.close()
        assert either.connections() == (0, 0)


def test_closing_early_hangs_up(either: Sender) -> None:
    left = threading.Event()

    def hold(peer: Peer) -> None:
        peer.hold()
        left.set()

    with Scripted([READ, CHUNKED + chunk(b"hello"), hold]) as server:
        stream = open_(either, server)
        assert stream.read(15.0) == b"hello"
        stream.close()
        assert left.wait(15)
        assert either.connections() == (0, 0)


def test_a_stale_connection_is_replaced_before_the_reply(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.net.exchange.UNREAD_WITHIN", 10.0)
    with Scripted([READ, reply()], [READ, reply(b"again"), HOLD]) as server:
        first = open_(sender, server)
        rest(first)
        first.close()
        second = open_(sender, server)
        assert second.connect > 0 and rest(second) == b"again"
        second.close()
        assert sender.connections() == (1, 1)


def test_a_failure_before_the_head_leaves_nothing(sender: Sender) -> None:
    endings: list[tuple[bytes, type[CosyError]]] = [
        (b"", CutError),
        (b"HTTP/1.1 200 OK\r\nContent-", CutError),
        (b"rubbish\r\n\r\n", TransportError),
    ]
    for wire, kind in endings:
        with Scripted([READ, wire, FINISH]) as server, pytest.raises(kind):
            open_(sender, server)
    assert sender.connections() == (0, 0)
    with pytest.raises(ConnectError):
        open_(sender, server)


# -- time -----------------------------------------------------------------------------------------


def test_each_read_has_its_own_time(sender: Sender) -> None:
    gates = Step(), Step()
    with Scripted([READ, CHUNKED, gates[0], chunk(b"hello"), gates[1], LAST]) as server:
        stream = open_(sender, server, seconds=10.0)
        with pytest.raises(ReplyTimeout) as caught:
            stream.read(0.05)
        assert caught.value.phase == "first byte"
        gates[0].go.set()
        assert stream.read(10.0) == b"hello"
        with pytest.raises(ReplyTimeout) as caught:
            stream.read(0.05)
        assert caught.value.phase == "idle"
        gates[1].go.set()
        assert stream.read(1e9) == b""
        stream.close()


def test_the_time_to_the_head_does_not_bind_what_follows(either: Sender) -> None:
    gate = Step()
    with Scripted([READ, CHUNKED + chunk(b"a"), gate, chunk(b"b"), LAST]) as server:
        stream = open_(either, server, seconds=0.3)
        assert stream.read(15.0) == b"a"
        threading.Timer(0.5, gate.go.set).start()
        assert stream.read(15.0) == b"b"
        stream.close()


def test_the_first_bytes_may_take_as_long_as_the_synthesis(make: Make) -> None:
    gate = Step()
    sender = make(TimeoutConfig(first_byte=10.0, idle=0.05))
    with Scripted([READ, CHUNKED, gate, chunk(b"hello"), HOLD]) as server:
        stream = open_(sender, server)
        threading.Timer(0.3, gate.go.set).start()
        assert stream.read(15.0) == b"hello"
        with pytest.raises(ReplyTimeout):
            stream.read(15.0)
        stream.close()


def test_a_foreign_client_keeps_our_idle_time(make: Make) -> None:
    times = TimeoutConfig(first_byte=20.0, idle=0.05)
    with httpx.Client() as client, Scripted([READ, CHUNKED + chunk(b"a"), HOLD]) as server:
        stream = open_(Sender(ClientConfig(timeouts=times), client, owned=False), server)
        assert stream.read(15.0) == b"a"
        with pytest.raises(ReplyTimeout):
            stream.read(15.0)
        stream.close()


def test_no_time_is_no_request(either: Sender) -> None:
    with Scripted([READ, reply()]) as server:
        with pytest.raises(ReplyTimeout):
            open_(either, server, seconds=0.0)
        assert server.requests == []


def test_a_foreign_reply_is_not_read_after_its_time(make: Make) -> None:
    with httpx.Client() as client, Scripted([READ, reply(), HOLD]) as server:
        stream = open_(Sender(ClientConfig(), client, owned=False), server)
        with pytest.raises(ReplyTimeout):
            stream.read(-1.0)
        stream.close()


# -- the end of the client ------------------------------------------------------------------------


@pytest.mark.parametrize("head", [CHUNKED + chunk(b"hello"), OK + b"\r\nhello"])
def test_cutting_wakes_the_reader(head: bytes, sender: Sender) -> None:
    with Scripted([READ, head, HOLD]) as server:
        stream = open_(sender, server)
        assert stream.read(15.0) == b"hello"
        threading.Timer(0.1, sender.cut).start()
        with pytest.raises(ClosedError):
            stream.read(15.0)
        stream.close()
        assert sender.connections() == (0, 0)


def test_cutting_wakes_who_waits_for_the_head(sender: Sender) -> None:
    with Scripted([READ, HOLD]) as server:
        threading.Timer(0.1, sender.cut).start()
        with pytest.raises(ClosedError):
            open_(sender, server)


# -- size and compression -------------------------------------------------------------------------


def test_a_reply_that_grows_too_large_is_refused_while_it_is_read(either: Sender) -> None:
    with Scripted([READ, CHUNKED + chunk(b"a" * 8), 0.05, chunk(b"b" * 8), HOLD]) as server:
        stream = open_(either, server, max_bytes=10)
        assert stream.read(15.0) == b"a" * 8
        with pytest.raises(BadAudioError) as caught:
            stream.read(15.0)
        assert caught.value.reason == "too_large"
        stream.close()


def test_sound_that_is_compressed_is_refused(either: Sender) -> None:
    packed = gzip.compress(b"sound" * 10)
    with Scripted([READ, reply(packed, "Content-Encoding: gzip"), HOLD]) as server:
        stream = open_(either, server)
        with pytest.raises(BadAudioError, match="turn compression off") as caught:
            stream.read(15.0)
        assert caught.value.reason == "encoding"
        stream.close()


@pytest.mark.parametrize("packing", ["Content-Encoding: gzip", "Content-Encoding: identity"])
def test_a_refusal_is_read_whole_and_inflated(packing: str, either: Sender) -> None:
    said = b'{"error": "busy"}' * 9
    body = gzip.compress(said) if "gzip" in packing else said
    wire = reply(body, packing, "Retry-After: 3", status="503 Busy")
    with Scripted([READ, wire[:-5], 0.02, wire[-5:], HOLD]) as server:
        stream = open_(either, server)
        whole = stream.whole(15.0)
        stream.close()
        assert (whole.status, bytes(whole.body)) == (503, said)
        assert whole.headers["retry-after"] == "3" and whole.received == len(body)


def test_a_refusal_has_one_time_for_all_of_it(sender: Sender) -> None:
    with Scripted([READ, CHUNKED, lambda peer: peer.drip(chunk(b"x") * 400, 0.005)]) as server:
        stream = open_(sender, server)
        with pytest.raises(ReplyTimeout):
            stream.whole(0.2)
        stream.close()


def test_no_compression_is_asked_for(either: Sender) -> None:
    with Scripted([READ, reply(), HOLD]) as server:
        stream = open_(either, server)
        rest(stream)
        stream.close()
        head = server.requests[0][0].lower()
        assert b"gzip" not in head and b"x-team: a" in head
        own = either.connections() != (0, 0)
        assert (b"accept-encoding: identity" in head) == (not own)


# -- who carries it -------------------------------------------------------------------------------


def test_tls_hands_over_what_it_holds(make: Make) -> None:
    trustme = pytest.importorskip("trustme")
    ca = trustme.CA()
    context, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.configure_trust(trust)
    gate = Step()
    body = b"0123456789" * 20_000
    script = [READ, CHUNKED + chunk(body), gate, LAST, HOLD]
    with Scripted(script, context=context) as server:
        stream = open_(make(ssl_context=trust), f"https://127.0.0.1:{server.port}/")
        heard = b""
        while len(heard) < len(body):
            heard += stream.read(15.0)
        assert heard == body
        gate.go.set()
        assert stream.read(15.0) == b""
        stream.close()


def test_mocks_of_httpx_answer_in_place_of_our_connections(sender: Sender) -> None:
    with respx.mock(using="httpx") as mock:
        mock.post("https://tts.example.com/").respond(200, content=b"sound")
        stream = open_(sender, "https://tts.example.com/")
        assert rest(stream) == b"sound"
        stream.close()
        mock.post("https://tts.example.com/").mock(side_effect=httpx.ReadTimeout)
        with pytest.raises(ReplyTimeout):
            open_(sender, "https://tts.example.com/")


def test_a_hook_may_have_read_the_reply_already() -> None:
    packed = gzip.compress(b"sound")
    answer = httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=packed)
    transport = httpx.MockTransport(lambda _: answer)
    hooks = {"response": [lambda response: response.read()]}
    with httpx.Client(transport=transport, event_hooks=hooks) as client:
        stream = open_(Sender(ClientConfig(), client, owned=False), "http://tts.test/")
        assert rest(stream) == b"sound"
        stream.close()


def test_a_client_that_was_closed_is_a_closed_error() -> None:
    client = httpx.Client()
    sender = Sender(ClientConfig(), client, owned=False)
    client.close()
    with pytest.raises(ClosedError):
        open_(sender, "http://tts.test/")


def test_other_requests_go_to_their_carrier(sender: Sender, monkeypatch) -> None:
    class Incoming:
        status, headers, connect = 200, {}, 0.5
        messages = (b"one", b"two", b"")
        closed = 0

        def __init__(self) -> None:
            self.read = iter(self.messages).__next__

        def close(self) -> None:
            self.closed += 1

    came = Incoming()
    asked: list[object] = []

    class Carrier:
        def open(self, request: object, budget: object) -> Incoming:
            asked.append(request)
            return came

    request = RpcRequest("grpc://tts.test", "/CosyVoice/inference_sft", b"")
    monkeypatch.setattr(
        sender, "_task_transport", lambda kind: Carrier() if kind == kind_of(request) else None
    )
    stream = sender.open(request, 5.0, 100)
    assert (asked, stream.connect) == ([request], 0.5)
    assert rest(stream) == b"onetwo" and stream.received == 6
    stream.close()
    assert came.closed == 1


def test_many_threads_stream_over_one_pool(sender: Sender) -> None:
    def serve(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                peer.read()
                peer.sock.sendall(CHUNKED)
                for part in (b"a" * 3000, b"b" * 5, b"c" * 9000):
                    peer.sock.sendall(chunk(part))
                peer.sock.sendall(LAST)

    wrong: list[object] = []

    def work() -> None:
        for turn in range(20):
            stream = open_(sender, server)
            if turn % 5 == 4:
                stream.close()
                continue
            if rest(stream) != b"a" * 3000 + b"b" * 5 + b"c" * 9000:
                wrong.append(turn)
            stream.close()

    with Scripted([serve]) as server:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        opened, idle = sender.connections()
        assert opened == idle <= 8
        sender.close()
        assert eventually(lambda: sender.connections() == (0, 0))


def test_connections_can_be_counted_while_another_kind_is_used_first(sender: Sender) -> None:
    class Carrier:
        def connections(self) -> tuple[int, int]:
            sender._task_transports.setdefault("later", Carrier())  # type: ignore[arg-type]
            return (1, 1)

        def close(self) -> None:
            pass

    sender._task_transports["first"] = Carrier()  # type: ignore[assignment]
    assert sender.connections() == (1, 1)
