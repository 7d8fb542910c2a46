"""Calls of the clients by their aliases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, overload

from cosy_sync import Audio, Outcome

from ...given_texts import Item
from .aliases import speech

__all__ = ["synth", "synth_many"]


def synth(text: str, *, using: str = "default", **settings: Any) -> Audio:
    """Speak one text with the client of an alias; see CosyClient.synth."""
    return speech[using].synth(text, **settings)


@overload
def synth_many(
    texts: Iterable[Item],
    *,
    using: str = "default",
    on_error: Literal["raise"] = "raise",
    **settings: Any,
) -> list[Audio]: ...


@overload
def synth_many(
    texts: Iterable[Item], *, using: str = "default", on_error: Literal["return"], **settings: Any
) -> list[Outcome]: ...


def synth_many(texts: Iterable[Item], *, using: str = "default", **settings: Any) -> Any:
    """Speak several texts with the client of an alias; see CosyClient.synth_many."""
    return speech[using].synth_many(texts, **settings)
