"""The wire `runtime_grpc`: a port of its own, and calls refused as CosyVoice's server does it.

Triton's service is on the same port.

Like the original it is grpcio's server with a pool of threads; what calls ask for is done on the
event loop, by the same service as everything else.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

from ...wires.protobuf import read_fields, write_field
from ..batch import Part
from ..corrupt import corrupt
from ..errors import GrpcPortError, RequestError
from ..faults import DELIVERY_FAULTS, TEXT_FAULTS
from ..reader import Request
from ..replies import Reply
from ..service import FAIL_MARK, REFUSE_MARK, Service
from ..sound import Clip
from . import triton_grpc

__all__ = ["GrpcPort"]

_PATH = "/cosyvoice.CosyVoice/Inference"
_SFT, _ZERO_SHOT, _CROSS_LINGUAL, _INSTRUCT = 1, 2, 3, 4
# By the form of a request: the numbers of its text, speaker and recording.
_PLACES = {_SFT: (2, 1, 0), _ZERO_SHOT: (1, 0, 3), _CROSS_LINGUAL: (1, 0, 2), _INSTRUCT: (1, 2, 0)}
_SAMPLE_RATE = 24_000
# Samples a second, and seconds, of the recordings that the model takes.
_PROMPT_RATE, _PROMPT_SECONDS = 16_000, 30
# Characters that the runtime speaks in one go, each of which is a message.
_SEGMENT_CHARS = 80
_LATE_SECONDS = 1.0

_LIMIT_EXCEEDED = "Concurrent RPC limit exceeded!"
_EXCEPTION = "Exception iterating responses: "
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.UNKNOWN,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}


# Answers a request from an address. Raises RequestError.
_Speak = Callable[[Request, str], Coroutine[Any, Any, Reply]]


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request, read: an empty speaker where there is a recording."""

    text: str
    speaker: str
    recording: bytes


class GrpcPort:
    """Listens from the start on. Made on the event loop; closed on any other thread."""

    def __init__(self, service: Service) -> None:
        """Listen. Raises OSError when the address is taken.

        Args:
            service: does what is asked for, and is told the address.
        """
        config = service.config
        self._service = service
        self._loop = asyncio.get_running_loop()
        # What is being done. A set's add and discard are one step each.
        self._works: set[Future[Reply]] = set()
        speakers = {_PATH: self._speak, triton_grpc.PATH: triton_grpc.TritonCalls(service).speak}
        answers = {
            path: functools.partial(self._answer, path, speak) for path, speak in speakers.items()
        }
        self._threads = ThreadPoolExecutor(
            config.grpc_max_conc, thread_name_prefix="cosy-server-grpc"
        )
        self._server = grpc.server(
            self._threads,
            handlers=[_Handlers(service, self._loop, answers)],
            # Without the last, two servers could share one port.
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
            maximum_concurrent_rpcs=config.grpc_max_conc,
        )
        host = f"[{config.host}]" if ":" in config.host else config.host
        try:
            port = self._server.add_insecure_port(f"{host}:{config.grpc_port}")
        except RuntimeError as error:
            self._threads.shutdown()
            raise GrpcPortError(f"gRPC cannot listen on port {config.grpc_port}") from error
        self._server.start()
        service.grpc_url = f"grpc://{host}:{port}"

    def close(self) -> None:
        """End all calls and wait until they are gone; the event loop must still run."""
        ended = self._server.stop(None)
        for work in list(self._works):
            work.cancel()
        ended.wait()
        self._threads.shutdown()

    def _answer(
        self, path: str, speak: _Speak, arrived: float, message: bytes, context: Any
    ) -> Iterator[bytes]:
        """Answer one call, on a thread of the pool."""
        headers = dict(context.invocation_metadata())
        request = Request("POST", path, headers, message, arrived=arrived)
        try:
            work = asyncio.run_coroutine_threadsafe(speak(request, _address(context)), self._loop)
            self._works.add(work)
            work.add_done_callback(self._works.discard)
            reply = work.result()
        except CancelledError:  # closing: nobody listens any more
            return
        except RequestError as error:
            _abort(context, error)
        yield from _deliver(reply, context)

    async def _speak(self, request: Request, address: str) -> Reply:
        service = self._service
        fault = service.admit(request, address)
        ask = _read(request.body)

        async def speak() -> Reply:
            return await self._right_reply(ask, fault)

        return await service.perform(request, 1, fault, speak)

    async def _right_reply(self, ask: _Ask, fault: str) -> Reply:
        service = self._service
        if REFUSE_MARK in ask.text:
            raise RequestError(400, "bad_request", "the text is not allowed")
        if FAIL_MARK in ask.text:
            raise _exception("the text cannot be spoken")
        speaker = ask.speaker
        if ask.recording:
            speaker = service.engine.voices[0]
        elif speaker not in service.engine.voices:
            raise _exception(repr(speaker))
        text = ask.text[::-1] if fault in TEXT_FAULTS else ask.text
        (content,) = await service.engine.synthesize([text], speaker, _SAMPLE_RATE, 1.0)
        parts = [Part(0, content, "audio/pcm")]
        corrupt(fault, parts, _SAMPLE_RATE, service.faults.random)
        if not parts or not isinstance(parts[0].content, Clip):
            raise _exception("CUDA out of memory")
        sound = parts[0].content.data
        service.counters.audio_bytes += len(sound)
        # The runtime drops what is nothing but punctuation.
        pieces = _segments(sound, len(text)) if any(map(str.isalnum, text)) else []
        messages = [write_field(1, piece) for piece in pieces]
        return Reply(200, "", [*messages], fault=fault if fault in DELIVERY_FAULTS else "")


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds what answers a call. It is asked for the refused ones too, and so counts them all."""

    def __init__(
        self, service: Service, loop: asyncio.AbstractEventLoop, answers: Mapping[str, Any]
    ) -> None:
        self._service = service
        self._loop = loop
        # By the paths of calls.
        self._answers = answers

    def service(self, details: Any) -> Any:
        """Return the handler, or None for an unknown path."""
        arrived = time.monotonic()
        self._loop.call_soon_threadsafe(self._count, arrived)
        answer = self._answers.get(details.method)
        if answer is None:
            return None
        return grpc.unary_stream_rpc_method_handler(functools.partial(answer, arrived))

    def _count(self, now: float) -> None:
        self._service.counters.requests += 1
        self._service.counters.posts.add(now)


def _address(context: Any) -> str:
    """Return the client's address out of ipv4:ADDRESS:PORT."""
    return str(context.peer()).partition(":")[2].rpartition(":")[0]


def _read(message: bytes) -> _Ask:
    """Read a Request; one without any form is taken for an instruction, as the original does."""
    try:
        forms = [(number, value) for number, value in read_fields(message) if number in _PLACES]
        form, inner = forms[-1] if forms else (_INSTRUCT, b"")
        fields = dict(read_fields(inner))
        text, speaker, recording = (fields.get(number, b"") for number in _PLACES[form])
        ask = _Ask(text.decode(), speaker.decode(), recording)
    except ValueError:
        # What gRPC itself says when the message cannot be read.
        raise RequestError(500, "internal", "Exception deserializing request!") from None
    if form in (_ZERO_SHOT, _CROSS_LINGUAL):
        _check_recording(recording)
    return ask


def _check_recording(recording: bytes) -> None:
    if not recording or len(recording) % 2:
        raise _exception("buffer size must be a multiple of element size")
    if len(recording) > 2 * _PROMPT_RATE * _PROMPT_SECONDS:
        raise _exception("do not support extract speech token for audio longer than 30s")


def _segments(sound: bytes, chars: int) -> list[bytes]:
    """Part the sound into as many messages as the text has segments; no sound is an empty one."""
    count = max(1, -(-chars // _SEGMENT_CHARS))
    size = -(-len(sound) // (2 * count)) * 2 or 2
    return [sound[start : start + size] for start in range(0, len(sound), size)] or [b""]


def _deliver(reply: Reply, context: Any) -> Iterator[bytes]:
    """Send the messages, or what the fault wants."""
    fault = reply.fault
    if fault == "stall":
        _until_the_end(context)
    if fault == "reset" or reply.content_type:
        # An answer that is no sound: a server in such a state answers nothing at all.
        context.abort(grpc.StatusCode.UNAVAILABLE, "the server is going away")
    if fault == "late":
        time.sleep(_LATE_SECONDS)
    for piece in reply.pieces:
        yield bytes(piece)
        if fault == "stall-mid":
            _until_the_end(context)
        if fault in ("cut", "cut-chunked", "reset-mid"):
            context.abort(grpc.StatusCode.UNKNOWN, f"{_EXCEPTION}CUDA out of memory")


def _until_the_end(context: Any) -> None:
    """Wait until the client has gone, or the server stops."""
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait()


def _exception(text: str) -> RequestError:
    """Make the refusal that an exception in the original's code becomes."""
    return RequestError(500, "internal", f"{_EXCEPTION}{text}")


def _abort(context: Any, error: RequestError) -> None:
    code = _CODES.get(error.status, grpc.StatusCode.UNKNOWN)
    message = _LIMIT_EXCEEDED if error.code == "throttled" else error.message
    context.abort(code, message)
