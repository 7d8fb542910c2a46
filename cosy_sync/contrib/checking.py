"""Tries a client of an application, and tells what it found: the `cosy check` of each framework."""

from __future__ import annotations

import time
from collections.abc import Callable

from cosy_sync import CosyClient, CosyError

from .hosts import known_host, traps_of

__all__ = ["check_client"]


def check_client(
    name: str, client: CosyClient, tell: Callable[[str], object], text: str | None = "你好，世界。"
) -> bool:
    """Tell where a client speaks and which traps there are; speak a text. Return whether it did.

    Args:
        name: What the application calls the client.
        tell: Called with each line.
        text: Spoken once, with a deadline of 30 s at most; None asks the service for nothing.
    """
    config = client.config
    for endpoint in client.endpoints:
        limits = f"{endpoint.max_connections} connections, {endpoint.rate_limit:g} requests/s"
        tell(f"{name}: {endpoint.label}, wire {config.wire}, {limits}")
    shared = "through Redis" if config.sharing.redis_url else "with no other process"
    tell(f"{name}: deadline {config.deadline:g} s, limits shared {shared}")
    for trap in traps_of(config, client.endpoints, known_host()):
        tell(f"{name}: warning: {trap.message} {trap.hint}")
    if text is None:
        return True
    begun = time.monotonic()
    try:
        audio = client.synth(text, deadline=min(30.0, config.deadline))
    except CosyError as error:
        tell(f"{name}: FAILED: {type(error).__name__}: {error}")
        return False
    tell(f"{name}: spoke {audio.duration:.1f} s in {time.monotonic() - begun:.2f} s")
    return True
