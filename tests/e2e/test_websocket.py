"""WebSockets over real sockets: reuse, dead ones, time, size, closing, forks."""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from scripted import FINISH, HOLD, INTERIM, MANY, RESET, Peer, Scripted, Step, eventually

from cosy_sync.config import ClientConfig, PoolConfig, TimeoutConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    ClosedError,
    ConfigError,
    ConnectError,
    CosyError,
    CutError,
    ReplyTimeout,
    ServerError,
    ThrottledError,
    TransportError,
    UnavailableError,
    server_error,
)
from cosy_sync.messages import Reply
from cosy_sync.net.exchange_limits import ExchangeLimits, no_room_needed

if TYPE_CHECKING:
    from cosy_sync.net.websocket import WebSocketTransport

trustme = pytest.importorskip("trustme")
pytest.importorskip("websockets", reason="needs websockets (extra websocket)")

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Authority:
    """A CA of the test's own."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.client = ssl.create_default_context()
        self.ca.configure_trust(self.client)

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("localhost").configure_cert(context)
        return context


class Ask:
    """A small protocol: `ask` is answered with audio and `end`, or `fail`; `stop` cancels."""

    address: str | None = None

    def __init__(self, server: Scripted | str, key: str = "secret") -> None:
        self.url = server if isinstance(server, str) else server.url.replace("http", "ws", 1)
        self.headers = (("Authorization", f"Bearer {key}"),)
        self.done = self.reusable = False
        self.audio: list[bytes] = []

    def open(self) -> Sequence[str]:
        return ("ask",)

    def receive(self, frame: str | bytes) -> Sequence[str | bytes]:
        if isinstance(frame, bytes):
            self.audio.append(frame)
        elif frame == "end":
            self.done = self.reusable = True
        elif frame == "fail":
            self.done = True
            raise BadRequestError("it failed")
        elif frame == "more?":
            return ("more",)
        return ()

    def take(self) -> bytes:
        audio, self.audio = self.audio, []
        return b"".join(audio)

    listens = False

    def pending(self) -> Sequence[str]:
        return ()

    def cancel(self) -> Sequence[str]:
        return ("stop",) if not self.done else ()

    def refuse(self, reply: Reply) -> CosyError:
        return server_error(reply.status, bytes(reply.body).decode())

    def closed(self, code: int, reason: str) -> CosyError | None:
        return BadRequestError(f"{code} {reason}") if code == 1007 else None


def frame(kind: int, data: bytes, fin: bool = True) -> bytes:
    """Write a server's frame, by hand (RFC 6455, 5.2)."""
    head = bytes([kind | (0x80 if fin else 0)])
    size = len(data)
    if size < 126:
        return head + bytes([size]) + data
    if size < 65_536:
        return head + b"\x7e" + struct.pack(">H", size) + data
    return head + b"\x7f" + struct.pack(">Q", size) + data


def text(said: str) -> bytes:
    return frame(TEXT, said.encode())


def audio(data: bytes) -> bytes:
    return frame(BINARY, data)


def goodbye(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack(">H", code) + reason.encode())


def greet(peer: Peer) -> None:
    peer.read()
    head = peer.requests[-1].decode()
    lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    names = {name.lower(): value for name, value in lines.items()}
    guid = names["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(guid.encode()).digest()).decode()
    peer.sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )


def hear(peer: Peer) -> tuple[int, bytes]:
    """Read one frame of the client and remember it; it must be masked."""

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = peer.sock.recv(count - len(data))
            if not piece:
                raise ConnectionError("the client left")
            data += piece
        return data

    first, second = exactly(2)
    assert second & 0x80
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", exactly(2))
    mask = exactly(4)
    data = bytes(b ^ mask[i % 4] for i, b in enumerate(exactly(size)))
    peer.requests.append(bytes([first & 15]) + data)
    return first & 15, data


def asked(peer: Peer) -> None:
    assert hear(peer) == (TEXT, b"ask")


TASK: tuple[Step, ...] = (asked, text("begun"), audio(b"ab"), audio(b"cd"), text("end"))

Make = Callable[..., "WebSocketTransport"]


@pytest.fixture
def make() -> Iterator[Make]:
    from cosy_sync.net.websocket import WebSocketTransport

    made: list[WebSocketTransport] = []

    def build(connect: float = 10, **pool: Any) -> WebSocketTransport:
        times = TimeoutConfig(connect=connect)
        carrier = WebSocketTransport(ClientConfig(pool=PoolConfig(**pool), timeouts=times))
        made.append(carrier)
        return carrier

    yield build
    for carrier in made:
        carrier.close()


@pytest.fixture
def carrier(make: Make) -> WebSocketTransport:
    return make()


def limits(
    seconds: float = 15.0,
    first: float = 15.0,
    idle: float = 15.0,
    most: int = MANY,
    make_room: Callable[[int], None] = no_room_needed,
) -> ExchangeLimits:
    return ExchangeLimits(first, idle, time.monotonic() + seconds, most, make_room)


class TestOneTask:
    def test_its_audio_comes_whole(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, *TASK, HOLD]) as server:
            reply = carrier.post(Ask(server), limits())
        assert (reply.status, reply.body, reply.received) == (200, b"abcd", 4)
        assert reply.connect > 0 and reply.first_byte > 0
        head = server.requests[0][0].decode()
        assert head.startswith("GET /batch HTTP/1.1\r\n")
        assert "Authorization: Bearer secret\r\n" in head
        assert "permessage-deflate" not in head
        assert head.count("\r\nUser-Agent: cosy-sync/") == head.lower().count("user-agent:") == 1

    @pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 300_000])
    def test_frames_of_any_size(self, carrier: WebSocketTransport, size: int) -> None:
        data = os.urandom(size)
        with Scripted([greet, asked, audio(data), text("end"), HOLD]) as server:
            assert carrier.post(Ask(server), limits()).body == data

    def test_byte_by_byte_and_in_fragments_with_a_ping_between(
        self, carrier: WebSocketTransport
    ) -> None:
        answer = (
            frame(BINARY, b"ab", fin=False)
            + frame(PING, b"there?")
            + frame(0, b"c", fin=False)
            + frame(0, b"d")
            + frame(TEXT, b"e", fin=False)
            + frame(0, b"nd")
        )
        with Scripted([greet, asked, lambda peer: peer.drip(answer), hear, HOLD]) as server:
            assert carrier.post(Ask(server), limits()).body == b"abcd"
            assert eventually(lambda: bytes([PONG]) + b"there?" in server.requests[0])

    def test_what_the_conversation_answers_is_sent(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, asked, text("more?"), hear, text("end"), HOLD]) as server:
            carrier.post(Ask(server), limits())
        assert server.requests[0][-1] == bytes([TEXT]) + b"more"

    def test_room_is_made_once_and_before_the_first_audio(
        self, carrier: WebSocketTransport
    ) -> None:
        sizes: list[int] = []
        with Scripted([greet, *TASK, HOLD]) as server:
            carrier.post(Ask(server), limits(make_room=sizes.append))
        assert sizes == [0]

    def test_over_tls(self, make: Make) -> None:
        authority = Authority()
        with Scripted([greet, *TASK, *TASK, HOLD], context=authority.server()) as server:
            url = f"wss://localhost:{server.port}/x"
            carrier = make(ssl_context=authority.client)
            assert carrier.post(Ask(url), limits()).body == b"abcd"
            assert carrier.post(Ask(url), limits()).body == b"abcd"
            assert len(server.peers) == 1

    def test_a_strange_certificate_is_refused(self, make: Make) -> None:
        with (
            Scripted([greet], context=Authority().server()) as server,
            pytest.raises(ConnectError, match="certificate"),
        ):
            make().post(Ask(f"wss://localhost:{server.port}/x"), limits())


class TestReuse:
    def test_tasks_follow_each_other_on_one_socket(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, *TASK * 5, HOLD]) as server:
            replies = [carrier.post(Ask(server), limits()) for _ in range(5)]
            assert [reply.body for reply in replies] == [b"abcd"] * 5
            assert [reply.connect > 0 for reply in replies] == [True] + [False] * 4
            assert (len(server.peers), carrier.connections()) == (1, (1, 1))

    def test_two_at_once_take_two(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, asked, text("begun"), HOLD]) as server:
            talks = [carrier.open(Ask(server), limits()) for _ in range(2)]
            assert (len(server.peers), carrier.connections()) == (2, (2, 0))
            for talk in talks:
                talk.close()

    def test_another_key_takes_another_socket(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, *TASK, HOLD]) as server:
            carrier.post(Ask(server, "one"), limits())
            carrier.post(Ask(server, "two"), limits())
            assert len(server.peers) == 2

    def test_after_a_failure_it_is_closed_with_a_goodbye(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, asked, text("fail"), hear, HOLD]) as server:
            with pytest.raises(BadRequestError, match="it failed"):
                carrier.post(Ask(server), limits())
            assert carrier.connections() == (0, 0)
            goodbye_1000 = bytes([CLOSE]) + struct.pack(">H", 1000)
            assert eventually(lambda: goodbye_1000 in server.requests[0])

    def test_one_that_the_server_closed_while_idle_is_replaced(
        self, carrier: WebSocketTransport
    ) -> None:
        with Scripted([greet, *TASK, goodbye(1000)], [greet, *TASK, HOLD]) as server:
            carrier.post(Ask(server), limits())
            time.sleep(0.05)
            assert carrier.post(Ask(server), limits()).body == b"abcd"

    @pytest.mark.parametrize("end", [(goodbye(1000, "idle"),), (RESET,), ()])
    def test_one_that_dies_as_the_task_is_sent_is_replaced_once(
        self,
        carrier: WebSocketTransport,
        end: tuple[Step, ...],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("cosy_sync.net.websocket_task.UNREAD_WITHIN", 10.0)
        with Scripted([greet, *TASK, hear, *end], [greet, *TASK, HOLD]) as server:
            carrier.post(Ask(server), limits())
            assert carrier.post(Ask(server), limits()).body == b"abcd"
            assert len(server.peers) == 2

    def test_before_the_second_sending_it_asks_and_a_refusal_ends_the_task(
        self, carrier: WebSocketTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cosy_sync.net.websocket_task.UNREAD_WITHIN", 10.0)

        def refuse(lost: CosyError) -> None:
            assert isinstance(lost, CutError)
            raise ClosedError("no")

        with Scripted([greet, *TASK, hear], [greet, *TASK, HOLD]) as server:
            carrier.post(Ask(server), limits())
            asking = limits()
            asking.again = refuse
            with pytest.raises(ClosedError):
                carrier.post(Ask(server), asking)
            assert len(server.peers) == 1

    def test_one_that_dies_later_may_have_taken_the_task_up(
        self, carrier: WebSocketTransport
    ) -> None:
        with Scripted([greet, *TASK, hear, 0.1], [greet, *TASK, HOLD]) as server:
            carrier.post(Ask(server), limits())
            with pytest.raises(CutError):
                carrier.post(Ask(server), limits())
            assert len(server.peers) == 1

    def test_a_fresh_one_that_dies_is_an_error(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, hear]) as server:
            with pytest.raises(CutError):
                carrier.post(Ask(server), limits())
            assert len(server.peers) == 1

    def test_one_that_answered_and_died_is_an_error(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, *TASK, hear, text("begun")]) as server:
            carrier.post(Ask(server), limits())
            with pytest.raises(CutError):
                carrier.post(Ask(server), limits())
            assert len(server.peers) == 1

    def test_pings_while_idle_are_answered_and_do_no_harm(
        self, carrier: WebSocketTransport
    ) -> None:
        with Scripted([greet, *TASK, frame(PING, b"x"), hear, *TASK, HOLD]) as server:
            carrier.post(Ask(server), limits())
            time.sleep(0.05)
            assert carrier.post(Ask(server), limits()).body == b"abcd"
            assert len(server.peers) == 1

    @pytest.mark.parametrize("late", [text("end"), audio(b"zz")])
    @pytest.mark.parametrize("pause", [0.0, 0.05])
    def test_rubbish_behind_a_task_is_never_the_next_ones(
        self, carrier: WebSocketTransport, late: bytes, pause: float
    ) -> None:
        # In the same packet as the end, or after it.
        first = [asked, audio(b"ab"), text("end") + late] if not pause else [*TASK, pause, late]
        with Scripted([greet, *first, HOLD], [greet, *TASK, HOLD]) as server:
            carrier.post(Ask(server), limits())
            time.sleep(2 * pause)
            assert carrier.post(Ask(server), limits()).body == b"abcd"
            assert len(server.peers) == 2

    def test_an_old_one_is_not_used(self, make: Make) -> None:
        with Scripted([greet, *TASK, HOLD]) as server:
            carrier = make(idle_expiry=0.05)
            carrier.post(Ask(server), limits())
            time.sleep(0.06)
            carrier.post(Ask(server), limits())
            assert len(server.peers) == 2


class TestCancelling:
    def test_the_directive_goes_out_and_the_socket_takes_the_next_task(
        self, carrier: WebSocketTransport
    ) -> None:
        steps = [greet, asked, text("begun"), audio(b"ab"), hear, audio(b"cd"), text("end")]
        with Scripted([*steps, *TASK, HOLD]) as server:
            talk = carrier.open(Ask(server), limits())
            assert talk.read() == b"ab"
            talk.close()
            talk.close()
            assert server.requests[0][-1] != b"never"
            assert eventually(lambda: bytes([TEXT]) + b"stop" in server.requests[0])
            time.sleep(0.05)
            assert carrier.post(Ask(server), limits()).body == b"abcd"
            assert len(server.peers) == 1

    def test_until_its_end_was_heard_it_takes_nothing(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, asked, audio(b"ab"), hear, HOLD], [greet, *TASK, HOLD]) as server:
            talk = carrier.open(Ask(server), limits())
            talk.close()
            assert carrier.post(Ask(server), limits()).body == b"abcd"
            assert len(server.peers) == 2

    def test_a_task_that_failed_instead_gives_no_socket(self, carrier: WebSocketTransport) -> None:
        steps = [greet, asked, audio(b"ab"), hear, text("fail"), HOLD]
        with Scripted(steps, [greet, *TASK, HOLD]) as server:
            carrier.open(Ask(server), limits()).close()
            time.sleep(0.05)
            assert carrier.post(Ask(server), limits()).body == b"abcd"
            assert len(server.peers) == 2


class TestTime:
    def test_a_service_that_does_not_begin(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, asked, HOLD]) as server:
            with pytest.raises(ReplyTimeout, match="did not begin") as caught:
                carrier.post(Ask(server), limits(first=0.1))
            assert caught.value.phase == "first byte"
            assert carrier.connections() == (0, 0)

    def test_a_service_that_begins_and_sends_no_audio(self, carrier: WebSocketTransport) -> None:
        # Events alone do not keep it alive.
        chatter = [step for _ in range(20) for step in (text("well..."), 0.03)]
        with (
            Scripted([greet, asked, *chatter, HOLD]) as server,
            pytest.raises(ReplyTimeout, match="no audio"),
        ):
            carrier.post(Ask(server), limits(first=0.2))

    def test_a_service_that_stops_in_the_middle(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, asked, audio(b"ab"), HOLD]) as server:
            with pytest.raises(ReplyTimeout, match="no further audio") as caught:
                carrier.post(Ask(server), limits(idle=0.1))
            assert caught.value.phase == "idle"

    def test_a_service_that_dribbles_does_not_outlive_the_deadline(
        self, carrier: WebSocketTransport
    ) -> None:
        drops = [step for _ in range(200) for step in (audio(b"ab"), 0.02)]
        with Scripted([greet, asked, *drops, HOLD]) as server, pytest.raises(ReplyTimeout):
            carrier.post(Ask(server), limits(seconds=0.3))

    @pytest.mark.parametrize("begun", [(), (text("begun"),)])
    @pytest.mark.parametrize("size", [0, 100, 125])
    def test_a_flood_of_pings_does_not_outlive_the_deadline(
        self, carrier: WebSocketTransport, begun: tuple[Step, ...], size: int
    ) -> None:
        def flood(peer: Peer) -> None:
            while True:  # until the client leaves
                peer.sock.sendall(frame(PING, b"x" * size) * 1_000)

        with Scripted([greet, asked, *begun, flood]) as server, pytest.raises(ReplyTimeout):
            carrier.post(Ask(server), limits(seconds=0.3))

    def test_a_service_that_reads_late_gets_the_answer_to_its_latest_ping(
        self, carrier: WebSocketTransport
    ) -> None:
        pings = [b"%07d" % number + b"x" * 115 for number in range(100_000)]
        heard: list[bytes] = []

        def flood(peer: Peer) -> None:
            peer.sock.sendall(b"".join([frame(PING, data) for data in pings]))
            while not heard or heard[-1] != pings[-1]:
                opcode, data = hear(peer)
                assert opcode == PONG
                heard.append(data)

        with Scripted([greet, asked, flood, audio(b"ab"), text("end"), HOLD]) as server:
            assert carrier.post(Ask(server), limits(seconds=60, first=60)).body == b"ab"
        assert heard == sorted(heard) and len(heard) < len(pings)

    def test_a_handshake_that_nobody_answers(self, make: Make) -> None:
        with Scripted([HOLD]) as server, pytest.raises(ConnectError, match="took too long"):
            make(connect=0.1).post(Ask(server), limits())


class TestHandshake:
    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            ("401 Unauthorized", AuthError),
            ("403 Forbidden", AuthError),
            ("429 Too Many Requests", ThrottledError),
            ("500 Internal Server Error", UnavailableError),
            ("503 Service Unavailable", UnavailableError),
            ("400 Bad Request", BadRequestError),
        ],
    )
    def test_a_refusal_is_what_the_conversation_makes_of_it(
        self, carrier: WebSocketTransport, status: str, expected: type[CosyError]
    ) -> None:
        answer = f"HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nwhy!".encode()
        with Scripted([Peer.read, answer, HOLD]) as server:
            with pytest.raises(expected, match="why!"):
                carrier.post(Ask(server), limits())
            assert carrier.connections() == (0, 0)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2;x=y\r\nwh\r\n2\r\ny!\r\n0\r\nTrailer: x\r\n\r\n",
            b"HTTP/1.0 401 Unauthorized\r\n\r\nwhy!",
            b"HTTP/1.1 401\r\nContent-Length: 4\r\n\r\nwhy!",
            b"HTTP/1.1 401 Unauthorized\r\nX: \xff\r\nX: y\r\nContent-Length: 4\r\n\r\nwhy!",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nwhy!",
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nwhy!",
            b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwhy!\r\n",
            b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwhy!\r\nzz\r\n",
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 99999999\r\n\r\n" + b"why!" * 100_000,
        ],
        ids=[
            *("chunked", "HTTP/1.0", "no phrase", "odd headers", "interim"),
            *("cut", "cut chunks", "bad chunks", "too large"),
        ],
    )
    @pytest.mark.parametrize("drip", [False, True])
    def test_a_refusal_counts_however_it_is_written(
        self, carrier: WebSocketTransport, answer: bytes, drip: bool
    ) -> None:
        if drip and len(answer) > 1_000:
            pytest.skip("as many bytes would take long")
        say: Step = (lambda peer: peer.drip(answer)) if drip else answer
        with Scripted([Peer.read, say]) as server:
            with pytest.raises(AuthError, match="why!"):
                carrier.post(Ask(server), limits())
            assert carrier.connections() == (0, 0)

    @pytest.mark.parametrize("end", [HOLD, RESET])
    @pytest.mark.parametrize("length", ["", "Content-Length: 9\r\n"])
    def test_a_refusal_whose_body_does_not_end_counts_all_the_same(
        self, make: Make, end: str, length: str
    ) -> None:
        answer = f"HTTP/1.1 429 Too Many Requests\r\n{length}\r\nwhy!".encode()
        with Scripted([Peer.read, answer, 0.2, end]) as server, pytest.raises(ThrottledError):
            make(connect=0.5).post(Ask(server), limits())

    def test_an_interim_answer_is_passed_over(self, carrier: WebSocketTransport) -> None:
        def greet_twice(peer: Peer) -> None:
            peer.sock.sendall(INTERIM)
            greet(peer)

        with Scripted([greet_twice, *TASK, HOLD]) as server:
            assert carrier.post(Ask(server), limits()).body == b"abcd"

    @pytest.mark.parametrize("seconds", [0.0005, 0.02])
    def test_a_slow_handshake_may_take_the_time_to_connect_and_no_more(
        self, make: Make, seconds: float
    ) -> None:
        def dribble(peer: Peer) -> None:
            peer.read()
            peer.drip(b"HTTP/1.1 101 Switching\r\nX: " + b"y" * 60_000, seconds)

        with Scripted([dribble]) as server, pytest.raises(ConnectError, match="took too long"):
            make(connect=0.2).post(Ask(server), limits())

    @pytest.mark.parametrize("end", [RESET, FINISH])
    def test_a_handshake_that_is_cut_in_the_middle(
        self, carrier: WebSocketTransport, end: str
    ) -> None:
        with Scripted([Peer.read, b"HTTP/1.1 101 Switching\r\nUpgr", 0.05, end]) as server:
            with pytest.raises(ConnectError) as caught:
                carrier.post(Ask(server), limits())
            assert (caught.value.phase, caught.value.retryable) == ("handshake", True)
            assert carrier.connections() == (0, 0)

    def test_a_redirect_says_where_to(self, carrier: WebSocketTransport) -> None:
        answer = b"HTTP/1.1 302 Found\r\nLocation: wss://b.example/ws\r\nContent-Length: 0\r\n\r\n"
        with Scripted([Peer.read, answer, HOLD]) as server:
            with pytest.raises(ServerError) as caught:
                carrier.post(Ask(server), limits())
            assert (caught.value.status, caught.value.retryable) == (302, False)

    def test_a_page_in_place_of_the_answer(self, carrier: WebSocketTransport) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        with Scripted([Peer.read, answer, HOLD]) as server:
            with pytest.raises(ConnectError, match=r"HTTP 200.*check the URL") as caught:
                carrier.post(Ask(server), limits())
            assert not caught.value.retryable

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH\r\n",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"\x00\x15\x03\x01\x00\x02" * 20_000,
            b"HTTP/1.1 000 OK\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000,
            b"HTTP/1.0 101 Switching\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: wrong\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\n\r\n",
        ],
        ids=[
            *("SSH", "SSH and lines", "TLS", "no status", "interim for ever", "HTTP/1.0"),
            *("wrong accept", "no accept"),
        ],
    )
    def test_something_else_that_answers(self, carrier: WebSocketTransport, answer: bytes) -> None:
        with (
            Scripted([Peer.read, answer, FINISH]) as server,
            pytest.raises(ConnectError, match="check the URL"),
        ):
            carrier.post(Ask(server), limits())

    def test_a_server_that_hangs_up(self, carrier: WebSocketTransport) -> None:
        with Scripted([Peer.read]) as server, pytest.raises(ConnectError, match="hung up"):
            carrier.post(Ask(server), limits())

    def test_ws_through_a_proxy_is_refused_clearly(
        self, carrier: WebSocketTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        with pytest.raises(ConfigError, match="NO_PROXY"):
            carrier.post(Ask("ws://tts.example.com/x"), limits())

    def test_wss_goes_through_a_tunnel(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        authority = Authority()

        def tunnel(peer: Peer) -> None:
            peer.read()
            peer.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            peer.sock = authority.server().wrap_socket(peer.sock, server_side=True)

        with Scripted([tunnel, greet, *TASK, HOLD]) as server:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
            monkeypatch.setenv("NO_PROXY", "")
            carrier = make(ssl_context=authority.client)
            assert carrier.post(Ask("wss://localhost:9/x"), limits()).body == b"abcd"
        assert server.requests[0][0].startswith(b"CONNECT localhost:9 HTTP/1.1\r\n")
        assert b"secret" not in server.requests[0][0]


class TestTrouble:
    def test_a_cut_carries_what_came(self, carrier: WebSocketTransport) -> None:
        with (
            Scripted([greet, asked, audio(b"ab"), audio(b"cd")]) as server,
            pytest.raises(CutError) as caught,
        ):
            carrier.post(Ask(server), limits())
        assert caught.value.partial == b"abcd"

    def test_audio_that_came_before_a_failure_is_heard_first(
        self, carrier: WebSocketTransport
    ) -> None:
        with Scripted([greet, asked, audio(b"ab") + text("fail"), HOLD]) as server:
            talk = carrier.open(Ask(server), limits())
            assert talk.read() == b"ab"
            with pytest.raises(BadRequestError):
                talk.read()
            talk.close()

    @pytest.mark.parametrize(
        ("code", "expected"), [(1007, BadRequestError), (1000, CutError), (1011, CutError)]
    )
    def test_a_goodbye_before_the_end(
        self, carrier: WebSocketTransport, code: int, expected: type[CosyError]
    ) -> None:
        with (
            Scripted([greet, asked, audio(b"ab"), goodbye(code, "bye"), HOLD]) as server,
            pytest.raises(expected, match=str(code)),
        ):
            carrier.post(Ask(server), limits())

    def test_more_audio_than_is_believable(self, carrier: WebSocketTransport) -> None:
        with (
            Scripted([greet, asked, audio(b"ab"), audio(b"cd"), HOLD]) as server,
            pytest.raises(BadAudioError) as caught,
        ):
            carrier.post(Ask(server), limits(most=3))
        assert caught.value.reason == "too_large"

    def test_a_frame_that_announces_too_much_is_not_gathered(
        self, carrier: WebSocketTransport
    ) -> None:
        huge = bytes([BINARY | 0x80, 127]) + struct.pack(">Q", 1 << 40)
        with Scripted([greet, asked, huge, HOLD]) as server, pytest.raises(BadAudioError) as caught:
            carrier.post(Ask(server), limits(most=1_000))
        assert caught.value.reason == "too_large"

    @pytest.mark.parametrize(
        "rubbish", [b"HTTP/1.1 200 OK\r\n\r\n", b"\x83\x00", bytes([TEXT | 0x80, 0x81, 0, 0, 0, 0])]
    )
    def test_what_is_no_websocket_frame(self, carrier: WebSocketTransport, rubbish: bytes) -> None:
        with Scripted([greet, asked, rubbish, HOLD]) as server:
            with pytest.raises(TransportError):
                carrier.post(Ask(server), limits(first=1.0, idle=1.0))
            assert carrier.connections() == (0, 0)

    def test_text_that_is_no_utf8(self, carrier: WebSocketTransport) -> None:
        with (
            Scripted([greet, asked, frame(TEXT, b"\xff\xfe"), HOLD]) as server,
            pytest.raises(TransportError, match="UTF-8"),
        ):
            carrier.post(Ask(server), limits())

    def test_a_conversation_whose_room_never_comes_is_left(
        self, carrier: WebSocketTransport
    ) -> None:
        def refuse(_size: int) -> None:
            raise ClosedError("no room")

        with Scripted([greet, *TASK, HOLD]) as server, pytest.raises(ClosedError):
            carrier.post(Ask(server), limits(make_room=refuse))


class TestTheEnd:
    @pytest.mark.parametrize(
        ("steps", "heard"),
        [((greet, asked, text("begun"), HOLD), 2), ((Peer.read, HOLD), 1)],
        ids=["in a task", "in the handshake"],
    )
    def test_cut_wakes_who_waits(
        self, carrier: WebSocketTransport, steps: tuple[Step, ...], heard: int
    ) -> None:
        with Scripted(steps) as server:
            errors: list[BaseException] = []

            def wait() -> None:
                try:
                    carrier.post(Ask(server), limits())
                except CosyError as error:
                    errors.append(error)

            thread = threading.Thread(target=wait)
            thread.start()
            assert eventually(lambda: [len(said) for said in server.requests] == [heard])
            carrier.cut()
            thread.join(10)
            assert not thread.is_alive()
            assert [type(error) for error in errors] == [ClosedError]
            with pytest.raises(ClosedError):
                carrier.post(Ask(server), limits())

    def test_close_says_goodbye_to_idle_sockets(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, *TASK, hear, HOLD]) as server:
            carrier.post(Ask(server), limits())
            carrier.close()
            assert carrier.connections() == (0, 0)
            assert eventually(lambda: server.requests[0][-1][0] == CLOSE)

    def test_a_forked_child_says_nothing_on_its_parents_sockets(
        self, carrier: WebSocketTransport
    ) -> None:
        with Scripted([greet, *TASK, *TASK, HOLD]) as server:
            carrier.post(Ask(server), limits())
            child = os.fork()
            if child == 0:
                carrier.abandon()
                os._exit(0 if carrier.connections() == (0, 0) else 1)
            assert os.waitpid(child, 0)[1] == 0
            # Any word of the child would stand where the parent's next task is expected.
            assert carrier.post(Ask(server), limits()).body == b"abcd"
            assert len(server.peers) == 1


class Told(Ask):
    """Asks, and says what it is told meanwhile, until `last` is said."""

    def __init__(self, server: Scripted | str) -> None:
        super().__init__(server)
        self.listens = True
        self.told: list[str] = []

    def pending(self) -> Sequence[str]:
        told, self.told = self.told, []
        self.listens = self.listens and "last" not in told
        return told


class TestDuplex:
    def test_words_go_out_while_audio_comes_in(self, carrier: WebSocketTransport) -> None:
        steps = [greet, asked, text("begun"), audio(b"ab"), hear, audio(b"cd"), text("end"), HOLD]
        with Scripted(steps) as server:
            ask = Told(server)
            talk = carrier.open(ask, limits())
            assert talk.read() == b"ab"
            ask.told = ["a further text"]
            assert talk.read() == b"cd"
            ask.told = ["last"]
            assert talk.read() == b""
            talk.close()
            assert carrier.connections() == (1, 1)
        assert server.requests[0][-1] == bytes([TEXT]) + b"a further text"

    def test_while_the_caller_is_silent_only_the_deadline_counts(
        self, carrier: WebSocketTransport
    ) -> None:
        with Scripted([greet, asked, text("begun"), HOLD]) as server:
            talk = carrier.open(Told(server), limits(seconds=0.5, first=0.05))
            started = time.monotonic()
            with pytest.raises(ReplyTimeout):
                talk.read()
            assert time.monotonic() - started > 0.3
            talk.close()

    def test_once_all_is_said_the_time_outs_count_again(self, carrier: WebSocketTransport) -> None:
        with Scripted([greet, asked, text("begun"), HOLD]) as server:
            ask = Told(server)
            ask.told = ["last"]
            talk = carrier.open(ask, limits(seconds=60, first=0.05))
            with pytest.raises(ReplyTimeout):
                talk.read()
            talk.close()


def test_ways_with_headers_of_their_own_are_not_remembered_for_ever(
    carrier: WebSocketTransport,
) -> None:
    for number in range(1_000):
        carrier._route(Ask("ws://127.0.0.1:9/", key=f"key-{number}"))
        assert len(carrier._routes) <= 256
