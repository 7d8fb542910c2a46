"""What client.stream promises, on every wire that can: the same sound, early ends, faults."""

from __future__ import annotations

import pytest
from lanes import eventually
from wires import Case, Connect, Serve

from cosy_sync import AuthError, CosyError, RetryConfig
from cosy_sync.wires.registry import streaming_wires

TEXT = "第一位乘客请到七号窗口，谢谢您的耐心等候。"


@pytest.fixture(autouse=True)
def only_where_it_streams(case: Case) -> None:
    if not case.capabilities.streaming:
        pytest.skip("sends whole replies only")


def test_a_stream_has_the_sound_of_the_whole_reply(case, serve, connect) -> None:
    client = connect(serve())
    for _ in range(3):
        with client.stream(TEXT) as stream:
            chunks = list(stream)
        assert b"".join(chunks) == case.right(TEXT)
        assert all(chunk and len(chunk) % 2 == 0 for chunk in chunks)
        assert 0 < stream.timing.first_audio <= stream.timing.total
    stats = client.stats()
    assert (stats.texts_ok, stats.streams, stats.in_flight) == (3, 3, 0)
    assert stats.connections_open == stats.connections_idle == 1


def test_leaving_early_gives_the_place_back(case: Case, serve: Serve, connect: Connect) -> None:
    client = connect(serve(), max_connections=1)
    for _ in range(3):
        with client.stream(TEXT) as stream:
            next(stream)
    assert client.stats().in_flight == 0
    assert client.stream(TEXT).audio().pcm() == case.right(TEXT)
    eventually(lambda: client.stats().connections_open == client.stats().connections_idle)


def test_faults_before_the_first_sound_are_repeated_and_later_ones_carry_it(
    case: Case, serve: Serve, connect: Connect
) -> None:
    faults = {"status-503": 0.2, "cut": 0.2, "reset-mid": 0.2}
    client = connect(serve(faults=faults), retry=RetryConfig(base=0.01, max_retries=9))
    right, whole = case.right(TEXT), 0
    for _ in range(25):
        try:
            with client.stream(TEXT) as stream:
                assert stream.audio().pcm() == right
            whole += 1
        except CosyError as error:
            assert right.startswith(error.partial)
    assert whole > 0 and client.stats().in_flight == 0


def test_a_wrong_key_is_raised_by_the_call_itself(case, serve, connect) -> None:
    client = connect(serve(api_key="right"), api_key="wrong")
    with pytest.raises(AuthError):
        client.stream(TEXT)


def test_it_is_among_those_that_the_refusal_of_others_names(case: Case) -> None:
    assert (case.wire or case.name) in streaming_wires()
