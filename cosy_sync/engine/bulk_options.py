"""What a call of many texts was promised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..models import Outcome, Utterance
from ..policies import Deadline
from .tenants import TenantLimit

__all__ = ["BulkOptions"]


@dataclass(frozen=True, kw_only=True)
class BulkOptions:
    """What one call was promised.

    `tenant_limit` bounds the tenant's batches in flight, `ahead` those of this call, `max_waiting`
    the bytes of audio that it holds, None for any. A lazy call may have no end; `read_ahead` bounds
    the texts that it pulls before their outcomes are taken, None for what keeps the places busy.
    `alone`: there is no other endpoint. `limit`: the texts a call may have. `places`: the requests
    in flight, at most, as things are. `silent`: since when no endpoint has answered anything.
    `after` gets texts and outcomes of each batch, on its worker, and of those that are not sent.
    """

    deadline: float
    within: Deadline | None
    interactive: bool
    lazy: bool
    read_ahead: int | None
    alone: bool
    tenant: str
    tenant_limit: TenantLimit | None
    ahead: int
    max_waiting: int | None
    limit: Callable[[], int | None]
    places: Callable[[], float]
    silent: Callable[[], float]
    after: Callable[[Sequence[Utterance], Sequence[Outcome]], None] | None = None
