"""Options are checked at once, and a complaint names the field and the fix."""

import gzip
import zlib
from typing import Any

import pytest

from cosy_sync.server import Outage, Server, ServerConfig, Shortage
from cosy_sync.server.compression import accepts_gzip, compress, gzip_bomb, inflate
from cosy_sync.server.errors import RequestError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "parrot"}, "engine is 'parrot': use one of tone, espeak"),
        ({"gzip": "yes"}, "gzip"),
        ({"reply_form": "xml"}, "reply_form"),
        ({"port": 70_000}, "port is 70000: use a number from 0 to 65535"),
        ({"latency": -1}, "latency"),
        ({"text_latency": -1}, "text_latency"),
        ({"workers": -1}, "workers"),
        ({"latency": float("nan")}, "latency"),
        ({"rate": -1}, "rate"),
        ({"speakers": 0}, "speakers"),
        ({"audio_bytes": 16_385}, "audio_bytes is 16385: use an even number"),
        ({"audio_bytes": 2}, "audio_bytes"),
        ({"overrun": "429"}, "overrun is '429': use one of auto, 502, 503"),
        ({"accept_delay": -1}, "accept_delay"),
        ({"shortages": [Shortage(start=0, seconds=1, share=0.5)], "rate": 0}, "shortages: without"),
        ({"faults": {"rest": 0.1}}, "did you mean 'reset'"),
        ({"faults": {"reset": 1.5}}, "faults['reset'] is 1.5"),
        ({"faults": {"reset": 0.6, "cut": 0.6}}, "more than 1"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        ServerConfig(**options)
    assert words in str(caught.value)


def test_the_key_is_not_shown() -> None:
    assert "sk-secret" not in repr(ServerConfig(api_key="sk-secret"))


def test_a_later_change_of_the_callers_dict_changes_nothing() -> None:
    faults = {"cut": 0.1}
    config = ServerConfig(faults=faults)
    faults["cut"] = 0.9
    assert dict(config.faults) == {"cut": 0.1}


def test_a_later_change_of_the_callers_list_changes_nothing() -> None:
    outages = [Outage(start=0, seconds=1)]
    config = ServerConfig(outages=outages)
    outages.clear()
    assert config.outages == (Outage(start=0, seconds=1),)


def test_a_server_that_was_not_started_has_no_address() -> None:
    server = Server()
    with pytest.raises(RuntimeError, match="start"):
        _ = server.url
    with pytest.raises(RuntimeError, match="start"):
        server.inject("cut")
    with pytest.raises(RuntimeError, match="start"):
        server.stats()
    server.close()


def test_a_configuration_and_single_options_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        Server(ServerConfig(), latency=0.0)


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("*", True),
        ("br", False),
    ],
)
def test_accept_encoding_is_read_with_its_weights(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


def test_a_body_is_inflated_up_to_the_cap() -> None:
    packed = compress([b"abc" * 100, memoryview(b"def")])
    assert gzip.decompress(packed) == inflate(packed, 303) == b"abc" * 100 + b"def"
    with pytest.raises(RequestError) as caught:
        inflate(packed, 302)
    assert caught.value.status == 413


@pytest.mark.parametrize("body", [b"", b"not gzip", compress([b"abc"])[:-9]])
def test_a_body_that_is_no_whole_gzip_is_a_400(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        inflate(body, 100)
    assert caught.value.status == 400


def test_the_bomb_is_small_and_inflates_to_more_than_a_gigabyte() -> None:
    bomb = gzip_bomb()
    assert len(bomb) < 1_500_000
    unpacker = zlib.decompressobj(31)
    size, rest = 0, bomb
    while rest:
        size += len(unpacker.decompress(rest, 1 << 24))
        rest = unpacker.unconsumed_tail
    size += len(unpacker.flush())
    # eof: zlib has compared the checksum and the length.
    assert unpacker.eof
    assert size > 1_000_000_000
