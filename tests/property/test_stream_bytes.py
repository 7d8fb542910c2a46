"""However the bytes of a stream are cut up on their way, its listener hears the same sound."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import RATE, URL, PlayNet, install, play_net, tone
from test_transport_bytes import LIMIT, REQUEST, ROUTE, replies

from cosy_sync import BreakerConfig, CosyClient, CutError, OverloadConfig
from cosy_sync.net.connection import Connection
from cosy_sync.net.exchange import Exchange
from cosy_sync.net.exchange_limits import ExchangeLimits
from cosy_sync.testing import FakeClock

TEXT = "今天天气很好"
SOUND = tone(TEXT)


@st.composite
def splits(draw: st.DrawFn, size: int) -> list[int]:
    return sorted(draw(st.lists(st.integers(0, size), max_size=12, unique=True)))


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[CosyClient, PlayNet]]:
    with pytest.MonkeyPatch.context() as patch:
        clock = FakeClock()
        install(patch)
        net = play_net(patch, clock)
        calm = {
            "breaker": BreakerConfig(min_calls=10**6),
            "overload": OverloadConfig(throttle_cap=0),
        }
        with CosyClient(URL, wire="drip", clock=clock, serial=True, **calm) as client:
            yield client, net


@settings(deadline=None, max_examples=150)
@given(splits(len(SOUND)), st.booleans())
def test_any_split_gives_the_same_whole_samples(stage, at: list[int], cut: bool) -> None:
    client, net = stage
    marks = [0, *at, len(SOUND)]
    parts = [SOUND[a:b] for a, b in itertools.pairwise(marks) if a < b]
    net.script(*parts, *([CutError("cut")] if cut else []))
    heard = []
    with client.stream(TEXT) as stream:
        if cut:
            with pytest.raises(CutError) as caught:
                heard.extend(stream)
            assert caught.value.partial == SOUND
        else:
            heard.extend(stream)
        assert stream.sample_rate == RATE
    assert cut or b"".join(heard) == SOUND
    assert all(chunk and len(chunk) % 2 == 0 for chunk in heard)


@settings(deadline=None, max_examples=200)
@given(replies(), st.data())
def test_a_body_read_as_it_comes_is_the_body_read_whole(
    reply: tuple[bytes, bytes], data: st.DataObject
) -> None:
    wire, body = reply
    at = data.draw(st.integers(0, len(wire)))
    near, far = socket.socketpair()
    with contextlib.closing(near), contextlib.closing(far):
        near.setblocking(False)
        connection = Connection(ROUTE, near)
        limits = ExchangeLimits(5.0, 5.0, time.monotonic() + 5.0, LIMIT)
        exchange = Exchange(connection, REQUEST, limits, time.monotonic())
        far.sendall(wire[:at])
        later = threading.Timer(0.001, far.sendall, (wire[at:],))
        later.start()
        exchange.begin(False)
        got = b"".join(iter(exchange.next, b""))
        later.join()
        assert got == body and exchange.next() == b""
        assert exchange.reusable and connection.is_quiet()
        exchange.end()
