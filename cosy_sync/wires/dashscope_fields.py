"""What Alibaba's protocols have in common to say beside the texts, checked."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .base import SpeechOptions

__all__ = ["RATES", "speech_fields"]

# Hz.
RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
_SPEEDS = (0.5, 2.0)


def speech_fields(options: SpeechOptions) -> tuple[str, dict[str, Any]]:
    """Return the model's name, and the fields that say who speaks and how.

    Raises ConfigError for what the service cannot do.
    """
    voice = options.voice
    if options.model is None:
        raise ConfigError("model: this service needs one, such as model='cosyvoice-v3-flash'")
    if voice is None or voice.name is None:
        raise ConfigError("voice: this service needs a speaker's name, such as Voice('longanyang')")
    low, high = _SPEEDS
    if not low <= options.speed <= high:
        raise ConfigError(f"speed: this service speaks at {low} to {high}, not {options.speed}")
    fields = {
        **options.extra,
        "voice": voice.name,
        "sample_rate": options.sample_rate,
        "rate": options.speed,
    }
    if voice.instruction is not None:
        fields["instruction"] = voice.instruction
    return options.model, fields
