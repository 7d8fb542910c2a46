"""gRPC calls, through grpcio: one channel to each address, each call on its caller's thread."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from typing import Any

import grpc

from ..config import ClientConfig
from ..errors import ClosedError, ConfigError, ReplyTimeout
from ..messages import Reply, RpcRequest
from .exchange_limits import ExchangeLimits
from .inflate import too_large
from .rpc_channel import make_channel
from .rpc_errors import translate
from .rpc_watch import Watch

__all__ = ["RpcTransport"]

# Set in a child that was forked while calls were in flight: gRPC is broken in it, for ever.
_is_broken = False


class RpcTransport:
    """Moves gRPC calls for any number of threads. `config`: time-outs, sizes and TLS."""

    def __init__(self, config: ClientConfig) -> None:
        if _is_broken:
            raise ConfigError(
                "wire: this process was forked while gRPC calls were in flight, after which gRPC "
                "cannot be used in it; fork between calls or before the first one, or start "
                "processes by spawn"
            )
        # Starts gRPC's own threads and connects to nothing: the first call is not to wait for them.
        grpc.insecure_channel("localhost:1").close()
        self._config = config
        self._watch = Watch()
        # Guards: _channels, _retired (old channels with calls), changes of each channel, _calls
        # (whatever uses gRPC now), the setting of _was_cut.
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, str | None], _CountedChannel] = {}
        self._retired: set[_CountedChannel] = set()
        self._calls = 0
        self._was_cut = False

    def post(self, request: RpcRequest, limits: ExchangeLimits) -> Reply:
        """Send a call and return all its messages, each behind its length as gRPC frames them.

        Its status is in the headers `grpc-status` and `grpc-message`, as the server gave it.
        Raises TransportError and its subclasses, BadAudioError (too large), ClosedError.
        """
        seconds = max(limits.until - time.monotonic(), 0.0)
        with contextlib.closing(self._start(request, limits, seconds)) as call:
            limits.hold(call.cancel)
            body = bytearray()
            message = call.receive()
            first_byte = call.age
            limits.make_room(0)
            while message is not None:
                body += b"\0" + len(message).to_bytes(4, "big") + message
                message = call.receive()
            return Reply(200, call.headers, body, 0.0, first_byte, len(body))

    def open(self, request: RpcRequest, limits: ExchangeLimits) -> _Call:
        """Send a call and return it with its first message, or with its status if there is none.

        `until` of the limits may move while it is read. Raises TransportError and its subclasses,
        ClosedError.
        """
        call = self._start(request, limits, None)
        try:
            limits.hold(call.cancel)
            call.begin()
        except BaseException:
            call.close()
            raise
        return call

    def connections(self) -> tuple[int, int]:
        """Return how many channels there are, and how many of them without a call."""
        with self._lock:
            idle = sum(not counted.calls for counted in self._channels.values())
            return len(self._channels) + len(self._retired), idle

    def cut(self) -> None:
        """Wake every thread that waits; nothing can be sent afterwards."""
        with self._lock:
            self._was_cut = True
            channels = [*self._channels.values(), *self._retired]
        for counted in channels:
            counted.channel.close()

    def close(self) -> None:
        """Close the channels."""
        self.cut()
        with self._lock:
            self._channels.clear()
        self._watch.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's channels, and never touch them again."""
        global _is_broken
        # The lock may be held by a thread that is gone.
        _is_broken = _is_broken or self._calls > 0
        # Freed, a channel would wait for gRPC's own threads, which a child does not have.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    @property
    def was_cut(self) -> bool:
        """Return whether cut() was called."""
        return self._was_cut

    def leave(self, counted: _CountedChannel) -> None:
        """Note that a call is over; close its channel if it was the last on an old one."""
        with self._lock:
            counted.calls -= 1
            over = counted in self._retired and not counted.calls
            if over:
                self._retired.discard(counted)
        if over:
            counted.channel.close()
        self._count(-1)

    def _start(self, request: RpcRequest, limits: ExchangeLimits, seconds: float | None) -> _Call:
        self._count(1)
        counted: _CountedChannel | None = None
        try:
            counted = self._enter(request)
            method = counted.channel.unary_stream(request.path)
            rpc = method(request.message, timeout=seconds, metadata=request.metadata)
        except BaseException as error:
            if counted is None:
                self._count(-1)
            else:
                self.leave(counted)
            if isinstance(error, ValueError) and self._was_cut:  # gRPC's word for a closed channel
                raise ClosedError("the client is closed; make a new one") from error
            raise
        return _Call(self, self._watch, counted, rpc, limits)

    def _count(self, change: int) -> None:
        with self._lock:
            self._calls += change

    def _enter(self, request: RpcRequest) -> _CountedChannel:
        """Return the channel to the request's address, with this call counted on it."""
        key = (request.url, request.address)
        counted, _ = self._join(key, None)
        if counted is not None:
            return counted
        made = self._make(request)
        old = [made]
        try:
            counted, others = self._join(key, made)
            assert counted is not None
            old = others if counted is made else [*others, made]
        finally:
            for each in old:
                each.channel.close()
        return counted

    def _make(self, request: RpcRequest) -> _CountedChannel:
        label = f"{request.url} at {request.address}" if request.address else request.url
        channel = make_channel(request, self._config)
        return _CountedChannel(channel, label, time.monotonic() + self._config.pool.max_age)

    def _join(
        self, key: tuple[str, str | None], made: _CountedChannel | None
    ) -> tuple[_CountedChannel | None, list[_CountedChannel]]:
        """Count a call on the channel of this key, or on a new one; return what is to be closed."""
        now = time.monotonic()
        old: list[_CountedChannel] = []
        with self._lock:
            if self._was_cut:
                raise ClosedError("the client is closed; make a new one")
            counted = self._channels.get(key)
            if made is not None and (counted is None or now >= counted.expires):
                old = self._retire(now)
                counted = self._channels[key] = made
            elif counted is None or now >= counted.expires:
                return None, old
            counted.calls += 1
        return counted, old

    def _retire(self, now: float) -> list[_CountedChannel]:
        """Forget the channels that are too old; return those without a call."""
        free = []
        for key, counted in list(self._channels.items()):
            if now >= counted.expires:
                del self._channels[key]
                if counted.calls:
                    self._retired.add(counted)
                else:
                    free.append(counted)
        return free


class _CountedChannel:
    """A channel, and how many calls are in flight on it; its fields belong to its transport."""

    __slots__ = ("calls", "channel", "expires", "label")

    def __init__(self, channel: Any, label: str, expires: float) -> None:
        self.channel = channel
        self.label = label
        self.expires = expires
        self.calls = 0


class _Call:
    """One call in flight: an Incoming, used by one thread."""

    status = 200
    connect = 0.0

    def __init__(
        self,
        transport: RpcTransport,
        watch: Watch,
        counted: _CountedChannel,
        rpc: Any,
        limits: ExchangeLimits,
    ) -> None:
        self.headers: dict[str, str] = {}
        self._transport = transport
        self._counted = counted
        self._rpc = rpc
        self._limits = limits
        self._watch = watch
        self._started = time.monotonic()
        self._size = 0
        self._messages = 0
        self._first: bytes | None = None
        self._closed = False
        self.cancel = rpc.cancel
        self._timer = watch.add(rpc.cancel, min(limits.first_byte, limits.idle))

    @property
    def age(self) -> float:
        """Return the seconds since it was sent."""
        return time.monotonic() - self._started

    def begin(self) -> None:
        """Wait for the first message, or for the end."""
        self._first = self.receive()

    def read(self) -> bytes:
        """Wait for the next message that is not empty; return b"" after the last, when `headers`
        tell how the call ended.

        Raises ReplyTimeout, CutError (on the way), BadAudioError (too large), ClosedError.
        """
        while True:
            message, self._first = self._first, None
            if message is None:
                message = self.receive()
            if message is None:
                return b""
            if message:
                return message

    def receive(self) -> bytes | None:
        """Wait for the next message; return None at the end, when `headers` have the status."""
        if self.headers:
            return None
        limits = self._limits
        limit = limits.idle if self._messages else limits.first_byte
        self._timer.start(min(limit, limits.until - time.monotonic()))
        try:
            message: bytes | None = next(self._rpc, None)
        except grpc.RpcError as error:
            self._note_failure(error)
            return None
        finally:
            self._timer.stop()
        if message is None:
            self.headers["grpc-status"] = "0"
            return None
        self._messages += 1
        self._size += len(message)
        if self._size > limits.max_bytes:
            raise too_large(limits.max_bytes)
        return message

    def close(self) -> None:
        """End the call, if it has not ended."""
        if not self._closed:
            self._closed = True
            self._limits.let_go(self.cancel)
            self._rpc.cancel()
            self._watch.remove(self._timer)
            self._transport.leave(self._counted)

    def _note_failure(self, error: Any) -> None:
        """Put the server's status into the headers; raise what is not the server's."""
        if self._transport.was_cut:
            text = "the client was closed while it waited for the reply"
            raise ClosedError(text, sent=True) from error
        self._limits.check(error)
        phase = "idle" if self._messages else "first byte"
        if self._timer.rang:
            raise _late(phase) from error
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise _late(phase) from error
        ours = translate(code.name, details, self._counted.label)
        if ours is not None:
            raise ours from error
        # A proxy that limits the rate may tell in its own headers when to come back.
        told = {name: value for name, value in error.trailing_metadata() or ()}
        self.headers |= {name: value for name, value in told.items() if isinstance(value, str)}
        self.headers |= {"grpc-status": str(code.value[0]), "grpc-message": details}


def _late(phase: str) -> ReplyTimeout:
    if phase == "first byte":
        return ReplyTimeout("the server accepted the call and did not answer", phase=phase)
    return ReplyTimeout("the reply began and did not end in time", phase=phase)
