"""What a demo measured and found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cosy_sync import Outcome

if TYPE_CHECKING:
    from cosy_sync import Stats
    from cosy_sync.cli.corpus import Sentence
    from cosy_sync.cli.manifest import Entry

__all__ = ["Results"]


@dataclass(kw_only=True)
class Results:
    """What was measured and found. Instants are on the clock of time.monotonic()."""

    sentences: Sequence[Sentence]
    engine: str = ""
    url: str = ""
    serial_count: int = 0
    serial_seconds: float = 0.0
    started: float = 0.0
    wall_seconds: float = 0.0
    outcomes: Sequence[Outcome] = ()
    client: Stats | None = None
    server: dict[str, Any] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
