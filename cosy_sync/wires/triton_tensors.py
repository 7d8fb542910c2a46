"""What CosyVoice's Triton models take and give: tensors of text and samples, as raw bytes."""

from __future__ import annotations

import io
import math
import struct
import wave
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..errors import BadAudioError, ConfigError, InvalidTextError
from ..models import Recording, Voice
from ..riff import SampleFormat, to_pcm16
from .base import SpeechOptions
from .prompts import check_model, is_third

__all__ = ["OUTPUT", "PROMPT_RATE", "SAMPLE_RATE", "Tensor", "Tensors", "Waveform", "no_output"]

OUTPUT = "waveform"
# Hz, of what comes out of CosyVoice 2 and 3, and of a reference recording.
SAMPLE_RATE, PROMPT_RATE = 24_000, 16_000
# Seconds of a recording that the models take at most.
_LONGEST = 30.0
# The models stop at 750 speech tokens of 40 ms, wherever they are in the text.
_CAP = 30 * SAMPLE_RATE
_FLOATS = SampleFormat(SAMPLE_RATE, 1, is_float=True, width=4)


class Tensor(NamedTuple):
    """One input: its numbers in little-endian, its texts each behind a length of 4 bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class Tensors:
    """The inputs of each request: who speaks, the same for all, and the text."""

    def __init__(self, model: str, options: SpeechOptions) -> None:
        """Write down who speaks. Raises ConfigError for a voice that such a model cannot take."""
        self._prompt = _prompt(_checked_voice(model, options))

    def ask(self, text: str) -> Sequence[Tensor]:
        """Return the inputs for a text. Raises InvalidTextError for one not encodable."""
        try:
            return [*self._prompt, _words("target_text", text)]
        except UnicodeEncodeError:
            raise InvalidTextError(
                "a text holds half a character that UTF-8 cannot carry"
            ) from None


class Waveform:
    """One text's sound, out of tensors of floats that come one after the other."""

    def __init__(self) -> None:
        self._count = 0

    @property
    def has_heard(self) -> bool:
        """Return whether any sample came."""
        return self._count > 0

    def take(self, floats: bytes | memoryview, datatype: Any, shape: Iterable[Any]) -> bytes:
        """Return a tensor's samples as 16 bits. Raises BadAudioError."""
        if datatype != "FP32":
            raise _no_waveform(f"a tensor of {datatype!r:.40} in place of FP32")
        try:
            announced = math.prod(shape)
        except TypeError:
            raise _no_waveform("a tensor without a shape") from None
        if len(floats) % 4:
            raise BadAudioError("the waveform ends in the middle of a sample", reason="odd")
        if 4 * announced != len(floats):
            raise BadAudioError(
                f"the waveform has {len(floats)} bytes, but its shape says another size",
                reason="cut",
            )
        try:
            pcm = to_pcm16(floats, _FLOATS)
        except BadAudioError:
            raise _no_waveform("samples that are no numbers") from None
        self._count += announced
        return pcm

    def check_end(self) -> None:
        """Raise BadAudioError where the model stopped at its limit, maybe within the text."""
        if self._count == _CAP:
            raise BadAudioError(
                "the sound stops at exactly 30 s, where the model's limit of 750 tokens cuts it; "
                "give the text in shorter pieces",
                reason="cut",
                retryable=False,
            )


def no_output(names: Iterable[Any]) -> BadAudioError:
    """Return the error of a reply whose outputs have these names."""
    shown = ", ".join(f"{name!r:.40}" for name in names) or "none"
    return _no_waveform(f"outputs: {shown}")


def _checked_voice(model: str, options: SpeechOptions) -> Voice | None:
    check_model(options, tells_rate=False)
    voice = options.voice
    if voice is None:
        if is_third(model):
            raise ConfigError(
                f"voice: {model} has no speaker of its own; give Voice(reference='me.wav', "
                "transcript='...')"
            )
        return None
    if voice.name is not None:
        raise ConfigError(
            "voice: the wire 'triton' cannot take a speaker's name, for which its models have no "
            "field; give Voice(reference='me.wav', transcript='...'), or no voice for the one "
            "speaker that cosyvoice2 has"
        )
    if voice.instruction is not None:
        raise ConfigError(
            "voice: the wire 'triton' cannot take an instruction; leave it out, or use "
            "wire='runtime_http'"
        )
    if voice.transcript is None:
        raise ConfigError(
            "voice: the wire 'triton' takes a recording only with its transcript: "
            "Voice(reference=..., transcript='what is said in it')"
        )
    return voice


def _prompt(voice: Voice | None) -> tuple[Tensor, ...]:
    if voice is None:
        return ()
    recording = voice.reference
    if not isinstance(recording, Recording):
        raise ConfigError("voice: make a client with it: that reads the recording")
    if recording.sample_rate != PROMPT_RATE or recording.duration > _LONGEST:
        raise ConfigError(
            f"voice: a recording of {recording.duration:.1f} s at {recording.sample_rate} Hz; "
            f"CosyVoice's Triton models take at most {_LONGEST:g} s at {PROMPT_RATE} Hz"
        )
    samples = _floats(recording.wav)
    count = len(samples) // 4
    return (
        Tensor("reference_wav", "FP32", (1, count), samples),
        Tensor("reference_wav_len", "INT32", (1, 1), struct.pack("<i", count)),
        _words("reference_text", voice.transcript or ""),
    )


def _floats(wav: bytes) -> bytes:
    with wave.open(io.BytesIO(wav)) as file:
        pcm = file.readframes(file.getnframes())
    samples = [each / 32768 for (each,) in struct.iter_unpack("<h", pcm)]
    return struct.pack(f"<{len(samples)}f", *samples)


def _words(name: str, text: str) -> Tensor:
    data = text.encode()
    return Tensor(name, "BYTES", (1, 1), len(data).to_bytes(4, "little") + data)


def _no_waveform(what: str) -> BadAudioError:
    return BadAudioError(
        f"expected the output {OUTPUT!r} of CosyVoice's Triton models, got {what}; check the "
        "model's name and the wire",
        reason="not_audio",
    )
