"""The wire `triton`: CosyVoice's models in a Triton server, over HTTP or gRPC as the URL says."""

from __future__ import annotations

from .base import SpeechOptions, Wire
from .triton_address import read_address
from .triton_grpc import TritonGrpcWire
from .triton_http import TritonHttpWire
from .triton_tensors import Tensors

__all__ = ["make_triton_wire"]


def make_triton_wire(endpoint_url: str, options: SpeechOptions) -> Wire:
    """Return the wire to one model. Raises ConfigError."""
    address = read_address(endpoint_url, options)
    tensors = Tensors(address.model, options)
    if address.is_grpc:
        return TritonGrpcWire(address, options, tensors)
    return TritonHttpWire(address, options, tensors)
