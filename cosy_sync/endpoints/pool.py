"""All endpoints of one client: which there are, and which of them takes the next attempt."""

from __future__ import annotations

import copy
import math
import random
import threading
import time
from collections.abc import Collection, Sequence

from ..clock import Clock
from ..config import ClientConfig, Endpoint
from ..errors import ClosedError, ConfigError, CosyError, DeadlineError, NoEndpointError
from ..events import (
    AddressesChanged,
    EndpointEjected,
    EndpointReadmitted,
    LookupFailed,
    Observer,
)
from ..policies import Deadline, Ejector, pick
from ..policies.balancer import SOON
from ..threads.stop import Stop
from .dns import AGAIN, DnsWatcher, HostConnections
from .endpoint import EndpointState
from .limiter import EndpointLimiter, make_limiter

__all__ = ["EndpointPool"]

# Seconds that an address which left is remembered with its limits, in case it comes back.
_MEMORY = 60.0
# Seconds after which a wait is interrupted to see whether it still makes sense.
_GLANCE = 0.25
# Seconds to wait for each thread that shares limits: it may be asking a server that is gone.
_MOMENT = 1.0

# What the limit of all endpoints together is called, in Redis and in events.
_EVERYBODY = "all endpoints"

_Key = tuple[str, str | None]


class EndpointPool:
    """The endpoint states: one for each configured endpoint, or for each address of its name.

    `endpoints` are those that take requests. An endpoint that left still ends what is in flight
    there, and is the same one should it come back within a minute: its limits outlive its absence.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        config: ClientConfig,
        hosts: HostConnections,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._configured = {configured.url: configured for configured in endpoints}
        self._config = config
        self._hosts = hosts
        self._observer = observer
        self._clock = clock
        names = [e.url for e in endpoints if e.per_address and hosts.resolves(e.url)]
        self._dns = DnsWatcher(
            names, hosts, config.pool, clock, self._take_answer, self._note_failure
        )
        rate = config.limits.rate
        self._common: EndpointLimiter | None = None
        if rate is not None and rate < math.inf:
            self._common = make_limiter(_EVERYBODY, rate, config.sharing, observer, clock)
        # Whether there is one endpoint, and will never be another.
        self.alone = len(endpoints) == 1 and not names
        # Whether there may be more endpoint states than configured endpoints.
        self.grows = bool(names)
        # Since when callers have waited for the first endpoint. Written without the lock.
        self._awaited_since = math.inf
        # Guards everything below; `endpoints` may be read without it, it only changes as a whole.
        self._lock = threading.Lock()
        self._ejector = Ejector(config.ejection)
        self._addresses: dict[str, tuple[str | None, ...]] = {}
        self._known: dict[_Key, EndpointState] = {}
        self._left: dict[_Key, float] = {}  # when those that are known left
        self._drained: set[str] = set()
        self._failures: dict[str, CosyError] = {}  # of the latest look-ups
        self.endpoints: tuple[EndpointState, ...] = ()
        self._parts: dict[frozenset[str], EndpointPool] = {}
        for configured in endpoints:
            self._addresses[configured.url] = () if configured.url in names else (None,)
            if configured.url not in names:
                self._known[configured.url, None] = self._make_endpoint(configured.url, None)
        self._publish()

    def part(self, urls: Collection[str]) -> EndpointPool:
        """Return a pool that chooses among some of several endpoints; all else is this one's."""
        made = copy.copy(self)
        with self._lock:
            part = self._parts.setdefault(frozenset(urls), made)
            self._publish()
        return part

    # -- the choice -----------------------------------------------------------------------------

    def choose(
        self,
        deadline: Deadline,
        stop: Stop,
        avoid: Sequence[EndpointState],
        now: float,
        *,
        patient: bool = False,
    ) -> EndpointState:
        """Pick the endpoint for an attempt, not among those where the texts failed before; the
        attempt has joined it, and leaves it.

        Waits only for the first look-up of a name. Raises NoEndpointError when there is none,
        DeadlineError, ClosedError.
        """
        if self.alone:
            endpoint = self.endpoints[0]
            endpoint.join(now)
            return endpoint
        while True:
            endpoints = self.endpoints or self._await_endpoints(deadline, stop)
            endpoint = self._pick(endpoints, avoid, now, patient)
            if self._join(endpoint, now):
                return endpoint

    def _join(self, endpoint: EndpointState, now: float) -> bool:
        """Let an attempt join an endpoint, unless that takes no more requests."""
        endpoint.join(now)
        # Whoever leaves an endpoint out looks afterwards who has joined it: of the two one sees the
        # other, so nothing is sent there that it did not wait for.
        if endpoint in self.endpoints:
            return True
        endpoint.leave(now)
        return False

    def _pick(
        self,
        endpoints: Sequence[EndpointState],
        avoid: Sequence[EndpointState],
        now: float,
        patient: bool,
    ) -> EndpointState:
        if len(endpoints) == 1:
            return endpoints[0]
        endpoint = pick(endpoints, avoid, now, random.random)
        if endpoint.health.ejected and not self._take_probe(endpoint, now):
            endpoint = pick(endpoints, avoid, now, random.random)  # another thread probes it
        if patient and endpoint.breaker.remaining(now) > SOON:  # all breakers are open
            endpoint = min(endpoints, key=lambda each: each.wait(now, patient=True))
        return endpoint

    def elsewhere(self, avoid: Collection[EndpointState], now: float) -> bool:
        """Return whether an endpoint that is not to be avoided takes a request soon."""
        endpoints = self.endpoints
        return len(endpoints) > 1 and any(
            endpoint not in avoid and endpoint.wait(now) <= SOON for endpoint in endpoints
        )

    def another(self, first: EndpointState, now: float) -> EndpointState | None:
        """Pick an endpoint beside the first one that takes a request now, and join it; None when
        none does."""
        others = [
            endpoint
            for endpoint in self.endpoints
            if endpoint is not first and not endpoint.health.ejected and endpoint.wait(now) <= 0
        ]
        if not others:
            return None
        endpoint = pick(others, (), now, random.random)
        return endpoint if self._join(endpoint, now) else None

    def texts_at_most(self, texts: int, now: float) -> int:
        """Return how many of so many texts the next call may have, wherever it goes."""
        endpoints = self.endpoints
        if not endpoints or any(endpoint.sizes.limit is None for endpoint in endpoints):
            return texts
        return max([endpoint.sizes.at_most(texts, now) for endpoint in endpoints])

    def batch_limit(self) -> int | None:
        """Return how many texts a call may have where all endpoints have learned that."""
        limits = [endpoint.sizes.limit for endpoint in self.endpoints]
        known = [limit for limit in limits if limit is not None]
        return max(known) if known and len(known) == len(limits) else None

    def silent_since(self) -> float:
        """Return since when nobody has answered: no endpoint, or no look-up of a name."""
        endpoints = self.endpoints
        if not endpoints:
            return self._awaited_since
        return max([endpoint.silence.since for endpoint in endpoints])

    def went_silent(self, deadline: Deadline, now: float) -> DeadlineError:
        """Return what a text ends with that waited, unsent, for an answer to others."""
        endpoints = self.endpoints
        if not endpoints:
            return deadline.error("looking the service's name up")
        return max(endpoints, key=lambda each: each.silence.since).went_silent(deadline, now)

    def _await_endpoints(self, deadline: Deadline, stop: Stop) -> tuple[EndpointState, ...]:
        dns, clock = self._dns, self._clock
        if self._awaited_since == math.inf:
            self._awaited_since = clock.now()
        while True:
            # Read before the endpoints: they are set before the answer is noted.
            answered = dns.answered.is_set()
            if endpoints := self.endpoints:
                self._awaited_since = math.inf
                return endpoints
            if dns.closed or stop.is_set():
                raise ClosedError("cancelled before it was sent")
            if answered:
                raise self._nowhere()
            left = deadline.remaining(clock.now())
            if left <= 0:
                raise deadline.error("looking the service's name up")
            dns.open()
            clock.wait(dns.answered, min(left, _GLANCE))

    def _nowhere(self) -> NoEndpointError:
        with self._lock:
            failures, drained = dict(self._failures), set(self._drained)
        reasons = [error.message for url, error in failures.items() if url not in drained]
        if not reasons:  # a part of the endpoints: the last of all is never drained
            labels = [each.label for url, each in self._configured.items() if url in drained]
            were = f"{', '.join(labels)} {'was' if len(labels) == 1 else 'were'} drained"
            back = "it" if len(labels) == 1 else "them"
            others = "the others do not take this text's model"
            reasons = [f"{were}, and {others}; resume() brings {back} back"]
        text = f"no endpoint to send to: {'; '.join(reasons)}"
        return NoEndpointError(text, retry_after=AGAIN)

    def _take_probe(self, endpoint: EndpointState, now: float) -> bool:
        with self._lock:
            return self._ejector.probe(endpoint.health, now)

    # -- what endpoints tell -------------------------------------------------------------------

    def judge(self, endpoint: EndpointState, failed: float, sent: float, now: float) -> None:
        """Note a call, and eject or re-admit the endpoint when that is due."""
        if not self._ejector.fared(endpoint.health, failed):
            return
        with self._lock:
            changed = self._ejector.judge(endpoint.health, failed, sent, now)
            seconds, average = endpoint.health.wait(now), endpoint.health.average
        if not changed:
            return
        if seconds > 0:
            self._observer.on_event(EndpointEjected(endpoint.label, seconds, average))
        else:
            self._observer.on_event(EndpointReadmitted(endpoint.label))

    def look_again(self, now: float) -> None:
        """Look the addresses up soon."""
        self._dns.look_soon(now)

    # -- who is there ---------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to look names up, where there are any."""
        self._dns.open()

    def everybody(self) -> list[EndpointState]:
        """Return all endpoints where something may be in flight, also those that left."""
        with self._lock:
            return list(self._known.values())

    def places(self, seconds: float) -> int:
        """Return how many requests may be in flight at all endpoints together.

        Waits at most `seconds` for the first look-up.
        """
        self._dns.open()
        self._dns.answered.wait(seconds)
        count = sum(
            max(1, len(self._addresses[url])) * configured.max_connections
            for url, configured in self._configured.items()
        )
        return min(count, self._config.pool.max_connections)

    def leave_out(self, url: str) -> None:
        """Send nothing more to an endpoint. Raises ConfigError for an unknown one or the last."""
        self._check(url)
        with self._lock:
            last = not set(self._configured) - self._drained - {url}
            if not last:
                self._drained.add(url)
                back = self._publish()
        if last:
            raise ConfigError("url: this is the last endpoint; close the client instead")
        self._tell_back(back)

    def drain(self, url: str, seconds: float) -> bool:
        """Leave an endpoint out and wait for what is in flight there, at most so long.

        Returns whether nothing is left there.
        """
        self.leave_out(url)
        until = time.monotonic() + seconds
        left = [endpoint for endpoint in self.everybody() if endpoint.endpoint.url == url]
        return all([each.wait_idle(max(0.0, until - time.monotonic())) for each in left])

    def resume(self, url: str) -> None:
        """Send to a drained endpoint again. Raises ConfigError for an unknown one."""
        self._check(url)
        with self._lock:
            self._drained.discard(url)
            back = self._publish()
        self._tell_back(back)

    def close(self, seconds: float) -> None:
        """Look nothing up and share nothing any more; wait at most so long for a look-up."""
        self._dns.close(seconds)
        for endpoint in self.everybody():
            endpoint.close(_MOMENT)
        if self._common is not None:
            self._common.close(_MOMENT)

    def _check(self, url: str) -> None:
        if url not in self._configured:
            known = ", ".join(configured.label for configured in self._configured.values())
            raise ConfigError(f"url: no such endpoint; the client has {known}")

    # -- what the DnsWatcher tells, on its thread -----------------------------------------------

    def _take_answer(self, url: str, addresses: Sequence[str]) -> None:
        now, configured = self._clock.now(), self._configured[url]
        # Outside the lock: an endpoint has locks of its own, and user code in its breaker. Only
        # this thread adds to those that are known, or takes from them.
        keys: list[_Key] = [(url, address) for address in addresses]
        made = {key: self._make_endpoint(*key) for key in keys if key not in self._known}
        with self._lock:
            self._known.update(made)
            before = self._addresses[url]
            self._failures.pop(url, None)
            self._addresses[url] = tuple(addresses)
            joined = tuple(a for a in addresses if a not in before)
            left = tuple(a for a in before if a is not None and a not in addresses)
            self._left.update({(url, address): now for address in left})
            for address in addresses:
                self._left.pop((url, address), None)
            back = self._publish()
            forgotten = self._find_over(now)
            for key in forgotten:
                del self._left[key]
            over = [self._known.pop(key) for key in forgotten]
        for endpoint in over:
            assert endpoint.address is not None
            self._hosts.forget(endpoint.endpoint.url, endpoint.address)
            endpoint.close(_MOMENT)
        if joined or left:
            self._observer.on_event(AddressesChanged(configured.label, joined, left))
        self._tell_back(back)

    def _note_failure(self, url: str, error: CosyError) -> None:
        with self._lock:
            self._failures[url] = error
            kept = len(self._addresses[url])
        self._observer.on_event(LookupFailed(self._configured[url].label, kept, error))

    def _tell_back(self, back: Sequence[EndpointState]) -> None:
        for endpoint in back:
            self._observer.on_event(EndpointReadmitted(endpoint.label))

    def _make_endpoint(self, url: str, address: str | None) -> EndpointState:
        endpoint = EndpointState(
            self._configured[url],
            self._config,
            self._observer,
            self._clock,
            address=address,
            pool=None if self.alone else self,
        )
        endpoint.close_idle = lambda url: self._hosts.close_idle(url)
        if self._common is not None:
            endpoint.limit_with(self._common)
        return endpoint

    # -- under the lock -------------------------------------------------------------------------

    def _publish(self) -> list[EndpointState]:
        """Set the endpoints that take requests; return those that must not stay ejected."""
        endpoints = tuple(
            self._known[url, address]
            for url, addresses in self._addresses.items()
            if url not in self._drained
            for address in addresses
        )
        self.endpoints = endpoints
        for urls, part in self._parts.items():
            part.endpoints = tuple([each for each in endpoints if each.endpoint.url in urls])
        back = self._ejector.change([endpoint.health for endpoint in endpoints])
        return [endpoint for endpoint in endpoints if endpoint.health in back]

    def _find_over(self, now: float) -> list[_Key]:
        old = [key for key, left in self._left.items() if now - left >= _MEMORY]
        return [key for key in old if not self._known[key].busy]
