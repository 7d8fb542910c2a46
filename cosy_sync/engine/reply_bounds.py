"""How large a reply can be before it is too much to be true."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import ClientConfig

__all__ = ["ReplyBounds"]

# Headers and names around each text's audio, generously, in bytes.
_WRAPPING = 4096
# Bytes per second of the best sound that a service may send where it ignores the sample rate.
_BEST_SOUND = 2 * 48_000


class ReplyBounds:
    """Bounds the bytes of replies: the longest plausible speech, a third more for base64."""

    def __init__(self, config: ClientConfig) -> None:
        verify = config.verify
        self._most = config.limits.max_reply_bytes
        self._believes = not verify.enabled
        per_second = max(2 * config.sample_rate, _BEST_SOUND) / config.speed * 4 / 3
        self._per_text = _WRAPPING + (verify.slack + 1) * per_second
        self._per_char = verify.max_seconds_per_char * per_second

    @property
    def largest(self) -> int:
        """Return the bytes beyond which any reply is refused."""
        return self._most

    def most(self, texts: Sequence[str]) -> int:
        """Return the bytes beyond which a reply to these texts is refused while it is read."""
        if self._believes:
            return self._most
        chars = sum(map(len, texts))
        return min(self._most, int(len(texts) * self._per_text + chars * self._per_char))
