"""Celery tasks that speak texts into a store: the broker carries references, never sound."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from celery import chord, shared_task, signals
from celery.exceptions import SoftTimeLimitExceeded

from cosy_sync import ConfigError, CosyError
from cosy_sync.contrib.celery_checks import warn_of_settings
from cosy_sync.contrib.process_client import client_here, close_clients
from cosy_sync.contrib.stored_batch import StoredBatch, asked_pause, will_pass
from cosy_sync.contrib.text_items import as_item
from cosy_sync.storage import LocalStore, ObjectStore, open_store

__all__ = ["merge_parts", "speak_all", "speak_to_storage", "split"]

# Seconds before a chunk is tried again, at most: a longer wait may exceed the broker's
# visibility_timeout, and the chunk would come twice.
_LONGEST = 900.0
# By address. A store opens on first use, so that none is open when a worker forks.
_stores: dict[str, LocalStore | ObjectStore] = {}


@shared_task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=60)
def speak_to_storage(
    self: Any, texts: list[Any], to: str, settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Speak the texts that are not stored in `to` yet; return counts, and the manifest's key.

    The client is the process' own, of `app.conf.cosy_sync` and COSY_SYNC_* variables. A text that
    the service refuses is listed in the manifest with its error. What may pass (throttles, open
    breakers, a service or store that is away) is tried again, in `retry_after` seconds where
    somebody said it; the error that would end every text alike is raised.

    Args:
        texts: as `split` makes them.
        to: a folder that all workers share, or a bucket's address.
        settings: of this call, such as {"voice": "中文女"}.
    """
    batch: StoredBatch | None = None
    try:
        client = client_here(self.app.conf.get("cosy_sync")).with_options(**(settings or {}))
        batch = StoredBatch(texts, _store(to), client)
        batch.run()
        lines = list(batch.lines())
        part, said = _part(texts, settings), "".join(f"{json.dumps(line)}\n" for line in lines)
        _store(to).put(part, said.encode(), {"content-type": "application/jsonl"})
    except SoftTimeLimitExceeded as error:
        if batch is None or not batch.stored:  # it would never end
            raise
        raise self.retry(exc=error, countdown=0) from error
    except (CosyError, OSError) as error:
        if not will_pass(error):
            raise
        raise self.retry(exc=error, countdown=_pause(self, error)) from error
    failed, stored = sum("error" in line for line in lines), len(batch.stored)
    return {"manifest": part, "texts": len(lines), "stored": stored, "failed": failed}


@shared_task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=60)
def merge_parts(self: Any, results: Any, to: str, parts: list[str], name: str) -> dict[str, Any]:
    """Join the manifests of chunks into one; return its key, its address and its counts."""
    texts, failed, seconds = 0, 0, 0.0
    with tempfile.NamedTemporaryFile() as file:
        for part in parts:
            try:
                data = _store(to).get(part)
            except OSError as error:  # or a chunk that came twice was counted twice
                raise self.retry(exc=error, countdown=_pause(self, error)) from error
            file.write(data)
            for line in map(json.loads, data.splitlines()):
                texts, failed = texts + 1, failed + ("error" in line)
                seconds += line.get("seconds") or 0.0
        file.flush()
        _store(to).put_file(name, file.name, {"content-type": "application/jsonl"})
    counts = {"texts": texts, "failed": failed, "seconds": round(seconds, 3)}
    return {"to": to, "manifest": name, **counts}


def split(texts: Iterable[Any], size: int = 256) -> Iterator[list[dict[str, Any]]]:
    """Yield the arguments of `speak_to_storage`: lists of so many texts, as plain values.

    Args:
        texts: texts, (id, text) tuples, Utterances, or mappings with text, id, voice and speed.

    Raises ConfigError for another item.
    """
    if isinstance(texts, (str, bytes, Mapping)):
        raise ConfigError("texts: expected several; of one text make a list: [text]")
    items = map(as_item, texts)
    while chunk := list(islice(items, size)):
        yield chunk


def speak_all(
    texts: Iterable[Any],
    to: str,
    *,
    size: int = 256,
    settings: dict[str, Any] | None = None,
    manifest: str = "manifest.jsonl",
) -> Any:
    """Send the texts to workers, `size` for each task; return the AsyncResult of the whole.

    Its result says how many texts there are and how many failed; `manifest` in the store lists
    them. Send the same again after a failure: what is stored is not spoken twice.
    """
    place = to if "://" in to else os.path.abspath(to)
    chunks = list(split(texts, size))
    parts = [_part(chunk, settings) for chunk in chunks]
    if not chunks:
        return merge_parts.delay([], place, parts, manifest)
    header = [speak_to_storage.s(chunk, place, settings) for chunk in chunks]
    return chord(header)(merge_parts.s(place, parts, manifest))


def _store(to: str) -> LocalStore | ObjectStore:
    return _stores.setdefault(to, open_store(to))


def _part(texts: list[Any], settings: Mapping[str, Any] | None) -> str:
    given = json.dumps([texts, settings], sort_keys=True).encode()
    return f".cosy-parts/{hashlib.blake2b(given, digest_size=16).hexdigest()}.jsonl"


def _pause(task: Any, error: BaseException) -> float:
    return float(min(asked_pause(error) or min(2**task.request.retries, 60), _LONGEST))


@signals.worker_ready.connect
def _check(sender: Any, **more: Any) -> None:
    controller = sender.controller
    pool = controller.pool_cls.__module__.rpartition(".")[2]
    warn_of_settings(controller.app.conf, pool, controller.concurrency)


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def _close(**more: Any) -> None:
    close_clients()
