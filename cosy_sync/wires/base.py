"""What every wire is: texts to a request, a reply to one payload or error per text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..config import ClientConfig
from ..errors import CosyError, ServerError
from ..messages import Payload, Reply, Request

__all__ = ["Capabilities", "SpeechOptions", "Wire"]


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a wire can do."""

    # Texts that one call takes.
    max_texts_per_call: int


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """What a wire says in each request beside the texts. ClientConfig explains the fields."""

    voice: str | None
    model: str | None
    format: str
    sample_rate: int
    speed: float
    api_key: str | None = field(repr=False)
    # May hold keys as well.
    headers: Mapping[str, str] = field(repr=False)
    gzip_above: int
    gzip_replies: bool
    halve_refused: bool

    @classmethod
    def from_config(cls, config: ClientConfig) -> SpeechOptions:
        """Take what wires need out of a client's settings."""
        return cls(
            voice=None if config.voice is None else config.voice.name,
            model=config.model,
            format=config.format,
            sample_rate=config.sample_rate,
            speed=config.speed,
            api_key=config.api_key,
            headers=config.headers,
            gzip_above=config.batch.gzip_above,
            gzip_replies=config.batch.gzip_replies,
            halve_refused=config.batch.halve_refused,
        )


class Wire(Protocol):
    """One protocol spoken with one endpoint. Immutable: any number of threads may share it."""

    @property
    def name(self) -> str:
        """Return the name that the registry knows it by."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Return what it can do."""
        ...

    def encode(self, texts: Sequence[str], request_id: str) -> Request:
        """Build the request for these texts. Raises InvalidTextError for one not encodable."""
        ...

    def decode(self, reply: Reply, texts: Sequence[str]) -> list[Payload | CosyError]:
        """Return one payload or error per text, in their order.

        The texts are only counted, and blanked out of what the service says, so that no error
        and no log shows them. Raises CosyError when the whole reply is of no use.
        """
        ...

    def splits(self, error: ServerError) -> bool:
        """Return whether one text may be to blame for the refusal of the whole call."""
        ...
