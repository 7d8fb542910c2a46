"""Outcomes of what the cache knows, and the events that tell of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.batch import failed
from ..events import CacheAnswered, CacheMissed, Observer, TextFailed
from ..models import Audio, Outcome, Utterance
from .speech_cache import Results

__all__ = ["outcome_of", "tell_misses", "tell_of"]


def outcome_of(text: Utterance, found: Results, digest: str) -> Outcome | None:
    """Return the outcome of a text if it was found."""
    result = found.get(digest)
    if result is None:
        return None
    if isinstance(result, Audio):
        return Outcome(text.index, text.text, result)
    return failed(text, result)


def tell_of(observer: Observer, outcomes: Sequence[Outcome]) -> None:
    """Tell that texts were answered out of the cache."""
    texts = chars = size = 0
    seconds = 0.0
    for outcome in outcomes:
        audio, error = outcome.audio, outcome.error
        if audio is not None:
            texts, chars = texts + 1, chars + len(outcome.text)
            size, seconds = size + len(audio.data), seconds + audio.duration
        elif error is not None:
            observer.on_event(TextFailed(error.text_hash or "", len(outcome.text), error))
    if outcomes:
        refused = len(outcomes) - texts
        observer.on_event(CacheAnswered(texts, refused, chars, size, seconds))


def tell_misses(observer: Observer, texts: int) -> None:
    """Tell that texts were not in the cache."""
    if texts:
        observer.on_event(CacheMissed(texts))
