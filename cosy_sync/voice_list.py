"""The voices of a service, and who named them: the service itself, or its documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import ClientConfig
    from .core import Core

__all__ = ["ListedVoice", "VoiceList", "list_voices"]

# Seconds that each question may take, if the client's deadline is not shorter; and bytes of an
# answer.
_SECONDS = 30.0
_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ListedVoice:
    """A voice: `name` is what `voice=` takes. `source` says who named it: "service" or
    "documents"."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class VoiceList:
    """The voices of a service, its own answer first.

    `asked` tells whether the service gave a list; `documents` which documents named the others,
    empty where none did. A service may have more than its documents name, and another model less.
    """

    voices: tuple[ListedVoice, ...]
    asked: bool
    documents: str

    @property
    def names(self) -> tuple[str, ...]:
        """Return their names."""
        return tuple(voice.name for voice in self.voices)

    def __iter__(self) -> Iterator[ListedVoice]:
        return iter(self.voices)

    def __len__(self) -> int:
        return len(self.voices)

    def __contains__(self, name: object) -> bool:
        return name in self.names


def list_voices(core: Core, config: ClientConfig) -> VoiceList:
    """Ask the first endpoint, and add what documents name; see CosyClient.voices."""
    from .wires import SpeechOptions
    from .wires.voice_lists import Documented, ask_voices, documented_voices

    network, url = core.engine().network, core.endpoints[0].url
    options = SpeechOptions.from_config(config)
    seconds = min(_SECONDS, config.deadline)
    told = ask_voices(
        config.wire,
        url,
        options,
        lambda request: network.post(request, seconds, _MAX_BYTES, _keep_nothing),
    )
    known = documented_voices(config.wire, url, options)
    if told is not None and not known.beside:  # the service's list is whole
        known = Documented((), "")
    voices = [ListedVoice(name, "service") for name in told or ()]
    voices += [ListedVoice(name, "documents") for name in known.names if name not in (told or ())]
    return VoiceList(tuple(voices), told is not None, known.where)


def _keep_nothing(size: int) -> None:
    """Make no room: a list is small."""
