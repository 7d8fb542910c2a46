"""One client's connection: requests answered one by one, with back-pressure and an idle clock."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import cast

from .delivery import deliver
from .reader import Request, RequestReader
from .replies import Reply, Upgrade, write_head
from .service import STATS_PATH, Service
from .sound import Piece

# Bytes that may wait in the transport before the sender waits.
_HIGH_WATER = 512 * 1024
# Bytes handed over in one call: few system calls, and little memory for a slow reader.
_GROUP_BYTES = 256 * 1024
# Pipelined requests read ahead of the one being answered.
_MAX_QUEUED = 8
# With `idle_timeout` 0, the time that a client has for its first request, in seconds.
_FIRST_REQUEST_SECONDS = 60.0
# How long a refused client may go on sending before its connection is cut, in seconds.
_LINGER_SECONDS = 1.0


class Connection(asyncio.Protocol):
    """Speaks HTTP/1.1 with one client. All methods run on the event loop."""

    def __init__(self, service: Service, members: set[Connection]) -> None:
        """Prepare for a client.

        Args:
            service: answers the requests.
            members: the open connections; this one enters and leaves by itself.
        """
        self._service = service
        self._members = members
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(service.config.max_body_bytes, self._head, self._take)
        self._queue: deque[Request] = deque()
        self._work: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_counted = False
        self._is_greeted = False
        self._is_leaving = False
        self._is_faulty = False
        self._is_lingering = False
        self._owes_continue = False
        self._early: bytearray | None = None
        self._upgrade: Upgrade | None = None

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start listening to the client."""
        # uvloop's transports behave like asyncio.Transport without inheriting from it.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        self._members.add(self)
        self._service.enter(self._address)
        self._is_counted = True
        delay = self._service.config.accept_delay
        if delay:
            # Kept aside, not left unread: pausing does not hold before this method returns.
            self._early = bytearray()
            self._loop.call_later(delay, self._read_early)
        self._wind_up((self._service.config.idle_timeout or _FIRST_REQUEST_SECONDS) + delay)

    def data_received(self, data: bytes) -> None:
        """Pass the bytes to the parser."""
        if self._upgrade is not None:
            self._upgrade.feed(data)
        elif self._early is None:
            self._reader.feed(data)
        else:
            self._early += data

    def eof_received(self) -> bool:
        """Close: a client that has closed looks the same as one that only stopped sending."""
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        """Give everything back."""
        self._is_leaving = True
        self._uncount()
        self._members.discard(self)
        self._stop_timer()
        if self._work is not None:
            self._work.cancel()

    def pause_writing(self) -> None:
        """Make the sender wait: the reader is slow."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let the sender go on."""
        self._writable.set()

    # The outlet of deliver().

    async def send(self, pieces: Sequence[Piece]) -> None:
        """Send all pieces, waiting while the reader is slow."""
        for group in _groups(pieces):
            if not self._writable.is_set():
                await self._writable.wait()
            if self._transport.is_closing():
                return
            self._transport.writelines(group)

    def write(self, data: bytes) -> None:
        """Send a few bytes without waiting."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close after what was sent has left; answer nothing more."""
        self._is_leaving = True
        self._transport.close()

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        self._is_leaving = True
        sock = self._transport.get_extra_info("socket")
        # Lingering for 0 seconds makes the kernel send RST instead of FIN.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # The end of the server calls these.

    def finish(self) -> None:
        """Close now when idle or stuck in a fault, otherwise after the reply in flight."""
        if self._work is None:
            self.close()
        elif self._is_faulty or (self._upgrade is not None and self._upgrade.is_idle):
            self.abort()
        self._is_leaving = True

    def abort(self) -> None:
        """Close at once."""
        self._is_leaving = True
        self._transport.abort()

    # From here on: one request's way.

    def _read_early(self) -> None:
        early, self._early = self._early, None
        if early and not self._is_leaving:
            self._reader.feed(bytes(early))

    def _head(self, request: Request) -> None:
        if request.headers.get("expect", "").lower() != "100-continue":
            return
        if self._work is None:
            self._send_continue()
        else:
            # An interim reply must not stand before the reply of the request ahead.
            self._owes_continue = True

    def _send_continue(self) -> None:
        self._owes_continue = False
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take(self, request: Request) -> None:
        if self._is_leaving:
            return
        self._stop_timer()
        self._service.note_arrival(request)
        self._queue.append(request)
        if len(self._queue) >= _MAX_QUEUED:
            self._transport.pause_reading()
        if self._work is None:
            self._work = self._loop.create_task(self._answer_queue())

    async def _answer_queue(self) -> None:
        while self._queue and not self._is_leaving:
            request = self._queue.popleft()
            if len(self._queue) == _MAX_QUEUED - 1:
                self._transport.resume_reading()
            await self._answer(request)
        # No await from here to the end: a request that comes later finds no task and starts one.
        self._work = None
        if self._is_lingering:
            self._wind_up(_LINGER_SECONDS)
            return
        if self._is_leaving:
            self._transport.close()
            return
        if self._owes_continue:
            self._send_continue()
        self._wind_up(self._service.config.idle_timeout)

    async def _answer(self, request: Request) -> None:
        reply = self._greet(request) or await self._service.answer(request, self._address)
        self._dress(reply, request)
        if request.path != STATS_PATH and reply.fault not in ("reset", "stall"):
            self._service.counters.count_reply(reply.status)
        if reply.upgrade is not None and request.upgrade is not None:
            self._upgrade = reply.upgrade
            await reply.upgrade.run(self, bytes(request.upgrade))
            self._is_leaving = True
            return
        if request.refusal is not None or (request.upgrade is not None and not reply.fault):
            await self._refuse(reply)
            return
        self._is_faulty = bool(reply.fault)
        await deliver(reply, self)
        self._is_faulty = False

    def _greet(self, request: Request) -> Reply | None:
        """Judge the connection by its first request; those that only watch are not counted."""
        if request.path == STATS_PATH:
            if not self._is_greeted:
                self._uncount()
            return None
        if self._is_greeted:
            return None
        if not self._is_counted:
            # It has asked for /stats only, so far.
            self._service.enter(self._address)
            self._is_counted = True
        self._is_greeted = True
        refusal = self._service.admit_connection(self._address)
        if refusal is not None:
            # It gives its place back now, not when it is closed: otherwise others that are
            # judged meanwhile would be refused for its sake.
            self._uncount()
        if request.upgrade is not None:
            # Its protocol has words of its own for that.
            request.is_crowded, refusal = refusal is not None, None
        return refusal

    def _dress(self, reply: Reply, request: Request) -> None:
        """Add what belongs to the connection rather than to the answer."""
        if not request.keep_alive or not self._service.config.idle_timeout or self._is_leaving:
            reply.close = True
        request_id = request.headers.get("x-request-id", "")
        if request_id:
            reply.headers.append(("X-Request-Id", request_id[:128]))

    async def _refuse(self, reply: Reply) -> None:
        """Answer a client that may still be sending.

        Closing with unread bytes in the socket makes the kernel send a reset, which can destroy
        the reply on its way: so say goodbye, and read on for a while.
        """
        reply.close = True
        await self.send([write_head(reply), *reply.pieces])
        if not self._transport.is_closing():
            self._transport.write_eof()
        self._is_leaving = self._is_lingering = True

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._service.leave(self._address)

    def _wind_up(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, self.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _groups(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Gather pieces to groups of about `_GROUP_BYTES`."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece)
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
