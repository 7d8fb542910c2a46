"""A stream from the call for it until it has ended, and the attempts that it is opened by."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..endpoints.endpoint import EndpointState
from ..models import Utterance
from .attempt import AttemptRunner
from .audio_stream import AudioStream
from .batch import Batch
from .ports import Result
from .tenants import TenantLimit
from .text_pump import TextPump

__all__ = ["OpenStream", "StreamingAttempts"]


class OpenStream:
    """A stream from the call for it until it has ended, and what it holds beside its batch.

    `on_end` is called once nothing more comes.
    """

    __slots__ = ("_owner", "audio", "batch", "on_end", "source", "tenant_limit")

    def __init__(self, batch: Batch, source: TextPump | None) -> None:
        self.batch = batch
        self.source = source
        # Once its first sound is there.
        self.audio: AudioStream | None = None
        self.on_end: Callable[[], None]
        # Of its tenant, once it is inside.
        self.tenant_limit: TenantLimit | None = None
        self._owner = threading.get_ident()

    @property
    def thread(self) -> int:
        """Return which thread reads it, or asked for it."""
        read_by = self.audio.thread if self.audio is not None else None
        return self._owner if read_by is None else read_by

    def close(self) -> None:
        """Hang up, if there is a reply already."""
        audio = self.audio
        if audio is not None:
            audio.close()


@dataclass(frozen=True)
class StreamingAttempts:
    """Makes attempts like an AttemptRunner, each an AudioStream that its stream takes over."""

    attempter: AttemptRunner
    stream: OpenStream

    def attempt(
        self, batch: Batch, texts: Sequence[Utterance], endpoint: EndpointState, number: int
    ) -> Sequence[Result]:
        """Send a text and wait for its first sound; there is no result yet. Raises what failed."""
        stream = self.stream
        audio = AudioStream(self.attempter, batch, endpoint, number, stream.on_end, stream.source)
        audio.begin()
        stream.audio = audio
        return ()
