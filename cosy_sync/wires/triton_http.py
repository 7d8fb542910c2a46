"""The wire `triton` over HTTP: KServe's inference protocol with tensors as raw bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import BadAudioError, ConfigError, CosyError, ServerError
from ..messages import Payload, Reply, Request
from .base import Capabilities, HttpWire, Send, SpeechOptions, StreamReader
from .error_bodies import check_end, read_error
from .fastjson import dump_json, load_json
from .prompts import nothing_spoken
from .redaction import request_id_of
from .triton_address import Address
from .triton_errors import failed, known_refusal
from .triton_tensors import OUTPUT, PROMPT_RATE, SAMPLE_RATE, Tensors, Waveform, no_output

__all__ = ["TritonHttpWire"]

# How many bytes of a body are JSON; raw tensors stand behind them.
_JSON_SIZE = "Inference-Header-Content-Length"
_OURS = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "host"}
    | {"transfer-encoding", "x-request-id", _JSON_SIZE.lower()}
)
_HEADERS = {
    "Content-Type": "application/octet-stream",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}
_WANTED = [{"name": OUTPUT, "parameters": {"binary_data": True}}]
_MAX_ERROR = 1 << 20


class TritonHttpWire(HttpWire):
    """Ask one model at one server, which must not be deployed to stream."""

    name = "triton"
    capabilities = Capabilities(
        max_texts_per_call=1,
        formats=("pcm",),
        sample_rates=(SAMPLE_RATE,),
        voices=frozenset({"reference"}),
        reference_rates=(PROMPT_RATE, PROMPT_RATE),
        features=frozenset({"model"}),
        gzip=False,
        # The instances of the model that the repository's scripts start, 4 of CosyVoice 2 and 10
        # of 3; what is beyond them waits in the server.
        max_connections=4,
        # There is no limit of the rate.
        rate=1000.0,
        # The server itself keeps idle connections; what lies between may not.
        idle_expiry=60.0,
        stream_advice="give the server's gRPC address, such as grpc://host:8001",
    )

    def __init__(self, address: Address, options: SpeechOptions, tensors: Tensors) -> None:
        if options.extra:
            raise ConfigError("extra: the wire 'triton' has no further fields; leave it out")
        self._url = address.infer_url
        self._model = address.model
        self._tensors = tensors
        self._headers = options.headers_with(_HEADERS, _OURS)

    def __repr__(self) -> str:
        return f"<TritonHttpWire {self._url.partition('?')[0]}>"

    def encode(self, texts: Sequence[str], request_id: str) -> Request:
        """Build the request for the one text. Raises InvalidTextError for one not encodable."""
        (text,) = texts
        tensors = self._tensors.ask(text)
        inputs = [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": tensor.shape,
                "parameters": {"binary_data_size": len(tensor.data)},
            }
            for tensor in tensors
        ]
        # The models keep what belongs to a request under its id: it must be one of its own.
        head = dump_json({"id": request_id, "inputs": inputs, "outputs": _WANTED})
        told = (("X-Request-Id", request_id), (_JSON_SIZE, str(len(head))))
        body = b"".join([head, *(tensor.data for tensor in tensors)])
        return Request(self._url, (*self._headers, *told), body)

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        """Return the text's samples, or the error that it found nothing to speak.

        Raises ServerError for a refusal, BadAudioError for what is no sound.
        """
        if reply.status != 200:
            raise self._refused(reply, texts)
        check_end(reply)
        waveform = Waveform()
        sound = waveform.take(*_output(reply))
        waveform.check_end()
        if not sound:
            return [nothing_spoken(self._model, request_id_of(reply.headers))]
        return [Payload(sound, f"audio/pcm;rate={SAMPLE_RATE}")]

    def exchange(
        self, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask for the one text; see Wire. Raises BadAudioError for another request's reply."""
        reply = send(self.encode(texts, request_id))
        payloads = self.decode(reply, texts)
        told = _head(reply).get("id")
        if told not in (None, "", request_id):
            raise BadAudioError(
                "the reply belongs to another request (its id says so): the service, or a proxy "
                "before it, sent a reply twice or late; try again, and look there if it stays",
                reason="misplaced",
            )
        return payloads

    def listen(self, text: str, send: Send, request_id: str) -> StreamReader:
        """Refuse: over HTTP a model sends whole replies only."""
        raise ConfigError(
            "stream: over HTTP a Triton server sends whole replies only; "
            + self.capabilities.stream_advice
        )

    def _refused(self, reply: Reply, texts: Sequence[str]) -> ServerError:
        said = _sentence(reply)
        details = {"request_id": request_id_of(reply.headers)}
        known = known_refusal(said, texts, **details) if said else None
        if known is not None:
            return known
        if said and reply.status == 500:
            return failed(said, texts, **details)
        return read_error(reply, texts)


def _sentence(reply: Reply) -> str:
    """Return what the server says of a failure: it never says of which type that is."""
    if len(reply.body) > _MAX_ERROR:
        return ""
    try:
        value = load_json(reply.body)
    except ValueError:
        return ""
    said = value.get("error") if isinstance(value, dict) else None
    return said if isinstance(said, str) else ""


def _json_size(reply: Reply) -> int:
    size = reply.headers.get(_JSON_SIZE.lower(), "")
    # Without it the whole body would be JSON, which was not asked for.
    told = size.isascii() and size.isdigit() and len(size) < 16
    return int(size) if told else len(reply.body)


def _head(reply: Reply) -> dict[str, Any]:
    """Return what stands before the raw bytes. Raises ValueError."""
    value = load_json(memoryview(reply.body)[: _json_size(reply)])
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _output(reply: Reply) -> tuple[memoryview, Any, Any]:
    """Return the waveform's bytes, type and shape. Raises BadAudioError."""
    body, start = memoryview(reply.body), _json_size(reply)
    try:
        outputs = _head(reply)["outputs"]
        named = [(each["name"], each) for each in outputs]
        for name, output in named:
            length = int(output["parameters"]["binary_data_size"])
            data = _cut(body, start, length)
            if name == OUTPUT:
                return data, output["datatype"], output["shape"]
            start += length
    except (KeyError, OverflowError, TypeError, ValueError):
        raise BadAudioError(
            "the reply is not what Triton sends for an output in raw bytes; check the URL and the "
            "wire",
            reason="not_audio",
        ) from None
    raise no_output(name for name, _ in named)


def _cut(body: memoryview, start: int, length: int) -> memoryview:
    if length < 0 or start + length > len(body):
        raise BadAudioError("the reply ends before its tensors do", reason="cut")
    return body[start : start + length]
