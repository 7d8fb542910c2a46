"""Wire protocols: one per file, pure encode and decode."""

from .base import Capabilities, SpeechOptions, Wire
from .batch import BatchWire
from .error_bodies import read_error
from .registry import capabilities_of, create_wire, known_wires, streaming_wires

__all__ = [
    "BatchWire",
    "Capabilities",
    "SpeechOptions",
    "Wire",
    "capabilities_of",
    "create_wire",
    "known_wires",
    "read_error",
    "streaming_wires",
]
