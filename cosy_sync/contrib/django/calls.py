"""Calls of the clients by their aliases, also from views that are coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from concurrent.futures import Future
from typing import Any, Literal, overload

from cosy_sync import Audio, CosyError, InvalidTextError, Outcome, Utterance

from ...batch_errors import audios_of
from ...given_texts import Item
from .aliases import speech

__all__ = ["asynth_many", "synth", "synth_many"]


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


async def asynth_many(
    texts: Iterable[Item] | AsyncIterable[Item],
    *,
    using: str = "default",
    on_error: Literal["raise", "return"] = "raise",
    **settings: Any,
) -> Any:
    """Speak several texts without holding a thread: texts of all views that wait share requests.

    Results are those of `synth_many`, in input order, each text with its own deadline. A view that
    is cancelled takes its texts back.

    Raises InvalidTextError before anything is sent, and BatchError where texts failed; with
    on_error="return" every text gets an Outcome.
    """
    if isinstance(texts, AsyncIterable):
        items = [_utterance(item) async for item in texts]
    else:
        items = [_utterance(item) for item in texts]
    settings.setdefault("priority", "bulk")
    # On a thread, as the first call imports and makes the client, and a full one lets callers wait.
    strict = on_error == "raise"
    sending = asyncio.ensure_future(asyncio.to_thread(_submit, using, items, settings, strict))
    try:
        begun = await asyncio.shield(sending)
    except asyncio.CancelledError:
        sending.add_done_callback(_take_back)  # the thread goes on until it has sent them
        raise
    waiting = [asyncio.wrap_future(each) for each in begun if isinstance(each, Future)]
    await asyncio.gather(*waiting, return_exceptions=True)
    outcomes = [
        _outcome(index, item, each)
        for index, (item, each) in enumerate(zip(items, begun, strict=True))
    ]
    return outcomes if on_error == "return" else audios_of(outcomes)


def _submit(
    using: str, items: list[Utterance], settings: dict[str, Any], strict: bool
) -> list[Future[Audio] | CosyError]:
    client, begun = speech[using], list[Future[Audio] | CosyError]()
    for index, item in enumerate(items):
        own = {"voice": item.voice, "speed": item.speed}
        given = {name: value for name, value in own.items() if value is not None}
        try:
            begun.append(client.submit(item.text, **{**settings, **given}))
        except CosyError as error:
            known = error.with_details(index=index, id=item.id)
            if strict and isinstance(error, InvalidTextError):
                _cancel(begun)
                raise known from error
            begun.append(known)
    return begun


def _take_back(sending: asyncio.Future[list[Future[Audio] | CosyError]]) -> None:
    if not sending.cancelled() and sending.exception() is None:
        _cancel(sending.result())


def _cancel(begun: list[Future[Audio] | CosyError]) -> None:
    for each in begun:
        if isinstance(each, Future):
            each.cancel()


def _outcome(index: int, item: Utterance, each: Future[Audio] | CosyError) -> Outcome:
    """Return what became of a text whose future is done."""
    error = each.exception() if isinstance(each, Future) else each
    if error is not None and not isinstance(error, CosyError):
        raise error
    if isinstance(each, Future) and error is None:
        return Outcome(index, item.text, each.result(), id=item.id)
    known = None if error is None else error.with_details(index=index, id=item.id)
    return Outcome(index, item.text, error=known, id=item.id)


def _utterance(item: Item) -> Utterance:
    if isinstance(item, Utterance):
        return item
    if isinstance(item, tuple):
        name, text = item
        return Utterance(text, id=name)
    return Utterance(item)
