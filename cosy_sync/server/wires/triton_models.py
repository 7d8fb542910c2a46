"""The models of the wire `triton`: what they take, what they say, and how they fail."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..batch import Part
from ..corrupt import corrupt
from ..errors import RequestError
from ..faults import TEXT_FAULTS
from ..sound import Clip

if TYPE_CHECKING:
    from ..service import Service

__all__ = ["Given", "Models", "float_samples"]

# Hz, of what they speak.
_RATE = 24_000
# Those that are deployed to stream alone, and those without a speaker of their own.
_NAMES = ("cosyvoice2", "cosyvoice2_dit", "cosyvoice3")
_STREAMING = frozenset({"cosyvoice2_dit"})
_SPEAKERLESS = frozenset({"cosyvoice2_dit", "cosyvoice3"})
_INPUTS = {
    "reference_wav": "FP32",
    "reference_wav_len": "INT32",
    "reference_text": "BYTES",
    "target_text": "BYTES",
}
# Bytes of the 750 tokens at which they stop, wherever they are in the text.
_CAP = 30 * _RATE * 2
# Texts with these marks fail.
_MARKS = ("[fail]", "[refuse]")


class Given(NamedTuple):
    """One input of a request: texts stand behind a length of 4 bytes."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes


class Models:
    """Speak; used by the event loop alone."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def check(self, model: str, inputs: Mapping[str, Given], *, streams: bool) -> None:
        """Raise RequestError for what Triton itself refuses, before a model sees it."""
        if model not in _NAMES:
            raise _refusal(404, f"Request for unknown model: '{model}' is not found")
        if model in _STREAMING and not streams:
            raise _refusal(
                501, "HTTP end point doesn't support models with decoupled transaction policy"
            )
        for name, given in inputs.items():
            if _INPUTS.get(name) != given.datatype:
                raise _refusal(400, f"unexpected inference input '{name}' for model '{model}'")
            if len(given.shape) != 2 or given.shape[0] != 1:
                raise _refusal(400, f"unexpected shape for input '{name}' for model '{model}'")
        if "target_text" not in inputs:
            raise _refusal(
                400, f"expected 4 inputs but got {len(inputs)} inputs for model '{model}'"
            )

    async def speak(self, model: str, inputs: Mapping[str, Given], fault: str) -> bytes:
        """Return the samples for a checked request, spoiled by its fault.

        Raises RequestError where the model fails.
        """
        service = self._service
        if "reference_wav" in inputs:
            if not {"reference_wav_len", "reference_text"} <= inputs.keys():
                raise _failure(
                    model, "AttributeError: 'NoneType' object has no attribute 'as_numpy'"
                )
        elif model in _SPEAKERLESS:
            raise _failure(model, "AttributeError: 'NoneType' object has no attribute 'as_numpy'")
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


def _text(given: Given) -> str:
    try:
        return given.data[4:].decode()
    except UnicodeDecodeError:
        raise _refusal(400, "the text is no UTF-8") from None


def _refusal(status: int, sentence: str) -> RequestError:
    return RequestError(status, "refused", sentence)


def _failure(model: str, exception: str) -> RequestError:
    """Word an exception in a model's code as Triton's Python backend does."""
    report = (
        f"Failed to process the request(s) for model '{model}_0_0', message: TritonModelException: "
        'Traceback (most recent call last):\n  File "model.py", line 1, in execute\n'
        f"{exception}\n\n\n\nAt:\n  model.py(1): execute\n"
    )
    return RequestError(500, "internal", report)
