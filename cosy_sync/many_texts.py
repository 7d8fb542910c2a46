"""The client's calls for many texts: their sound in memory, or put into a store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from .batch_errors import audios_of, refuse_failed, refuse_invalid, take_along
from .config import CallSettings, ClientConfig
from .gathering import check_call, gather, hand_out
from .given_texts import GivenTexts, Item
from .loading import load
from .long_texts import LongTextCalls
from .models import Audio, Outcome, Utterance
from .progress import ProgressCallback, as_progress
from .texts import check_read_ahead

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .storage import Sink
    from .stored_call import StoredCall, StoredOutcome

    # A folder, an address such as s3://bucket/prefix, or a store.
    Store: TypeAlias = str | os.PathLike[str] | Sink

__all__ = ["ManyTextCalls"]


class ManyTextCalls(LongTextCalls):
    """What a client does with many texts."""

    def _with(self, call: str, settings: CallSettings) -> ManyTextCalls:
        """Return the view of this client with a call's own settings."""
        raise NotImplementedError

    # -- many texts -----------------------------------------------------------------------------

    @overload
    def synth_many(
        self,
        texts: Iterable[Item],
        *,
        to: None = None,
        on_error: Literal["raise"] = "raise",
        progress: bool | ProgressCallback = False,
        within: float | None = None,
        **settings: Unpack[CallSettings],
    ) -> list[Audio]: ...

    @overload
    def synth_many(
        self,
        texts: Iterable[Item],
        *,
        to: None = None,
        on_error: Literal["return"],
        progress: bool | ProgressCallback = False,
        within: float | None = None,
        **settings: Unpack[CallSettings],
    ) -> list[Outcome]: ...

    @overload
    def synth_many(
        self,
        texts: Iterable[Item],
        *,
        to: Store,
        on_error: Literal["raise", "return"] = "raise",
        progress: bool | ProgressCallback = False,
        within: float | None = None,
        **settings: Unpack[CallSettings],
    ) -> list[StoredOutcome]: ...

    def synth_many(
        self,
        texts: Iterable[Item],
        *,
        to: Store | None = None,
        on_error: Literal["raise", "return"] = "raise",
        progress: bool | ProgressCallback = False,
        within: float | None = None,
        **settings: Unpack[CallSettings],
    ) -> list[Audio] | list[Outcome] | list[StoredOutcome]:
        """Speak many texts in batches side by side; results in input order.

        With on_error="raise", a text that cannot be sent raises InvalidTextError before anything
        is sent, and texts that failed raise BatchError, whose `outcomes` hold the audio of the
        others. With "return", every text gets an Outcome. Ctrl-C raises InterruptedBatch (a
        KeyboardInterrupt); it, and whatever else ends the call from outside (what a signal's
        handler raises, such as Celery's SoftTimeLimitExceeded), carries as `outcomes` what was
        finished; requests that are in flight are cut off.

        Args:
            texts: What to speak: a list, a generator or another iterable, read to its end first.
                Its items are texts, ("id", "text") tuples (of two texts the first is the id), or
                Utterances with an id or a voice of their own, whose outcomes and errors bear the
                id. An id that comes twice is refused.
            to: A folder, an address such as s3://bucket/prefix, or a store of cosy_sync.storage:
                the sounds go there, and a StoredOutcome says where each is; none stays in memory.
                What the store has of the same text and voice is not spoken again. Raises OSError
                where the store refuses a sound; its `outcomes` are those that are kept.
            on_error: "raise" or "return".
            progress: True draws a bar on a terminal; a function gets (done, total).
            within: Seconds for the whole call. What is not done by then is a DeadlineError.
        """
        own = self._with("synth_many", settings) if settings else self
        check_call(on_error, within)
        try:
            given = GivenTexts(texts, own.config, own._bulk_with, distinct=True)
            checked = list(given)
            if on_error == "raise":
                refuse_invalid(checked)
            engine = self._core.engine()
            call: Any = (
                engine.run_many(checked, own._bulk, within=within)
                if to is None
                else own._storing(to, checked, given, within=within)
            )
            items = given if to is None else None  # else its outcomes are those of the items
            outcomes = gather(engine, call, len(checked), as_progress(progress), items)
        except BaseException as error:
            if not hasattr(error, "outcomes"):
                take_along(error, [])
            raise
        if on_error == "return" or to is not None:
            if on_error == "raise":
                refuse_failed(outcomes)
            return outcomes
        return audios_of(outcomes)

    @overload
    def synth_iter(
        self,
        texts: Iterable[Item],
        *,
        to: None = None,
        read_ahead: int | None = None,
        **settings: Unpack[CallSettings],
    ) -> Iterator[Outcome]: ...

    @overload
    def synth_iter(
        self,
        texts: Iterable[Item],
        *,
        to: Store,
        read_ahead: int | None = None,
        **settings: Unpack[CallSettings],
    ) -> Iterator[StoredOutcome]: ...

    def synth_iter(
        self,
        texts: Iterable[Item],
        *,
        to: Store | None = None,
        read_ahead: int | None = None,
        **settings: Unpack[CallSettings],
    ) -> Iterator[Outcome] | Iterator[StoredOutcome]:
        """Speak an endless stream of texts in constant memory; yield outcomes in input order.

        Items are those of `synth_many`, but for ids that come twice, which nobody notices here; so
        is `to`.

        Texts are pulled on this thread, at most `read_ahead` of them before their outcomes are
        taken, also while the first of these is held up; what was pulled may be spoken, and billed.
        Left out, it is two batches for each request that may be in flight as things are: 512 texts
        at the start, and 6 400 at most, with the usual limits. When `texts` raises, the outcomes of
        what came before are yielded first and then the exception goes on. Ctrl-C, or another
        exception that ends it, carries as `outcomes` what was finished and not yielded. The
        requests of one that is ended early, or dropped, are cut off.
        """
        own = self._with("synth_iter", settings) if settings else self
        given = GivenTexts(texts, own.config, own._bulk_with, distinct=False)
        check_read_ahead(read_ahead)
        if to is not None:
            storing: Any = own._storing(to, given, given, read_ahead=read_ahead)
            return hand_out(storing, self)
        engine = self._core.engine()
        call = engine.run_many(given, own._bulk, lazy=True, read_ahead=read_ahead)
        return hand_out(call, self, given)

    # -- inside ---------------------------------------------------------------------------------

    def _storing(
        self,
        to: Store,
        texts: Iterable[Utterance | Outcome],
        given: GivenTexts,
        *,
        within: float | None = None,
        read_ahead: int | None = None,
    ) -> StoredCall:
        """Return a call whose sounds go into a store. Raises ConfigError for what is none."""
        load("cosy_sync.stored_call", "cosy_sync.storage")
        from .stored_call import StoredCall
        from .stored_place import open_place

        config, core = self._bulk, self._core
        place = open_place(
            to,
            lambda text: core.cache.digest(text.settings or config, text.text),
            format=config.format,
            most_bytes=config.limits.max_bytes_waiting,
        )

        begun = core.clock.now()

        def start(missing: Iterable[Utterance | Outcome | None]) -> Any:
            left = None
            if within is not None:
                left = max(within - (core.clock.now() - begun), 0.001)
            engine = core.engine()
            return engine.run_many(missing, config, within=left, lazy=True, read_ahead=read_ahead)

        return StoredCall(texts, given, place, start, read_ahead)

    def _bulk_with(self, settings: CallSettings) -> ClientConfig:
        return self._with("synth_many", settings)._bulk
