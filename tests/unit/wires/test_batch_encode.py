"""What the batch wire writes."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from cosy_sync.config import BatchConfig, ClientConfig
from cosy_sync.errors import InvalidTextError
from cosy_sync.wires import BatchWire, SpeechOptions

URL = "https://tts.example.com/batch?key=1"


def wire(**settings: Any) -> BatchWire:
    return BatchWire(URL, SpeechOptions.from_config(ClientConfig(**settings)))


def test_a_whole_request_is_written() -> None:
    request = wire(voice="中文女", model="cosyvoice-v2", api_key="KEY").encode(
        ["你好", "再见"], "r1"
    )
    assert request.url == URL
    assert (
        request.body
        == (
            '{"texts":["你好","再见"],"voice":"中文女","model":"cosyvoice-v2",'
            '"format":"wav","sample_rate":24000,"speed":1.0}'
        ).encode()
    )
    assert request.headers == (
        ("Accept", "multipart/mixed, application/json;q=0.9"),
        ("Accept-Encoding", "gzip"),
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer KEY"),
        ("X-Request-Id", "r1"),
    )


def test_what_is_not_set_is_left_to_the_service() -> None:
    request = wire().encode(["a"], "r1")
    assert set(json.loads(request.body)) == {"texts", "format", "sample_rate", "speed"}
    assert "Authorization" not in dict(request.headers)


def test_compressed_replies_can_be_declined() -> None:
    request = wire(batch=BatchConfig(gzip_replies=False)).encode(["a"], "r1")
    assert dict(request.headers)["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(("above", "packed"), [(0, False), (100_000, False), (10, True)])
def test_large_bodies_are_compressed_when_configured(above: int, packed: bool) -> None:
    request = wire(batch=BatchConfig(gzip_above=above)).encode(["你好"] * 64, "r1")
    assert (dict(request.headers).get("Content-Encoding") == "gzip") == packed
    body = gzip.decompress(request.body) if packed else request.body
    assert json.loads(body)["texts"] == ["你好"] * 64


def test_users_headers_go_first_except_where_they_would_contradict_the_transport() -> None:
    given = {
        "accept": "application/json",
        "X-Extra": "1",
        "HOST": "a",
        "content-length": "9",
        "Content-Encoding": "br",
        "X-Request-Id": "constant",
    }
    headers = wire(headers=given, api_key="k").encode(["a"], "r1").headers
    names = [name.lower() for name, _ in headers]
    assert len(names) == len(set(names))
    assert ("accept", "application/json") in headers
    assert ("X-Extra", "1") in headers
    assert ("X-Request-Id", "r1") in headers
    assert not {"host", "content-length", "content-encoding"} & set(names)


def test_half_a_character_is_refused_before_sending() -> None:
    with pytest.raises(InvalidTextError):
        wire().encode(["a", "\ud800"], "r1")


def test_neither_key_nor_query_is_shown() -> None:
    options = SpeechOptions.from_config(ClientConfig(api_key="KEY", headers={"X-Key": "KEY"}))
    assert "KEY" not in repr(options)
    assert repr(BatchWire(URL, options)) == "<BatchWire https://tts.example.com/batch>"
