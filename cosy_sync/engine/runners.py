"""The runners of an engine: each configuration has its own, made once and kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..audio import Verifier
from ..bounded import BoundedCache
from ..config import ClientConfig
from ..config.client import as_spoken
from ..endpoints.pool import EndpointPool
from ..models import Utterance
from ..policies import AcceptedKeys, HedgePolicy, RetryBudget, RetryPolicy
from ..threads.permits import Permits
from ..threads.workers import Executor
from .attempt import AttemptRunner
from .canary_runner import CanaryRunner, TrialRunner, WatchedAttempts
from .canary_watch import CanaryWatch
from .encoding import Encoding, plain_format
from .hedging import Hedging
from .open_stream import OpenStream, StreamingAttempts
from .parts import EngineParts
from .ports import Attempts, Runs
from .reply_bounds import ReplyBounds
from .retry_planner import RetryPlanner
from .retrying import BatchRunner
from .splitting import Splitter

__all__ = ["Runners", "runner_key"]

# Configurations whose runners are kept. A program that makes more (headers of its own for each
# request, say) must not grow for ever.
_MOST_RUNNERS = 256

_StreamRunner = Callable[[OpenStream], Runs]


@dataclass(frozen=True)
class _Arm:
    """What makes runners of one configuration: its attempts, those that are hedged, and the
    runner of some attempts."""

    plain: AttemptRunner
    hedged: Attempts
    runner: Callable[..., BatchRunner]


class Runners:
    """Returns the BatchRunner of a configuration. Shared by every thread.

    Args:
        parts: What the engine is built from.
        endpoints: Where batches are sent.
        memory: Bounds the bytes of all replies together.
        connections: Bounds the requests in flight; None where the endpoints' own bounds are enough.
        hedge_workers: Run both attempts of a hedged call, and help to encode.
    """

    def __init__(
        self,
        parts: EngineParts,
        endpoints: EndpointPool,
        memory: Permits,
        connections: Permits | None,
        hedge_workers: Executor,
    ) -> None:
        self._parts = parts
        self._endpoints = endpoints
        self._memory = memory
        self._connections = connections
        self._hedge_workers = hedge_workers
        self.budget = RetryBudget(parts.config.overload)
        self._keys = AcceptedKeys()
        # Guards: changes of _kept.
        self._lock = threading.Lock()
        self._kept: BoundedCache[object, tuple[Runs, _StreamRunner]] = BoundedCache(_MOST_RUNNERS)
        # Written as a whole, without the lock: whichever thread's it is, it is a right one.
        self._latest: tuple[ClientConfig, Runs, _StreamRunner] | None = None

    def of(self, config: ClientConfig) -> Runs:
        """Return the runner of calls whose replies are whole."""
        # A view always comes with the same object: comparing it is cheaper than its many fields.
        known = self._latest
        if known is not None and known[0] is config:
            return known[1]
        return self._find(config)[1]

    def for_texts(self, config: ClientConfig) -> Callable[[Utterance], Runs]:
        """Return what finds the runner of a text: of its own settings, else of its call's."""
        self.of(config)  # what goes wrong with it, goes wrong here
        return lambda text: self.of(text.settings or config)

    def of_stream(self, config: ClientConfig, stream: OpenStream) -> Runs:
        """Return a runner whose attempts are this stream's."""
        known = self._latest
        if known is None or known[0] is not config:
            known = self._find(config)
        return known[2](stream)

    def _find(self, config: ClientConfig) -> tuple[ClientConfig, Runs, _StreamRunner]:
        key = runner_key(config)
        runners = self._kept.get(key)
        if runners is None:
            # Outside the lock: it imports modules, and runs what makes somebody else's wire. Of two
            # that are made at the same time the second is not needed.
            made = self._make(config)
            with self._lock:
                runners = self._kept.keep(key, made)
        known = self._latest = config, *runners
        self._endpoints.open()
        return known

    def _make(self, config: ClientConfig) -> tuple[Runs, _StreamRunner]:
        watch = self._parts.canary
        if watch is None:
            alone = self._arm(config, self._endpoints)
            plain = alone.plain
            streams = alone.runner(plain)
            return alone.runner(alone.hedged), lambda stream: streams.with_attempts(
                StreamingAttempts(plain, stream)
            )
        return self._make_watched(config, watch)

    def _make_watched(self, config: ClientConfig, watch: CanaryWatch) -> tuple[Runs, _StreamRunner]:
        """Make the runners of one of a canary's variants."""
        url, variant = watch.variant.url, config.variant
        urls = {each.url for each in self._parts.endpoints}
        old_pool = self._endpoints if url is None else self._endpoints.part(urls - {url})
        old = self._arm(config, old_pool)
        # What somebody has chosen is no sample, and counts for neither.
        counts = variant in (None, "control", "trial")
        if variant not in ("canary", "trial"):

            def watched(attempter: Attempts, stream: OpenStream | None = None) -> BatchRunner:
                name = variant or "stable"
                return old.runner(WatchedAttempts(attempter, name, watch, counts, stream))

            return watched(old.hedged), lambda stream: watched(
                StreamingAttempts(old.plain, stream), stream
            )
        batch = replace(config.batch, halve_refused=False)
        once = replace(as_spoken(config), batch=batch, retry=replace(config.retry, max_retries=0))
        new = self._arm(once, self._endpoints if url is None else self._endpoints.part({url}))
        observer, clock = self._parts.observer, self._parts.clock

        def both(
            first: Attempts, second: Attempts, stream: OpenStream | None = None
        ) -> CanaryRunner:
            first = WatchedAttempts(first, "canary", watch, counts, stream)
            second = WatchedAttempts(second, "fallback", watch, counts=False, stream=stream)
            trial, over = new.runner(first, TrialRunner), watch if counts else None
            return CanaryRunner(trial, old.runner(second), over, observer, clock)

        return both(new.hedged, old.hedged), lambda stream: both(
            StreamingAttempts(new.plain, stream), StreamingAttempts(old.plain, stream), stream
        )

    def _arm(self, config: ClientConfig, endpoints: EndpointPool) -> _Arm:
        """Return what makes runners of a configuration for some of the endpoints."""
        parts = self._parts
        plain = AttemptRunner(
            wires={e.url: parts.wire(e, config) for e in parts.endpoints},
            sender=parts.network,
            memory=self._memory,
            connections=self._connections,
            silent_since=endpoints.silent_since,
            bounds=ReplyBounds(config),
            verifier=Verifier(config.verify),
            observer=parts.observer,
            clock=parts.clock,
            sample_rate=config.sample_rate,
            format=plain_format(config.format),
            encoding=self._encoding(config),
            kind=hash((config.voice, config.model, json.dumps(dict(config.extra), sort_keys=True))),
        )
        retry, observer, clock = RetryPolicy(config.retry), parts.observer, parts.clock
        # What stands for the key: other headers may bring it as well.
        key = hash((config.api_key, tuple(sorted(config.headers.items()))))

        def runner(attempter: Attempts, kind: type[BatchRunner] = BatchRunner) -> BatchRunner:
            splitter = Splitter(plain.wires, self._keys, key, config.batch.halve_refused, clock)
            planner = RetryPlanner(retry, self.budget, endpoints, splitter, observer, clock)
            return kind(attempter, endpoints, splitter, planner, observer, clock)

        return _Arm(plain, self._hedged(plain, config, endpoints), runner)

    def _encoding(self, config: ClientConfig) -> Encoding | None:
        if config.format == plain_format(config.format):
            return None
        helpers = None if config.serial else self._hedge_workers
        return Encoding(config.format, config.quality, helpers)

    def _hedged(
        self, attempter: AttemptRunner, config: ClientConfig, endpoints: EndpointPool
    ) -> Attempts:
        if not config.hedge.enabled or endpoints.alone or config.serial:
            return attempter
        return Hedging(
            attempter=attempter,
            endpoints=endpoints,
            policy=HedgePolicy(config.hedge),
            budget=self.budget,
            workers=self._hedge_workers,
        )


def runner_key(config: ClientConfig) -> object:
    """Return what a runner depends on; the rest of a configuration belongs to the single call."""
    return (
        config.wire,
        config.voice,
        config.model,
        config.format,
        config.quality,
        config.sample_rate,
        config.speed,
        config.api_key,
        tuple(sorted(config.headers.items())),
        json.dumps(dict(config.extra), sort_keys=True),
        config.batch,
        config.retry,
        config.verify,
        config.limits,
        config.hedge,
        config.variant,
    )
