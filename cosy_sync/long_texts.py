"""The client's calls for long texts: narrated, or spoken to the times of subtitles."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from .batch_errors import refuse_invalid, take_along
from .config import CallSettings, ClientConfig, LimitConfig
from .errors import ConfigError
from .gathering import check_call, hand_out, run_call
from .loading import load
from .models import PLAIN_FORMATS, Outcome
from .narration import Narration, Segment
from .progress import ProgressCallback, as_progress

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .core import Core
    from .text import Cue

__all__ = ["LongTextCalls"]

# Bytes of audio that may wait to be written.
_WAITING = 64 << 20
# Texts that are sent before the first is there, where sound is encoded as it comes.
_FIRST_TEXTS, _FIRST_BATCHES = 64, 4
# The speed up to which most voices are good.
_FASTEST = 1.3
_PLAIN: Mapping[str, Any] = MappingProxyType({"format": "wav", "quality": None})


class LongTextCalls:
    """What a client does with texts of any length."""

    config: ClientConfig
    _core: Core

    def _with(self, call: str, settings: CallSettings) -> LongTextCalls:
        """Return the view of this client with a call's own settings."""
        raise NotImplementedError

    @functools.cached_property
    def _interactive(self) -> ClientConfig:
        priority = self.config.priority or "interactive"
        return self._core.lent(dataclasses.replace(self.config, priority=priority))

    @functools.cached_property
    def _bulk(self) -> ClientConfig:
        priority = self.config.priority or "bulk"
        return self._core.lent(dataclasses.replace(self.config, priority=priority))

    @functools.cached_property
    def _of_pieces(self) -> ClientConfig:
        """Settings for what is joined: it is encoded once, as a whole."""
        config = self._bulk
        if config.canary is not None and config.variant is None:
            config = dataclasses.replace(config, variant="whole")  # one voice for all of it
        plain = self.config.format in PLAIN_FORMATS
        return config if plain else dataclasses.replace(config, **_PLAIN)

    @functools.cached_property
    def _joined(self) -> ClientConfig:
        """What holds for a call whose sounds are joined as they come: room for several batches of a
        book, where the user has set none. They come faster than they are written now and then."""
        config = self._of_pieces
        if config.limits.max_bytes_waiting != LimitConfig.max_bytes_waiting:
            return config
        limits = dataclasses.replace(config.limits, max_bytes_waiting=_WAITING)
        return dataclasses.replace(config, limits=limits)

    def narrate(
        self,
        text: str,
        *,
        to: str | os.PathLike[str] | None = None,
        on_error: Literal["raise", "return"] = "raise",
        progress: bool | ProgressCallback = False,
        within: float | None = None,
        **settings: Unpack[CallSettings],
    ) -> Narration:
        """Speak a text of any length: cut into sentences, spoken in batches, joined with pauses.

        Blank lines end paragraphs, and marks such as [pause:1.5s] are silence; other brackets are
        spoken. NarrationConfig says how it is cut and how long pauses are; `prepare` gets the whole
        text, before it is cut. Waits for all of it.

        With on_error="raise", segments that failed raise BatchError, whose `outcomes` hold those
        that were spoken; with "return" there is silence in their place, and the Narration's
        segments say why. Raises InvalidTextError, and ConfigError where the file's format needs a
        package that is missing, before anything is sent; OSError where it cannot be written.

        Args:
            text: What to speak.
            to: A file to write the sound to as it comes, in constant memory; its ending says the
                format, as in `Audio.save`. It appears when it is complete, or not at all.
            on_error: "raise" or "return".
            progress: True draws a bar on a terminal; a function gets (done, total) segments.
            within: Seconds for the whole call. What is not done by then is a DeadlineError.
        """
        own = self._with("narrate", settings) if settings else self
        check_call(on_error, within)
        load("cosy_sync.narrator")  # on first use: `import cosy_sync` stays quick
        from .engine.bulk import BulkCall
        from .narrator import Narrator, plan_text

        plan = plan_text(text, own.config)
        narrator = Narrator("narrate", plan.count, own.config, to, as_progress(progress))
        engine = self._core.engine()
        config = own._joined
        # Most services speak faster than sound is encoded, and nobody knows yet how much they send.
        first = max(_FIRST_TEXTS, _FIRST_BATCHES * config.batch.max_texts)
        texts = plan.utterances(first if narrator.encodes else None)
        call = engine.run_many(texts, config, within=within, lazy=True)
        if isinstance(call, BulkCall):
            call.lends = True  # joined at once, each needs no copy of its own
        narrate = functools.partial(narrator.narrate, schedule=plan, on_error=on_error)
        return run_call(engine, call, narrator.outcomes, narrate)

    def narrate_iter(self, text: str, **settings: Unpack[CallSettings]) -> Iterator[Segment]:
        """Speak a text of any length, and yield its segments in order as they are ready.

        Their sounds one after the other are what `narrate` returns; one that failed is silence, and
        its `error` says why. Raises InvalidTextError before anything is sent.
        """
        own = self._with("narrate_iter", settings) if settings else self
        load("cosy_sync.narrator")
        from .narrator import plan_text, with_sound

        plan = plan_text(text, own.config)
        engine = self._core.engine()
        call = engine.run_many(plan.utterances(), own._of_pieces, lazy=True)
        return with_sound(plan, hand_out(call, owner=self), own.config)

    def dub(
        self,
        subtitles: str | Iterable[Cue],
        *,
        max_speed: float | None = None,
        to: str | os.PathLike[str] | None = None,
        on_error: Literal["raise", "return"] = "raise",
        **settings: Unpack[CallSettings],
    ) -> Narration:
        """Speak subtitles, each cue at its time.

        A cue that would last into the next one's time is spoken again, faster, at most at
        `max_speed`. One that does not fit even so delays the next: its segment's `overrun` says by
        how many seconds. All audio is held in memory until the whole is done; what ends the call
        early carries it as `outcomes`.

        Raises InvalidTextError for what is neither SRT nor WebVTT and, with on_error="raise", for a
        cue that cannot be sent, before anything is; ConfigError where the wire cannot speak at
        `max_speed`; else as `narrate` does.

        Args:
            subtitles: What an SRT or WebVTT file holds (not its name), or (start, end, text) with
                seconds, in any order.
            max_speed: From the client's own `speed` to 4. Left out, 1.3, where most voices are
                still good, or `speed` if that is more or the wire cannot speak faster.
            to: A file to write the sound to, as in `narrate`.
            on_error: "raise" or "return".
        """
        own = self._with("dub", settings) if settings else self
        check_call(on_error, None)
        load("cosy_sync.dubbing", "cosy_sync.narrator")
        from .dubbing import CueSchedule, check_cues, fit_cues, read_cues
        from .narrator import Narrator

        cues = read_cues(subtitles)
        narrator = Narrator("dub", lambda: len(cues), own.config, to)
        speed = own.config.speed
        fastest = own._fastest() if max_speed is None else max_speed
        checked = check_cues(cues, own.config)
        if on_error == "raise":
            refuse_invalid(checked)
        outcomes = fit_cues(cues, checked, own._speak_at, speed, fastest)
        if fastest != speed:  # refuses what the wire cannot, before anything is sent
            own._at_speed(fastest)
        narrator.keeps = True
        try:
            return narrator.narrate(outcomes, CueSchedule(cues), on_error)
        except BaseException as error:
            if narrator.outcomes:  # else it carries what was spoken so far
                take_along(error, narrator.outcomes)
            raise

    def _fastest(self) -> float:
        """Return the speed up to which cues are spoken faster where the user has said none."""
        usual = self.config.speed
        try:
            self._at_speed(max(_FASTEST, usual))
        except ConfigError:  # the wire cannot: what does not fit is told
            return usual
        return max(_FASTEST, usual)

    def _speak_at(self, texts: Sequence[str], speed: float) -> list[Outcome]:
        outcomes: list[Outcome] = self._at_speed(speed).synth_many(texts, on_error="return")
        return outcomes

    def _at_speed(self, speed: float) -> Any:
        """Return the client that speaks prepared cues at a speed. Raises ConfigError."""
        plain, config = self.config.format in PLAIN_FORMATS, self.config
        mixed = config.canary is not None and config.variant is None
        if plain and speed == config.speed and not config.prepare and not mixed:
            return self
        settings: Any = {**({} if plain else _PLAIN), "speed": speed, "prepare": None}
        if mixed:
            settings["variant"] = "whole"
        return self.with_options(**settings)  # type: ignore[attr-defined]
