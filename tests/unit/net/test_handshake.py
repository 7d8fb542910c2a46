"""The answer to a WebSocket handshake: what is one, what is a refusal, whatever the pieces."""

import pytest

from cosy_sync.net.handshake import Handshake

REFUSED = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nwhy!"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def fed(*pieces: bytes) -> Handshake:
    greeting = Handshake()
    for piece in pieces:
        if not greeting.over:
            greeting.feed(piece)
    return greeting


@pytest.mark.parametrize("at", range(1, len(INTERIM + REFUSED)))
def test_a_refusal_is_the_same_wherever_it_is_split(at: int) -> None:
    said = INTERIM + REFUSED
    refusal = fed(said[:at], said[at:]).refusal
    assert refusal is not None
    assert (refusal.status, refusal.body) == (429, b"why!")
    assert refusal.headers["retry-after"] == "7"


@pytest.mark.parametrize("at", range(1, len(INTERIM + SWITCH)))
def test_a_switch_keeps_what_came_behind_it(at: int) -> None:
    said = INTERIM + SWITCH
    greeting = fed(said[:at], said[at:] + b"\x82\x01a")
    assert greeting.over and greeting.refusal is None
    assert greeting.switch == SWITCH + b"\x82\x01a"


def test_a_refusal_is_over_with_its_body() -> None:
    greeting = fed(REFUSED[:-1])
    assert not greeting.over
    greeting.feed(REFUSED[-1:])
    assert greeting.over


def test_of_a_refusal_only_so_much_is_kept() -> None:
    greeting = fed(b"HTTP/1.1 500 Oh\r\n\r\n", *[b"x" * 1_000] * 100)
    assert greeting.over and greeting.refusal is not None
    assert len(greeting.refusal.body) == 65_536


def test_a_head_without_an_end_is_given_up() -> None:
    greeting = fed(b"HTTP/1.1 401 No\r\nX: ", *[b"y" * 1_000] * 66)
    assert greeting.over and greeting.refusal is None and not greeting.switch


def test_trailers_do_not_change_what_the_refusal_is() -> None:
    head = b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
    refusal = fed(head + b"1\r\nx\r\n0\r\nRetry-After: 700\r\n\r\n").refusal
    assert refusal is not None and refusal.headers["retry-after"] == "7"


def test_nothing_heard_is_told_from_something_strange() -> None:
    assert not fed(b"").heard
    assert fed(b"S", b"").heard
