"""The models of the wire `triton`: what they take, what they say, and how they fail."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...wires.triton_tensors import OUTPUT
from ..batch import Part
from ..corrupt import corrupt
from ..errors import RequestError
from ..faults import TEXT_FAULTS
from ..sound import Clip

if TYPE_CHECKING:
    from ..service import Service

__all__ = [
    "Asked",
    "Given",
    "Models",
    "check_name",
    "describe",
    "float_samples",
    "refusal",
]

# Hz, of what they speak.
_RATE = 24_000
# Those that are deployed to stream alone, and those without a speaker of their own.
_NAMES = ("cosyvoice2", "cosyvoice2_dit", "cosyvoice3")
_VERSION = "1"
_STREAMING = frozenset({"cosyvoice2_dit"})
_SPEAKERLESS = frozenset({"cosyvoice2_dit", "cosyvoice3"})
# Of each input its type, and the second of its dimensions: of the first there is one row.
_INPUTS = {
    "reference_wav": ("FP32", -1),
    "reference_wav_len": ("INT32", 1),
    "reference_text": ("BYTES", 1),
    "target_text": ("BYTES", 1),
}
# Bytes of the 750 tokens at which they stop, wherever they are in the text.
_CAP = 30 * _RATE * 2
# Texts with these marks fail.
_MARKS = ("[fail]", "[refuse]")
_NO_RECORDING = "AttributeError: 'NoneType' object has no attribute 'as_numpy'"


class Given(NamedTuple):
    """One input of a request: texts stand behind a length of 4 bytes."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes


class Asked(NamedTuple):
    """What a request asks for. An empty version leaves it to the server; no outputs are all."""

    model: str
    version: str
    inputs: Mapping[str, Given]
    outputs: Sequence[str]


class Models:
    """Speak; used by the event loop alone."""

    names, version = _NAMES, _VERSION

    def __init__(self, service: Service) -> None:
        self._service = service

    def check(self, asked: Asked, *, streams: bool) -> None:
        """Raise RequestError for what Triton itself refuses, before a model sees it."""
        model = asked.model
        check_name(model, asked.version)
        if model in _STREAMING and not streams:
            raise refusal(
                501, "HTTP end point doesn't support models with decoupled transaction policy"
            )
        for name, given in asked.inputs.items():
            _check_input(model, name, given)
        if "target_text" not in asked.inputs:
            given_names = ",".join(f"'{name}'" for name in asked.inputs)
            raise refusal(
                400,
                f"expected number of inputs between 1 and 4 but got {len(asked.inputs)} inputs for "
                f"model '{model}'. Got input(s) [{given_names}], but missing required input(s) "
                "['target_text']. Please provide all required input(s).",
            )
        for name in asked.outputs:
            if name != OUTPUT:
                raise refusal(400, f"unexpected inference output '{name}' for model '{model}'")

    async def speak(self, asked: Asked, fault: str) -> bytes:
        """Return the samples for a checked request, spoiled by its fault.

        Raises RequestError where the model fails.
        """
        service, model, inputs = self._service, asked.model, asked.inputs
        if "reference_wav" in inputs:
            if not {"reference_wav_len", "reference_text"} <= inputs.keys():
                raise _failure(model, _NO_RECORDING)
        elif model in _SPEAKERLESS:
            raise _failure(model, _NO_RECORDING)
        text = _text(inputs["target_text"])
        if any(mark in text for mark in _MARKS):
            raise _failure(model, "RuntimeError: the text cannot be spoken")
        if not any(map(str.isalnum, text)):
            return b""
        text = text[::-1] if fault in TEXT_FAULTS else text
        engine = service.engine
        (content,) = await engine.synthesize([text], engine.voices[0], _RATE, 1.0)
        parts = [Part(0, content, "audio/pcm")]
        corrupt(fault, parts, _RATE, service.faults.random)
        if not parts or not isinstance(parts[0].content, Clip):
            raise _failure(model, "torch.cuda.OutOfMemoryError: CUDA out of memory")
        sound = parts[0].content.data[:_CAP]
        service.counters.audio_bytes += len(sound)
        return sound


def float_samples(pcm: bytes) -> bytes:
    """Return samples as floats of 32 bits; half a sample stays half a one."""
    whole = len(pcm) & ~1
    samples = array("h", pcm[:whole])
    if sys.byteorder == "big":
        samples.byteswap()
    floats = array("f", [each / 32768 for each in samples])
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes() + pcm[whole:]


def check_name(model: str, version: str = "") -> None:
    """Raise RequestError for a model that is not here, or not in this version."""
    if model not in _NAMES:
        raise refusal(404, f"Request for unknown model: '{model}' is not found")
    if version not in ("", _VERSION):
        raise refusal(404, f"Request for unknown model: '{model}' version {version} is not found")


def describe(model: str) -> dict[str, Any]:
    """Return what a model takes and gives, -1 being any number of rows or of samples."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": [-1, size]}
        for name, (datatype, size) in _INPUTS.items()
    ]
    output = {"name": OUTPUT, "datatype": "FP32", "shape": [-1, -1]}
    told = {"name": model, "versions": [_VERSION], "platform": "python"}
    return {**told, "inputs": inputs, "outputs": [output]}


def refusal(status: int, sentence: str) -> RequestError:
    """Return a refusal in Triton's own words."""
    return RequestError(status, "refused", sentence)


def _check_input(model: str, name: str, given: Given) -> None:
    if name not in _INPUTS:
        raise refusal(400, f"unexpected inference input '{name}' for model '{model}'")
    datatype, size = _INPUTS[name]
    if given.datatype != datatype:
        raise refusal(
            400,
            f"inference input '{name}' data-type is '{given.datatype}', but model '{model}' "
            f"expects '{datatype}'",
        )
    shape = given.shape
    if len(shape) != 2 or shape[0] != 1 or size not in (-1, shape[1]):
        told = ",".join(map(str, shape))
        raise refusal(
            400,
            f"unexpected shape for input '{name}' for model '{model}'. Expected [-1,{size}], "
            f"got [{told}].",
        )
    if datatype != "BYTES":
        _check_size(model, name, len(given.data), 4 * shape[1])
        return
    length = int.from_bytes(given.data[:4], "little")
    if len(given.data) < 4 or length > len(given.data) - 4:
        raise refusal(
            400,
            f"incomplete string data for inference input '{name}', expecting string of length "
            f"{length} but only {max(len(given.data) - 4, 0)} bytes available",
        )
    _check_size(model, name, len(given.data), 4 + length)


def _check_size(model: str, name: str, got: int, wanted: int) -> None:
    if got < wanted:
        raise refusal(
            400,
            f"unexpected size for input '{name}', expecting {wanted - got} additional bytes for "
            f"model '{model}'",
        )
    if got > wanted:
        raise refusal(400, f"unexpected additional input data for model '{model}'")


def _text(given: Given) -> str:
    try:
        return given.data[4:].decode()
    except UnicodeDecodeError:
        raise refusal(400, "the text is no UTF-8") from None


def _failure(model: str, exception: str) -> RequestError:
    """Word an exception in a model's code as Triton's Python backend does."""
    report = (
        f"Failed to process the request(s) for model '{model}_0_0', message: {exception}\n\n"
        "At:\n  model.py(1): execute\n"
    )
    return RequestError(500, "internal", report)
