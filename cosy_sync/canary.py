"""The engine of a client with a canary: says who speaks which text, before the cache is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from .bounded import BoundedCache
from .cache.cached_call import CachedCall
from .cache.cached_engine import CachedEngine
from .config import ClientConfig, SharingConfig
from .config.client import as_spoken
from .engine import Engine
from .engine.audio_stream import AudioStream
from .engine.bulk import BulkCall
from .engine.canary_watch import CanaryWatch, parse_state
from .engine.small_call import SmallCall
from .events import Observer
from .models import Audio, Outcome, Utterance
from .policies.canary import WORDS, Judge
from .shared.canary import CanaryBook, CanaryLink
from .stats import Stats
from .wire_rules import WireRules

__all__ = ["AttachedCanary", "CanaryEngine", "CanaryReport", "FleetCanaries", "Routes"]

_Held = TypeVar("_Held")
# Seconds to wait for the thread that shares: it may be asking a server that is gone.
_MOMENT = 1.0
# Configurations whose variants are kept. A program that makes more must not grow for ever.
_MOST = 256


class Routes:
    """The configuration that each text is spoken with. Shared by every thread, as BoundedCache
    says."""

    def __init__(self, watch: CanaryWatch) -> None:
        self.watch = watch
        # By the identity of the configurations, which stay for as long; so do their variants, whose
        # texts share batches.
        self._kept: BoundedCache[tuple[int, str], tuple[ClientConfig, ClientConfig]] = BoundedCache(
            _MOST
        )

    def of(self, config: ClientConfig, text: str) -> ClientConfig:
        """Return the configuration of whoever speaks a text; the same one for the usual."""
        variant = config.variant
        if variant is None:
            arm = self.watch.arm_of(text)
            variant = "trial" if arm == "canary" else arm
        elif variant == "whole":
            variant = "canary" if self.watch.share >= 1 else "stable"
        if variant is None or variant == config.variant:
            return config
        key = id(config), variant
        known = self._kept.get(key)
        if known is None:
            made = dataclasses.replace(config, variant=variant)
            known = self._kept.keep(key, (config, made))
        return known[1]


class AttachedCanary:
    """The canary of one client, in whichever process.

    Args:
        config: The client's, with a canary that is settled.
        rules: Refuse a model that the wire cannot have. Raise ConfigError.
    """

    def __init__(self, config: ClientConfig, rules: WireRules) -> None:
        rules.settle(as_spoken(dataclasses.replace(config, variant="canary")))
        self._sharing = config.sharing
        self.watch = CanaryWatch(config.canary)
        self.routes = Routes(self.watch)
        self._link: CanaryLink | None = None

    def open(self, observer: Observer) -> CanaryWatch:
        """Return what watches, for an engine that tells this observer; share its state where the
        client shares anything."""
        watch = self.watch
        first, watch.observer = watch.observer is None, observer
        if first:
            watch.tell_start()
        if self._sharing.redis_url is not None and self._link is None:
            book = CanaryBook(self._sharing)
            self._link = CanaryLink(book, watch.name, watch.news, watch.follow, watch.tell_sharing)
            self._link.start()
        return watch

    def before(self, front: Engine | CachedEngine) -> CanaryEngine:
        """Return an engine, or the cache before it, behind the canary."""
        return CanaryEngine(front, self.routes)

    def add_to(self, stats: Stats) -> Stats:
        """Return counters with the canary's state."""
        state = self.watch.state
        return dataclasses.replace(stats, canary=(state.state, self.watch.share, state.reason))

    def close(self) -> None:
        """Tell others the last of it."""
        if self._link is not None:
            self._link.close(_MOMENT)

    def renew(self) -> None:
        """In a forked child: count anew, on a connection of its own."""
        self._link = None
        self.watch.renew()


class CanaryEngine:
    """Does what clients ask an Engine for, or the cache before it."""

    def __init__(self, front: Engine | CachedEngine, routes: Routes) -> None:
        self._front, self._routes = front, routes
        self.pid, self.endpoints, self.network = front.pid, front.endpoints, front.network
        self.occupy, self.vacate = front.occupy, front.vacate
        # Where a client looks for `run_one`.
        self.interactive = self

    def run_one(self, utterance: Utterance, config: ClientConfig) -> Outcome:
        """Bring one text to its outcome; waits at most until its deadline."""
        own = self._routes.of(config, utterance.text)
        return self._front.interactive.run_one(utterance, own)

    def submit(
        self,
        utterance: Utterance,
        config: ClientConfig,
        callback: Callable[[Future[Audio]], object] | None = None,
    ) -> Future[Audio]:
        """Bring one text to its outcome on a worker."""
        return self._front.submit(utterance, self._routes.of(config, utterance.text), callback)

    def run_many(
        self,
        texts: Iterable[Utterance | Outcome | None],
        config: ClientConfig,
        *,
        within: float | None = None,
        lazy: bool = False,
        read_ahead: int | None = None,
    ) -> BulkCall | SmallCall | CachedCall:
        """Prepare a call of many texts; its `outcomes()` do the work."""
        routed = (self._routed(text, config) for text in texts)
        return self._front.run_many(
            list(routed) if isinstance(texts, list) else routed,
            config,
            within=within,
            lazy=lazy,
            read_ahead=read_ahead,
        )

    def stream(
        self,
        text: Utterance | Iterable[str],
        config: ClientConfig,
        hold: Callable[[AudioStream], _Held],
    ) -> _Held:
        """Return what `hold` makes of a text's speech; the old one speaks what comes in pieces."""
        if isinstance(text, Utterance):
            config = self._routes.of(config, text.text)
        return self._front.stream(text, config, hold)

    def _routed(
        self, text: Utterance | Outcome | None, config: ClientConfig
    ) -> Utterance | Outcome | None:
        if isinstance(text, Utterance):
            given = text.settings or config
            own = self._routes.of(given, text.text)
            if own is not given:
                text.settings = own
        return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class CanaryReport:
    """A canary as Redis knows it.

    `state` is "running", "rolled back" or "promoted", `share` that of the texts, None for the one
    that its clients configure; `changed` the Unix time of the latest change, None before any.
    `shares` has, by what is compared, the bad ones and all of the new model, and of the old one; of
    how long requests take the pairs in which the new one was slower, all pairs, and nothing.
    """

    name: str
    state: str
    share: float | None
    reason: str
    changed: float | None
    shares: Mapping[str, tuple[float, float, float, float]]


class FleetCanaries:
    """The canaries of all processes that share a Redis. Methods raise what redis raises."""

    def __init__(self, sharing: SharingConfig) -> None:
        self._book = CanaryBook(sharing)

    def names(self) -> list[str]:
        """Return the names of those that there are."""
        return self._book.names()

    def read(self, name: str) -> CanaryReport:
        """Return what is known of one."""
        fields, counts, _ = self._book.read(name)
        state, judge, shares = parse_state(fields), Judge(1.0, 0.0), {}
        for metric, words in WORDS.items():
            new, old = judge.rates(counts, metric)
            shares[words] = (new.bad, new.count, old.bad, old.count)
        return CanaryReport(
            name=name,
            state=state.state,
            share=state.share,
            reason=state.reason,
            changed=float(fields["at"]) if "at" in fields else None,
            shares=shares,
        )

    def roll_back(self, name: str) -> None:
        """Give one no more texts, in all processes, within half a second."""
        self._book.decide(name, "rolled back", 0.0, "by hand")

    def reset(self, name: str) -> None:
        """Let one begin anew, with its configured share."""
        self._book.decide(name, "running", None, "")

    def close(self) -> None:
        """Close the connection."""
        self._book.close()
