"""How a reply's bytes leave: as they should, or as a delivery fault wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from .replies import BrokenBody, Outlet, Reply, write_head
from .sound import Piece

_DRIP_SECONDS = 0.05
# Long enough for the first half to reach the reader before the reset overtakes it.
_BEFORE_RESET_SECONDS = 0.05
_LATE_SECONDS = 1.0
# Bytes by which a Content-Length is wrong.
_LENGTH_ERROR = 20
_CHUNKED = "Transfer-Encoding: chunked"
# Where a chunked body can be cut, the wrong lengths of others have no meaning of their own.
_ENDS_EARLY = ("reset-mid", "cut", "cut-chunked", "length-long", "length-short", "length-twice")
_RUBBISH = b"\x00rubbish that nobody has asked for\r\n"


async def deliver(reply: Reply, outlet: Outlet) -> None:
    """Send one reply. A fault that stalls waits until it is cancelled."""
    if reply.chunks is not None:
        try:
            await _stream(reply, reply.chunks, outlet)
        except BrokenBody:
            outlet.close()
        return
    await _DELIVERIES.get(reply.fault, _whole)(reply, outlet)


async def _whole(reply: Reply, outlet: Outlet) -> None:
    await outlet.send([write_head(reply), *reply.pieces])
    if reply.close:
        outlet.close()


async def _stream(reply: Reply, chunks: AsyncIterator[bytes], outlet: Outlet) -> None:
    """Send a body as it comes; the faults strike after its first chunk."""
    fault = reply.fault
    if fault in ("reset", "stall"):
        await _DELIVERIES[fault](reply, outlet)
        return
    if fault == "late":
        await asyncio.sleep(_LATE_SECONDS)
    await outlet.send([write_head(reply, framing=_CHUNKED)])
    async for chunk in chunks:
        if not chunk:
            continue
        await outlet.send([b"%x\r\n" % len(chunk), chunk, b"\r\n"])
        if fault == "stall-mid":
            await _for_ever()
        if fault in _ENDS_EARLY:
            await asyncio.sleep(_BEFORE_RESET_SECONDS)
            if fault == "reset-mid":
                outlet.reset()
            else:
                outlet.close()
            return
    await outlet.send([b"0\r\n\r\n"])
    if fault == "extra-after":
        await outlet.send([_RUBBISH])
    if reply.close:
        outlet.close()


async def _half(reply: Reply, outlet: Outlet) -> None:
    await outlet.send([write_head(reply), *first_bytes(reply.pieces, reply.size // 2)])


async def _reset(_reply: Reply, outlet: Outlet) -> None:
    outlet.reset()


async def _reset_mid(reply: Reply, outlet: Outlet) -> None:
    await _half(reply, outlet)
    await asyncio.sleep(_BEFORE_RESET_SECONDS)
    outlet.reset()


async def _cut(reply: Reply, outlet: Outlet) -> None:
    await _half(reply, outlet)
    outlet.close()


async def _cut_chunked(reply: Reply, outlet: Outlet) -> None:
    await outlet.send([write_head(reply, framing=_CHUNKED)])
    for piece in first_bytes(reply.pieces, reply.size // 2):
        if piece:
            await outlet.send([b"%x\r\n" % len(piece), piece, b"\r\n"])
    outlet.close()


async def _stall(_reply: Reply, _outlet: Outlet) -> None:
    await _for_ever()


async def _stall_mid(reply: Reply, outlet: Outlet) -> None:
    await _half(reply, outlet)
    await _for_ever()


async def _drip(reply: Reply, outlet: Outlet) -> None:
    await outlet.send([write_head(reply)])
    for piece in reply.pieces:
        for position in range(len(piece)):
            await outlet.send([piece[position : position + 1]])
            await asyncio.sleep(_DRIP_SECONDS)
    if reply.close:
        outlet.close()


async def _extra_after(reply: Reply, outlet: Outlet) -> None:
    await outlet.send([write_head(reply), *reply.pieces, _RUBBISH])
    if reply.close:
        outlet.close()


async def _late(reply: Reply, outlet: Outlet) -> None:
    await asyncio.sleep(_LATE_SECONDS)
    await _whole(reply, outlet)


async def _length_long(reply: Reply, outlet: Outlet) -> None:
    # The connection stays open: the reader waits for bytes that never come.
    await _with_length(reply, outlet, reply.size + _LENGTH_ERROR)
    await _for_ever()


async def _length_short(reply: Reply, outlet: Outlet) -> None:
    await _with_length(reply, outlet, max(0, reply.size - _LENGTH_ERROR))
    if reply.close:
        outlet.close()


async def _length_twice(reply: Reply, outlet: Outlet) -> None:
    await _with_length(reply, outlet, reply.size, reply.size + _LENGTH_ERROR)
    if reply.close:
        outlet.close()


async def _with_length(reply: Reply, outlet: Outlet, *lengths: int) -> None:
    framing = "\r\n".join(f"Content-Length: {length}" for length in lengths)
    await outlet.send([write_head(reply, framing=framing), *reply.pieces])


async def _for_ever() -> None:
    # Ends when the client leaves or the server stops: both cancel it.
    await asyncio.get_running_loop().create_future()


def first_bytes(pieces: Sequence[Piece], count: int) -> list[Piece]:
    """Give the first bytes of a body, still in pieces."""
    taken: list[Piece] = []
    for piece in pieces:
        if count <= 0:
            break
        taken.append(piece[:count])
        count -= len(piece)
    return taken


_DELIVERIES: dict[str, Callable[[Reply, Outlet], Awaitable[None]]] = {
    "cut": _cut,
    "cut-chunked": _cut_chunked,
    "drip": _drip,
    "extra-after": _extra_after,
    "late": _late,
    "length-long": _length_long,
    "length-short": _length_short,
    "length-twice": _length_twice,
    "reset": _reset,
    "reset-mid": _reset_mid,
    "stall": _stall,
    "stall-mid": _stall_mid,
}
