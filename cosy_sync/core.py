"""What all views of one client share, across forks and until the end of the process."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .atomic import on_main_thread
from .cache.attaching import Attached
from .clock import Clock
from .config import ClientConfig, Endpoint
from .engine import Engine, EngineParts
from .errors import ClosedError
from .events import Observer, Observers
from .forks import notice_fork, renew_after_fork
from .hooks import WeakCheck, WeakListener, WeakObserver, WeakStorage, checked_observers
from .loading import FIRST_TEXT, load
from .logs import LogObserver
from .models import Utterance
from .stats import Stats, StatsObserver
from .system import ENDING, check_waiting
from .threads import leave_behind
from .wire_rules import WireRules, make_wire

if TYPE_CHECKING:
    from .cache.cached_engine import CachedEngine
    from .canary import AttachedCanary, CanaryEngine
    from .net import HttpClient, Sender

__all__ = ["Core"]

# Seconds that submitted work gets when the program ends without closing its client. With what comes
# after it, the end of a process that was told to stop (SIGTERM) takes less than 5 s.
_LAST_MOMENT = 3.0
# Seconds that it gets to notice that it was cut off.
_AFTER_CUT = 1.0


class Core:
    """Builds the engine on first use, and again in a forked child."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        config: ClientConfig,
        http_client: HttpClient | None,
        observers: Sequence[Observer],
        clock: Clock,
    ) -> None:
        self._observers = checked_observers(observers)
        if http_client is not None:
            from .net import check_client

            check_client(http_client)
        if config.canary is not None:
            canary = config.canary.settled(endpoints)
            config = dataclasses.replace(config, canary=canary)
        self.rules = WireRules(endpoints, config, over_http_client=http_client is not None)
        self.endpoints = self.rules.endpoints
        self.config = self.rules.settle(config)
        self.cache = Attached(config.cache, clock)
        self.canary: AttachedCanary | None = None
        if config.canary is not None:
            load("cosy_sync.canary")
            from .canary import AttachedCanary

            self.canary = AttachedCanary(self.config, self.rules)
        self._http_client = http_client
        self.clock = clock
        self._pid = os.getpid()
        # Guards: _engine, _front, _stats, _drained, closed.
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        # What clients ask: the engine, or the cache before it.
        self._front: Engine | CachedEngine | CanaryEngine | None = None
        # What ends the engine when nobody holds this core any more.
        self._reaper: weakref.finalize[..., Core] | None = None
        # URLs of the endpoints that are left out, also in a forked child.
        self._drained: set[str] = set()
        self._stats = StatsObserver()
        self.closed = False
        given = dataclasses.replace(self.config, pool=config.pool)  # as the user wrote it
        self.rules.warn(given, ClientConfig())
        _cores.add(self)

    def lent(self, config: ClientConfig) -> ClientConfig:
        """Return settings for the machines, which hold nothing of the user's; see hooks."""
        check, breaker = config.verify.check, config.breaker
        if config.prepare:
            config = dataclasses.replace(config, prepare=())
        if check is not None:
            verify = dataclasses.replace(config.verify, check=WeakCheck(check))
            config = dataclasses.replace(config, verify=verify)
        if breaker.listeners or breaker.storage is not None:
            listeners = [WeakListener(each) for each in breaker.listeners]
            storage = None if breaker.storage is None else WeakStorage(breaker.storage)
            breaker = dataclasses.replace(breaker, listeners=listeners, storage=storage)
            config = dataclasses.replace(config, breaker=breaker)
        return config

    def engine(self) -> Engine | CachedEngine | CanaryEngine:
        """Return the machines of this process. Raises ClosedError after close()."""
        engine = self._front
        # In a forked child it is the parent's: `notice_fork` asks the same, but for every text.
        if engine is not None and engine.pid == os.getpid() and not self.closed:
            return engine
        notice_fork()
        if self.closed or _is_at_exit():
            raise ClosedError(_why_closed())
        made = self._build()  # outside the lock: it may call the user's function for a client
        front = self._before(made)
        with self._lock:
            if self._engine is None and not self.closed:
                self._engine, self._front = made, front
            engine = self._front
        if engine is front:
            self._reaper = weakref.finalize(self, _reap, made, os.getpid())
            self._reaper.atexit = False
        else:
            made.discard(0.0)
        if engine is None:
            raise ClosedError(_why_closed())
        return engine

    def routed(self, config: ClientConfig, text: Utterance) -> ClientConfig:
        """Return the configuration that a text is spoken with as things are."""
        return config if self.canary is None else self.canary.routes.of(config, text.text)

    def _before(self, made: Engine) -> Engine | CachedEngine | CanaryEngine:
        front = self.cache.before(made)
        return front if self.canary is None else self.canary.before(front)

    def stats(self) -> Stats:
        """Return the counters as they are now."""
        known = self._counted()
        return known if self.canary is None else self.canary.add_to(known)

    def _counted(self) -> Stats:
        notice_fork()
        engine = self._engine
        if engine is None:
            return self._stats.snapshot(
                in_flight=0, connections=(0, 0), breakers={}, limits={}, retry_budget=0.0
            )
        now, endpoints = self.clock.now(), engine.endpoints.endpoints
        return self._stats.snapshot(
            in_flight=engine.in_flight(),
            connections=engine.network.connections(),
            breakers={endpoint.label: endpoint.breaker.state for endpoint in endpoints},
            limits={endpoint.label: endpoint.overload.limits(now) for endpoint in endpoints},
            retry_budget=engine.budget.balance(now),
        )

    def drain(self, url: str, seconds: float) -> bool:
        """Leave an endpoint out; return whether what is in flight there ended in time."""
        empty = self.engine().endpoints.drain(url, seconds)
        with self._lock:
            self._drained.add(url)
        return empty

    def resume(self, url: str) -> None:
        """Send to a drained endpoint again."""
        self.engine().endpoints.resume(url)
        with self._lock:
            self._drained.discard(url)

    def close(self, seconds: float) -> None:
        """Drain for `seconds`, then cut."""
        notice_fork()
        with self._lock:
            engine, self.closed = self._engine, True
        self.cache.stop_waiting()
        if engine is not None:
            engine.close(seconds)
            self.cache.close()
            if self.canary is not None:
                self.canary.close()
            if self._reaper is not None:
                self._reaper.detach()

    def finish(self) -> None:
        """At the end of the process: let work finish for a moment, then end everything."""
        if self._engine is not None:
            self.cache.stop_waiting()
            _finish(self._engine)
            self.closed = True
            self.cache.close()
            if self.canary is not None:
                self.canary.close()

    def renew(self) -> None:
        """In a forked child: forget the parent's machines; other threads, and whatever they held
        locked, are gone."""
        engine, self._engine, self._front = self._engine, None, None
        self._lock = threading.Lock()
        self._stats = StatsObserver()
        if self.canary is not None:
            self.canary.renew()
        if self._reaper is not None:
            self._reaper.detach()
        if engine is not None:
            engine.network.abandon()

    def _build(self) -> Engine:
        check_waiting()  # a library may have been patched since the client was made
        log, others = LogObserver(self.clock.now), [WeakObserver(each) for each in self._observers]
        observer = Observers(others, self._stats, log, log.takes_answers)
        engine = Engine(
            EngineParts(
                endpoints=self.endpoints,
                config=self.lent(self.config),
                network=self._network(),
                wire=make_wire,
                observer=observer,
                clock=self.clock,
                canary=None if self.canary is None else self.canary.open(observer),
            )
        )
        for url in self._drained:
            engine.endpoints.leave_out(url)
        return engine

    def _network(self) -> Sender:
        # httpx takes some 50 ms to import; `import cosy_sync` should not cost that. The
        # others are what workers would import on their way: how names are encoded, for one.
        load(*FIRST_TEXT)
        from .net import provide_sender

        forked = os.getpid() != self._pid
        sender = provide_sender(self.lent(self.config), self._http_client, forked=forked)
        try:
            for endpoint in self.endpoints:
                sender.prepare(endpoint.url)
        except BaseException:
            sender.close()
            raise
        return sender


_cores: weakref.WeakSet[Core] = weakref.WeakSet()
# Engines that nobody holds any more, until their last work is done.
_dropped: set[Engine] = set()
# Set once the main thread has come to its end.
_ending = threading.Event()


def _reap(engine: Engine, pid: int) -> None:
    """Close the engine of a client that was dropped unclosed, once its texts are spoken.

    Without it every such client would leave its threads behind. The collector runs at any line of
    any thread, also where a lock is held that is needed here: so another thread does it. A child
    that was forked without Python's hooks only lets go of what is its parent's.
    """
    if os.getpid() != pid:
        engine.network.abandon()
        return
    if _is_at_exit():
        return
    _dropped.add(engine)
    leave_behind(functools.partial(_close, engine))


def _close(engine: Engine) -> None:
    # Deadlines end its work long before.
    engine.close(threading.TIMEOUT_MAX)
    _dropped.discard(engine)


def _finish(engine: Engine) -> None:
    engine.drain(_LAST_MOMENT)
    engine.cut()
    # Python waits for none of these threads, and must not end in the middle of what they do.
    engine.drain(_AFTER_CUT)


def _is_at_exit() -> bool:
    """Tell whether atexit functions run, where a thread that is started would never run.

    Other threads may outlive the main one for a while, and go on.
    """
    return _ending.is_set() and on_main_thread()  # no current_thread: that may take a lock


def _why_closed() -> str:
    return ENDING if _ending.is_set() else "the client is closed; make a new one"


def _renew_all() -> None:
    _ending.clear()
    for core in list(_cores):
        core.renew()
    while _dropped:
        _dropped.pop().network.abandon()


def _finish_all() -> None:
    notice_fork()
    _ending.set()
    for core in list(_cores):
        core.finish()
    for engine in list(_dropped):
        _finish(engine)


renew_after_fork(_renew_all)
# Cuts requests off before the interpreter waits for their threads; atexit only runs after that.
try:
    getattr(threading, "_register_atexit", lambda _: None)(_finish_all)
except RuntimeError:  # it runs already, at the first client
    _ending.set()
