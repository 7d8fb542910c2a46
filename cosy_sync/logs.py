"""Log lines: hashes and lengths only; never a text, audio or a key, at any level."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable

from .errors import ResourceError
from .events import (
    AddressesChanged,
    AttemptFinished,
    AudioRefused,
    BreakerChanged,
    CallRefused,
    CanaryChanged,
    EndpointEjected,
    EndpointReadmitted,
    Event,
    LimitsLowered,
    LookupFailed,
    RetryPlanned,
    RetrySuppressed,
    SharingChanged,
    TextFailed,
    TextsFinished,
)

__all__ = ["LogObserver", "logger"]

logger = logging.getLogger("cosy_sync")
logger.addHandler(logging.NullHandler())


# Seconds after which the same lack is a warning again.
_REPEATED = 60.0


class LogObserver:
    """Writes events to the logger `cosy_sync`: attempts at DEBUG, troubles at INFO and WARNING.

    What this machine is out of is a WARNING once a minute for each endpoint, and DEBUG in between.

    Args:
        now: Returns the seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # When each endpoint's lack of something was last a warning. Without a lock: of two threads
        # at the same time, both may warn.
        self._warned: dict[tuple[str, str], float] = {}

    # Returns whether attempts that were answered are written now.
    takes_answers = staticmethod(functools.partial(logger.isEnabledFor, logging.DEBUG))

    def taker(self, kind: type) -> Callable[..., None] | None:
        """Return what is called with events of a class, None where they are not written."""
        # Most of the events are these two, on every call's way.
        if kind is TextsFinished:
            return None
        return _attempt if kind is AttemptFinished else self.on_event

    def on_event(self, event: Event) -> None:
        """Write an event, if anybody listens at its level."""
        if isinstance(event, AttemptFinished):
            _attempt(event)
        elif isinstance(event, AudioRefused):
            logger.info(
                "%s %s: audio of %d texts refused: %s",
                event.request_id,
                event.endpoint,
                event.texts,
                event.reason,
            )
        elif isinstance(event, (RetryPlanned, RetrySuppressed, CallRefused)):
            _retry(event)
        elif isinstance(event, BreakerChanged):
            logger.warning("breaker of %s: %s -> %s", event.endpoint, event.old, event.new)
        elif isinstance(event, SharingChanged):
            level = logging.INFO if event.shared else logging.WARNING
            now = "shared again" if event.shared else "not shared any more"
            logger.log(level, "%s of %s %s: %s", event.what, event.endpoint, now, event.reason)
        elif isinstance(event, CanaryChanged):
            level = logging.WARNING if event.state == "rolled back" else logging.INFO
            logger.log(
                level,
                "canary %s is %s: %.3g %% of the texts instead of %.3g %%%s",
                event.name,
                event.state,
                100 * event.share,
                100 * event.old_share,
                f"; {event.reason}" if event.reason else "",
            )
        elif isinstance(event, TextFailed):
            name = type(event.error).__name__
            logger.info("text #%s of %d characters: %s", event.text_hash, event.chars, name)
        elif isinstance(event, LimitsLowered) and isinstance(event.error, ResourceError):
            logger.log(
                self._level(event.endpoint, event.error.resource),
                "%s: %s; at most %d requests in flight until then",
                event.endpoint,
                event.error.message,
                event.in_flight,
            )
        else:
            _endpoint(event)

    def _level(self, endpoint: str, resource: str) -> int:
        now = self._now()
        if now < self._warned.get((endpoint, resource), -math.inf) + _REPEATED:
            return logging.DEBUG
        self._warned[endpoint, resource] = now
        return logging.WARNING


def _retry(event: RetryPlanned | RetrySuppressed | CallRefused) -> None:
    if isinstance(event, RetryPlanned):
        logger.info(
            "%d texts go to %s again in %.2f s (attempt %d: %s)",
            event.texts,
            event.endpoint,
            event.wait,
            event.attempt,
            type(event.error).__name__,
        )
    elif isinstance(event, RetrySuppressed):
        logger.info(
            "text #%s does not go to %s again (%s: %s)",
            event.text_hash,
            event.endpoint,
            event.reason,
            type(event.error).__name__,
        )
    else:
        name = type(event.error).__name__
        logger.info("%d texts were not sent to %s: %s", event.texts, event.endpoint, name)


def _endpoint(event: Event) -> None:
    if isinstance(event, LimitsLowered):
        logger.info(
            "%s shows overload (%s): at most %.3g requests/s, %d in flight",
            event.endpoint,
            type(event.error).__name__,
            event.rate,
            event.in_flight,
        )
    elif isinstance(event, EndpointEjected):
        logger.warning(
            "%s is left out for %.0f s: %.0f %% of its latest calls failed",
            event.endpoint,
            event.seconds,
            100 * event.failures,
        )
    elif isinstance(event, EndpointReadmitted):
        logger.warning("%s takes part again", event.endpoint)
    elif isinstance(event, AddressesChanged):
        logger.info(
            "%s: new addresses: %s; gone: %s",
            event.endpoint,
            ", ".join(event.joined) or "-",
            ", ".join(event.left) or "-",
        )
    elif isinstance(event, LookupFailed):
        logger.warning("%s: %s; %d addresses kept", event.endpoint, event.error, event.kept)


def _attempt(event: AttemptFinished) -> None:
    if event.error is None and not logger.isEnabledFor(logging.DEBUG):
        return
    timing = event.timing
    logger.log(
        logging.DEBUG if event.error is None else logging.INFO,
        "%s %s: %d texts, %d characters, %d bytes in %.3f s: %s",
        timing.request_id,
        timing.endpoint,
        event.texts,
        event.chars,
        event.reply_bytes,
        timing.total,
        "ok" if event.error is None else type(event.error).__name__,
    )
