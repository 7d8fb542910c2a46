"""Running the server: in a thread of this process, or as this process."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .app import make_service
from .config import ServerConfig
from .engines import open_engine
from .errors import MissingExtraError
from .faults import REFUSE
from .listening import Listener
from .service import BATCH_PATH, Service

# How long replies in flight may take to end when the server stops, in seconds.
_DRAIN_SECONDS = 2.0
_POLL_SECONDS = 0.01
_PARENT_POLL_SECONDS = 0.5

# Told the base URL and the service when the server listens.
_OnReady = Callable[[str, Service], None]


class Server:
    """A CosyVoice server in a daemon thread of this process, on a real socket.

    Use it as a context manager, or call start() and close().
    """

    def __init__(self, config: ServerConfig | None = None, **options: Any) -> None:
        """Take the configuration; nothing is opened yet.

        Args:
            config: a whole configuration; or else
            options: fields of ServerConfig.
        """
        if config is not None and options:
            raise ValueError("give either config or single options, not both")
        self.config = config or ServerConfig(**options)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._service: Service | None = None
        self._base_url = ""
        self._error: BaseException | None = None
        self._is_ready = threading.Event()

    def __repr__(self) -> str:
        state = self._base_url if self._thread is not None else "not running"
        return f"<Server {self.config.engine} {state}>"

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> Server:
        """Listen, in a new thread; waits until clients can connect.

        Raises OSError when the address is taken, MissingExtraError when a package is absent.
        """
        if self._thread is not None:
            raise RuntimeError("the server is running already")
        self._error = None
        self._is_ready.clear()
        self._thread = threading.Thread(target=self._run, name="cosy-server", daemon=True)
        self._thread.start()
        self._is_ready.wait()
        if self._error is not None:
            self._thread.join()
            self._thread = None
            raise self._error
        return self

    def close(self) -> None:
        """Stop and wait for the thread; harmless when it is not running."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stop is not None:
            # The loop may have ended by itself meanwhile.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        thread.join()

    @property
    def base_url(self) -> str:
        """The address without a path, such as http://127.0.0.1:8000."""
        if not self._base_url:
            raise RuntimeError("the server has no address before start()")
        return self._base_url

    @property
    def url(self) -> str:
        """The address of the batch wire."""
        return self.base_url + BATCH_PATH

    @property
    def grpc_url(self) -> str:
        """The address of the wire `runtime_grpc`, such as grpc://127.0.0.1:50000; empty without
        ServerConfig(grpc_port=...)."""
        return self._started_service().grpc_url

    def stats(self) -> dict[str, object]:
        """Give what GET /stats gives; the last numbers after close()."""
        return self._started_service().counters.snapshot()

    def inject(self, fault: str, times: int = 1) -> None:
        """Let the next batches meet this fault, before any that is drawn at random.

        Args:
            fault: one of FAULTS.
            times: how many batches.
        """
        self._started_service().faults.add(fault, times)

    def _started_service(self) -> Service:
        if self._service is None:
            raise RuntimeError("the server was not started: use it as a context manager")
        return self._service

    def _run(self) -> None:
        try:
            run_on_new_loop(lambda: self._main())
        except BaseException as error:
            # The thread that waits in start() raises it.
            self._error = error
        finally:
            self._is_ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await listen(self.config, self._stop, self._note_ready)

    def _note_ready(self, base_url: str, service: Service) -> None:
        self._base_url = base_url
        self._service = service
        self._is_ready.set()


def serve_forever(
    config: ServerConfig,
    *,
    on_ready: Callable[[str, str], None] | None = None,
    exit_with_parent: bool = False,
) -> dict[str, object]:
    """Serve in this thread until SIGINT or SIGTERM; return the last numbers.

    Raises OSError when the address is taken, MissingExtraError when a package is absent.

    Args:
        config: how to serve.
        on_ready: told the URL of the batch wire, and of the wire `runtime_grpc` or nothing, when
            clients can connect.
        exit_with_parent: stop also when the parent process has died.
    """
    services: list[Service] = []
    # Read before anything slow: a parent that dies meanwhile is noticed.
    parent = os.getppid()

    def note_ready(base_url: str, service: Service) -> None:
        services.append(service)
        if on_ready is not None:
            on_ready(base_url + BATCH_PATH, service.grpc_url)

    async def main() -> None:
        stop = asyncio.Event()
        _stop_on_signals(stop)
        watch = asyncio.ensure_future(_watch_parent(parent, stop)) if exit_with_parent else None
        try:
            await listen(config, stop, note_ready)
        finally:
            if watch is not None:
                watch.cancel()

    run_on_new_loop(main)
    return services[0].counters.snapshot()


async def listen(config: ServerConfig, stop: asyncio.Event, on_ready: _OnReady) -> None:
    """Serve until the event is set, then end what is in flight and close everything."""
    connect = _connection_class()
    service = make_service(config, open_engine(config))
    members: set[Any] = set()
    listener = Listener(lambda: connect(service, members))
    try:
        base_url = await listener.open(config.host, config.port)
        grpc_port = None
        try:
            if config.grpc_port is not None:
                grpc_port = _grpc_port_class()(service)
            on_ready(base_url, service)
            await _follow_schedule(service, listener, members, stop)
            await stop.wait()
        finally:
            await listener.close()
            await _drain(members)
            if grpc_port is not None:
                await asyncio.to_thread(grpc_port.close)
    finally:
        service.close()


def run_on_new_loop(main: Callable[[], Any]) -> None:
    """Run a coroutine function on a loop of its own: uvloop's when that is installed."""
    loop = _new_loop()
    try:
        loop.run_until_complete(main())
        loop.run_until_complete(_let_tasks_end())
    finally:
        loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    return loop


async def _let_tasks_end() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def _connection_class() -> Callable[..., asyncio.Protocol]:
    # Late, so that the package can be imported, and its options listed, without httptools.
    try:
        from .connection import Connection
    except ImportError as error:
        raise MissingExtraError(error.name or "httptools") from error
    return Connection


def _grpc_port_class() -> Callable[[Service], Any]:
    try:
        from .wires.runtime_grpc import GrpcPort
    except ImportError as error:
        raise MissingExtraError(error.name or "grpcio", "grpc") from error
    return GrpcPort


async def _follow_schedule(
    service: Service, listener: Listener, members: set[Any], stop: asyncio.Event
) -> None:
    """Stop listening and start again as the outages say, until the last of them or the stop."""
    for instant in service.schedule.closures():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, instant - service.age))
        if stop.is_set():
            return
        if service.schedule.fault(instant) == REFUSE:
            await listener.shut()
            for member in tuple(members):
                member.reset()
        else:
            await listener.reopen()


async def _drain(members: set[Any]) -> None:
    """Let replies in flight end, cut the rest, and wait until all sockets are closed."""
    for member in tuple(members):
        member.finish()
    for _ in range(int(_DRAIN_SECONDS / _POLL_SECONDS)):
        if not members:
            return
        await asyncio.sleep(_POLL_SECONDS)
    while members:
        for member in tuple(members):
            member.abort()
        await asyncio.sleep(_POLL_SECONDS)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no such thing on its loop: Ctrl-C then raises KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)


async def _watch_parent(parent: int, stop: asyncio.Event) -> None:
    # Polling, not prctl: the kernel's death signal fires when the *thread* that started us ends.
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_POLL_SECONDS)
    stop.set()
