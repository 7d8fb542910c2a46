"""The wire `runtime_grpc`: CosyVoice's own gRPC server, one text a call, sound as messages."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from ..errors import (
    BadAudioError,
    ConfigError,
    CosyError,
    InvalidTextError,
    ServerError,
)
from ..messages import Payload, Reply, RpcRequest, WireRequest
from ..models import Recording, Voice
from .base import Capabilities, Send, SpeechOptions, StreamReader
from .pcm_stream import SampleReader
from .prompts import (
    check_model,
    cross_lingual_text,
    generation,
    nothing_spoken,
    zero_shot_prompt,
)
from .protobuf import read_fields, write_field
from .rpc_calls import broken_off, messages_of, metadata_of
from .rpc_status import OK, read_status

__all__ = ["RuntimeGrpcWire"]

_PATH = "/cosyvoice.CosyVoice/Inference"
# The fields of Request, one of which is there, and the one of Response (cosyvoice.proto).
_SFT, _ZERO_SHOT, _CROSS_LINGUAL, _INSTRUCT = 1, 2, 3, 4
_TTS_AUDIO = 1

# Hz, of the bare samples that a reference recording is sent as.
_PROMPT_RATE = 16_000


class RuntimeGrpcWire:
    """Speak with one server of CosyVoice's runtime/python/grpc."""

    name = "runtime_grpc"
    capabilities = Capabilities(
        max_texts_per_call=1,
        schemes=("grpc", "grpcs"),
        formats=("pcm",),
        sample_rates=(22_050, 24_000),
        voices=frozenset({"name", "reference", "instruction"}),
        reference_rates=(_PROMPT_RATE, _PROMPT_RATE),
        features=frozenset({"model"}),
        streaming=True,
        gzip=False,
        # The server's own default (--max_conc); what is beyond it is refused, not queued.
        max_connections=4,
        # There is no limit of the rate.
        rate=1000.0,
        # gRPC servers keep idle connections; what lies between forgets them after some minutes.
        idle_expiry=200.0,
    )

    def __init__(self, endpoint_url: str, options: SpeechOptions) -> None:
        self._url = _checked_address(endpoint_url)
        self._metadata = metadata_of(options, self.name)
        self._speaker = _Speaker(options)
        self._sample_rate = options.sample_rate
        self._media_type = f"audio/pcm;rate={options.sample_rate}"

    def __repr__(self) -> str:
        return f"<RuntimeGrpcWire {self._url}>"

    def exchange(
        self, texts: Sequence[str], send: Send, request_id: str
    ) -> list[Payload | CosyError]:
        """Ask for a text; see Wire. Raises CosyError."""
        (text,) = texts
        return [self.decode(send(self.encode(text, request_id)), texts)]

    def encode(self, text: str, request_id: str) -> RpcRequest:
        """Build the call for a text. Raises InvalidTextError for one not encodable."""
        try:
            message = self._speaker.ask(text)
        except UnicodeEncodeError:
            raise InvalidTextError(
                "a text holds half a character that UTF-8 cannot carry"
            ) from None
        return RpcRequest(
            self._url, _PATH, message, (*self._metadata, ("x-request-id", request_id))
        )

    def decode(self, reply: Reply, texts: Sequence[str]) -> Payload:
        """Return a reply's sound. Raises TextError for a reply without a message, ServerError,
        CutError, BadAudioError."""
        try:
            messages = [*messages_of(reply.body)]
        except ValueError:
            raise _no_message() from None
        sound = b"".join(map(_sound, messages))
        error = read_status(reply, texts, self._speaker.name)
        if error is not None:
            raise broken_off(error).with_details(partial=sound) if sound else error
        if not messages:
            raise nothing_spoken(self._speaker.model)
        return Payload(sound, self._media_type)

    def splits(self, error: ServerError) -> bool:
        """Return whether one text may be to blame: with one text a call that is never in doubt."""
        return False

    def listen(self, text: str, send: Send, request_id: str) -> StreamReader:
        """Return what asks for a text and reads its sound, message by message; see Wire."""
        return _Reader(self.encode(text, request_id), text, self._sample_rate, self._speaker)


class _Speaker:
    """Who speaks, as the request says it: one of its four forms."""

    def __init__(self, options: SpeechOptions) -> None:
        voice = _checked_voice(options)
        self.name = voice.name
        self._form = _SFT
        self.model = options.model
        # Of the form, the number of the text, and the fields that stand before and after it.
        self._number = 2
        self._before, self._after = b"", b""
        if voice.reference is not None:
            self._imitate(voice, voice.reference)
        elif voice.instruction is not None:
            assert voice.name is not None
            # CosyVoice 1 marks the end itself.
            words = voice.instruction.encode()
            self._form, self._number = _INSTRUCT, 1
            self._after = write_field(2, voice.name.encode()) + write_field(3, words)
        elif voice.name is not None:
            self._before = write_field(1, voice.name.encode())

    def ask(self, text: str) -> bytes:
        """Write the request for a text. Raises UnicodeEncodeError."""
        if self._form == _CROSS_LINGUAL:
            text = cross_lingual_text(text, self.model)
        said = write_field(self._number, text.encode())
        return write_field(self._form, self._before + said + self._after)

    def _imitate(self, voice: Voice, reference: object) -> None:
        prompt = _prompt_audio(reference)
        self._number = 1
        if voice.transcript is None:
            self._form = _CROSS_LINGUAL
            self._after = write_field(2, prompt)
        else:
            self._form = _ZERO_SHOT
            words = zero_shot_prompt(voice.transcript, self.model)
            self._after = write_field(2, words.encode()) + write_field(3, prompt)


class _Reader:
    """One text's sound out of the messages of its call."""

    def __init__(self, request: RpcRequest, text: str, sample_rate: int, speaker: _Speaker) -> None:
        self.request: WireRequest = request
        self.sample_rate = sample_rate
        self._texts = (text,)
        self._speaker = speaker
        self._headers: Mapping[str, str] = {}
        self._has_begun = False
        self._samples = SampleReader(sample_rate, bare=True)

    def accept(self, status: int, headers: Mapping[str, str]) -> bool:
        """Return whether messages follow: a call that is refused has its status at once."""
        self._headers = headers
        return headers.get("grpc-status", OK) == OK

    def refuse(self, reply: Reply) -> CosyError:
        """Return the error that a call without a message ended with."""
        error = read_status(reply, self._texts, self._speaker.name)
        return error or nothing_spoken(self._speaker.model)

    def feed(self, data: bytes) -> bytes:
        """Take in a message; return its whole samples. Raises BadAudioError."""
        self._has_begun = True
        return self._samples.feed(_sound(data))

    def end(self) -> bytes:
        """Return what is still held. Raises what the service says where it failed, as CutError
        behind sound, TextError for no message, and BadAudioError for messages without sound, and
        for half a sample."""
        error = read_status(Reply(200, self._headers, b""), self._texts, self._speaker.name)
        if error is not None:
            raise broken_off(error) if self._samples.has_heard else error
        if not self._has_begun:
            raise nothing_spoken(self._speaker.model)
        return self._samples.end()


def _checked_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.port is None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(
            "url: a gRPC address has a host and a port and nothing more, such as "
            "grpc://tts.example.com:50000"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _checked_voice(options: SpeechOptions) -> Voice:
    """Return the voice if one of the server's four forms can say it, and the model has that.

    Raises ConfigError.
    """
    voice = options.voice
    if voice is None:
        raise ConfigError(
            "voice: the wire 'runtime_grpc' has no voice of its own; give a speaker that the model "
            "knows, such as voice='中文女', or Voice(reference=..., transcript=...)"
        )
    if voice.reference is None:
        if voice.name is None:
            raise ConfigError(
                "voice: the wire 'runtime_grpc' takes an instruction only with a speaker's name: "
                "Voice('中文女', instruction=...)"
            )
        if voice.instruction is not None and generation(options.model) in (2, 3):
            raise ConfigError(
                f"voice: {options.model} takes an instruction only with a recording (instruct2), "
                "which the wire 'runtime_grpc' cannot say; leave the instruction out, or use "
                "wire='runtime_http'"
            )
        check_model(options, tells_rate=False)
        return voice
    if voice.instruction is not None:
        raise ConfigError(
            "voice: the wire 'runtime_grpc' cannot take a recording and an instruction together "
            "(instruct2); leave the instruction out, or use wire='runtime_http'"
        )
    if voice.name is not None:
        raise ConfigError(
            "voice: the wire 'runtime_grpc' takes a speaker's name or a recording, not both"
        )
    check_model(options, tells_rate=False)
    return voice


def _prompt_audio(reference: object) -> bytes:
    """Return a recording as it is sent: samples of 16 000 Hz. Raises ConfigError."""
    if not isinstance(reference, Recording):
        raise ConfigError("voice: the reference must be a Recording (a WAV file, mono, 16-bit)")
    if reference.sample_rate != _PROMPT_RATE:
        raise ConfigError(
            f"voice: the wire 'runtime_grpc' sends recordings as bare samples of {_PROMPT_RATE} "
            f"Hz, and this one has {reference.sample_rate} Hz; convert it, such as with: "
            f"ffmpeg -i voice.wav -ac 1 -ar {_PROMPT_RATE} voice16k.wav"
        )
    with wave.open(io.BytesIO(reference.wav)) as file:
        samples: bytes = file.readframes(file.getnframes())
        return samples


def _sound(message: bytes) -> bytes:
    """Return the sound in a Response: of a field that comes twice, the last (proto3)."""
    try:
        found = [value for number, value in read_fields(message) if number == _TTS_AUDIO]
    except ValueError:
        raise _no_message() from None
    return found[-1] if found else b""


def _no_message() -> BadAudioError:
    return BadAudioError(
        "expected messages of CosyVoice's gRPC runtime, got others; is it a fork of the runtime, "
        "such as async_cosyvoice, which has another proto?",
        reason="not_audio",
    )
