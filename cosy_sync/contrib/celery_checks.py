"""What is looked at when a Celery worker starts: settings that would surprise later."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from cosy_sync import ConfigError
from cosy_sync.contrib.plain_settings import config_of, keywords_of

__all__ = ["found_traps", "warn_of_settings"]

_log = logging.getLogger("cosy_sync")
# Seconds, where the broker's transport is not told otherwise.
_VISIBLE = {"redis": 3_600.0, "rediss": 3_600.0, "sqs": 1_800.0}


def warn_of_settings(sender: Any, **more: Any) -> None:
    """Log what the settings of a worker that is ready, the `sender`'s, will lead to, as warnings of
    the logger `cosy_sync`."""
    controller = sender.controller
    pool = controller.pool_cls.__module__.rpartition(".")[2]
    for trap in found_traps(controller.app.conf, pool, controller.concurrency):
        _log.warning("celery: %s", trap)


def found_traps(conf: Any, pool: str, concurrency: int) -> Iterator[str]:
    """Yield what is wrong with a worker's settings, and what to do.

    Args:
        conf: Celery's settings.
        pool: the last part of the pool's module: prefork, thread, solo, gevent.
        concurrency: how many tasks run at the same time.
    """
    settings: Mapping[str, Any] = conf.get("cosy_sync") or {}
    if settings:
        try:
            config_of(keywords_of(settings))
        except ConfigError as error:
            yield f"app.conf.cosy_sync: {error.message}; until then every chunk fails"
    if pool == "prefork" and concurrency > 1 and not _shares(settings):
        yield (
            f"each of the {concurrency} processes is a client with the endpoint's whole rate and "
            "all of its connections; set COSY_SYNC_SHARING_REDIS_URL so that they share them"
        )
    limit, soft = conf.get("task_time_limit"), conf.get("task_soft_time_limit")
    visible = _visibility(conf)
    if limit and visible is not None and limit >= visible:
        yield (
            f"a task may take {limit:g} s, but after the visibility_timeout of {visible:g} s the "
            "broker gives it to a second worker too; set visibility_timeout in "
            "broker_transport_options above the time limit"
        )
    deadline = float(settings.get("deadline") or os.environ.get("COSY_SYNC_DEADLINE") or 60.0)
    if limit and not (soft and soft < limit):
        yield (
            "a chunk that comes to its task_time_limit is ended without a line in the manifest, "
            "which then waits for it; set task_soft_time_limit some 30 s below"
        )
    shorter = soft or limit
    if shorter and deadline >= shorter:
        yield (
            f"a text may take {deadline:g} s, but its task only {shorter:g} s; set the deadline "
            "some seconds below (COSY_SYNC_DEADLINE)"
        )


def _shares(settings: Mapping[str, Any]) -> bool:
    sharing = settings.get("sharing")
    given = sharing.get("redis_url") if isinstance(sharing, Mapping) else None
    known = given or getattr(sharing, "redis_url", None)
    return bool(known or os.environ.get("COSY_SYNC_SHARING_REDIS_URL"))


def _visibility(conf: Any) -> float | None:
    """Return the seconds after which the broker gives a task away again; None where it never does
    while the worker is there."""
    scheme = str(conf.get("broker_url") or "").partition("://")[0].partition("+")[0]
    usual = _VISIBLE.get(scheme)
    if usual is None:
        return None
    return float((conf.get("broker_transport_options") or {}).get("visibility_timeout") or usual)
