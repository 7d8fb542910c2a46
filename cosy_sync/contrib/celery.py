"""Celery tasks that speak texts into a store: the broker carries references, never sound."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from celery import group, shared_task, signals
from celery.exceptions import SoftTimeLimitExceeded

from cosy_sync.contrib.celery_checks import warn_of_settings
from cosy_sync.contrib.distributed import client_here, close_clients
from cosy_sync.contrib.part_manifests import (
    count_parts,
    error_line,
    join_parts,
    part_key,
    put_part,
    read_end,
)
from cosy_sync.contrib.passing_errors import asked_pause, will_pass
from cosy_sync.contrib.stored_batch import StoredBatch
from cosy_sync.contrib.text_items import split
from cosy_sync.storage import Sink, open_store

__all__ = ["merge_parts", "speak_all", "speak_to_storage", "split"]

# Seconds before a chunk is tried again, at most: a longer wait may exceed the broker's
# visibility_timeout, and the chunk would come twice.
_LONGEST = 900.0
# By address. A store opens on first use, so that none is open when a worker forks.
_stores: dict[str, Sink] = {}


@shared_task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=60)
def speak_to_storage(
    self: Any,
    texts: list[Any],
    to: str,
    settings: dict[str, Any] | None = None,
    part: str | None = None,
) -> dict[str, Any]:
    """Speak the texts that are not stored in `to` yet; return counts, and the manifest's key.

    The client is the process' own, of `app.conf.cosy_sync` and COSY_SYNC_* variables. A text that
    the service refuses is listed in the manifest with its error. What may pass (throttles, open
    breakers, a service or store that is away) is tried again, in `retry_after` seconds where
    somebody said it; the error that would end every text alike is raised, and listed too.

    Args:
        texts: as `split` makes them.
        to: a folder that all workers share, or a bucket's address.
        settings: of this call, such as {"voice": "中文女"}.
        part: the key for the manifest of these texts.
    """
    store, batch = _store(to), None
    key = part or part_key(self.request.id or uuid4().hex, 0)
    try:
        client = client_here(self.app.conf.get("cosy_sync")).with_options(**(settings or {}))
        batch = StoredBatch(texts, store, client)
        batch.run()
        lines = list(batch.lines())
        put_part(store, key, lines)
    except Exception as error:
        limited = isinstance(error, SoftTimeLimitExceeded)
        may_try = self.max_retries is None or self.request.retries < self.max_retries
        if may_try and (limited or will_pass(error)):
            went_on = limited and batch is not None and batch.stored
            wait = 0 if went_on else _pause(self, error)
            raise self.retry(exc=error, countdown=wait, argsrepr=_shown(texts)) from error
        with suppress(Exception):
            rows = [error_line(text, error) for text in texts] if batch is None else None
            put_part(store, key, rows or batch.lines(error))  # type: ignore[union-attr]
        raise
    failed = sum("error" in line for line in lines)
    return {"manifest": key, "texts": len(lines), "stored": len(batch.stored), "failed": failed}


@shared_task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=100_000)
def merge_parts(self: Any, to: str, run: str, count: int, name: str, seen: int = 0) -> Any:
    """Join the manifests of a run's chunks into one; return its key, its address and its counts.

    Those of the chunks are removed then. It looks again, at most every 8 s for a week, until the
    last chunk has ended: results that are lost or come twice, as brokers' accidents have it, do
    not matter.
    """
    store = _store(to)
    try:
        told = read_end(store, run)
        if told is None:
            seen = count_parts(store, run, count, seen)
            if seen < count:
                raise FileNotFoundError(f"{to}: chunk {seen + 1} of {count} has not ended")
            told = join_parts(store, run, count, name)
        return {"to": to, **told}
    except OSError as error:
        if not will_pass(error):
            raise
        again, soon = (to, run, count, name, seen), _pause(self, error) / 8
        raise self.retry(args=again, exc=error, countdown=soon) from error


def speak_all(
    texts: Iterable[Any],
    to: str | os.PathLike[str],
    *,
    size: int = 256,
    settings: dict[str, Any] | None = None,
    manifest: str = "manifest.jsonl",
) -> Any:
    """Send the texts to workers, `size` for each task; return the AsyncResult of the whole.

    Its result says how many texts there are and how many failed; `manifest` in the store lists
    them. Send the same again after a failure: what is stored is not spoken twice. Raises
    ConfigError before anything is sent, as `split` does.
    """
    place, run = os.fspath(to), uuid4().hex
    place = place if "://" in place else os.path.abspath(place)
    tasks = []
    for number, chunk in enumerate(split(texts, size)):
        task = speak_to_storage.s(chunk, place, settings, part_key(run, number))
        tasks.append(task.set(argsrepr=_shown(chunk)))
    if tasks:
        group(tasks).apply_async()
    return merge_parts.delay(place, run, len(tasks), manifest)


def _shown(texts: list[Any]) -> str:
    """Return what Celery's logs and monitors show of a task's arguments: no text."""
    return f"({len(texts)} texts)"


def _store(to: str) -> Sink:
    return _stores.setdefault(to, open_store(to))


def _pause(task: Any, error: BaseException) -> float:
    return float(min(asked_pause(error) or min(2 ** min(task.request.retries, 6), 60), _LONGEST))


signals.worker_ready.connect(warn_of_settings)


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def _close(**more: Any) -> None:
    close_clients()
