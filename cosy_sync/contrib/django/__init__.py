"""Speech for Django: put "cosy_sync.contrib.django" into INSTALLED_APPS.

`speech["default"]` is the client of an alias in settings.COSY_SYNC. Nothing here reads the
settings or opens a connection before the first text.
"""

from .aliases import speech
from .async_calls import asynth_many
from .calls import synth, synth_many
from .views import (
    SpeechErrorMiddleware,
    audio_response,
    health,
    speech_errors,
    streaming_response,
)

__all__ = [
    "SpeechErrorMiddleware",
    "asynth_many",
    "audio_response",
    "health",
    "speech",
    "speech_errors",
    "streaming_response",
    "synth",
    "synth_many",
]
