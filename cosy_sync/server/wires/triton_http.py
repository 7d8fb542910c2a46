"""The wire `triton` over HTTP: /v2/models/NAME/infer, with tensors in JSON or as raw bytes."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from ...wires.triton_tensors import OUTPUT
from ..errors import RequestError, bad_request
from ..faults import DELIVERY_FAULTS
from ..reader import Request
from ..replies import Reply, json_reply
from ..routes import Route
from .triton_models import Given, Models, float_samples

if TYPE_CHECKING:
    from ..service import Service

__all__ = ["routes"]

# How many bytes of a body are JSON; raw tensors stand behind them.
_JSON_SIZE = "Inference-Header-Content-Length"
_CODES = {"FP32": "f", "INT32": "i"}


def routes(service: Service) -> dict[str, Route]:
    """Return the paths of this wire."""
    triton = _Triton(service)
    return {
        "/v2/health/live": Route(("GET",), _ready, _write_error),
        "/v2/health/ready": Route(("GET",), _ready, _write_error),
        "/v2/models/{name}/ready": Route(("GET",), _ready, _write_error),
        "/v2/models/{name}/infer": Route(("POST",), triton.answer, _write_error),
    }


class _Triton:
    """Answers; used by the event loop alone."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._models = Models(service)

    async def answer(self, request: Request, address: str) -> Reply:
        """Speak one text."""
        service = self._service
        fault = service.admit(request, address)
        model = request.path.split("/")[-2]
        try:
            asked, inputs = _read(service.body_of(request), request.headers)
        except (KeyError, TypeError, ValueError, struct.error):
            raise bad_request("failed to parse the request JSON buffer") from None
        self._models.check(model, inputs, streams=False)

        async def speak() -> Reply:
            sound = await self._models.speak(model, inputs, fault)
            reply = _write(asked, model, float_samples(sound))
            reply.fault = fault if fault in DELIVERY_FAULTS else ""
            return reply

        return await service.perform(request, 1, fault, speak)


async def _ready(_request: Request, _address: str) -> Reply:
    return Reply(200, "text/plain", [])


def _read(body: bytes, headers: dict[str, str]) -> tuple[dict[str, Any], dict[str, Given]]:
    size = headers.get(_JSON_SIZE.lower())
    start = len(body) if size is None else int(size)
    asked = json.loads(body[:start])
    inputs = {}
    for each in asked["inputs"]:
        length = each.get("parameters", {}).get("binary_data_size")
        if length is None:
            data = _raw(each["datatype"], each["data"])
        else:
            data = body[start : start + length]
            start += length
        inputs[each["name"]] = Given(each["datatype"], tuple(each["shape"]), data)
    return asked, inputs


def _raw(datatype: str, values: list[Any]) -> bytes:
    """Return a tensor of JSON, whose rows may be lists of their own, as raw bytes."""
    while values and isinstance(values[0], list):
        values = [each for row in values for each in row]
    if datatype == "BYTES":
        (text,) = values
        data = text.encode()
        return len(data).to_bytes(4, "little") + bytes(data)
    return struct.pack(f"<{len(values)}{_CODES[datatype]}", *values)


def _write(asked: dict[str, Any], model: str, floats: bytes) -> Reply:
    """Write the reply, raw where that is asked for: of the output, or of all."""
    wanted = [each for each in asked.get("outputs", ()) if each.get("name") == OUTPUT]
    told = [asked.get("parameters", {}).get("binary_data_output")]
    told += [each.get("parameters", {}).get("binary_data") for each in wanted]
    count = len(floats) // 4
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": [1, count]}
    value = {"model_name": model, "model_version": "1", "outputs": [output]}
    if "id" in asked:
        value = {"id": asked["id"], **value}
    if not any(told):
        output["data"] = list(struct.unpack(f"<{count}f", floats[: 4 * count]))
        return json_reply(200, value)
    output["parameters"] = {"binary_data_size": len(floats)}
    head = json.dumps(value, separators=(",", ":")).encode()
    return Reply(200, "application/octet-stream", [head, floats], [(_JSON_SIZE, str(len(head)))])


def _write_error(error: RequestError) -> Reply:
    return json_reply(error.status, {"error": error.message}, error.headers)
