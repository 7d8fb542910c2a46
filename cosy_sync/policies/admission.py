"""An admission by the breaker, and what the breaker wants to know about a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Admission", "Call", "FirstTry"]


class FirstTry(NamedTuple):
    """When a text's first attempt at an endpoint was sent, and when it failed."""

    sent: float
    failed: float


class Call(NamedTuple):
    """What an attempt is judged by.

    `kind` stands for what its request says beside the texts (voice, model). `patient`: its caller
    waits while the endpoint is away. `again`: its texts have failed before; `first` is their first
    attempt at this very endpoint, if they failed here. `apart`: its one text failed together with
    others before, and was then sent apart from them.
    """

    kind: int = 0
    patient: bool = False
    again: bool = False
    first: FirstTry | None = None
    apart: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """The breaker's leave for one call. `generation` counts the changes of state before it.

    `other`: let through while open, as only calls of another kind had failed.
    """

    generation: int
    probe: bool = False
    other: bool = False
