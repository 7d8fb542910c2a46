"""What happens, as frozen records, and the protocol of those who watch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .errors import CosyError
from .models import Timing

__all__ = [
    "AddressesChanged",
    "AttemptFinished",
    "BreakerChanged",
    "EndpointEjected",
    "EndpointReadmitted",
    "Event",
    "LookupFailed",
    "Observer",
    "RetryPlanned",
    "TextFailed",
    "TextsFinished",
]


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """One call to an endpoint ended. `reply_bytes` as they came over the network."""

    timing: Timing
    texts: int
    chars: int
    reply_bytes: int
    error: CosyError | None


@dataclass(frozen=True, slots=True)
class RetryPlanned:
    """Some texts of a call will be sent again in `wait` seconds."""

    endpoint: str
    texts: int
    attempt: int
    wait: float
    error: CosyError


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    """An endpoint's breaker went from one state to another: closed, open, half-open."""

    endpoint: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class EndpointEjected:
    """One of several endpoints is left out for so many seconds; then a probe decides.

    `failures`: the share of its latest calls that failed.
    """

    endpoint: str
    seconds: float
    failures: float


@dataclass(frozen=True, slots=True)
class EndpointReadmitted:
    """An ejected endpoint takes part again."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """The name of an endpoint with `per_address` leads to other addresses than before."""

    endpoint: str
    joined: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """The name of an endpoint could not be looked up; `kept` addresses go on in use."""

    endpoint: str
    kept: int
    error: CosyError


@dataclass(frozen=True, slots=True)
class TextsFinished:
    """Texts got their audio. `latency`: seconds from being taken up until the reply was whole."""

    texts: int
    chars: int
    audio_bytes: int
    audio_seconds: float
    latency: float


@dataclass(frozen=True, slots=True)
class TextFailed:
    """One text ended as an error."""

    text_hash: str
    chars: int
    error: CosyError


Event = (
    AttemptFinished
    | RetryPlanned
    | BreakerChanged
    | EndpointEjected
    | EndpointReadmitted
    | AddressesChanged
    | LookupFailed
    | TextsFinished
    | TextFailed
)


class Observer(Protocol):
    """Somebody who is told of every event, on the thread where it happened: be quick."""

    def on_event(self, event: Event) -> None:
        """Take notice of an event. An exception is logged and goes no further."""
        ...


class Observers:
    """Tells several observers; one that fails does not disturb the others or the work."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def on_event(self, event: Event) -> None:
        """Tell each in turn."""
        for observer in self._observers:
            try:
                observer.on_event(event)
            except Exception:
                logging.getLogger("cosy_sync").exception(
                    "an observer failed on %s", type(event).__name__
                )
