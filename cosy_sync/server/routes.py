"""Where the requests to a path go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .errors import RequestError
from .reader import Request
from .replies import Reply, error_reply

__all__ = ["NOWHERE", "Route"]


@dataclass(frozen=True)
class Route:
    """What answers the requests to one path, and how it words a refusal."""

    methods: tuple[str, ...]
    answer: Callable[[Request, str], Awaitable[Reply]]
    write_error: Callable[[RequestError], Reply] = error_reply
    # Its requests may ask for another protocol.
    upgrades: bool = False


async def _nowhere(_request: Request, _address: str) -> Reply:
    raise RequestError(404, "not_found", "there is nothing here")


# Of every path that no wire speaks at.
NOWHERE = Route((), _nowhere)
