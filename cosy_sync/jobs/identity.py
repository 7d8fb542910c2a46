"""Which text is which: what stands for its words and its voice, and whose shard it is in."""

from __future__ import annotations

import functools
import hashlib

from cosy_sync import ConfigError, CosyClient, InvalidTextError, Voice
from cosy_sync.config import CallSettings, Settings
from cosy_sync.jobs.inputs import JobText

__all__ = ["TextDigest", "is_mine"]

# Ways to speak whose views of the client are kept.
_VIEWS = 1_000


class TextDigest:
    """Returns what stands for a text and the way in which a client would speak it: the client's own
    digest, by which its cache knows the text too."""

    def __init__(self, client: CosyClient) -> None:
        self._client = client
        # By voice, instruction and speed: the client as it is for texts that ask for them.
        self.view = functools.lru_cache(_VIEWS)(functools.partial(_view, client))

    def __call__(self, text: JobText) -> bytes:
        """Return the digest of a text: 20 bytes, the same in every process and version.

        Raises ConfigError, which says where it was read, where the service cannot speak as the text
        asks for.
        """
        own = (text.voice, text.instruction, text.speed)
        try:
            view = self._client if own == (None, None, None) else self.view(*own)
        except ConfigError as error:
            raise ConfigError(f"{text.place or repr(text.id)}: {error.message}") from None
        try:
            # As the old model speaks it, where a new one is tried: its share may change meanwhile.
            stable: CallSettings = {"variant": "stable"} if view.config.canary else {}
            return bytes.fromhex(view.digest(text.text, **stable))
        except InvalidTextError:  # nobody speaks it, in whatever way
            words = b"refused\n" + text.text.encode("utf-8", "surrogatepass")
            return hashlib.blake2b(words, digest_size=20).digest()


def _view(
    client: CosyClient, name: str | None, instruction: str | None, speed: float | None
) -> CosyClient:
    """Return the client as it is for a text of this voice, instruction and speed."""
    settings, voice = Settings(), client.config.voice
    if speed is not None:
        settings["speed"] = speed
    if name is not None:
        own = voice.instruction if voice is not None else None
        settings["voice"] = Voice(name, instruction=instruction or own)
    elif instruction is not None:
        settings["instruction"] = instruction
    return client.with_options(**settings)


def is_mine(id: str, shard: tuple[int, int] | None) -> bool:
    """Return whether a shard, such as (2, 16), holds the text of this id."""
    if shard is None:
        return True
    number, of = shard
    hashed = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "big") % of == number - 1
