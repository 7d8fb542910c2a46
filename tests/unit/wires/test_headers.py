"""Headers that a wire says in each request, and those of the user among them."""

from __future__ import annotations

from typing import Any

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.wires import SpeechOptions

FIXED = {"Accept": "*/*", "Content-Type": "application/json"}
OURS = frozenset({"content-type", "host"})


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({}, ()),
        ({"api_key": "k"}, (("Authorization", "Bearer k"),)),
        ({"api_key": "k", "headers": {"AUTHORIZATION": "x"}}, (("AUTHORIZATION", "x"),)),
        ({"headers": {"content-TYPE": "x", "Host": "x", "X-A": "b"}}, (("X-A", "b"),)),
    ],
)
def test_the_users_headers_replace_all_but_ours(settings: dict[str, Any], more: object) -> None:
    options = SpeechOptions.from_config(ClientConfig(**settings))
    assert options.headers_with(FIXED, OURS) == (*FIXED.items(), *more)  # type: ignore[misc]


def test_a_header_of_the_wires_that_the_user_gives_is_said_once() -> None:
    options = SpeechOptions.from_config(ClientConfig(headers={"accept": "audio/wav"}))
    assert options.headers_with(FIXED, OURS) == (
        ("Content-Type", "application/json"),
        ("accept", "audio/wav"),
    )
