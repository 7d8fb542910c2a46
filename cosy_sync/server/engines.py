"""What an engine must do, and which engine a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .config import ServerConfig
from .sound import Clip, Failure
from .tone import ToneEngine


class Engine(Protocol):
    """Turns texts into PCM16LE mono audio."""

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the known voices; the first is the default."""
        ...

    async def synthesize(
        self, texts: Sequence[str], voice: str, sample_rate: int, speed: float
    ) -> list[Clip | Failure]:
        """Speak each text, in order, without blocking the event loop."""
        ...

    def close(self) -> None:
        """Give back threads and files."""
        ...


def open_engine(config: ServerConfig) -> Engine:
    """Start the configured engine. Raises MissingExtraError when its package is absent."""
    if config.engine == "tone":
        return ToneEngine(audio_bytes=config.audio_bytes, seconds_per_char=config.seconds_per_char)
    from .espeak import EspeakEngine

    return EspeakEngine(config.speakers)
