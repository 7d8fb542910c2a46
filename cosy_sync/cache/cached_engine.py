"""The engine behind a cache: what is known is answered, what is not is sent as without one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from ..clock import Clock
from ..config import ClientConfig
from ..engine import Engine
from ..engine.audio_stream import AudioStream
from ..engine.batch import failed
from ..engine.bulk import BulkCall
from ..engine.small_call import SmallCall
from ..engine.text_future import TextFuture
from ..errors import CosyError
from ..models import PLAIN_FORMATS, Audio, Outcome, Utterance
from ..policies import Deadline
from ..user_code import unexpected
from .cached_call import CachedCall, CallTerms
from .cached_speech import KeptSpeech, KnownSpeech
from .counting import outcome_of, tell_misses, tell_of
from .digest import Prefixes
from .guard import GuardedStore
from .speech_cache import Leases, SpeechCache
from .waits import Waits

__all__ = ["CachedEngine"]

_Held = TypeVar("_Held")


class CachedEngine:
    """Does what clients ask an Engine for. Lookups and waits are those of the caller's thread."""

    def __init__(
        self, engine: Engine, stores: Sequence[GuardedStore], prefixes: Prefixes, clock: Clock
    ) -> None:
        self._engine, self._stores, self._observer = engine, stores, engine.observer
        self._clock, self._waits = clock, Waits(clock)
        self._leases, self._prefixes = Leases(stores), prefixes
        self.pid, self.endpoints, self.network = engine.pid, engine.endpoints, engine.network
        self.occupy, self.vacate = engine.occupy, engine.vacate
        # Where a client looks for `run_one`.
        self.interactive = self
        # Written as a whole, without a lock: whichever thread's it is, it is a right one.
        self._latest: tuple[ClientConfig, SpeechCache] | None = None

    def of(self, config: ClientConfig) -> SpeechCache:
        """Return the cache of a configuration that has one."""
        known = self._latest
        if known is None or known[0] is not config:
            known = self._latest = (
                config,
                SpeechCache(self._stores, self._leases, self._prefixes, config),
            )
        return known[1]

    # -- one text -------------------------------------------------------------------------------

    def run_one(self, utterance: Utterance, config: ClientConfig) -> Outcome:
        """Bring one text to its outcome; waits at most until its deadline."""
        if config.cache is None:
            return self._engine.interactive.run_one(utterance, config)
        cache, deadline = self.of(config), Deadline(self._clock.now(), config.deadline)
        digest = cache.digest(utterance)
        known = self._look_up(cache, digest, utterance)
        looks = 0
        while known is None and digest not in cache.lease([digest]):
            try:
                self._waits.pause(looks, deadline)
            except CosyError as error:
                return cache.stale(utterance, failed(utterance, error))
            looks += 1
            known = self._look_up(cache, digest, utterance)
        if known is not None:
            return known
        try:
            known = self._look_up_again(cache, digest, utterance)
            if known is not None:
                return known
            tell_misses(self._observer, 1)
            if looks:
                left = deadline.remaining(self._clock.now())
                config = replace(config, deadline=max(left, 0.001))
            outcome = self._engine.interactive.run_one(utterance, config)
        except BaseException:
            cache.release([digest])
            raise
        cache.keep([(digest, outcome)])
        return cache.stale(utterance, outcome)

    def submit(
        self,
        utterance: Utterance,
        config: ClientConfig,
        callback: Callable[[Future[Audio]], object] | None = None,
    ) -> Future[Audio]:
        """Bring one text to its outcome on a worker, or now, where it is known."""
        if config.cache is None:
            return self._engine.submit(utterance, config, callback)
        cache, future = self.of(config), self._engine.make_future()
        if callback is not None:
            future.add_done_callback(callback)
        digest = cache.digest(utterance)
        known = self._look_up(cache, digest, utterance)
        if known is not None:
            _settle(future, known)
        elif digest in cache.lease([digest]):
            self._submit(cache, utterance, config, future)
        else:
            # What waits for another process does so on a worker.
            self._engine.run_behind(functools.partial(self._run_for, future, utterance, config))
        return future

    def _submit(
        self, cache: SpeechCache, utterance: Utterance, config: ClientConfig, future: TextFuture
    ) -> None:
        def ended(inner: Future[Audio]) -> None:
            if inner.cancelled():
                cache.release([digest])
                future.cancel()
                future.set_running_or_notify_cancel()
                return
            error = inner.exception()
            assert error is None or isinstance(error, CosyError)
            audio = inner.result() if error is None else None
            outcome = Outcome(utterance.index, utterance.text, audio, error)
            cache.keep([(digest, outcome)])
            _settle(future, cache.stale(utterance, outcome))

        digest = cache.digest(utterance)
        try:
            known = self._look_up_again(cache, digest, utterance)
            if known is not None:
                _settle(future, known)
                return
            tell_misses(self._observer, 1)
            inner = self._engine.submit(utterance, config)
        except BaseException:
            cache.release([digest])
            raise
        assert isinstance(inner, TextFuture)
        future.when_ended(lambda future: future.cancelled() and inner.cancel())
        inner.when_ended(ended)

    def _run_for(self, future: TextFuture, utterance: Utterance, config: ClientConfig) -> None:
        try:
            outcome = self.run_one(utterance, config)
        except CosyError as error:
            outcome = failed(utterance, error)
        except BaseException as error:
            _settle(future, failed(utterance, unexpected(error)))
            raise
        _settle(future, outcome)

    # -- many texts, and streams ----------------------------------------------------------------

    def run_many(
        self,
        texts: Iterable[Utterance | Outcome | None],
        config: ClientConfig,
        *,
        within: float | None = None,
        lazy: bool = False,
        read_ahead: int | None = None,
    ) -> BulkCall | SmallCall | CachedCall:
        """Prepare a call of many texts; its `outcomes()` do the work."""
        run = functools.partial(
            self._engine.run_many, config=config, lazy=lazy, read_ahead=read_ahead
        )
        if config.cache is None:
            return run(texts, within=within)
        cache, until = self.of(config), None
        if within is not None:
            until = Deadline(self._clock.now(), within, "within")

        def start(
            missing: Iterable[Utterance | Outcome | None],
        ) -> BulkCall | SmallCall:
            left = None if until is None else max(until.remaining(self._clock.now()), 0.001)
            return run(missing, within=left, after=cache.keep_batch)

        terms = CallTerms(
            deadline=config.deadline,
            within=until,
            lazy=lazy,
            read_ahead=read_ahead,
            most_bytes=config.limits.max_bytes_waiting,
        )
        return CachedCall(texts, terms, cache, start, self._waits, self._observer)

    def stream(
        self,
        text: Utterance | Iterable[str],
        config: ClientConfig,
        hold: Callable[[AudioStream], _Held],
    ) -> _Held:
        """Return what `hold` makes of a text's speech, at once where it is known."""
        if config.cache is None or not isinstance(text, Utterance):
            return self._engine.stream(text, config, hold)
        # Sound that comes in chunks is encoded by its listener, once it is whole.
        plain = config.format in PLAIN_FORMATS
        cache = self.of(config if plain else replace(config, format="wav", quality=None))
        digest = cache.digest(text)
        known = self._look_up(cache, digest, text, streamed=True)
        if known is not None:
            return hold(KnownSpeech(known.result(), self._clock.now()))  # type: ignore[arg-type]
        tell_misses(self._observer, 1)

        def keep(sound: bytes, rate: int) -> None:
            audio = Audio(sound, "pcm", rate, 1, 0, len(sound))
            audio = audio.as_format(config.format if plain else "wav")
            cache.keep([(digest, Outcome(text.index, text.text, audio))], leased=False)

        return self._engine.stream(
            text,
            config,
            lambda speech: hold(KeptSpeech(speech, keep)),  # type: ignore[arg-type]
        )

    def stop_waiting(self) -> None:
        """End the waits for other processes."""
        self._waits.close()

    # -- lookups --------------------------------------------------------------------------------

    def _look_up(
        self, cache: SpeechCache, digest: str, utterance: Utterance, *, streamed: bool = False
    ) -> Outcome | None:
        """Return the outcome of a text that is known; if it is `streamed`, as plain samples."""
        found = cache.find([digest])
        if not found and cache.options.stale_if_error and self._is_silent():
            found = cache.find([digest], stale=True)
        audio = found.get(digest)
        if streamed and isinstance(audio, Audio) and not _is_plain(audio):
            return None
        return self._told(outcome_of(utterance, found, digest))

    def _look_up_again(
        self, cache: SpeechCache, digest: str, utterance: Utterance
    ) -> Outcome | None:
        """Look once more after the lease was taken; what is found is given back."""
        known = self._told(outcome_of(utterance, cache.find_again([digest]), digest))
        if known is not None:
            cache.release([digest])
        return known

    def _told(self, known: Outcome | None) -> Outcome | None:
        if known is not None:
            tell_of(self._observer, [known])
        return known

    def _is_silent(self) -> bool:
        """Return whether no breaker lets anything through."""
        return all(each.breaker.state == "open" for each in self.endpoints.endpoints)


def _is_plain(audio: Audio) -> bool:
    return audio.channels == 1 and audio.format in PLAIN_FORMATS


def _settle(future: TextFuture, outcome: Outcome) -> None:
    """End a future, unless it was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    if outcome.audio is not None:
        future.set_result(outcome.audio)
    else:
        future.set_exception(outcome.error)
