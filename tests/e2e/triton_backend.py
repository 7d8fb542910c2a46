"""A model of Triton's Python backend that stands in for CosyVoice's, with errors as those models
have them. The server loads a copy of this file for each model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from triton_model import BREAK, FAIL, SLOW, speech

# Samples of the first chunk of a stream, and of the second; each further one is twice as long.
_FIRST, _NEXT = 15 * 960, 25 * 960


class TritonPythonModel:
    """Speaks as `cosyvoice2`, or, where its name says so, as `cosyvoice3`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings. Raises RuntimeError in the model that cannot be loaded."""
        config = json.loads(args["model_config"])
        self.streams = pb_utils.using_decoupled_model_transaction_policy(config)
        # CosyVoice 3 makes an error of an exception itself, CosyVoice 2 leaves it to Triton.
        self.catches = args["model_name"].startswith("cosyvoice3")
        if args["model_name"] == "broken":
            raise RuntimeError("no engine")

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer each request."""
        if not self.streams:
            return [self._whole(request) for request in requests]
        for request in requests:
            self._stream(request, request.get_response_sender())
        return None

    def _whole(self, request: Any) -> Any:
        try:
            text, wave = _ask(request)
        except Exception as error:
            if not self.catches:
                raise
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        if SLOW in text:
            time.sleep(1.0)
        return _response(wave)

    def _stream(self, request: Any, sender: Any) -> None:
        try:
            text, wave = _ask(request)
            for number, chunk in enumerate(_chunks(wave)):
                if number == 2 and BREAK in text:
                    raise RuntimeError(f"lost the thread of {text!r}")
                if SLOW in text:
                    time.sleep(0.3)
                sender.send(_response(chunk))
        except Exception as error:
            if not self.catches:
                raise
            sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _ask(request: Any) -> tuple[str, Any]:
    """Return the text and its samples. Raises RuntimeError where the text wants it."""
    text = _input(request, "target_text")[0][0].decode()
    if FAIL in text:
        raise RuntimeError(f"no sound for {text!r}")
    transcript, recording = "", b""
    wav = pb_utils.get_input_tensor_by_name(request, "reference_wav")
    if wav is not None:
        count = int(_input(request, "reference_wav_len")[0][0])
        recording = wav.as_numpy()[0][:count].tobytes()
        transcript = _input(request, "reference_text")[0][0].decode()
    pcm = np.frombuffer(speech(text, transcript, recording), "<i2")
    return text, pcm.astype(np.float32) / 32768


def _input(request: Any, name: str) -> Any:
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def _chunks(wave: Any) -> Iterator[Any]:
    start, size, following = 0, _FIRST, _NEXT
    while start < len(wave):
        yield wave[start : start + size]
        start += size
        size, following = following, 2 * following


def _response(wave: Any) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor("waveform", wave[None])])
