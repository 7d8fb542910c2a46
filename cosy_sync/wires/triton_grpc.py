"""The wire `triton` over gRPC: one stream for each text, whether the model streams or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..errors import BadAudioError, CosyError, CutError, ServerError
from ..messages import Payload, Reply, RpcRequest, WireRequest
from .base import Capabilities, Send, SpeechOptions, StreamReader
from .prompts import nothing_spoken
from .protobuf import read_fields, read_numbers, write_field, write_numbers
from .rpc_calls import broken_off, messages_of, metadata_of
from .rpc_status import OK, read_status
from .triton_address import Address
from .triton_errors import failed, known_refusal
from .triton_tensors import OUTPUT, PROMPT_RATE, SAMPLE_RATE, Tensor, Tensors, Waveform, no_output

__all__ = ["TritonGrpcWire"]

# A stream of requests and responses, of which ours has one request. ModelInfer would not do: it
# refuses models that stream.
_PATH = "/inference.GRPCInferenceService/ModelStreamInfer"
# Of ModelInferRequest.
_MODEL, _VERSION, _ID, _PARAMETERS, _INPUTS, _OUTPUTS, _RAW_INPUTS = 1, 2, 3, 4, 5, 6, 7
# Of ModelStreamInferResponse, and of the ModelInferResponse in it.
_ERROR, _RESPONSE = 1, 2
_TOLD, _GIVEN, _RAW = 4, 5, 6
# Of a tensor, and of an entry of a map.
_NAME, _DATATYPE, _SHAPE = 1, 2, 3
_KEY, _VALUE = 1, 2
# InferParameter's bool_param.
_TRUE = b"\x08\x01"
_FINAL = b"triton_final_response"
# So that the end of a stream is told by a response of its own, which may have no output.
_WANTS_END = write_field(
    _PARAMETERS, write_field(_KEY, b"triton_enable_empty_final_response") + write_field(2, _TRUE)
)


class TritonGrpcWire:
    """Ask one model at one server."""

    name = "triton"
    capabilities = Capabilities(
        max_texts_per_call=1,
        schemes=("grpc", "grpcs"),
        formats=("pcm",),
        sample_rates=(SAMPLE_RATE,),
        voices=frozenset({"reference"}),
        reference_rates=(PROMPT_RATE, PROMPT_RATE),
        features=frozenset({"model"}),
        streaming=True,
        gzip=False,
        # As over HTTP.
        max_connections=4,
        rate=1000.0,
        # gRPC servers keep idle connections; what lies between forgets them after some minutes.
        idle_expiry=200.0,
    )

    def __init__(self, address: Address, options: SpeechOptions, tensors: Tensors) -> None:
        self._url = address.root
        self.model = address.model
        self._metadata = metadata_of(options, self.name)
        self._tensors = tensors
        version = write_field(_VERSION, address.version.encode()) if address.version else b""
        self._head = write_field(_MODEL, address.model.encode()) + version

    def __repr__(self) -> str:
        return f"<TritonGrpcWire {self._url} {self.model}>"

    def exchange(
        self, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask for a text; see Wire. Raises CosyError."""
        (text,) = texts
        return [self.decode(send(self.encode(text, request_id)), texts)]

    def encode(self, text: str, request_id: str) -> RpcRequest:
        """Build the call for a text. Raises InvalidTextError for one not encodable."""
        tensors = self._tensors.ask(text)
        message = b"".join(
            [
                self._head,
                # The models keep what belongs to a request under its id.
                write_field(_ID, request_id.encode()),
                _WANTS_END,
                *(write_field(_INPUTS, _described(tensor)) for tensor in tensors),
                write_field(_OUTPUTS, write_field(_NAME, OUTPUT.encode())),
                *(write_field(_RAW_INPUTS, tensor.data) for tensor in tensors),
            ]
        )
        metadata = (*self._metadata, ("x-request-id", request_id))
        return RpcRequest(self._url, _PATH, message, metadata)

    def decode(self, reply: Reply, texts: Sequence[str]) -> Payload:
        """Return a reply's sound. Raises TextError for a reply without sound, ServerError,
        CutError, BadAudioError."""
        responses = _Responses(self.model, texts)
        sound = bytearray()
        try:
            for message in messages_of(reply.body):
                sound += responses.read(message)
            responses.check_end(reply)
        except ValueError:
            raise _no_response() from None
        except CosyError as error:
            if not sound:
                raise
            raise error.with_details(partial=bytes(sound)) from error.__cause__
        return Payload(bytes(sound), f"audio/pcm;rate={SAMPLE_RATE}")

    def splits(self, error: ServerError) -> bool:
        """Return whether one text may be to blame: with one text a call that is never in doubt."""
        return False

    def listen(self, text: str, send: Send, request_id: str) -> StreamReader:
        """Return what asks for a text and reads its sound, response by response; see Wire."""
        return _Reader(self.encode(text, request_id), text, self.model)


class _Reader:
    """One text's sound out of the messages of its call."""

    sample_rate = SAMPLE_RATE

    def __init__(self, request: RpcRequest, text: str, model: str) -> None:
        self.request: WireRequest = request
        self._texts = (text,)
        self._headers: Mapping[str, str] = {}
        self._responses = _Responses(model, self._texts)

    def accept(self, status: int, headers: Mapping[str, str]) -> bool:
        """Return whether messages follow: a call that is refused has its status at once."""
        self._headers = headers
        return headers.get("grpc-status", OK) == OK

    def refuse(self, reply: Reply) -> CosyError:
        """Return the error that a call without a message ended with."""
        return _status(reply, self._texts) or _no_end()

    def feed(self, data: bytes) -> bytes:
        """Take in a message; return its samples. Raises ServerError, CutError, BadAudioError."""
        return self._responses.read(data)

    def end(self) -> bytes:
        """Return nothing: all sound was given. Raises what the service says where it failed, as
        CutError behind sound, and TextError for no sound."""
        self._responses.check_end(Reply(200, self._headers, b""))
        return b""


class _Responses:
    """Reads a call's messages in their order."""

    def __init__(self, model: str, texts: Sequence[str]) -> None:
        self._model = model
        self._texts = texts
        self._waveform = Waveform()
        # Whether the server tells which response is the last, and has told it.
        self._tells_end = False
        self._ended = False

    def read(self, message: bytes) -> bytes:
        """Return a message's samples, maybe none. Raises ServerError, CutError, BadAudioError."""
        try:
            fields = dict(read_fields(message))
            said = fields.get(_ERROR, b"").decode("utf-8", "replace")
            response = _read_response(fields.get(_RESPONSE, b""))
        except ValueError:
            raise _no_response() from None
        if said:
            error = known_refusal(said, self._texts) or failed(said, self._texts)
            raise self._behind_sound(error)
        if response.final is not None:
            self._tells_end, self._ended = True, response.final
        if len(response.outputs) != len(response.raw):
            raise _no_response()
        if not response.outputs:
            return b""
        for output, raw in zip(response.outputs, response.raw, strict=True):
            if output.name == OUTPUT:
                return self._waveform.take(raw, output.datatype, output.shape)
        raise no_output(output.name for output in response.outputs)

    def check_end(self, reply: Reply) -> None:
        """Raise what the end of the call means, unless it is that of whole speech."""
        error = _status(reply, self._texts)
        if error is not None:
            raise self._behind_sound(error)
        if self._tells_end and not self._ended:
            raise _no_end()
        self._waveform.check_end()
        if not self._waveform.has_heard:
            raise nothing_spoken(self._model) if self._ended else _no_end()

    def _behind_sound(self, error: CosyError) -> CosyError:
        return broken_off(error) if self._waveform.has_heard else error


class _Output(NamedTuple):
    name: str
    datatype: str
    shape: list[int]


class _Response(NamedTuple):
    """A ModelInferResponse: each output's bytes at its place in `raw`. `final`: whether it is
    the last, None where it does not say."""

    outputs: list[_Output]
    raw: list[bytes]
    final: bool | None


def _read_response(message: bytes) -> _Response:
    """Raises ValueError."""
    outputs, raw, final = [], [], None
    for number, value in read_fields(message):
        if number == _GIVEN:
            fields = dict(read_fields(value))
            name, datatype = (fields.get(each, b"").decode() for each in (_NAME, _DATATYPE))
            outputs.append(_Output(name, datatype, read_numbers(fields.get(_SHAPE, b""))))
        elif number == _RAW:
            raw.append(value)
        elif number == _TOLD:
            entry = dict(read_fields(value))
            if entry.get(_KEY) == _FINAL:
                final = entry.get(_VALUE) == _TRUE
    return _Response(outputs, raw, final)


def _described(tensor: Tensor) -> bytes:
    return (
        write_field(_NAME, tensor.name.encode())
        + write_field(_DATATYPE, tensor.datatype.encode())
        + write_numbers(_SHAPE, tensor.shape)
    )


def _status(reply: Reply, texts: Sequence[str]) -> ServerError | None:
    """Return the error that a call's status is, None for a success."""
    error = read_status(reply, texts)
    if error is None:
        return None
    said = reply.headers.get("grpc-message", "")
    return known_refusal(said, texts) or error


def _no_end() -> CutError:
    return CutError("the reply ended before the server called any response its last")


def _no_response() -> BadAudioError:
    return BadAudioError(
        "expected responses of a Triton server, got other messages; check the address and the wire",
        reason="not_audio",
    )
