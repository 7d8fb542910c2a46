"""How large replies are: expected from what came before, and what is too much to be true."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import ClientConfig

__all__ = ["ReplySizes"]

# Seconds of speech per character before anything was heard; Mandarin takes 0.2 to 0.3.
_PRIOR = 0.25
# Share of the newest reply in the running mean.
_WEIGHT = 0.2
# Headers and names around each text's audio, generously, in bytes.
_WRAPPING = 4096


class ReplySizes:
    """Bytes of a reply for so many characters. One float is written without a lock: any thread's
    value is as good as another's."""

    def __init__(self, config: ClientConfig) -> None:
        self._verify = config.verify
        self._per_second = 2 * config.sample_rate
        self._speed = config.speed
        self._most = config.limits.max_reply_bytes
        self._per_char = _PRIOR * self._per_second

    def expected(self, chars: int) -> int:
        """Return the bytes that a reply will probably have."""
        return int(chars * self._per_char) + 1

    def learn(self, chars: int, size: int) -> None:
        """Take a reply's size into the mean."""
        self._per_char += _WEIGHT * (size / chars - self._per_char)

    def most(self, texts: Sequence[str]) -> int:
        """Return the bytes beyond which a reply cannot be what was asked for.

        The longest plausible speech, at up to 48 kHz where the service ignores the sample rate,
        a third more for base64.
        """
        if not self._verify.enabled:
            return self._most
        chars = sum(map(len, texts))
        seconds = len(texts) * (self._verify.slack + 1) + chars * self._verify.max_seconds_per_char
        rate = max(self._per_second, 96_000)
        return min(self._most, int(seconds / self._speed * rate * 4 / 3) + len(texts) * _WRAPPING)
