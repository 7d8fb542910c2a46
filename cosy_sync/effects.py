"""Warnings of options that change nothing, given the wire, the endpoints or the client's parts."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence

from .config import ClientConfig, Endpoint, PoolConfig
from .wires import Capabilities

__all__ = ["warn_user", "warn_without_effect"]

# What an httpx.Client of the caller's own decides by itself.
_OF_HTTP_CLIENT = (
    "idle_expiry",
    "max_age",
    "verify_tls",
    "ssl_context",
    "trust_env",
    "dns_refresh",
    "dns_keep",
)


def warn_without_effect(
    config: ClientConfig,
    before: ClientConfig,
    endpoints: Sequence[Endpoint],
    wires: Sequence[Capabilities],
    *,
    over_http_client: bool = False,
) -> None:
    """Give a UserWarning for each option that differs from what it was before, to no effect.

    Args:
        config: The settings, with the batch size that the wire allows.
        before: The settings that those of a view were made of, else the defaults.
        endpoints: What they hold for.
        wires: What the endpoints' wires can do.
        over_http_client: Whether requests go over an httpx.Client of the caller's.
    """
    for told in (
        *_of_wire(config, before, wires),
        *_of_endpoints(config, before, endpoints, over_http_client),
        *(_of_pool(config.pool) if over_http_client else ()),
    ):
        warn_user(told)


def _of_wire(
    config: ClientConfig, before: ClientConfig, wires: Sequence[Capabilities]
) -> Iterator[str]:
    above = config.batch.gzip_above
    if above != before.batch.gzip_above and not any(can.gzip for can in wires):
        yield (
            f"BatchConfig(gzip_above=...) has no effect: the wire {config.wire!r} compresses no "
            "requests"
        )
    linger = config.coalesce.linger
    shares = config.coalesce.enabled and linger not in (0, before.coalesce.linger)
    if shares and config.batch.max_texts == 1:
        yield (
            "CoalesceConfig(linger=...) has no effect: a call takes one text here (wire "
            f"{config.wire!r}), so none are sent together"
        )


def _of_endpoints(
    config: ClientConfig,
    before: ClientConfig,
    endpoints: Sequence[Endpoint],
    over_http_client: bool,
) -> Iterator[str]:
    spread = any(endpoint.per_address for endpoint in endpoints) and not over_http_client
    hedges = config.hedge.enabled and not before.hedge.enabled
    if hedges and len(endpoints) == 1 and not spread:
        yield (
            "HedgeConfig(enabled=True) has no effect: a late call is sent to another endpoint, and "
            "there is only one"
        )


def _of_pool(pool: PoolConfig) -> Iterator[str]:
    for name in _OF_HTTP_CLIENT:
        if getattr(pool, name) != getattr(PoolConfig, name):
            yield (
                f"PoolConfig({name}=...) has no effect: http_client= is given, whose own settings "
                "hold for its connections"
            )


def warn_user(message: str) -> None:
    """Give a UserWarning at the line outside of this package that led here."""
    level, frame = 1, sys._getframe()
    while frame.f_globals.get("__name__", "").partition(".")[0] == __package__ and frame.f_back:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
