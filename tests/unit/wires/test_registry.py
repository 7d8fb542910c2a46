"""Wires by name."""

from __future__ import annotations

import pytest

import cosy_sync.audio
import cosy_sync.wires
from cosy_sync.config import ClientConfig
from cosy_sync.errors import ConfigError
from cosy_sync.models import Voice
from cosy_sync.wires import SpeechOptions, create_wire, known_wires

OPTIONS = SpeechOptions.from_config(ClientConfig(voice="中文女"))
# Some services need to be told a model and a voice.
TOLD = SpeechOptions.from_config(ClientConfig(model="m", voice=Voice("v")))
URLS = {"dashscope_ws": "wss://tts/inference", "runtime_grpc": "grpc://tts:50000"}


def test_every_known_wire_can_be_built() -> None:
    for name in known_wires():
        wire = create_wire(name, URLS.get(name, "http://tts/batch"), TOLD)
        assert wire.name == name
        assert wire.capabilities.max_texts_per_call >= 1


def test_an_unknown_wire_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"wire: there is no 'btach'; known: .*batch"):
        create_wire("btach", "http://tts", OPTIONS)


@pytest.mark.parametrize("package", [cosy_sync.audio, cosy_sync.wires])
def test_public_names_are_sorted_and_there(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    assert all(hasattr(package, name) for name in names)
