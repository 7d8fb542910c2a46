"""The cache of one configuration: texts by their digests, in one or several stores."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from ..config import CacheConfig, ClientConfig
from ..errors import (
    BadRequestError,
    CosyError,
    DeadlineError,
    RefusedError,
    TextError,
    TransportError,
    UnavailableError,
)
from ..models import Audio, Outcome, Utterance
from .digest import Prefixes, digest_text
from .entry import Found, decode, encode
from .guard import GuardedStore
from .ports import Entry

__all__ = ["Leases", "SpeechCache"]

# The share of `ttl` by which that of a text may differ, either way.
_SPREAD = 0.1
# Errors after which audio that is too old may be used, where that is wished.
_PASSING = (RefusedError, TransportError, UnavailableError, DeadlineError)

# The time in Unix seconds, which processes share.
_wall = time.time

Results = dict[str, "Audio | CosyError"]


class Leases:
    """What this process is having spoken: other processes wait for it.

    Callers in this process do not wait here: the text queue lets them share one call.
    """

    def __init__(self, stores: Sequence[GuardedStore]) -> None:
        # The last one reaches the most processes.
        self._store = next((store for store in reversed(stores) if store.leases), None)
        # Guards: _held.
        self._lock = threading.Lock()
        # How many callers here have each digest spoken.
        self._held: dict[str, int] = {}

    @property
    def shared(self) -> bool:
        """Return whether other processes can be heard of."""
        return self._store is not None

    def take(self, digests: Sequence[str], seconds: float) -> set[str]:
        """Take those that no other process has; return them."""
        if self._store is None or seconds <= 0:
            return set(digests)
        with self._lock:
            free = self._missing(digests)
        taken = set(self._store.lease(free, seconds)) if free else set()
        with self._lock:
            mine = self._hold(digests, taken)
        return mine

    def give_back(self, digests: Iterable[str]) -> None:
        """Give back what was taken, each once for every time that it was."""
        if self._store is None:
            return
        with self._lock:
            over = self._let_go(digests)
        if over:
            self._store.release(over)

    def _missing(self, digests: Sequence[str]) -> list[str]:
        """Return those that nobody here has; the lock is held."""
        return [digest for digest in digests if digest not in self._held]

    def _hold(self, digests: Sequence[str], taken: set[str]) -> set[str]:
        """Count once more what was taken or is held already, and return it; the lock is held."""
        mine = {each for each in digests if each in taken or each in self._held}
        for digest in mine:
            self._held[digest] = self._held.get(digest, 0) + 1
        return mine

    def _let_go(self, digests: Iterable[str]) -> list[str]:
        """Count once less; return what nobody here has any more. The lock is held."""
        over = []
        for digest in digests:
            left = self._held.get(digest, 0) - 1
            if left > 0:
                self._held[digest] = left
            elif left == 0:
                del self._held[digest]
                over.append(digest)
        return over


class SpeechCache:
    """Finds and keeps the audio of texts, as a configuration has them spoken.

    Args:
        stores: The quickest first; what a later one has is put into those before it.
        leases: Of all configurations.
        prefixes: Of all configurations.
        config: One with a cache.
    """

    def __init__(
        self,
        stores: Sequence[GuardedStore],
        leases: Leases,
        prefixes: Prefixes,
        config: ClientConfig,
    ) -> None:
        assert config.cache is not None
        self.options: CacheConfig = config.cache
        self._stores, self._leases = stores, leases
        self._config, self._prefixes = config, prefixes
        # Sound that nobody checked is not kept.
        self._checked = config.verify.enabled

    def digest(self, text: Utterance) -> str:
        """Return the digest of a text, under settings of its own where it has some."""
        return digest_text(self._prefixes.of(text.settings or self._config), text.text)

    def find(self, digests: Sequence[str], *, stale: bool = False) -> Results:
        """Return what is known of texts, by their digests; also what is too old, if `stale`."""
        found: Results = {}
        missing: Sequence[str] = digests
        late = self.options.stale_if_error if stale else 0.0
        now = _wall()
        for place, store in enumerate(self._stores):
            there = self._read(store, missing, now - late)
            if there and place:
                self._lift(there, self._stores[:place], now)
            found.update({digest: each.result for digest, each in there.items()})
            missing = [digest for digest in missing if digest not in found]
            if not missing:
                break
        return found

    def find_again(self, digests: Sequence[str]) -> Results:
        """Look once more after leases were taken: who had them before may have just put them."""
        return self.find(digests) if self._leases.shared and self.options.lease > 0 else {}

    def keep_batch(self, texts: Sequence[Utterance], outcomes: Sequence[Outcome]) -> None:
        """Keep what became of a batch of a call of many: its outcomes have their texts' indexes."""
        digests = {text.index: self.digest(text) for text in texts}
        self.keep([(digests[outcome.index], outcome) for outcome in outcomes])

    def keep(self, outcomes: Sequence[tuple[str, Outcome]], *, leased: bool = True) -> None:
        """Keep checked audio, and for a moment that a text was refused; let others go on.

        Args:
            outcomes: With the digests of their texts. (Not with the texts: a batch that single
                texts share gives these its own indexes.)
            leased: Whether their leases were taken.
        """
        entries = []
        for digest, outcome in outcomes:
            try:
                entry = self._entry(digest, outcome)
            except Exception as error:  # what cannot be written down: no error of the text
                self._stores[-1].complain("write down a text", error)
                continue
            if entry is not None:
                entries.append(entry)
        if entries:
            for store in self._stores:
                store.put_many(entries)
        if leased:
            self._leases.give_back([digest for digest, _ in outcomes])

    def _entry(self, digest: str, outcome: Outcome) -> Entry | None:
        """Return what is kept of an outcome, if anything is."""
        options, now, error = self.options, _wall(), outcome.error
        if outcome.audio is not None:
            # What another model spoke in place of a canary is not the canary's audio.
            if not self._checked or outcome.audio.variant == "fallback":
                return None
            seconds = options.ttl * _spread(digest)
            data = encode(digest, outcome.audio, now + seconds)
            return Entry(digest, data, seconds + options.stale_if_error)
        seconds = options.refused_ttl
        if error is None or not seconds or not _is_refusal(error):
            return None
        error = error.with_details(index=None, attempts=())
        return Entry(digest, encode(digest, error, now + seconds), seconds)

    def lease(self, digests: Sequence[str]) -> set[str]:
        """Take those texts that no other process is having spoken; return them."""
        return self._leases.take(digests, self.options.lease)

    def release(self, digests: Iterable[str]) -> None:
        """Let others speak what was taken and is not kept."""
        if self.options.lease > 0:
            self._leases.give_back(digests)

    def stale(self, text: Utterance, outcome: Outcome) -> Outcome:
        """Return audio that is too old in place of an error that passes, where that is wished."""
        if not self.options.stale_if_error or not isinstance(outcome.error, _PASSING):
            return outcome
        digest = self.digest(text)
        audio = self.find([digest], stale=True).get(digest)
        if not isinstance(audio, Audio):
            return outcome
        return Outcome(outcome.index, outcome.text, audio)

    def _read(
        self, store: GuardedStore, digests: Sequence[str], since: float
    ) -> Mapping[str, Found]:
        """Return what one store has that was fresh at an instant; what is torn is deleted."""
        found, torn = {}, []
        for digest, data in store.get_many(digests).items():
            try:
                each = decode(digest, data)
            except Exception as error:  # whatever such bytes, or a store's own objects, lead to
                torn.append(digest)
                store.complain("read an entry", error)
                continue
            if each.until > since:
                found[digest] = each
        if torn:
            store.delete(torn)
        return found

    def _lift(self, found: Mapping[str, Found], stores: Sequence[GuardedStore], now: float) -> None:
        """Put what a slower store had into the quicker ones."""
        entries = []
        for digest, each in found.items():
            seconds = each.until - now
            if isinstance(each.result, Audio):
                seconds += self.options.stale_if_error
            if seconds > 0:
                entries.append(Entry(digest, encode(digest, each.result, each.until), seconds))
        for store in stores if entries else ():
            store.put_many(entries)


def _spread(digest: str) -> float:
    """Return a factor near 1, the same for a text in every process."""
    return 1 + _SPREAD * (2 * int(digest[:8], 16) / 0xFFFF_FFFF - 1)


def _is_refusal(error: CosyError | None) -> bool:
    """Tell whether the service refused the text itself, and not the call or the key."""
    if not isinstance(error, (TextError, BadRequestError)) or error.hopeless:
        return False
    return error.blames not in ("voice", "service")
