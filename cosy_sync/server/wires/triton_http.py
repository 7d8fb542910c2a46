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
from .triton_models import (
    Asked,
    Given,
    Models,
    check_name,
    describe,
    float_samples,
    refusal,
)

if TYPE_CHECKING:
    from ..service import Service

__all__ = ["routes"]

# How many bytes of a body are JSON; raw tensors stand behind them.
_JSON_SIZE = "Inference-Header-Content-Length"
_CODES = {"FP32": "f", "INT32": "i"}
# What reading another JSON than Triton's raises.
_UNREADABLE = (
    *(AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError),
    struct.error,
)


def routes(service: Service) -> dict[str, Route]:
    """Return the paths of this wire."""
    triton = _Triton(service)
    paths = {
        "/v2": Route(("GET",), _tell_server, _write_error),
        "/v2/health/live": Route(("GET",), _ready, _write_error),
        "/v2/health/ready": Route(("GET",), _ready, _write_error),
        "/v2/models/{name}": Route(("GET",), _tell_model, _write_error),
        "/v2/models/{name}/ready": Route(("GET",), _model_ready, _write_error),
        "/v2/models/{name}/infer": Route(("POST",), triton.answer, _write_error),
    }
    for name in Models.names:
        path = f"/v2/models/{name}/versions/{{name}}"
        paths[f"{path}/ready"] = Route(("GET",), _model_ready, _write_error)
        paths[f"{path}/infer"] = Route(("POST",), triton.answer, _write_error)
    return paths


class _Triton:
    """Answers; used by the event loop alone."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._models = Models(service)

    async def answer(self, request: Request, address: str) -> Reply:
        """Speak one text."""
        service = self._service
        fault = service.admit(request, address)
        model, version = _named(request)
        try:
            asked, inputs = _read(service.body_of(request), request.headers)
            outputs = [each["name"] for each in asked.get("outputs", ())]
        except _UNREADABLE:
            raise bad_request("failed to parse the request JSON buffer") from None
        wanted = Asked(model, version, inputs, outputs)
        self._models.check(wanted, streams=False)

        async def speak() -> Reply:
            sound = await self._models.speak(wanted, fault)
            reply = _write(asked, model, float_samples(sound))
            reply.fault = fault if fault in DELIVERY_FAULTS else ""
            return reply

        return await service.perform(request, 1, fault, speak)


async def _ready(_request: Request, _address: str) -> Reply:
    return Reply(200, "text/plain", [])


async def _model_ready(request: Request, _address: str) -> Reply:
    try:
        check_name(*_named(request))
    except RequestError:
        raise refusal(400, "Model version not ready") from None
    return Reply(200, "text/plain", [])


async def _tell_server(_request: Request, _address: str) -> Reply:
    # The version of the server that these answers were compared with.
    told = {"name": "triton", "version": "2.51.0", "extensions": ["binary_tensor_data"]}
    return json_reply(200, told)


async def _tell_model(request: Request, _address: str) -> Reply:
    model = request.path.split("/")[3]
    check_name(model)
    return json_reply(200, describe(model))


def _named(request: Request) -> tuple[str, str]:
    """Return the model in the path, and its version, which may be left to the server."""
    parts = request.path.split("/")
    return parts[3], parts[5] if parts[4] == "versions" else ""


def _read(body: bytes, headers: dict[str, str]) -> tuple[dict[str, Any], dict[str, Given]]:
    size = headers.get(_JSON_SIZE.lower())
    start = len(body) if size is None else int(size)
    asked = json.loads(body[:start])
    inputs = {}
    for each in asked["inputs"]:
        length = _parameters(each).get("binary_data_size")
        if not all(isinstance(size, int) for size in (*each["shape"], length or 0)):
            raise ValueError("a size that is no whole number")
        if length is None:
            data = _raw(each["datatype"], each["data"])
        else:
            data = body[start : start + length]
            start += length
        inputs[each["name"]] = Given(each["datatype"], tuple(each["shape"]), data)
    return asked, inputs


def _parameters(told: dict[str, Any]) -> dict[str, Any]:
    given = told.get("parameters")
    return given if isinstance(given, dict) else {}


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
    told = [_parameters(asked).get("binary_data_output")]
    told += [_parameters(each).get("binary_data") for each in wanted]
    count = len(floats) // 4
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": [1, count]}
    value = {"model_name": model, "model_version": Models.version, "outputs": [output]}
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
