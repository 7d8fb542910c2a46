"""The services that speak `/v1/audio/speech`, and how each wants to be asked."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..config.amounts import DefaultCount
from ..errors import ConfigError
from ..models import Recording, Voice
from . import prompts
from .base import VOICES, Capabilities, SpeechOptions

__all__ = ["SERVICES", "Target", "capabilities_of", "data_uri", "find_target", "speech_fields"]

SERVICES = ("other", "sglang", "siliconflow", "vllm", "xinference")
# Those that have a route of batches beside the one of single texts.
_BATCHING = ("sglang", "vllm")

_SPEECH = "/audio/speech"
_BATCH = "/audio/speech/batch"
_VOICES = "/audio/voices"
# Items that a batch route takes where its operator has not changed it.
_MAX_ITEMS = 32
_MAX_INSTRUCTION = 500
_SILICONFLOW_RATES = (8_000, 16_000, 24_000, 32_000, 44_100)
# What these do with an instruction and the transcript of a recording together.
_EITHER = {
    "sglang": "SGLang-Omni refuses an instruction",
    "xinference": "Xinference ignores the instruction",
}
_EVERY_VOICE = frozenset({"name", "reference", "instruction"})


@dataclass(frozen=True)
class Target:
    """One server: which service it is, and its addresses. `batch` where calls take many texts."""

    service: str
    speech_url: str
    voices_url: str
    batch_url: str
    batch: bool


def find_target(endpoint_url: str, service: object) -> Target:
    """Find the addresses that belong to an endpoint's URL, a base or a whole path.

    Args:
        endpoint_url: Ends in /audio/speech, in /audio/speech/batch, or is what stands before.
        service: One of SERVICES, None to guess it from the URL.

    Raises ConfigError for an unknown service, and for a batch route that it does not have.
    """
    parts = urlsplit(endpoint_url)
    path = parts.path.rstrip("/")
    batch = path.endswith(_BATCH)
    base = path.removesuffix(_BATCH).removesuffix(_SPEECH) if path else "/v1"
    if service is None:
        host = parts.hostname or ""
        service = "vllm" if batch else "siliconflow" if "siliconflow" in host else "other"
    if isinstance(service, str):  # vllm-omni, sglang_omni
        service = service.replace("_", "-").removesuffix("-omni")
    if service not in SERVICES:
        raise ConfigError(f"extra: service must be one of {', '.join(SERVICES)}, not {service!r}")
    if batch and service not in _BATCHING:
        raise ConfigError(
            "url: only vLLM-Omni and SGLang-Omni have /audio/speech/batch; end the URL before "
            "/batch, or say extra={'service': 'sglang'}"
        )

    def at(tail: str) -> str:
        return urlunsplit(parts._replace(path=base + tail))

    return Target(str(service), at(_SPEECH), at(_VOICES), at(_BATCH), batch)


def capabilities_of(target: Target, max_texts: int) -> Capabilities:
    """Return what this service can do.

    `max_texts` is BatchConfig.max_texts: whoever set it for a batch route knows how many items its
    operator allows.
    """
    known = target.service != "other"
    items = 1
    if target.batch:
        items = _MAX_ITEMS if isinstance(max_texts, DefaultCount) else max_texts
    limits = {
        # Eight utterances are spoken at once there, the others wait; a batch is up to 32 of them.
        "vllm": {"max_connections": 4 if target.batch else 16},
        "sglang": {"max_connections": 4 if target.batch else 16},
        # Accounts have limits a minute that differ: 429 tells them.
        "siliconflow": {"max_connections": 20, "rate": 20.0},
        # A lock for each model.
        "xinference": {"max_connections": 4},
        "other": {"max_connections": 16},
    }[target.service]
    siliconflow = target.service == "siliconflow"
    return Capabilities(
        max_texts_per_call=items,
        max_text_chars=128_000 if siliconflow else None,
        sample_rates=_SILICONFLOW_RATES if siliconflow else None,
        voices=_EVERY_VOICE if known else frozenset({"name", "instruction"}),
        streaming=True,
        gzip=False,
        # uvicorn closes after 5 s.
        idle_expiry=4.0,
        **limits,  # type: ignore[arg-type]
    )


def speech_fields(service: str, options: SpeechOptions) -> tuple[str, dict[str, Any]]:
    """Return what stands before each text, and the fields of a request beside it.

    A reference recording is among them for SiliconFlow only. Raises ConfigError for
    what this service cannot do.
    """
    voice = options.voice
    if voice is not None:
        _check_voice(service, voice, options.model)
    fields: dict[str, Any] = {name: value for name, value in options.extra.items()}
    fields.pop("service", None)
    if options.model is not None:
        fields["model"] = options.model
    if options.speed != 1:
        fields["speed"] = options.speed
    if voice is not None and voice.name is not None:
        fields["voice"] = voice.name
    before = ""
    if service == "siliconflow":
        before = _say_siliconflow(options, fields)
    elif service == "xinference":
        _say_xinference(options, fields)
    elif voice is not None and voice.instruction is not None:
        fields["instructions"] = voice.instruction
    return before, fields


def data_uri(recording: Recording) -> str:
    """Write a recording into a URL."""
    return "data:audio/wav;base64," + base64.b64encode(recording.wav).decode("ascii")


def _say_siliconflow(options: SpeechOptions, fields: dict[str, Any]) -> str:
    if "model" not in fields:
        raise ConfigError(
            "model: SiliconFlow needs one, such as model='FunAudioLLM/CosyVoice2-0.5B'"
        )
    fields["sample_rate"] = options.sample_rate
    voice = options.voice
    named = voice is not None and (voice.name is not None or voice.reference is not None)
    if not named and not fields.get("voice") and not fields.get("references"):
        raise ConfigError(
            "voice: SiliconFlow needs one: the model's name and a speaker's, such as "
            "voice='FunAudioLLM/CosyVoice2-0.5B:alex', or Voice(reference=..., transcript=...)"
        )
    if voice is None:
        return ""
    if voice.reference is not None:
        assert isinstance(voice.reference, Recording)
        # An empty name says that the voice is the recording's.
        fields["voice"] = ""
        audio = data_uri(voice.reference)
        fields["references"] = [{"audio": audio, "text": voice.transcript}]
    if voice.instruction is None:
        return ""
    return prompts.instruction(voice.instruction, options.model)


def _say_xinference(options: SpeechOptions, fields: dict[str, Any]) -> None:
    voice = options.voice
    # The field is required; empty means the model's first speaker.
    fields.setdefault("voice", "")
    given = fields.pop("kwargs", {})
    try:
        more = dict(json.loads(given) if isinstance(given, str) else given)
    except (ValueError, TypeError):
        raise ConfigError("extra: kwargs must be a mapping, or one written as JSON") from None
    if "model" not in fields:
        raise ConfigError(
            "model: Xinference needs the uid under which it was launched, such as "
            "model='CosyVoice2-0.5B'"
        )
    if voice is not None and voice.transcript is not None:
        more["prompt_text"] = voice.transcript
    if voice is not None and voice.instruction is not None:
        more["instruct_text"] = voice.instruction
    if more:
        fields["kwargs"] = json.dumps(more, ensure_ascii=False)


def _check_voice(service: str, voice: Voice, model: str | None) -> None:
    """Raise ConfigError for a voice that would be ignored or refused, with the way out."""
    why = ""
    cloned = voice.reference is not None
    words = voice.instruction
    if cloned and service == "other":
        why = (
            "which field takes a reference recording differs between services; say which one this "
            "is: extra={'service': 'vllm'} (vLLM-Omni), 'xinference' or 'siliconflow'"
        )
    elif cloned and voice.name is not None:
        why = "the service takes a name or a reference recording, not both; leave one out"
    elif cloned and service in ("vllm", "siliconflow") and voice.transcript is None:
        why = "the service needs the words of the reference recording: add transcript=..."
    elif words is not None and service == "vllm" and len(words) > _MAX_INSTRUCTION:
        why = f"vLLM-Omni takes instructions of at most {_MAX_INSTRUCTION} characters"
    elif words is not None and service == "xinference" and _lacks(model, cloned):
        right = VOICES["reference" if not cloned else "name"]
        why = f"{model} takes an instruction only with {right}"
    elif words is not None and cloned and service in _EITHER and voice.transcript is not None:
        why = f"{_EITHER[service]} beside a transcript; leave one of them out"
    if why:
        raise ConfigError(f"voice: {why}")


def _lacks(model: str | None, cloned: bool) -> bool:
    """Return whether a model's name says that it has no such instruction: CosyVoice 1 takes one
    with a speaker, 2 and 3 with a recording."""
    known = prompts.generation(model)
    return known is not None and cloned == (known == 1)
