"""Calls from views that are coroutines: no thread waits, and all views' texts share requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from concurrent.futures import Future
from typing import Any, Literal, NamedTuple

from cosy_sync import Audio, ConfigError, CosyError, InvalidTextError, Outcome, Utterance

from ...batch_errors import audios_of
from ...gathering import check_call
from ...given_texts import Item, as_item
from ...texts import as_text, check_several, check_text
from .aliases import speech

__all__ = ["asynth_many"]


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
    check_call(on_error, None)
    if isinstance(texts, AsyncIterable):
        items: list[Any] = [item async for item in texts]
    else:
        check_several(texts)
        items = list(texts)
    settings.setdefault("priority", "bulk")
    # On a thread, as the first call imports and makes the client, and a full one lets callers wait.
    strict = on_error == "raise"
    sending = asyncio.ensure_future(asyncio.to_thread(_submit, using, items, settings, strict))
    try:
        begun = await asyncio.shield(sending)
    except asyncio.CancelledError:
        sending.add_done_callback(_take_back)  # the thread goes on until it has sent them
        raise
    waiting = [asyncio.wrap_future(each.sent) for each in begun if isinstance(each.sent, Future)]
    await asyncio.gather(*waiting, return_exceptions=True)
    outcomes = [_outcome(index, each) for index, each in enumerate(begun)]
    return outcomes if on_error == "return" else audios_of(outcomes)


class _Begun(NamedTuple):
    """A text, and its future, or why there is none."""

    item: Utterance
    sent: Future[Audio] | CosyError


def _submit(using: str, given: list[Any], settings: dict[str, Any], strict: bool) -> list[_Begun]:
    client = speech[using]
    checked = _checked(given, client.config.batch.max_text_chars)
    begun: list[_Begun] = []
    wrong = next((each for _, each in checked if each is not None), None)
    if strict and wrong is not None:
        raise wrong
    for index, (item, refused) in enumerate(checked):
        own = {"voice": item.voice, "speed": item.speed}
        asked = {name: value for name, value in own.items() if value is not None}
        try:
            begun.append(_Begun(item, refused or client.submit(item.text, **{**settings, **asked})))
        except ConfigError as error:  # of the call's settings: every text would meet it
            _cancel(begun)
            words = error.message.replace(": submit takes", ": asynth_many takes")
            raise error.reworded(words) from error
        except CosyError as error:
            begun.append(_Begun(item, error.with_details(index=index, id=item.id)))
            if strict and isinstance(error, InvalidTextError):  # by a function of `prepare`
                _cancel(begun)
                raise
    return begun


def _checked(given: list[Any], most: int) -> list[tuple[Utterance, InvalidTextError | None]]:
    """Return each item with what is wrong with it, before any is sent."""
    checked: list[tuple[Utterance, InvalidTextError | None]] = []
    ids: dict[Any, int] = {}
    for index, each in enumerate(given):
        item, wrong = Utterance(each), None
        try:
            item = as_item(index, each)
            check_text(index, as_text(index, item.text), most)
            before = index if item.id is None else ids.setdefault(item.id, index)
            if before != index:
                raise InvalidTextError(f"text {before} has the same id; give each its own")
        except InvalidTextError as error:
            wrong = error.with_details(index=index, id=item.id)
        checked.append((item, wrong))
    return checked


def _take_back(sending: asyncio.Future[list[_Begun]]) -> None:
    if not sending.cancelled() and sending.exception() is None:
        _cancel(sending.result())


def _cancel(begun: list[_Begun]) -> None:
    for each in begun:
        if isinstance(each.sent, Future):
            each.sent.cancel()


def _outcome(index: int, begun: _Begun) -> Outcome:
    """Return what became of a text whose future is done."""
    item, sent = begun
    error = sent.exception() if isinstance(sent, Future) else sent
    if error is not None and not isinstance(error, CosyError):
        raise error
    if isinstance(sent, Future) and error is None:
        return Outcome(index, item.text, sent.result(), id=item.id)
    known = None if error is None else error.with_details(index=index, id=item.id)
    return Outcome(index, item.text, error=known, id=item.id)
