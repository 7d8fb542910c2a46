"""The wire `triton` over gRPC: messages of ModelStreamInfer, one request a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...wires.protobuf import read_fields, read_numbers, write_field, write_numbers
from ...wires.triton_tensors import OUTPUT
from ..errors import RequestError
from ..faults import DELIVERY_FAULTS
from ..reader import Request
from ..replies import Reply
from .triton_models import Asked, Given, Models, float_samples

if TYPE_CHECKING:
    from ..service import Service

__all__ = ["PATH", "TritonCalls"]

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"
# Of ModelInferRequest, and of a tensor in it.
_MODEL, _VERSION, _ID, _INPUTS, _WANTED, _RAW_INPUTS = 1, 2, 3, 5, 6, 7
_NAME, _DATATYPE, _SHAPE = 1, 2, 3
# Of ModelStreamInferResponse, and of ModelInferResponse.
_ERROR, _RESPONSE = 1, 2
_PARAMETERS, _OUTPUTS, _RAW = 4, 5, 6
_FINAL = b"triton_final_response"
# Bytes of the samples of a speech token, and the tokens of a chunk: of the first, of the second,
# each further one twice as many.
_TOKEN = 2 * 960
_FIRST, _NEXT = 15, 25


class TritonCalls:
    """Answers calls; used by the event loop alone."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._models = Models(service)

    async def speak(self, request: Request, address: str) -> Reply:
        """Return a reply whose pieces are the messages. Raises RequestError for a call that is
        not let in; what the model or Triton has against it is a message."""
        service = self._service
        fault = service.admit(request, address)

        async def speak() -> Reply:
            try:
                name, asked = _read(request.body)
            except ValueError:
                raise RequestError(500, "internal", "Exception deserializing request!") from None
            try:
                self._models.check(asked, streams=True)
                sound = await self._models.speak(asked, fault)
            except RequestError as error:
                return Reply(200, "", [_failure(error.message, name)])
            messages = [_message(name, chunk) for chunk in _chunks(sound)]
            messages.append(_message(name, None))
            return Reply(200, "", [*messages], fault=fault if fault in DELIVERY_FAULTS else "")

        return await service.perform(request, 1, fault, speak)


def _read(message: bytes) -> tuple[bytes, Asked]:
    """Return the request's id and what it asks for. Raises ValueError."""
    names = {_MODEL: b"", _VERSION: b"", _ID: b""}
    described, raw, outputs = [], [], []
    for number, value in read_fields(message):
        if number in names:
            names[number] = value
        elif number == _INPUTS:
            described.append(dict(read_fields(value)))
        elif number == _WANTED:
            outputs.append(dict(read_fields(value)).get(_NAME, b"").decode())
        elif number == _RAW_INPUTS:
            raw.append(value)
    inputs = {}
    for fields, data in zip(described, raw, strict=True):
        shape = tuple(read_numbers(fields.get(_SHAPE, b"")))
        datatype = fields.get(_DATATYPE, b"").decode()
        inputs[fields.get(_NAME, b"").decode()] = Given(datatype, shape, data)
    asked = Asked(names[_MODEL].decode(), names[_VERSION].decode(), inputs, outputs)
    return names[_ID], asked


def _chunks(sound: bytes) -> list[bytes]:
    chunks, start, size = [], 0, _FIRST * _TOKEN
    following = _NEXT * _TOKEN
    while start < len(sound):
        chunks.append(sound[start : start + size])
        start += size
        size, following = following, 2 * following
    return chunks


def _message(name: bytes, chunk: bytes | None) -> bytes:
    """Write one response: with a chunk of samples, or without any, which is the last."""
    final = b"\x08\x01" if chunk is None else b"\x08\x00"
    response = write_field(_ID, name) + write_field(
        _PARAMETERS, write_field(1, _FINAL) + write_field(2, final)
    )
    if chunk is not None:
        floats = float_samples(chunk)
        output = write_field(_NAME, OUTPUT.encode()) + write_field(_DATATYPE, b"FP32")
        output += write_numbers(_SHAPE, (1, len(floats) // 4))
        response += write_field(_OUTPUTS, output) + write_field(_RAW, floats)
    return write_field(_RESPONSE, response)


def _failure(sentence: str, name: bytes) -> bytes:
    return write_field(_ERROR, sentence.encode()) + write_field(_RESPONSE, write_field(_ID, name))
