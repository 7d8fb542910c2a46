"""The listening sockets: opened, shut for an outage, and opened again on the same port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

# Connections that the kernel completes before the loop accepts them: a client may open all its
# connections at the same moment.
_BACKLOG = 1024
# Steps of the loop after which uvloop has really closed a socket.
_CLOSING_STEPS = 100
# Steps of the loop from a connection's acceptance until it has its protocol.
_ARRIVAL_STEPS = 10

_Connect = Callable[[], asyncio.Protocol]


class Listener:
    """Listens for one server. Used by the event loop alone."""

    def __init__(self, connect: _Connect) -> None:
        """Prepare; nothing is opened yet.

        Args:
            connect: makes the protocol of each connection.
        """
        self._connect = connect
        self._servers: list[asyncio.AbstractServer] = []
        self._shut: list[socket.socket] = []

    async def open(self, host: str, port: int) -> str:
        """Listen; give the base URL. Raises OSError when the address is taken."""
        server = await asyncio.get_running_loop().create_server(
            self._connect, host, port, backlog=_BACKLOG
        )
        self._servers.append(server)
        name, number = _sockets(server)[0].getsockname()[:2]
        return f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"

    async def shut(self) -> None:
        """Refuse connections; harmless when they are refused already.

        The ports stay taken: otherwise a client that goes on trying may be given one of them for
        its own end, and then talk to itself.
        """
        places = [
            (sock.family, sock.getsockname())
            for server in self._servers
            for sock in _sockets(server)
        ]
        await self.close()
        for family, address in places:
            self._shut.append(await _hold(family, address))

    async def reopen(self) -> None:
        """Listen again where it was shut; harmless where it was not."""
        loop = asyncio.get_running_loop()
        while self._shut:
            sock = self._shut.pop()
            self._servers.append(
                await loop.create_server(self._connect, sock=sock, backlog=_BACKLOG)
            )

    async def close(self) -> None:
        """Listen no more, and give the ports back; who was accepted before is connected first."""
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for sock in _sockets(server):
                loop.remove_reader(sock.fileno())
        # asyncio loses connections, unclosed, that it accepted but did not yet hand to a protocol.
        for _ in range(_ARRIVAL_STEPS):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        for sock in self._shut:
            sock.close()
        self._servers.clear()
        self._shut.clear()


def _sockets(server: asyncio.AbstractServer) -> list[socket.socket]:
    return list(cast(asyncio.Server, server).sockets)


async def _hold(family: int, address: tuple[str, int]) -> socket.socket:
    """Take a port without listening, as soon as the loop has let go of it."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    for step in range(_CLOSING_STEPS):
        try:
            sock.bind(address)
            break
        except OSError:
            if step == _CLOSING_STEPS - 1:
                sock.close()
                raise
            await asyncio.sleep(0)
    return sock
