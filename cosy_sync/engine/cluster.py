"""All stations of one client: which there are, and which of them takes the next attempt."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Collection, Sequence
from typing import Protocol

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
from .directory import AGAIN, Directory, NameService
from .job import Job
from .station import Station
from .turns import Turns, make_turns

__all__ = ["Cluster", "Ways"]

# Seconds that an address which left is remembered with its limits, in case it comes back.
_MEMORY = 60.0
# Seconds after which a wait is interrupted to see whether it still makes sense.
_GLANCE = 0.25
# Seconds to wait for each thread that shares limits: it may be asking a server that is gone.
_MOMENT = 1.0

# What the limit of all endpoints together is called, in Redis and in events.
_EVERYBODY = "all endpoints"

_Key = tuple[str, str | None]


class Ways(NameService, Protocol):
    """The net, as far as it knows where a URL leads."""

    def resolves(self, url: str) -> bool:
        """Return whether its host's addresses are ours to look up."""
        ...

    def forget(self, url: str, address: str) -> None:
        """Close what is open to an address of a URL's host."""
        ...

    def close_idle(self, url: str) -> None:
        """Close the idle connections to a URL's host."""
        ...


class Cluster:
    """The stations: one for each endpoint, or for each address of its name.

    `stations` are those that take requests. A station that left still ends what is in flight
    there, and is the same one should it come back within a minute: its limits outlive its absence.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        config: ClientConfig,
        ways: Ways,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._endpoints = {endpoint.url: endpoint for endpoint in endpoints}
        self._config = config
        self._ways = ways
        self._observer = observer
        self._clock = clock
        names = [e.url for e in endpoints if e.per_address and ways.resolves(e.url)]
        self._directory = Directory(
            names, ways, config.pool, clock, self._take_answer, self._note_failure
        )
        rate = config.limits.rate
        self._common: Turns | None = None
        if rate is not None and rate < math.inf:
            self._common = make_turns(_EVERYBODY, rate, config.sharing, observer, clock)
        # Whether there is one station, and will never be another.
        self.alone = len(endpoints) == 1 and not names
        # Whether there may be more stations than endpoints.
        self.grows = bool(names)
        # Since when callers have waited for the first station. Written without the lock.
        self._awaited_since = math.inf
        # Guards everything below; `stations` may be read without it, it only changes as a whole.
        self._lock = threading.Lock()
        self._ejector = Ejector(config.ejection)
        self._addresses: dict[str, tuple[str | None, ...]] = {}
        self._known: dict[_Key, Station] = {}
        self._left: dict[_Key, float] = {}  # when those that are known left
        self._drained: set[str] = set()
        self._failures: dict[str, CosyError] = {}  # of the latest look-ups
        self.stations: tuple[Station, ...] = ()
        for endpoint in endpoints:
            self._addresses[endpoint.url] = () if endpoint.url in names else (None,)
            if endpoint.url not in names:
                self._known[endpoint.url, None] = self._make_station(endpoint.url, None)
        self._publish()

    # -- the choice -----------------------------------------------------------------------------

    def choose(self, job: Job, avoid: Sequence[Station], now: float) -> Station:
        """Pick the station for an attempt, not among those where the texts failed before; the
        attempt has joined it, and leaves it.

        Waits only for the first look-up of a name. Raises NoEndpointError when there is none,
        DeadlineError, ClosedError.
        """
        if self.alone:
            station = self.stations[0]
            station.join(now)
            return station
        while not self._join(station := self._pick(job, avoid, now), now):
            pass
        return station

    def _join(self, station: Station, now: float) -> bool:
        """Let an attempt join a station, unless that takes no more requests."""
        station.join(now)
        # Whoever leaves a station out looks afterwards who has joined it: of the two one sees the
        # other, so nothing is sent there that it did not wait for.
        if station in self.stations:
            return True
        station.leave(now)
        return False

    def _pick(self, job: Job, avoid: Sequence[Station], now: float) -> Station:
        stations = self.stations
        if len(stations) == 1:
            return stations[0]
        if not stations:
            stations = self._await_stations(job)
        station = pick(stations, avoid, now, random.random)
        if station.health.ejected and not self._take_probe(station, now):
            station = pick(stations, avoid, now, random.random)  # another thread probes it
        if not job.interactive and station.breaker.remaining(now) > SOON:  # all breakers are open
            station = min(stations, key=lambda each: each.wait(now, patient=True))
        return station

    def elsewhere(self, avoid: Collection[Station], now: float) -> bool:
        """Return whether a station that is not to be avoided takes a request soon."""
        stations = self.stations
        return len(stations) > 1 and any(
            station not in avoid and station.wait(now) <= SOON for station in stations
        )

    def another(self, first: Station, now: float) -> Station | None:
        """Pick a station beside the first one that takes a request now, and join it; None when
        none does."""
        others = [
            station
            for station in self.stations
            if station is not first and not station.health.ejected and station.wait(now) <= 0
        ]
        if not others:
            return None
        station = pick(others, (), now, random.random)
        return station if self._join(station, now) else None

    def texts_at_most(self, texts: int, now: float) -> int:
        """Return how many of so many texts the next call may have, wherever it goes."""
        stations = self.stations
        if not stations or any(station.sizes.limit is None for station in stations):
            return texts
        return max([station.texts_at_most(texts, now) for station in stations])

    def batch_limit(self) -> int | None:
        """Return how many texts a call may have where all stations have learned that."""
        limits = [station.sizes.limit for station in self.stations]
        known = [limit for limit in limits if limit is not None]
        return max(known) if known and len(known) == len(limits) else None

    def silent_since(self) -> float:
        """Return since when nobody has answered: no station, or no look-up of a name."""
        stations = self.stations
        if not stations:
            return self._awaited_since
        return max([station.silence.since for station in stations])

    def went_silent(self, deadline: Deadline, now: float) -> DeadlineError:
        """Return what a text ends with that waited, unsent, for an answer to others."""
        stations = self.stations
        if not stations:
            return deadline.error("looking the service's name up")
        return max(stations, key=lambda each: each.silence.since).went_silent(deadline, now)

    def _await_stations(self, job: Job) -> tuple[Station, ...]:
        directory, clock = self._directory, self._clock
        if self._awaited_since == math.inf:
            self._awaited_since = clock.now()
        while True:
            # Read before the stations: they are set before the answer is noted.
            answered = directory.answered.is_set()
            if stations := self.stations:
                self._awaited_since = math.inf
                return stations
            if directory.closed or job.stop.is_set():
                raise ClosedError("cancelled before it was sent")
            if answered:
                raise self._nowhere()
            left = job.deadline.remaining(clock.now())
            if left <= 0:
                raise job.deadline.error("looking the service's name up")
            directory.open()
            clock.wait(directory.answered, min(left, _GLANCE))

    def _nowhere(self) -> NoEndpointError:
        with self._lock:
            reasons = [e.message for url, e in self._failures.items() if url not in self._drained]
        text = f"no endpoint to send to: {'; '.join(reasons)}"
        return NoEndpointError(text, retry_after=AGAIN)

    def _take_probe(self, station: Station, now: float) -> bool:
        with self._lock:
            return self._ejector.probe(station.health, now)

    # -- what stations tell (Company) -----------------------------------------------------------

    def judge(self, station: Station, failed: float, sent: float, now: float) -> None:
        """Note a call, and eject or re-admit the station when that is due."""
        if not self._ejector.fared(station.health, failed):
            return
        with self._lock:
            changed = self._ejector.judge(station.health, failed, sent, now)
            seconds, average = station.health.wait(now), station.health.average
        if not changed:
            return
        if seconds > 0:
            self._observer.on_event(EndpointEjected(station.label, seconds, average))
        else:
            self._observer.on_event(EndpointReadmitted(station.label))

    def look_again(self, now: float) -> None:
        """Look the addresses up soon."""
        self._directory.look_soon(now)

    # -- who is there ---------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to look names up, where there are any."""
        self._directory.open()

    def everybody(self) -> list[Station]:
        """Return all stations where something may be in flight, also those that left."""
        with self._lock:
            return list(self._known.values())

    def places(self, seconds: float) -> int:
        """Return how many requests may be in flight at all stations together.

        Waits at most so many seconds for the first look-up.
        """
        self._directory.open()
        self._directory.answered.wait(seconds)
        count = sum(
            max(1, len(self._addresses[url])) * endpoint.max_connections
            for url, endpoint in self._endpoints.items()
        )
        return min(count, self._config.pool.max_connections)

    def leave_out(self, url: str) -> None:
        """Send nothing more to an endpoint. Raises ConfigError for an unknown one or the last."""
        self._check(url)
        with self._lock:
            last = not set(self._endpoints) - self._drained - {url}
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
        left = [station for station in self.everybody() if station.endpoint.url == url]
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
        self._directory.close(seconds)
        for station in self.everybody():
            station.close(_MOMENT)
        if self._common is not None:
            self._common.close(_MOMENT)

    def _check(self, url: str) -> None:
        if url not in self._endpoints:
            known = ", ".join(endpoint.label for endpoint in self._endpoints.values())
            raise ConfigError(f"url: no such endpoint; the client has {known}")

    # -- what the directory tells, on its thread ------------------------------------------------

    def _take_answer(self, url: str, addresses: Sequence[str]) -> None:
        now, endpoint = self._clock.now(), self._endpoints[url]
        # Outside the lock: a station has locks of its own, and user code in its breaker. Only this
        # thread adds to those that are known, or takes from them.
        keys: list[_Key] = [(url, address) for address in addresses]
        made = {key: self._make_station(*key) for key in keys if key not in self._known}
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
            forgotten = [k for k, at in self._left.items() if self._is_over(k, at, now)]
            for key in forgotten:
                del self._left[key]
            over = [self._known.pop(key) for key in forgotten]
        for station in over:
            assert station.address is not None
            self._ways.forget(station.endpoint.url, station.address)
            station.close(_MOMENT)
        if joined or left:
            self._observer.on_event(AddressesChanged(endpoint.label, joined, left))
        self._tell_back(back)

    def _note_failure(self, url: str, error: CosyError) -> None:
        with self._lock:
            self._failures[url] = error
            kept = len(self._addresses[url])
        self._observer.on_event(LookupFailed(self._endpoints[url].label, kept, error))

    def _tell_back(self, back: Sequence[Station]) -> None:
        for station in back:
            self._observer.on_event(EndpointReadmitted(station.label))

    def _make_station(self, url: str, address: str | None) -> Station:
        station = Station(
            self._endpoints[url],
            self._config,
            self._observer,
            self._clock,
            address=address,
            company=None if self.alone else self,
        )
        station.close_idle = lambda url: self._ways.close_idle(url)
        if self._common is not None:
            station.limit_with(self._common)
        return station

    # -- under the lock -------------------------------------------------------------------------

    def _publish(self) -> list[Station]:
        """Set the stations that take requests; return those that must not stay ejected."""
        stations = tuple(
            self._known[url, address]
            for url, addresses in self._addresses.items()
            if url not in self._drained
            for address in addresses
        )
        self.stations = stations
        back = self._ejector.change([station.health for station in stations])
        return [station for station in stations if station.health in back]

    def _is_over(self, key: _Key, left: float, now: float) -> bool:
        return now - left >= _MEMORY and not self._known[key].busy
