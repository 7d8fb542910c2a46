"""A real Triton server whose models have the names, inputs and output of CosyVoice's, run as
`python triton_model.py HTTP_PORT GRPC_PORT` by a Python that has nvidia-pytriton and numpy."""

from __future__ import annotations

import hashlib
import sys
import time
from array import array
from collections.abc import Iterator
from typing import Any

# Samples for each character, and of each chunk of a stream.
_PER_CHAR, _CHUNK = 2_400, 3_000
FAIL, SLOW, BREAK = "[fail]", "[slow]", "[break]"
# By name: whether it streams, and how many requests may wait for it (0: any number).
MODELS = {
    "cosyvoice2": (False, 0),
    "cosyvoice2_dit": (True, 0),
    "cosyvoice2_queue": (False, 1),
}


def speech(text: str, transcript: str = "", recording: bytes = b"") -> bytes:
    """Return what is said of a text: 16-bit samples that no other request has.

    `recording`: the samples of the reference, as floats of 32 bits.
    """
    if not text.strip("。"):
        return b""
    asked = hashlib.sha256(repr((text, transcript)).encode() + recording)
    noise = array("h", hashlib.shake_256(asked.digest()).digest(2 * _PER_CHAR * len(text)))
    return array("h", [each >> 2 for each in noise]).tobytes()


def _answer(data: dict[str, Any]) -> Any:
    import numpy as np

    text = data["target_text"][0][0].decode()
    if SLOW in text:
        time.sleep(1.0)
    if FAIL in text:
        raise RuntimeError(f"no sound for {text!r}")
    transcript, recording = "", b""
    if "reference_wav" in data:
        count = int(data["reference_wav_len"][0][0])
        recording = data["reference_wav"][0][:count].tobytes()
        transcript = data["reference_text"][0][0].decode()
    pcm = np.frombuffer(speech(text, transcript, recording), "<i2")
    return pcm.astype(np.float32) / 32768


def _whole(requests: list[Any]) -> list[dict[str, Any]]:
    return [{"waveform": _answer(request.data)[None]} for request in requests]


def _pieces(requests: list[Any]) -> Iterator[list[dict[str, Any]]]:
    (wave,) = [_answer(request.data) for request in requests]
    for start in range(0, len(wave), _CHUNK):
        yield [{"waveform": wave[start : start + _CHUNK][None]}]


def main() -> None:
    """Serve until a signal ends it."""
    import numpy as np
    from pytriton.model_config import DynamicBatcher, ModelConfig, QueuePolicy, Tensor
    from pytriton.triton import Triton, TritonConfig

    inputs = [
        Tensor(name="reference_wav", dtype=np.float32, shape=(-1,), optional=True),
        Tensor(name="reference_wav_len", dtype=np.int32, shape=(1,), optional=True),
        Tensor(name="reference_text", dtype=bytes, shape=(1,), optional=True),
        Tensor(name="target_text", dtype=bytes, shape=(1,)),
    ]
    outputs = [Tensor(name="waveform", dtype=np.float32, shape=(-1,))]
    http, grpc = map(int, sys.argv[1:])
    here = "127.0.0.1"
    settings = TritonConfig(
        http_address=here, http_port=http, grpc_address=here, grpc_port=grpc, allow_metrics=False
    )
    with Triton(config=settings) as triton:
        for name, (streams, waiting) in MODELS.items():
            policy = QueuePolicy(max_queue_size=waiting)
            config = ModelConfig(
                max_batch_size=1,
                decoupled=streams,
                batcher=DynamicBatcher(default_queue_policy=policy),
            )
            triton.bind(name, _pieces if streams else _whole, inputs, outputs, config=config)
        triton.serve()


if __name__ == "__main__":
    main()
