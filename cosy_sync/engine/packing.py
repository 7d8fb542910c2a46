"""Pack texts into calls: so many texts and characters each, similar lengths together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..config import BatchConfig
from ..models import Utterance

__all__ = ["pack"]

# Seconds that a window gathers texts: the next one of a slow source sends it as it is.
_PATIENCE = 0.1

Batch = list[Utterance]


def pack(
    utterances: Iterable[Utterance | None],
    config: BatchConfig,
    now: Callable[[], float],
    limit: Callable[[], int | None] = lambda: None,
) -> Iterator[Batch]:
    """Yield batches, pulling only as many texts as one sort window holds before the first.

    A call takes as long as its longest text, so each window is sorted by length before it is cut.
    A None among the texts makes it yield what there is, be it an empty batch. When the source
    raises, what came before is yielded first and then the exception goes on. `limit` says how many
    texts the endpoints take lately, where that is less.
    """
    for window in _windows(utterances, config.max_texts * config.sort_window, now):
        if window:
            lengths = [len(utterance.text) for utterance in window]
            order = sorted(range(len(window)), key=lengths.__getitem__)
            # Texts with settings of their own, such as a voice, share a request with their like.
            kinds = {id(utterance.settings): None for utterance in window}
            if len(kinds) > 1:
                ranks = {kind: rank for rank, kind in enumerate(kinds)}
                order.sort(key=[ranks[id(each.settings)] for each in window].__getitem__)
            yield from _cut([window[place] for place in order], config, limit)
        else:
            yield window


def _windows(
    utterances: Iterable[Utterance | None], size: int, now: Callable[[], float]
) -> Iterator[Batch]:
    window: Batch = []
    opened = now()
    source = iter(utterances)
    while True:
        try:
            utterance = next(source)
        except StopIteration:
            break
        except Exception:
            if window:
                yield window
            raise
        if utterance is not None:
            window.append(utterance)
        if utterance is None or len(window) >= size or now() - opened > _PATIENCE:
            yield window
            window, opened = [], now()
    if window:
        yield window


def _cut(
    utterances: Batch, config: BatchConfig, limit: Callable[[], int | None]
) -> Iterator[Batch]:
    batch: Batch = []
    chars = 0
    most = _most(config, limit)
    for utterance in utterances:
        length = len(utterance.text)
        full = len(batch) >= most or chars + length > config.max_chars
        if batch and (full or utterance.settings is not batch[0].settings):
            yield batch
            batch, chars = [], 0
            most = _most(config, limit)
        batch.append(utterance)
        chars += length
    if batch:
        yield batch


def _most(config: BatchConfig, limit: Callable[[], int | None]) -> int:
    # Twice as many, as more are tried now and then: the caller cuts what is too much.
    known = limit()
    return config.max_texts if known is None else min(config.max_texts, 2 * known)
