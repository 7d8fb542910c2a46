"""The client: checks what the user gives, and hands it to the engine."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from .cache import ClientCache
from .clock import Clock, SystemClock
from .config import CallSettings, ClientConfig, Endpoint, Settings
from .errors import ConfigError
from .events import Observer
from .hints import RENAMED
from .hooks import Hold
from .loading import load
from .many_texts import ManyTextCalls
from .models import Audio, Utterance
from .settings import Target, endpoints_of, load_config, refuse_attribute
from .speech_stream import SpeechStream
from .stats import Stats
from .system import check_waiting
from .texts import as_text, check_order, check_text, is_several, prepare_text
from .views import TAKERS, Views
from .voice_list import VoiceList, list_voices

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .core import Core
    from .net import HttpClient

__all__ = ["CosyClient", "Target"]


class _NoCacheError(ConfigError, AttributeError):
    """To `hasattr`, and whatever looks at all attributes (Ray, debuggers), there is none."""


class CosyClient(ManyTextCalls):
    """Synthesises speech through a CosyVoice service, from any number of threads.

    Args:
        url: The service's address, an Endpoint with its limits, or several of them.
            Nothing means COSY_SYNC_URL.
        config: A whole configuration, in place of the COSY_SYNC_* environment variables.
        http_client: Your own httpx.Client (or httpx2.Client), or a function that makes one
            (again in a forked child); its transport, hooks, auth and limits are used in place of
            ours, but the time-outs are those of TimeoutConfig. Wires over gRPC and WebSocket
            refuse it.
        observers: Told of every event.
        clock: Replaces the system's clock, in tests.
        settings: Fields of ClientConfig, such as `voice`, `api_key`, `wire`, `model` or `deadline`
            (seconds for each text), groups of them such as `retry=RetryConfig(max_retries=1)`, and
            `batch_size`; cosy_sync/config says what each costs. They come before config and
            environment. Calls take those of CallSettings too (`voice`, `instruction`, `speed`,
            `deadline` and others), for themselves alone.

    Raises ConfigError for a setting that does not exist or cannot be. Close it when done, or use
    it in a `with` block; one that is dropped unclosed ends when its texts are spoken. Calls raise
    errors of the tree in cosy_sync/errors.py, all of them a CosyError.
    """

    config: ClientConfig

    def __init__(
        self,
        url: Target | Sequence[Target] | None = None,
        *,
        config: ClientConfig | None = None,
        http_client: HttpClient | None = None,
        observers: Sequence[Observer] = (),
        clock: Clock | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        # Most of the library is only imported now: `import cosy_sync` stays quick.
        load("cosy_sync.core")
        from .core import Core

        check_waiting()
        loaded = load_config(config, settings)
        endpoints = endpoints_of(url)
        if loaded.wire == "auto":
            from .detect import detect_wire

            wire = detect_wire(endpoints, loaded, http_client)
            loaded = dataclasses.replace(loaded, wire=wire)
        self._core: Core = Core(endpoints, loaded, http_client, observers, clock or SystemClock())
        self._owns_core = True
        self.__dict__["config"] = self._core.config

    # -- one text -------------------------------------------------------------------------------

    def synth(self, text: str, **settings: Unpack[CallSettings]) -> Audio:
        """Speak one text. Waits for it, at most `deadline` seconds.

        Raises InvalidTextError before anything is sent, DeadlineError when the time is up, or the
        CosyError that remained after the last attempt; its `attempts` hold the earlier ones.
        """
        own = self._with("synth", settings) if settings else self
        if own.config.prepare:
            text = prepare_text(0, text, own.config.prepare)
        utterance = check_text(0, text, own.config.batch.max_text_chars)
        outcome = self._core.engine().interactive.run_one(utterance, own._interactive)
        if outcome.audio is None:
            assert outcome.error is not None
            raise outcome.error
        return outcome.audio

    def submit(
        self,
        text: str,
        callback: Callable[[Future[Audio]], object] | None = None,
        **settings: Unpack[CallSettings],
    ) -> Future[Audio]:
        """Speak one text on a worker thread; the future brings its audio or its error.

        The callback gets the finished future, on the worker; it may use the client, but must not
        wait for a future of `submit`. Waits only while LimitConfig's `max_submitted` texts are
        in flight, then raises ShedError; with `on_full="shed"` it raises at once. At the end of the
        program, what is not finished within 3 s is cut off: close the client, or wait for the
        futures.
        """
        own = self._with("submit", settings) if settings else self
        if callback is not None and not callable(callback):
            raise ConfigError(f"callback: expected a function, got {type(callback).__name__}")
        if own.config.prepare:
            text = prepare_text(0, text, own.config.prepare)
        utterance = check_text(0, text, own.config.batch.max_text_chars)
        future = self._core.engine().submit(utterance, own._interactive, callback)
        # Not the future's own method, by which it knows that the user wants to be called back.
        Future.add_done_callback(future, Hold(self))
        return future

    def stream(self, text: str | Iterable[str], **settings: Unpack[CallSettings]) -> SpeechStream:
        """Speak one text and hand its sound on as it comes; use it in a `with` block.

        Given an iterable, it speaks the pieces of one text while they come, from a language model
        say: they are pulled on a thread of its own. Only `dashscope_ws` can; no two pieces may be
        more than 23 s apart there.

        Waits for the first sound, at most `deadline` seconds, and until then repeats what fails as
        `synth` does; raises what went wrong. Raises ConfigError where the wire sends whole replies
        only.
        """
        own = self._with("stream", settings) if settings else self
        self._core.rules.check_streaming(own.config)
        given: Utterance | Iterable[str] = text
        if is_several(text):
            check_order(text)
            self._core.rules.check_duplex(own.config)
            given = (as_text(None, piece) for piece in text)
        else:
            whole = prepare_text(0, text, own.config.prepare) if own.config.prepare else text
            given = check_text(0, whole, own.config.batch.max_text_chars)
        config = own.config
        hold = functools.partial(
            SpeechStream, format=config.format, quality=config.quality, owner=self
        )
        return self._core.engine().stream(given, own._interactive, hold)

    # -- views, counters, the end ---------------------------------------------------------------

    def with_options(self, **settings: Unpack[Settings]) -> CosyClient:
        """Return a view of this client with other numbers: same connections, limits and breakers.

        What belongs to the client as a whole (pool, timeouts, breaker, ejection, overload, limits,
        sharing, wire, serial) cannot differ. A view closes nothing, neither by `close` nor at the
        end of a `with` block: the client that it was made of does.
        """
        for name in TAKERS.client:
            if name in settings:
                raise ConfigError(f"{name}: belongs to the whole client; set it in CosyClient(...)")
        return self._view(**settings)

    def stats(self) -> Stats:
        """Return a frozen snapshot of the client's counters."""
        return self._core.stats()

    def voices(self) -> VoiceList:
        """Return the voices that there are: of the service where it can list them, else, or beside
        its account's own, those that its documents name; each says which.

        Asks the first endpoint, at most 30 s. Raises AuthError for a wrong key, and the CosyError
        of a service that cannot be reached or fails.
        """
        return list_voices(self._core, self.config)

    def digest(self, text: str, **settings: Unpack[CallSettings]) -> str:
        """Return 40 hexadecimal digits that stand for a text's audio: the text as it is sent, and
        all settings that its audio depends on; not the key, tenant, headers or endpoint.

        It is the same in every process, on every machine and in later versions; cosy_sync/cache/
        digest.py says how it is made. Raises InvalidTextError.
        """
        own = self._with("digest", settings) if settings else self
        whole = prepare_text(0, text, own.config.prepare) if own.config.prepare else text
        utterance = check_text(0, whole, own.config.batch.max_text_chars)
        return self._core.cache.digest(self._core.routed(own.config, utterance), utterance.text)

    @property
    def cache(self) -> ClientCache:
        """Return the cache: `stats()`, `invalidate(text)` and `clear()`. Raises ConfigError where
        the client has none."""
        if self.config.cache is None:
            raise _NoCacheError("cache: this client has none; write CosyClient(url, cache=...)")
        return ClientCache(self._core.cache.stores, self.digest, self.stats)

    def drain(self, url: str, timeout: float = 30.0) -> bool:
        """Send nothing more to one of several endpoints, and wait for what is in flight there.

        Returns whether all of it ended within `timeout` seconds; if not, it goes on, and a further
        call waits for it again. What fails there meanwhile is repeated elsewhere, so no text is
        lost. `resume` brings the endpoint back.

        Raises ConfigError for a URL that is not an endpoint's, or the last one's.
        """
        return self._core.drain(url, timeout)

    def resume(self, url: str) -> None:
        """Send to a drained endpoint again. Raises ConfigError for a URL that is no endpoint's."""
        self._core.resume(url)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the endpoints, with the limits that hold for them."""
        return tuple(self._core.endpoints)

    @property
    def closed(self) -> bool:
        """Return whether close() was called."""
        return self._core.closed

    def close(self, timeout: float = 30.0) -> None:
        """Let running work finish for at most `timeout` seconds, then cut it off.

        Afterwards no thread and no connection of the client is left, and every call raises
        ClosedError. Closing again does nothing, and nor does closing a view of `with_options`.
        """
        if self._owns_core:
            self._core.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whoever leaves by an exception, Ctrl-C above all, does not want to wait.
        self.close(30.0 if error is None else 0.0)

    if not TYPE_CHECKING:  # a type checker would allow every attribute for it

        def __setattr__(self, name: str, value: object) -> None:
            own = hasattr(type(self), name) and name != "cache"  # which is a setting as well
            known = name.startswith("_") or own
            # A subclass may keep what it likes, but for what looks like a setting.
            setting = name == "config" or RENAMED.get(name, name) in TAKERS.view
            if not known and (setting or type(self) is CosyClient):
                refuse_attribute(name, sorted(TAKERS.client))
            object.__setattr__(self, name, value)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a CosyClient can be neither pickled nor copied; make one in each process, or use "
            "cosy_sync.synth() and the like, which do so; in Dask, Ray, datasets and "
            "multiprocessing: cosy_sync.contrib.distributed.speak_batch(texts, settings)"
        )

    def __dask_tokenize__(self) -> tuple[str, int]:
        # Else Dask only says that it found no name for a task, and not what __reduce__ says.
        return type(self).__name__, id(self)

    def __repr__(self) -> str:
        places = ", ".join(endpoint.label for endpoint in self._core.endpoints)
        state = "closed" if self.closed else "open"
        return f"<CosyClient {places}, wire {self.config.wire}, {state}>"

    # -- inside ---------------------------------------------------------------------------------

    def _view(self, **settings: Unpack[Settings]) -> CosyClient:
        view = object.__new__(type(self))
        view._core, view._owns_core = self._core, False
        view.__dict__["config"] = self._core.rules.settle(load_config(self.config, settings))
        self._core.cache.check(view.config)
        self._core.rules.warn(view.config, self.config)
        return view

    def _with(self, call: str, settings: CallSettings) -> CosyClient:
        """Return the view with a call's own settings; it has no cycle with this client, which may
        be dropped."""
        return self._views.of(call, settings, self._view)

    @functools.cached_property
    def _views(self) -> Views[CosyClient]:
        return Views()
