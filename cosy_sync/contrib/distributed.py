"""One client for each process, made where it is used; a batch of texts as a function to pickle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cosy_sync import CosyClient, Outcome

from .plain_settings import keywords_of

__all__ = ["client_here", "close_clients", "speak_batch"]

# Without a lock, which a fork might copy locked: the first of equal settings counts.
_clients: list[tuple[dict[str, Any], CosyClient]] = []


def client_here(settings: Mapping[str, Any] | None = None) -> CosyClient:
    """Return this process' client of these settings; it is made by the first call.

    Args:
        settings: of CosyClient, groups also as mappings; what is left out comes from COSY_SYNC_*
            variables.

    Raises ConfigError.
    """
    given = dict(settings or {})
    known = _find(given)
    if known is not None:
        return known
    made = CosyClient(**keywords_of(given))
    _clients.append((given, made))
    first = _find(given)
    if first is not None and first is not made:  # another thread's came first
        made.close(0.0)
        return first
    return made


def close_clients() -> None:
    """Close all that `client_here` made in this process."""
    while _clients:
        _clients.pop()[1].close(0.0)


def speak_batch(texts: Iterable[Any], settings: Mapping[str, Any]) -> list[Outcome]:
    """Speak texts with this process' client: for `map` of Dask, Ray, multiprocessing, datasets.

    All that goes in and comes out can be pickled. What fails is an outcome with its error, so that
    the sound of the others is not lost.

    Args:
        texts: as `synth_many` takes them.
        settings: of the client, such as {"url": ..., "voice": "中文女"}.

    Raises ConfigError.
    """
    return list(client_here(settings).synth_many(texts, on_error="return"))


def _find(settings: dict[str, Any]) -> CosyClient | None:
    for known, client in list(_clients):
        if known == settings and not client.closed:
            return client
    return None
