"""A batch of texts into a store: what is stored is skipped, what is finished is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

from cosy_sync import CosyClient, CosyError, Outcome, Utterance
from cosy_sync.contrib.part_manifests import error_line
from cosy_sync.contrib.passing_errors import asked_pause, will_pass
from cosy_sync.contrib.stored_facts import facts_of, meta_of, read_facts, told_facts
from cosy_sync.contrib.text_items import as_item, item_key
from cosy_sync.storage import Sink

__all__ = ["StoredBatch"]

# Threads that store sounds.
_STORING = 16
# Seconds for which they may go on when the task is to end.
_GRACE = 20.0


class StoredBatch:
    """Speaks the texts that a store does not hold yet, and stores each as it comes.

    A sound's key is made of the id and of what is spoken and how: a text that has changed has
    another one, and no sound is ever taken for another text's.

    Args:
        texts: as `as_item` takes them.
        store: where the sounds go.
        client: speaks; it is not closed.
    """

    def __init__(self, texts: Sequence[Any], store: Sink, client: CosyClient) -> None:
        self._store, self._client = store, client
        items = [as_item(text) for text in texts]
        self._rows = [(item, item_key(item, client)) for item in items]
        # By key: what is known of a stored sound, or why there is none.
        self._facts: dict[str, dict[str, Any]] = {}
        self._errors: dict[str, CosyError] = {}
        self._refused: BaseException | None = None
        self._puts: list[Future[None]] = []
        # Keys of sounds that this run has stored.
        self.stored: set[str] = set()

    def run(self) -> None:
        """Speak and store what is missing.

        What ends it from outside, such as SoftTimeLimitExceeded, waits until what was finished is
        stored, 20 s at most. Raises OSError or ConfigError where the store refuses a sound, the
        error that would end every text alike, or one that another try may not meet.
        """
        threads = ThreadPoolExecutor(_STORING, "cosy-store")
        try:
            self._speak(self._missing(threads), threads)
        except BaseException:
            wait(self._puts, _GRACE)
            threads.shutdown(wait=False, cancel_futures=True)
            raise
        threads.shutdown()
        if self._refused is not None:
            raise self._refused
        errors = self._errors.values()
        for error in [each for each in errors if each.hopeless]:
            raise error
        for error in sorted(filter(will_pass, errors), key=asked_pause, reverse=True):
            raise error

    def _missing(self, threads: ThreadPoolExecutor) -> dict[str, dict[str, Any]]:
        """Note what is stored already; return the rest, by its keys."""
        wanted = {key: item for item, key in self._rows}
        for key, found in zip(wanted, threads.map(self._look, list(wanted)), strict=True):
            if found is not None:
                self._facts[key] = found
        return {key: item for key, item in wanted.items() if key not in self._facts}

    def lines(self, ended: BaseException | None = None) -> Iterator[dict[str, Any]]:
        """Yield a line of the manifest for each text.

        Args:
            ended: why the texts have no sound that were not spoken.
        """
        for item, key in self._rows:
            facts, error = self._facts.get(key), self._errors.get(key) or ended
            if facts is not None:
                yield {**item, "file": key, **facts}
            else:
                assert error is not None
                yield error_line(item, error)

    def _speak(self, missing: dict[str, dict[str, Any]], threads: ThreadPoolExecutor) -> None:
        if not missing:
            return
        keys = list(missing)
        texts = [
            Utterance(item["text"], voice=item.get("voice"), speed=item.get("speed"))
            for item in missing.values()
        ]
        outcomes: Any = self._client.synth_iter(texts)
        try:
            self._store_all(outcomes, keys, threads)
        except BaseException as error:
            if not hasattr(error, "outcomes"):  # it came between two outcomes
                with suppress(BaseException):
                    outcomes.throw(error)
            for outcome in getattr(error, "outcomes", ()):
                self._puts.append(threads.submit(self._keep, keys[outcome.index], outcome))
            raise
        finally:
            outcomes.close()

    def _store_all(
        self, outcomes: Iterable[Outcome], keys: Sequence[str], threads: ThreadPoolExecutor
    ) -> None:
        for outcome in outcomes:
            self._puts.append(threads.submit(self._keep, keys[outcome.index], outcome))
            if self._refused is not None:
                break

    def _keep(self, key: str, outcome: Outcome) -> None:
        audio = outcome.audio
        if audio is None:
            assert outcome.error is not None
            self._errors[key] = outcome.error
            return
        try:
            data = bytes(audio.data)
            facts = facts_of(data, audio)
            if self._store.put(key, data, meta_of(facts, audio.format), if_absent=True):
                self.stored.add(key)
                self._facts[key] = facts
            else:  # another worker's, with its own sound
                self._facts[key] = self._look(key) or facts
        except BaseException as error:
            self._refused = error

    def _look(self, key: str) -> dict[str, Any] | None:
        """Return what is known of a stored sound; None where there is none."""
        found = self._store.head(key)
        if found is None:
            return None
        known = told_facts(found)
        if known is not None:
            return known
        config = self._client.config
        return read_facts(self._store.get(key), config.format, config.sample_rate)
